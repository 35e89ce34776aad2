//! What training learns from: rounds of system text, prompt and answer, chained into conversations.

/// One exchange.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Round {
    /// System text; empty when there is none. Only that of a conversation's first round is used.
    pub system: String,
    /// What is asked; several prompt columns are already joined.
    pub prompt: String,
    /// What is to be answered.
    pub answer: String,
    /// Position of the round in its table, counted from 0 without the header: rows for the column layout, tree
    /// nodes for trees. All rounds of one `messages` row share that row's position.
    pub row: usize,
    /// What is learned from it.
    pub target: Target,
}

/// What is learned from a round, besides or instead of its answer. That of a conversation's last round counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Target {
    /// To give the answer.
    #[default]
    Answer,
    /// To prefer the answer to another one.
    Preference {
        /// The prompt the other answer belongs to, where that is another one.
        rejected_prompt: Option<String>,
        /// The other answer.
        rejected_answer: String,
    },
    /// To find the answer more or less probable than before, by whether it is a good one.
    Judged {
        /// Whether it is.
        is_good: bool,
        /// An answer to another prompt, to see what probabilities do by themselves; empty until there is one.
        mismatched_answer: String,
    },
    /// To go on reading: the answer is a text, or a part of one, and there is no prompt.
    Text {
        /// Whether the text begins here.
        starts: bool,
        /// Whether it ends here.
        ends: bool,
    },
    /// To predict these: the index of a class, 0 or 1 for each of several labels, or numbers. The answer holds them as
    /// text.
    Values(Vec<f32>),
}

/// Rounds in the order they were spoken, at least one. One conversation becomes one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// Oldest first; the last one's answer is what generation is compared with.
    pub rounds: Vec<Round>,
    /// Row of the last round: the id of the sample.
    pub row: usize,
}

impl Conversation {
    /// A conversation whose id is the row of its last round. `None` without rounds.
    pub fn new(rounds: Vec<Round>) -> Option<Self> {
        let row = rounds.last()?.row;
        Some(Self { rounds, row })
    }

    /// What is learned from it: the last round's target.
    pub fn target(&self) -> &Target {
        const ANSWER: &Target = &Target::Answer;
        self.rounds.last().map_or(ANSWER, |round| &round.target)
    }

    /// The numbers to predict, or of a judged answer 1 for a good and 0 for a bad one; none otherwise.
    pub fn values(&self) -> &[f32] {
        match self.target() {
            Target::Values(values) => values,
            Target::Judged { is_good: true, .. } => &[1.0],
            Target::Judged { is_good: false, .. } => &[0.0],
            Target::Answer | Target::Text { .. } | Target::Preference { .. } => &[],
        }
    }

    /// The same conversation with the answer that is to be preferred less, or that belongs to another prompt; `None`
    /// unless there is one.
    pub fn contrast(&self) -> Option<Self> {
        let (prompt, answer) = match self.target() {
            Target::Preference { rejected_prompt, rejected_answer } => {
                (rejected_prompt.as_ref(), rejected_answer)
            }
            Target::Judged { mismatched_answer, .. } => (None, mismatched_answer),
            Target::Answer | Target::Text { .. } | Target::Values(_) => return None,
        };
        let mut contrast = self.clone();
        let last = contrast.rounds.last_mut()?;
        if let Some(prompt) = prompt {
            last.prompt.clone_from(prompt);
        }
        last.answer.clone_from(answer);
        last.target = Target::Answer;
        Some(contrast)
    }

    /// The system text that counts: the first round's.
    pub fn system(&self) -> &str {
        self.rounds.first().map_or("", |round| &round.system)
    }
}

/// Gives each judged answer of a set the answer of another conversation: the nearest one before it, in a circle, whose last
/// prompt is another one, if there is one among the [`N_TRIED`] nearest.
pub(crate) fn mismatch(conversations: &mut [Conversation]) {
    const N_TRIED: usize = 100;

    let n = conversations.len();
    let last_rounds: Vec<(String, String)> = conversations
        .iter()
        .map(|c| c.rounds.last().map_or_else(Default::default, |r| (r.prompt.clone(), r.answer.clone())))
        .collect();
    for (idx, conversation) in conversations.iter_mut().enumerate() {
        let Some(Round { prompt, target: Target::Judged { mismatched_answer, .. }, .. }) =
            conversation.rounds.last_mut()
        else {
            continue;
        };
        let before = |distance: usize| last_rounds.get((idx + n - distance) % n);
        let mut nearest = (1..n.min(N_TRIED + 1)).filter_map(before);
        let other = nearest.find(|(other, _)| other != prompt).or_else(|| before(1));
        *mismatched_answer = other.map(|(_, answer)| answer.clone()).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judged_answers_get_one_of_another_prompt() {
        let judged = |(row, prompt): (usize, &str)| {
            let target = Target::Judged { is_good: row % 2 == 0, mismatched_answer: String::new() };
            let (prompt, answer) = (prompt.to_owned(), format!("answer {row}"));
            Conversation::new(vec![Round { prompt, answer, row, target, ..Round::default() }]).unwrap()
        };
        let mut set: Vec<Conversation> = (0..).zip(["a", "a", "b", "c", "a"]).map(judged).collect();
        mismatch(&mut set);
        let answers: Vec<String> =
            set.iter().map(|c| c.contrast().unwrap().rounds[0].answer.clone()).collect();
        // The first looks from the end, past another of its prompt; so does the second.
        assert_eq!(answers, ["answer 3", "answer 3", "answer 1", "answer 2", "answer 3"]);
        assert_eq!([set[0].values(), set[1].values()], [[1.0], [0.0]]);
        // Where all prompts are one, another answer to it has to do.
        let mut same: Vec<Conversation> = (0..).zip(["a", "a"]).map(judged).collect();
        mismatch(&mut same);
        assert_eq!(same[0].contrast().unwrap().rounds[0].answer, "answer 1");
    }
}
