//! Additions to the logits by what a request asks for: penalties on what was generated already, and biases of single tokens.

use std::collections::BTreeMap;

/// What is added to the logits of the next token, as OpenAI defines it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogitBias {
    /// Taken off a token's logit for each time it was generated.
    pub frequency_penalty: f32,
    /// Taken off once for a token that was generated at all.
    pub presence_penalty: f32,
    /// Added to the logits of these tokens.
    pub by_token: BTreeMap<u32, f32>,
}

impl LogitBias {
    /// Whether it changes nothing.
    pub(crate) fn is_neutral(&self) -> bool {
        self.frequency_penalty == 0.0 && self.presence_penalty == 0.0 && self.by_token.is_empty()
    }

    /// Changes the logits [V] of a token after generated ones of these counts.
    pub(crate) fn apply(&self, logits: &mut [f32], counts: &BTreeMap<u32, u32>) {
        let mut add = |id: u32, change: f32| {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit += change;
            }
        };
        for (&id, &bias) in &self.by_token {
            add(id, bias);
        }
        if self.frequency_penalty != 0.0 || self.presence_penalty != 0.0 {
            for (&id, &count) in counts {
                add(id, -(self.frequency_penalty * count as f32 + self.presence_penalty));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_count_what_was_generated() {
        let bias = LogitBias {
            frequency_penalty: 0.5,
            presence_penalty: 0.25,
            by_token: BTreeMap::from([(1, -100.0), (9, 1.0)]),
        };
        let mut logits = [1.0, 2.0, 3.0];
        bias.apply(&mut logits, &BTreeMap::from([(0, 3), (2, 1)]));
        assert_eq!(logits, [1.0 - 1.75, -98.0, 3.0 - 0.75]);
        assert!(!bias.is_neutral() && LogitBias::default().is_neutral());
    }
}
