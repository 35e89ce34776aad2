//! What training learns from: rounds of system text, prompt and answer, chained into conversations.

/// One exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

/// Rounds in the order they were spoken, at least one. One conversation becomes one sample.
#[derive(Debug, Clone, PartialEq, Eq)]
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

    /// The system text that counts: the first round's.
    pub fn system(&self) -> &str {
        self.rounds.first().map_or("", |round| &round.system)
    }
}
