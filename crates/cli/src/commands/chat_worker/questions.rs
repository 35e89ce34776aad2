//! What a worker can be asked: the lines of its input, read field by field, so that every one that is wrong is named.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tunesmith_formats::chat_template::ChatMessage;
use tunesmith_generate::GenerationSettings;

/// One line of input.
#[derive(Debug)]
pub(super) struct Line {
    /// As it was given, to give it back: also where the rest is wrong.
    pub(super) id: Value,
    /// What is asked, or why the line is no question.
    pub(super) asked: Result<Asked, String>,
}

/// What a line asks for.
#[derive(Debug)]
pub(super) enum Asked {
    /// To answer a conversation.
    Chat(Conversation),
    /// To go on with texts.
    Complete(Completion),
    /// To break the answer with this id off.
    Cancel(String),
}

#[derive(Debug, Deserialize)]
pub(super) struct Conversation {
    pub(super) messages: Vec<Value>,
    #[serde(default)]
    settings: Map<String, Value>,
    #[serde(skip)]
    pub(super) wishes: Wishes,
    pub(super) api: Option<ApiWishes>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Completion {
    pub(super) prompt: Prompts,
    #[serde(default)]
    settings: Map<String, Value>,
    #[serde(skip)]
    pub(super) wishes: Wishes,
    pub(super) api: Option<ApiWishes>,
}

/// Texts to go on with.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Prompts {
    One(String),
    Many(Vec<Prompt>),
}

/// A text, or the tokens of one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

/// What the programming interface asks besides. The answer then comes in its parts, and all of the conversation counts.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ApiWishes {
    /// How many answers are wanted.
    pub(super) n: usize,
    /// Log-probabilities, with so many of the likeliest tokens beside each.
    pub(super) top_logprobs: Option<usize>,
    pub(super) frequency_penalty: f32,
    pub(super) presence_penalty: f32,
    pub(super) logit_bias: BTreeMap<u32, f32>,
    /// Variables of the chat template.
    pub(super) template_variables: Map<String, Value>,
    /// In OpenAI's form.
    pub(super) tools: Vec<Value>,
    pub(super) tool_choice: ToolChoice,
    pub(super) parallel_tool_calls: bool,
    /// The answer must be valid by this JSON schema.
    pub(super) json_schema: Option<Value>,
    /// The prompt comes before the answer.
    pub(super) echo: bool,
    /// The prompt begins with the beginning-of-text token where the tokenizer has one.
    pub(super) add_special_tokens: bool,
    /// Nothing is generated.
    pub(super) only_prompt: bool,
}

impl Default for ApiWishes {
    fn default() -> Self {
        Self {
            n: 1,
            top_logprobs: None,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            template_variables: Map::new(),
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            json_schema: None,
            echo: false,
            add_special_tokens: true,
            only_prompt: false,
        }
    }
}

/// Which tools may or must be called.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToolChoice {
    /// As the model likes.
    Auto,
    /// One at least.
    Required,
    /// The one with this name.
    Function(String),
}

/// What a question may ask of its answer, by the names of the `prediction` section; what it leaves out stays as the run or
/// model has it.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    num_beams: Option<usize>,
    repetition_penalty: Option<f32>,
    min_length_inference: Option<usize>,
    max_length_inference: Option<usize>,
    max_time: Option<f64>,
    pub(super) num_history: Option<usize>,
    seed: Option<u64>,
    stop: Vec<String>,
}

impl Line {
    /// Reads a line; what is wrong with it is kept, together with its id.
    pub(super) fn read(line: &str) -> Self {
        let value: Value = match serde_json::from_str(line) {
            Ok(value) => value,
            Err(error) => {
                let reason = format!("a line is not a question: {error}");
                return Self { id: Value::Null, asked: Err(reason) };
            }
        };
        Self { id: value.get("id").cloned().unwrap_or_default(), asked: Asked::read(&value) }
    }
}

impl Asked {
    fn read(line: &Value) -> Result<Self, String> {
        if let Some(id) = line.get("cancel") {
            return Ok(Self::Cancel(id.as_str().ok_or("'cancel' must be the id of a question")?.to_owned()));
        }
        if let Some(chat) = line.get("chat") {
            let mut chat: Conversation = read("chat", chat)?;
            chat.wishes = Wishes::read(&chat.settings)?;
            return Ok(Self::Chat(chat));
        }
        if let Some(complete) = line.get("complete") {
            let mut complete: Completion = read("complete", complete)?;
            complete.wishes = Wishes::read(&complete.settings)?;
            return Ok(Self::Complete(complete));
        }
        Err("a question needs `chat` or `complete`".to_owned())
    }
}

fn read<T: DeserializeOwned>(name: &str, value: &Value) -> Result<T, String> {
    serde_json::from_value(value.clone()).map_err(|error| format!("'{name}' is not a question: {error}"))
}

impl Conversation {
    /// The messages as role and text.
    pub(super) fn plain_messages(&self) -> Result<Vec<ChatMessage>, String> {
        let plain = |(idx, message): (usize, &Value)| {
            let text = |name: &str| {
                message
                    .get(name)
                    .and_then(Value::as_str)
                    .ok_or_else(|| format!("'messages[{idx}].{name}' must be a text"))
            };
            Ok(ChatMessage::new(text("role")?, text("content")?))
        };
        self.messages.iter().enumerate().map(plain).collect()
    }
}

impl Completion {
    /// The one text to go on with.
    pub(super) fn plain_prompt(&self) -> Result<&str, String> {
        match &self.prompt {
            Prompts::One(text) => Ok(text),
            Prompts::Many(_) => Err("'prompt' must be a text".to_owned()),
        }
    }
}

impl Wishes {
    /// Reads the settings of a question. Absent and null are the same.
    pub(super) fn read(settings: &Map<String, Value>) -> Result<Self, String> {
        const NUMBER: &str = "a number";
        const COUNT: &str = "a whole number, 0 or more";
        Ok(Self {
            do_sample: field(settings, "do_sample", "true or false")?,
            temperature: field(settings, "temperature", NUMBER)?,
            top_k: field(settings, "top_k", COUNT)?,
            top_p: field(settings, "top_p", NUMBER)?,
            min_p: field(settings, "min_p", NUMBER)?,
            num_beams: field(settings, "num_beams", COUNT)?,
            repetition_penalty: field(settings, "repetition_penalty", NUMBER)?,
            min_length_inference: field(settings, "min_length_inference", COUNT)?,
            max_length_inference: field(settings, "max_length_inference", COUNT)?,
            max_time: field(settings, "max_time", NUMBER)?,
            num_history: field(settings, "num_history", COUNT)?,
            seed: field(settings, "seed", COUNT)?,
            stop: field(settings, "stop", "a list of texts")?.unwrap_or_default(),
        })
    }

    /// A temperature of 0 takes the most likely token, as on the command line; another one draws unless the question says
    /// that it must not.
    pub(super) fn apply(&self, settings: &mut GenerationSettings) {
        if let Some(temperature) = self.temperature {
            settings.do_sample = 0.0 < temperature;
            if settings.do_sample {
                settings.temperature = temperature;
            }
        }
        settings.do_sample = match self.do_sample {
            Some(false) => false,
            Some(true) => self.temperature != Some(0.0),
            None => settings.do_sample,
        };
        settings.top_k = self.top_k.unwrap_or(settings.top_k);
        settings.top_p = self.top_p.unwrap_or(settings.top_p);
        settings.min_p = self.min_p.unwrap_or(settings.min_p);
        // Beams of the run make way for drawing, which goes without them.
        let of_run = if settings.do_sample { 1 } else { settings.num_beams };
        settings.num_beams = self.num_beams.unwrap_or(of_run);
        settings.repetition_penalty = self.repetition_penalty.unwrap_or(settings.repetition_penalty);
        settings.min_new_tokens = self.min_length_inference.unwrap_or(settings.min_new_tokens);
        settings.max_new_tokens = self.max_length_inference.unwrap_or(settings.max_new_tokens);
        settings.max_time_secs = self.max_time.unwrap_or(settings.max_time_secs);
        settings.seed = self.seed.unwrap_or(settings.seed);
        settings.stop_texts.extend(self.stop.iter().filter(|text| !text.is_empty()).cloned());
    }
}

fn field<T: DeserializeOwned>(
    settings: &Map<String, Value>,
    name: &str,
    what: &str,
) -> Result<Option<T>, String> {
    match settings.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => match serde_json::from_value(value.clone()) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(format!("'settings.{name}' must be {what}, is {value}")),
        },
    }
}

/// The system text if the conversation begins with one, and the other messages. An empty system text means none, and
/// overrides that of the training data.
pub(super) fn split_system(mut messages: Vec<ChatMessage>) -> (Option<String>, Vec<ChatMessage>) {
    let begins = messages.first().is_some_and(|first| matches!(first.role.as_str(), "system" | "developer"));
    let system = begins.then(|| messages.remove(0).content);
    (system, messages)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wishes(settings: &Value) -> Result<Wishes, String> {
        Wishes::read(settings.as_object().unwrap())
    }

    #[test]
    fn wishes_change_only_what_they_name() {
        let before = GenerationSettings { do_sample: true, temperature: 0.3, ..Default::default() };
        let apply = |settings: Value| {
            let mut changed = before.clone();
            wishes(&settings).unwrap().apply(&mut changed);
            changed
        };
        assert_eq!(apply(json!({})), before);
        assert_eq!(apply(json!({"temperature": null})), before);
        assert!(!apply(json!({"temperature": 0})).do_sample);
        assert!(!apply(json!({"temperature": 0, "do_sample": true})).do_sample);
        assert!(!apply(json!({"temperature": 0.7, "do_sample": false})).do_sample);
        let drawn = apply(json!({"temperature": 0.7, "max_length_inference": 5, "stop": ["", "a"]}));
        assert_eq!(
            (drawn.temperature, drawn.max_new_tokens, drawn.stop_texts),
            (0.7, 5, vec!["a".to_owned()])
        );
    }

    #[test]
    fn a_wrong_type_is_named_together_with_the_id() {
        let line = Line::read(r#"{"id": "7", "chat": {"messages": [], "settings": {"temperature": "hot"}}}"#);
        assert_eq!(line.id, "7");
        assert_eq!(line.asked.unwrap_err(), "'settings.temperature' must be a number, is \"hot\"");
        for (settings, word) in [
            (json!({"top_k": -1}), "whole number"),
            (json!({"do_sample": 1}), "true or false"),
            (json!({"stop": "x"}), "list of texts"),
        ] {
            assert!(wishes(&settings).unwrap_err().contains(word));
        }
        let line = Line::read(r#"{"id": "8", "chat": 3}"#);
        assert_eq!((line.id, line.asked.is_err()), (json!("8"), true));
        assert_eq!(Line::read("{").id, Value::Null);
    }

    #[test]
    fn the_system_text_is_the_first_message_or_none() {
        let (system, rest) =
            split_system(vec![ChatMessage::new("system", "Be brief."), ChatMessage::new("user", "a")]);
        assert_eq!((system.as_deref(), rest.len()), (Some("Be brief."), 1));
        let (system, rest) =
            split_system(vec![ChatMessage::new("user", "a"), ChatMessage::new("system", "b")]);
        assert_eq!((system, rest.len()), (None, 2));
    }
}
