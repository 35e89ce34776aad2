//! Exact match: 1 where prediction and target are the same text, or the same final number, else 0.

use super::TextPrediction;
use super::final_number::final_number;

/// What may differ between texts that still match. The default, as every flag off, compares byte by byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ExactMatch {
    /// White space at both ends does not matter.
    pub trimmed: bool,
    /// Upper and lower case are the same, in all scripts.
    pub ignore_case: bool,
    /// Only the final number of each text is compared, by value, as in GSM8K: the one after the last `####`, or else the
    /// last of the text. Targets without a number are compared as texts; a prediction without one does not match a
    /// target with one.
    pub final_number: bool,
}

impl ExactMatch {
    /// Whether a prediction matches its target.
    pub fn matches(self, prediction: &TextPrediction<'_>) -> bool {
        if self.final_number
            && let Some(expected) = final_number(prediction.target)
        {
            return final_number(prediction.predicted) == Some(expected);
        }
        self.normalised(prediction.predicted) == self.normalised(prediction.target)
    }

    fn normalised(self, text: &str) -> String {
        let text = if self.trimmed { text.trim() } else { text };
        if self.ignore_case { text.to_lowercase() } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(rule: ExactMatch, predicted: &str, target: &str) -> bool {
        rule.matches(&TextPrediction { predicted, target })
    }

    #[test]
    fn each_rule_forgives_what_it_says_and_no_more() {
        let exact = ExactMatch::default();
        let trimmed = ExactMatch { trimmed: true, ..exact };
        let ignore_case = ExactMatch { ignore_case: true, ..exact };
        assert!(matches(exact, "Yes", "Yes") && matches(exact, "", ""));
        assert!(!matches(exact, "Yes ", "Yes") && !matches(exact, "yes", "Yes"));
        assert!(matches(trimmed, " Yes\n", "Yes") && !matches(trimmed, "yes", "Yes"));
        assert!(matches(ignore_case, "ÜBER", "über") && !matches(ignore_case, "ÜBER ", "über"));
    }

    #[test]
    fn final_numbers_are_compared_by_value() {
        let rule = ExactMatch { final_number: true, ..ExactMatch::default() };
        assert!(matches(rule, "3 + 4 = 7, so the answer is $1,007.00.", "Because of this.\n#### 1007"));
        assert!(!matches(rule, "The answer is 8.", "#### 7") && !matches(rule, "none", "#### 7"));
        assert!(matches(rule, "unknown", "unknown") && !matches(rule, "7", "unknown"));
    }
}
