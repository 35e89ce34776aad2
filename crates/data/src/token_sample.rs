//! What a conversation becomes: token ids, which of them are learned, and what is worth knowing besides.

use std::ops::Range;

/// A conversation as tokens; a preference as those of the better answer with all before it, then those of the other one. For
/// a model with an encoder its source, then the decoder's text from the start token on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenSample {
    /// The conversation's row: the id of the sample.
    pub row: usize,
    /// Token ids, at most `max_length` (any number with packing `wrapped`).
    pub ids: Vec<u32>,
    /// One for each id: whether the model is to learn to produce it.
    pub trained: Vec<bool>,
    /// Tokens that did not fit.
    pub n_cut: usize,
    /// How many of the last tokens are those of the answer that the answer is compared with, a text of its own: the one
    /// to be preferred less, or one to another prompt; 0 for other samples.
    pub n_contrast: usize,
    /// How many of the first tokens are the source of an encoder, a text of its own; 0 for other samples.
    pub n_source: usize,
    /// What is to be predicted from the last token, where that is not a token, or how the answer was judged: see
    /// [`Conversation::values`](crate::Conversation::values).
    pub values: Vec<f32>,
}

impl TokenSample {
    /// Number of tokens that give a loss when the sample is used on its own: trained ones except the first of a text,
    /// which nothing precedes.
    pub fn n_labels(&self) -> usize {
        let is_label = |range: Range<usize>| {
            let trained = self.trained.get(range).unwrap_or_default();
            trained.iter().skip(1).filter(|trained| **trained).count()
        };
        self.texts().map(is_label).sum()
    }

    /// Where its texts stand: one, the two that are compared, or source and answer.
    pub fn texts(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (n_tokens, n_source) = (self.ids.len(), self.n_source.min(self.ids.len()));
        let split = n_tokens.saturating_sub(self.n_contrast).max(n_source);
        [0..n_source, n_source..split, split..n_tokens].into_iter().filter(|range| !range.is_empty())
    }

    /// Keeps the first tokens of a sample that is one text; the number of the others.
    pub(crate) fn shorten(&mut self, max_length: usize) -> usize {
        let n_more = self.ids.len().saturating_sub(max_length);
        self.ids.truncate(max_length);
        self.trained.truncate(max_length);
        n_more
    }

    /// Whether there is anything to learn from it.
    pub(crate) fn teaches(&self) -> bool {
        if !self.values.is_empty() && self.n_contrast == 0 {
            return !self.ids.is_empty();
        }
        if self.n_contrast == 0 {
            return self.n_labels() > 0;
        }
        // Both answers need something to compare.
        self.texts()
            .all(|range| self.trained.get(range).unwrap_or_default().iter().skip(1).any(|trained| *trained))
    }
}

/// What is worth knowing about a sample besides its tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SampleNotes {
    /// Tokens of system texts and prompts that did not fit.
    pub n_prompt_cut: usize,
    /// Tokens of answers that did not fit.
    pub n_answer_cut: usize,
    /// Tokens standing for what the vocabulary cannot express.
    pub n_unknown: usize,
    /// The last answer does not end with a special token, so the model does not learn to stop there.
    pub lacks_end: bool,
    /// The beginning-of-text token stands there twice.
    pub doubled_bos: bool,
    /// The answers had tokens to learn before cutting.
    pub had_labels: bool,
    /// Earlier rounds that did not fit; their answers are not learned.
    pub n_rounds_cut: usize,
    /// It does not fit, and such samples are left out.
    pub is_too_long: bool,
    /// Its conversation became several samples, because the chat template writes earlier answers differently once later
    /// ones follow, or because each answer was to be a sample of its own.
    pub is_one_of_several: bool,
    /// The chat template has no place for a system text, so it stands in front of the first message of the user.
    pub folds_system: bool,
    /// The chat template wants user and assistant in turn, so messages in a row were joined.
    pub merges_roles: bool,
    /// The generation prompt opens a thought, and an answer has none: it is closed at once.
    pub has_empty_thought: bool,
    /// A thought beside an answer has no place in the format and is not learned.
    pub has_unread_thought: bool,
    /// The chat template writes an answer in other words than the data.
    pub is_rewritten: bool,
}

impl SampleNotes {
    /// The notes of both texts of a sample.
    pub(crate) fn add(&mut self, other: &Self) {
        self.n_prompt_cut += other.n_prompt_cut;
        self.n_answer_cut += other.n_answer_cut;
        self.n_unknown += other.n_unknown;
        self.n_rounds_cut = self.n_rounds_cut.max(other.n_rounds_cut);
        self.had_labels &= other.had_labels;
        self.lacks_end |= other.lacks_end;
        self.doubled_bos |= other.doubled_bos;
        self.is_too_long |= other.is_too_long;
        self.folds_system |= other.folds_system;
        self.merges_roles |= other.merges_roles;
        self.has_empty_thought |= other.has_empty_thought;
        self.has_unread_thought |= other.has_unread_thought;
        self.is_rewritten |= other.is_rewritten;
    }
}
