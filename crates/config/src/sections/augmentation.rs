//! `augmentation`: random changes of the training data.

use super::WITHOUT_CONVERSATIONS;
use crate::declare::fields;
use crate::field::facets;

const PROBABILITIES: &[f64] = &[0.0, 0.1, 0.2, 0.3];

fields! {
    /// Random changes of the training data.
    pub struct Augmentation in "augmentation" {
        /// Probability with which each token of a sample is replaced, in each epoch anew, by the token for the unknown,
        /// or by the padding token where the tokenizer has none. Such a token is not learned.
        token_mask_probability: f64 = 0.0
            => facets().within(0.0, 1.0).slider(0.0, 0.9, 0.05).open_grid(PROBABILITIES);
        /// Probability with which each earlier round of a conversation is left out, in each epoch anew. The system text is
        /// then that of the first round left, or the sample's own where that round has none.
        skip_parent_probability: f64 = 0.0
            => facets().within(0.0, 1.0).slider(0.0, 1.0, 0.05).open_grid(PROBABILITIES)
                .not_for(WITHOUT_CONVERSATIONS);
        /// Probability with which a round of another conversation takes the place of a sample's first one, or is put in
        /// front of its only one, in each epoch anew. The system text stays the sample's own.
        random_parent_probability: f64 = 0.0
            => facets().within(0.0, 1.0).slider(0.0, 1.0, 0.05).open_grid(PROBABILITIES)
                .not_for(WITHOUT_CONVERSATIONS);
        /// Strength α of uniform noise added to embeddings while training (NEFTune): at most α / √(length · width)
        /// per number. 0 switches it off.
        neftune_noise_alpha: f64 = 0.0
            => facets().at_least(0.0).slider(0.0, 15.0, 0.05).open_grid(&[0.0, 5.0, 10.0, 15.0]);
    }
}
