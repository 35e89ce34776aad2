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

    /// The numbers to predict; none unless that is what is learned.
    pub fn values(&self) -> &[f32] {
        match self.target() {
            Target::Values(values) => values,
            Target::Answer | Target::Preference { .. } => &[],
        }
    }

    /// The same conversation with the answer that is to be preferred less; `None` unless there is one.
    pub fn rejected(&self) -> Option<Self> {
        let Target::Preference { rejected_prompt, rejected_answer } = self.target() else { return None };
        let mut rejected = self.clone();
        let last = rejected.rounds.last_mut()?;
        if let Some(prompt) = rejected_prompt {
            last.prompt.clone_from(prompt);
        }
        last.answer.clone_from(rejected_answer);
        last.target = Target::Answer;
        Some(rejected)
    }

    /// The system text that counts: the first round's.
    pub fn system(&self) -> &str {
        self.rounds.first().map_or("", |round| &round.system)
    }
}
