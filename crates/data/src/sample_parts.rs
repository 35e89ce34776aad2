//! The parts a sample is put together from, and how they are cut to a number of tokens.

use tunesmith_config::Truncate;

use crate::token_sample::SampleNotes;

/// A part of a sample: all that stands between two answers, or an answer or a piece of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) ids: Vec<u32>,
    pub(crate) is_answer: bool,
    /// Whether the model is to learn to produce it.
    pub(crate) is_learned: bool,
    /// How many of the first tokens are never cut: beginning of text, system text, the opening of the user's turn.
    pub(crate) n_fixed: usize,
    /// Tokens it lost before the parts were put together.
    pub(crate) n_cut: usize,
}

/// What a sample may be at most, and what goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) n_tokens: usize,
    pub(crate) truncate: Truncate,
}

impl Part {
    pub(crate) fn prompt(ids: Vec<u32>, n_fixed: usize) -> Self {
        Self { ids, n_fixed, ..Self::default() }
    }

    pub(crate) fn answer(ids: Vec<u32>, is_learned: bool) -> Self {
        Self { ids, is_answer: true, is_learned, ..Self::default() }
    }

    /// Keeps the first `limit` tokens; how many went.
    pub(crate) fn keep_first(&mut self, limit: usize) -> usize {
        let n_over = self.ids.len().saturating_sub(limit);
        self.ids.truncate(limit);
        n_over
    }

    /// Keeps the last `limit` tokens; how many went.
    pub(crate) fn keep_last(&mut self, limit: usize) -> usize {
        let n_over = self.ids.len().saturating_sub(limit);
        self.ids.drain(..n_over);
        n_over
    }

    /// Cuts a prompt to `limit` tokens behind those that stay; how many went. Where even these are too many, the first
    /// token and the last ones are kept.
    pub(crate) fn cut_text(&mut self, limit: usize) -> usize {
        let n_over = self.ids.len().saturating_sub(limit);
        // Something of the text and of what opens the answer is needed, too.
        let n_fixed = if self.n_fixed + limit / 8 < limit { self.n_fixed } else { 1.min(limit) };
        let n_fixed = n_fixed.min(self.ids.len());
        let end = (n_fixed + n_over).min(self.ids.len());
        self.ids.drain(n_fixed..end);
        n_over
    }
}

impl Room {
    /// How many of its tokens a prompt of `n_prompt` keeps beside an answer of `n_answer`, and the answer of its own.
    pub(crate) fn shares(self, n_prompt: usize, n_answer: usize) -> (usize, usize) {
        let Self { n_tokens, truncate } = self;
        if n_prompt.saturating_add(n_answer) <= n_tokens {
            return (n_prompt, n_answer);
        }
        let half = n_tokens / 2;
        match truncate {
            Truncate::ResponseRight => {
                let answer = n_tokens.saturating_sub(n_prompt).max(n_answer.min(half));
                (n_prompt.min(n_tokens - answer), answer)
            }
            Truncate::PromptLeft | Truncate::Drop | Truncate::Left => {
                let prompt = n_tokens.saturating_sub(n_answer).max(n_prompt.min(half));
                (prompt, n_answer.min(n_tokens - prompt))
            }
        }
    }

    /// Whether so many tokens are too many.
    pub(crate) fn lacks(self, n_tokens: usize) -> bool {
        n_tokens > self.n_tokens
    }
}

/// Tokens of all parts.
pub(crate) fn n_tokens(parts: &[Part]) -> usize {
    parts.iter().map(|part| part.ids.len()).sum()
}

/// Keeps the first `limit` tokens of an answer in pieces; how many went.
pub(crate) fn keep_first(parts: &mut [Part], limit: usize) -> usize {
    let mut room = limit;
    let mut n_cut = 0;
    for part in parts {
        n_cut += part.keep_first(room);
        room -= part.ids.len();
    }
    n_cut
}

/// Keeps the last `limit` tokens of all parts, and notes which went.
pub(crate) fn keep_last(parts: &mut [Part], limit: usize, notes: &mut SampleNotes) {
    let mut n_over = n_tokens(parts).saturating_sub(limit);
    for part in parts {
        let n_cut = part.keep_last(part.ids.len().saturating_sub(n_over));
        n_over -= n_cut;
        match part.is_answer {
            true => notes.n_answer_cut += n_cut,
            false => notes.n_prompt_cut += n_cut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_side_keeps_half_of_the_room() {
        let left = Room { n_tokens: 64, truncate: Truncate::PromptLeft };
        let right = Room { truncate: Truncate::ResponseRight, ..left };
        for (prompt, answer, of_left, of_right) in [
            (20, 30, (20, 30), (20, 30)),
            (20, 150, (20, 44), (20, 44)),
            (150, 20, (44, 20), (44, 20)),
            (50, 40, (32, 32), (32, 32)),
            (60, 30, (34, 30), (34, 30)),
            (40, 60, (32, 32), (32, 32)),
            (30, 60, (30, 34), (30, 34)),
            (0, 100, (0, 64), (0, 64)),
            (100, 0, (64, 0), (64, 0)),
        ] {
            assert_eq!(left.shares(prompt, answer), of_left, "{prompt} {answer}");
            assert_eq!(right.shares(prompt, answer), of_right, "{prompt} {answer}");
        }
        let narrow = Room { n_tokens: 65, ..left };
        assert_eq!(
            (narrow.shares(60, 60), Room { n_tokens: 65, ..right }.shares(60, 60)),
            ((32, 33), (33, 32))
        );
    }

    #[test]
    fn what_is_fixed_stays_while_there_is_room_for_more() {
        let prompt = |n_fixed| Part::prompt((1..=10).collect(), n_fixed);
        let cut = |n_fixed, limit| {
            let mut part = prompt(n_fixed);
            let n_cut = part.cut_text(limit);
            (part.ids, n_cut)
        };
        assert_eq!(cut(3, 6), (vec![1, 2, 3, 8, 9, 10], 4));
        assert_eq!(cut(3, 10).1, 0);
        // Too much is fixed: the first token and the last ones.
        assert_eq!(cut(9, 4), (vec![1, 8, 9, 10], 6));
        assert_eq!(cut(0, 3), (vec![8, 9, 10], 7));
        assert_eq!(cut(0, 0), (vec![], 10));
    }
}
