//! How tokens are chosen and when to stop.

use serde::{Deserialize, Serialize};

use crate::error::{GenerateError, Result};

/// Settings of a generation. The default is greedy, up to 256 tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationSettings {
    /// Until so many tokens are generated, tokens that end the text are not chosen.
    pub min_new_tokens: usize,
    /// At most so many tokens are generated, at least 1.
    pub max_new_tokens: usize,
    /// Draw from the distribution instead of taking the most likely token.
    pub do_sample: bool,
    /// Scores are divided by this before drawing; above 0.
    pub temperature: f32,
    /// Draw among the k most likely tokens; 0 means all.
    pub top_k: usize,
    /// Draw among the fewest most likely tokens that together have this probability; 1 means all.
    pub top_p: f32,
    /// Draw among tokens at least so probable as the most likely one times this, after all else; 0 means all.
    pub min_p: f32,
    /// Positive scores of tokens already in the prompt or the answer are divided by this, negative ones multiplied;
    /// 1 changes nothing. Counts each token once however often it occurred.
    pub repetition_penalty: f32,
    /// Texts that are followed side by side, of which the likeliest per token is the answer (beam search as transformers
    /// does it, with its defaults of length penalty 1 and no early stop); 1 follows a single one. Not with drawing.
    pub num_beams: usize,
    /// Seed of the draws. The same seed and prompt give the same answer.
    pub seed: u64,
    /// Generation of a text ends where one of these appears in it; they are cut off.
    pub stop_texts: Vec<String>,
    /// Tokens that end the text besides those of the model and its tokenizer.
    pub stop_ids: Vec<u32>,
    /// After so many seconds no further token is started; 0 means no limit.
    pub max_time_secs: f64,
}

impl Default for GenerationSettings {
    fn default() -> Self {
        Self {
            min_new_tokens: 0,
            max_new_tokens: 256,
            do_sample: false,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            num_beams: 1,
            seed: 0,
            stop_texts: Vec::new(),
            stop_ids: Vec::new(),
            max_time_secs: 0.0,
        }
    }
}

impl GenerationSettings {
    /// Checks the ranges. Settings of drawing count only when drawing is on.
    pub fn check(&self) -> Result<()> {
        let fail = |setting, reason| Err(GenerateError::Setting { setting, reason });
        if self.max_new_tokens == 0 {
            return fail("max_new_tokens", "must be at least 1, is 0".to_owned());
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            return fail("repetition_penalty", format!("must be above 0, is {}", self.repetition_penalty));
        }
        if self.max_time_secs.is_nan() || self.max_time_secs < 0.0 {
            return fail("max_time_secs", format!("must be at least 0, is {}", self.max_time_secs));
        }
        if self.num_beams == 0 {
            return fail("num_beams", "must be at least 1, is 0".to_owned());
        }
        if self.do_sample {
            if self.num_beams > 1 {
                return fail(
                    "num_beams",
                    format!(
                        "must be 1 when sampling, is {}: beams follow the likeliest texts",
                        self.num_beams
                    ),
                );
            }
            if !(self.temperature.is_finite() && self.temperature > 0.0) {
                return fail(
                    "temperature",
                    format!("must be above 0 when sampling, is {}", self.temperature),
                );
            }
            if !(self.top_p > 0.0 && self.top_p <= 1.0) {
                return fail("top_p", format!("must be above 0 and at most 1, is {}", self.top_p));
            }
            if !(0.0..=1.0).contains(&self.min_p) {
                return fail("min_p", format!("must be between 0 and 1, is {}", self.min_p));
            }
        }
        Ok(())
    }
}
