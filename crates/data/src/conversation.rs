//! What training learns from: rounds of system text, prompt and answer, chained into conversations.

use serde_json::{Map, Value as Json, json};

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
    /// What a list of messages says of the round beyond these texts; `None` for one that is nothing but texts.
    pub details: Option<Box<RoundDetails>>,
}

/// A round of messages that are more than one text of the user and one of the assistant. Prompt and answer of the round are
/// then what people read; a chat template is given the messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoundDetails {
    /// The messages before the answer as `{role, content, …}`: of the user, of tools, late system texts. None where the
    /// answer follows another one.
    pub before: Vec<Json>,
    /// The content of the answer's message where it is not the answer's text: null or nothing beside calls of tools.
    pub answer_content: Option<Json>,
    /// Keys of the answer's message besides role and content: `tool_calls`, `reasoning_content`, `name` and so on.
    pub answer_keys: Map<String, Json>,
    /// As `answer_content`, of the answer to be preferred less.
    pub rejected_content: Option<Json>,
    /// As `answer_keys`, of the answer to be preferred less.
    pub rejected_keys: Map<String, Json>,
    /// The answer is context for what follows and not learned.
    pub is_context: bool,
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

/// Rounds in the order they were spoken, at least one. One conversation becomes one sample, or one for each answer where
/// the chat template writes earlier answers differently.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// Oldest first; the last one's answer is what generation is compared with.
    pub rounds: Vec<Round>,
    /// Row of the last round: the id of the sample.
    pub row: usize,
    /// Variables of the chat template for this conversation: `tools`, and what a column `chat_template_kwargs` holds.
    pub variables: Map<String, Json>,
}

impl Conversation {
    /// A conversation whose id is the row of its last round. `None` without rounds.
    pub fn new(rounds: Vec<Round>) -> Option<Self> {
        let row = rounds.last()?.row;
        Some(Self { rounds, row, variables: Map::new() })
    }

    /// The same conversation with variables for the chat template.
    #[must_use]
    pub fn with_variables(mut self, variables: Map<String, Json>) -> Self {
        self.variables = variables;
        self
    }

    /// Whether some round has messages of tools, calls of them, or the conversation describes some.
    pub fn has_tools(&self) -> bool {
        let is_tool = |message: &Json| message.get("role").is_some_and(|role| role == "tool");
        let uses_tools = |details: &RoundDetails| {
            details.before.iter().any(is_tool) || details.answer_keys.contains_key("tool_calls")
        };
        self.variables.contains_key("tools")
            || self.rounds.iter().filter_map(|round| round.details.as_deref()).any(uses_tools)
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
        if let Some(details) = &mut last.details {
            details.answer_keys = std::mem::take(&mut details.rejected_keys);
            details.answer_content = details.rejected_content.take();
        }
        Some(contrast)
    }

    /// The system text that counts: the first round's.
    pub fn system(&self) -> &str {
        self.rounds.first().map_or("", |round| &round.system)
    }
}

impl Round {
    /// Messages before the answer as a chat template is given them.
    pub fn messages_before(&self) -> Vec<Json> {
        match &self.details {
            Some(details) => details.before.clone(),
            None => vec![json!({"role": "user", "content": self.prompt})],
        }
    }

    /// The answer's message as a chat template is given it.
    pub fn answer_message(&self) -> Json {
        let mut message = Map::new();
        message.insert("role".to_owned(), json!("assistant"));
        let content = self.details.as_ref().and_then(|details| details.answer_content.clone());
        message.insert("content".to_owned(), content.unwrap_or_else(|| json!(self.answer)));
        if let Some(details) = &self.details {
            message.extend(details.answer_keys.clone());
        }
        Json::Object(message)
    }

    /// Whether the answer is to be learned.
    pub fn is_learned(&self) -> bool {
        self.details.as_ref().is_none_or(|details| !details.is_context)
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
