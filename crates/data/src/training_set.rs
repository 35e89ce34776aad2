//! What each epoch of training learns from: the same samples, or changed ones.

use std::borrow::Cow;

use tunesmith_config::ExperimentConfig;
use tunesmith_formats::tokenizer::Tokenizer;

use crate::augment::Augmenter;
use crate::conversation::Conversation;
use crate::error::{DataError, Result};
use crate::samples::{SampleSet, tokenize};

/// The samples of a run's training data, epoch by epoch.
#[derive(Debug)]
pub struct TrainingSet {
    /// The samples without random changes.
    unchanged: SampleSet,
    augmenter: Augmenter,
    /// What the samples are made of again; there only if rounds change.
    source: Option<Box<Source>>,
    mask_id: u32,
}

#[derive(Debug)]
struct Source {
    config: ExperimentConfig,
    tokenizer: Tokenizer,
    conversations: Vec<Conversation>,
}

impl TrainingSet {
    /// The `unchanged` samples that [`tokenize`] made of `conversations`, to be changed as `augmentation` says.
    ///
    /// # Errors
    /// [`DataError::Setting`] when earlier rounds are to be left out but no conversation has any.
    pub fn new(
        config: &ExperimentConfig,
        tokenizer: &Tokenizer,
        conversations: Vec<Conversation>,
        unchanged: SampleSet,
        seed: u64,
    ) -> Result<Self> {
        let has_earlier_rounds = conversations.iter().any(|conversation| conversation.rounds.len() > 1);
        if config.augmentation.skip_parent_probability > 0.0 && !has_earlier_rounds {
            return Err(DataError::Setting {
                field: "augmentation.skip_parent_probability",
                reason: "no training conversation has an earlier round that could be left out; set it to 0"
                    .to_owned(),
            });
        }
        let augmenter = Augmenter::of(config, seed);
        let source = augmenter.changes_rounds().then(|| {
            Box::new(Source { config: config.clone(), tokenizer: tokenizer.clone(), conversations })
        });
        // Tokenizers without a token for the unknown pad with another special one.
        let mask_id = tokenizer.unk_id().unwrap_or_else(|| tokenizer.pad_id());
        Ok(Self { unchanged, augmenter, source, mask_id })
    }

    /// The samples without random changes.
    pub fn unchanged(&self) -> &SampleSet {
        &self.unchanged
    }

    /// Whether the epochs differ in more than masked tokens, so that samples may be longer, shorter, more or fewer.
    pub fn changes_rounds(&self) -> bool {
        self.source.is_some()
    }

    /// The samples of the epoch `epoch_idx`, counted from 0.
    ///
    /// # Errors
    /// When a changed conversation cannot become a sample; see [`tokenize`].
    pub fn epoch(&self, epoch_idx: usize) -> Result<Cow<'_, SampleSet>> {
        let mut set = match &self.source {
            None => Cow::Borrowed(&self.unchanged),
            Some(source) => {
                let Source { config, tokenizer, conversations } = source.as_ref();
                let conversations = self.augmenter.conversations(conversations, epoch_idx);
                // Not kept on the disk: no other run would have the same.
                Cow::Owned(tokenize(config, tokenizer, &conversations, None)?.0)
            }
        };
        if self.augmenter.masks_tokens() {
            self.augmenter.mask_tokens(&mut set.to_mut().samples, self.mask_id, epoch_idx);
        }
        Ok(set)
    }
}
