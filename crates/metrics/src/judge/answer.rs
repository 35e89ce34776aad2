//! The score and its explanation in what the judge wrote.

use crate::error::MetricError;

const SCORE_MARK: &str = "SCORE:";
const EXPLANATION_MARK: &str = "EXPLANATION:";

/// What the judge says of one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Finite; on the scale that the template names.
    pub score: f64,
    /// The judge's reason; may be empty.
    pub explanation: String,
}

impl Verdict {
    /// Reads an answer: the score is the first number after the last `SCORE:`, of `7/10` the 7. Marks of emphasis around it,
    /// as in `**7**` or `[[7]]`, are skipped; a first word that is no number is an error, whatever follows.
    pub fn parse(answer: &str) -> Result<Self, MetricError> {
        let no_score = |found: String| MetricError::NoJudgeScore { found };
        let (before, after) =
            answer.rsplit_once(SCORE_MARK).ok_or_else(|| no_score(format!("there is no {SCORE_MARK:?}")))?;
        let word = after
            .split_whitespace()
            .find(|word| word.contains(char::is_alphanumeric))
            .ok_or_else(|| no_score(format!("nothing after {SCORE_MARK:?}")))?;
        let number = word
            .split('/')
            .next()
            .unwrap_or_default()
            .trim_start_matches(|c: char| !c.is_ascii_digit() && !c.is_alphabetic() && !"+-.".contains(c))
            .trim_end_matches(|c: char| !c.is_ascii_digit() && !c.is_alphabetic());
        let score: f64 = number.parse().map_err(|_| no_score(format!("{word:?} is not a number")))?;
        if !score.is_finite() {
            return Err(no_score(format!("{word:?} is not a number")));
        }
        // The mark may stand in emphasis, whose beginning is left before it.
        let before = before.trim().trim_end_matches('*').trim_end();
        let explanation = before.split_once(EXPLANATION_MARK).map_or(before, |(_, explanation)| explanation);
        Ok(Self { score, explanation: explanation.trim().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_after_the_last_mark_counts() {
        for (answer, score) in [
            ("EXPLANATION: good\nSCORE: 0.7", 0.7),
            ("SCORE: 3 at first, then\nSCORE: 7/10 because", 7.0),
            ("**SCORE:** **8**.", 8.0),
            ("SCORE:\n[[9]]", 9.0),
            ("SCORE: -.5", -0.5),
            ("SCORE: 1e1", 10.0),
        ] {
            assert_eq!(Verdict::parse(answer).unwrap().score, score, "{answer}");
        }
    }

    #[test]
    fn the_reason_is_what_stands_before_it() {
        assert_eq!(
            Verdict::parse("EXPLANATION: so\nand so\n**SCORE:** 1").unwrap().explanation,
            "so\nand so"
        );
        assert_eq!(Verdict::parse("Fine.\nSCORE: 1").unwrap().explanation, "Fine.");
    }

    #[test]
    fn an_answer_without_a_number_is_an_error() {
        for answer in
            ["", "7", "SCORE:", "SCORE: **", "SCORE: N/A, 3 facts missing", "SCORE: nan", "SCORE: 1-2"]
        {
            assert!(matches!(Verdict::parse(answer), Err(MetricError::NoJudgeScore { .. })), "{answer}");
        }
    }
}
