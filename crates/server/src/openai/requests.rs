//! What OpenAI's clients ask, and what of it a model here is asked.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::answers::OpenAiError;
use crate::chat::{Message, Question};

/// A request for a turn of a conversation. Fields that are not named here change nothing (`user`, `metadata`, …).
#[derive(Debug, Deserialize)]
pub(super) struct ChatCompletion {
    messages: Vec<ChatMessage>,
    max_completion_tokens: Option<usize>,
    tools: Option<Vec<Value>>,
    functions: Option<Vec<Value>>,
    response_format: Option<Value>,
    #[serde(flatten)]
    common: Common,
}

#[derive(Debug, Deserialize)]
struct ChatMessage {
    role: String,
    #[serde(default)]
    content: Option<Content>,
}

/// A text, or a list of parts.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: String,
}

/// A request to go on with a text.
#[derive(Debug, Deserialize)]
pub(super) struct Completion {
    prompt: OneOrMany,
    #[serde(default)]
    echo: Option<bool>,
    suffix: Option<String>,
    best_of: Option<usize>,
    #[serde(flatten)]
    common: Common,
}

#[derive(Debug, Deserialize)]
struct Common {
    model: String,
    #[serde(default)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<usize>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    /// Not of OpenAI, but of other servers with this interface.
    min_p: Option<f64>,
    seed: Option<i64>,
    stop: Option<OneOrMany>,
    n: Option<usize>,
    logprobs: Option<Value>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    logit_bias: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// What is asked of which model, and how the answer is wanted.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) model: String,
    pub(super) question: Question,
    pub(super) is_streamed: bool,
    pub(super) has_usage: bool,
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, OpenAiError> {
    serde_json::from_slice(body)
        .map_err(|error| OpenAiError::invalid(format!("the request is not understood: {error}"), None))
}

impl ChatCompletion {
    pub(super) fn parse(body: &[u8]) -> Result<Self, OpenAiError> {
        parse(body)
    }

    pub(super) fn plan(self) -> Result<Plan, OpenAiError> {
        let is_asked = |list: &Option<Vec<Value>>| list.as_ref().is_some_and(|list| !list.is_empty());
        if is_asked(&self.tools) || is_asked(&self.functions) {
            return Err(OpenAiError::invalid("tools are not supported", Some("tools")));
        }
        let format =
            self.response_format.as_ref().and_then(|format| format.get("type")).and_then(Value::as_str);
        if format.is_some_and(|kind| kind != "text") {
            return Err(OpenAiError::invalid("only text answers are supported", Some("response_format")));
        }
        let messages = self.messages.into_iter().map(ChatMessage::plain).collect::<Result<Vec<_>, _>>()?;
        let settings = self.common.settings(self.max_completion_tokens)?;
        self.common.plan(Question::Chat { messages, settings })
    }
}

impl ChatMessage {
    fn plain(self) -> Result<Message, OpenAiError> {
        let refuse = |what: String| Err(OpenAiError::invalid(what, Some("messages")));
        if !matches!(self.role.as_str(), "system" | "developer" | "user" | "assistant") {
            return refuse(format!("messages of the role {} are not supported", self.role));
        }
        let content = match self.content {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => match parts.iter().find(|part| part.kind != "text") {
                Some(part) => return refuse(format!("parts of the type {} are not supported", part.kind)),
                None => parts.into_iter().map(|part| part.text).collect(),
            },
        };
        Ok(Message { role: self.role, content })
    }
}

impl Completion {
    pub(super) fn parse(body: &[u8]) -> Result<Self, OpenAiError> {
        parse(body)
    }

    pub(super) fn plan(self) -> Result<Plan, OpenAiError> {
        if self.echo == Some(true) || self.suffix.is_some() || self.best_of.is_some_and(|n| n != 1) {
            return Err(OpenAiError::invalid("echo, suffix and best_of are not supported", None));
        }
        let prompt = match self.prompt {
            OneOrMany::One(text) => text,
            OneOrMany::Many(mut texts) if texts.len() == 1 => texts.pop().unwrap_or_default(),
            OneOrMany::Many(_) => {
                return Err(OpenAiError::invalid("one prompt at a time is supported", Some("prompt")));
            }
        };
        let settings = self.common.settings(None)?;
        self.common.plan(Question::Complete { prompt, settings })
    }
}

impl Common {
    fn plan(self, question: Question) -> Result<Plan, OpenAiError> {
        Ok(Plan {
            model: self.model,
            question,
            is_streamed: self.stream.unwrap_or(false),
            has_usage: self.stream_options.is_some_and(|options| options.include_usage),
        })
    }

    /// The settings by the names of the `prediction` section. What is left out stays as the model has it.
    fn settings(&self, max_completion_tokens: Option<usize>) -> Result<Map<String, Value>, OpenAiError> {
        if self.n.is_some_and(|n| n != 1) {
            return Err(OpenAiError::invalid("one answer at a time is supported", Some("n")));
        }
        if self.logprobs.as_ref().is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false))) {
            return Err(OpenAiError::invalid("log probabilities are not supported", Some("logprobs")));
        }
        for (name, value) in
            [("frequency_penalty", self.frequency_penalty), ("presence_penalty", self.presence_penalty)]
        {
            if value.is_some_and(|value| value != 0.0) {
                return Err(OpenAiError::invalid(format!("{name} is not supported"), Some(name)));
            }
        }
        if self.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty()) {
            return Err(OpenAiError::invalid("logit_bias is not supported", Some("logit_bias")));
        }
        let in_range = |name: &'static str, value: Option<f64>, min: f64, max: f64| match value {
            Some(value) if !(min..=max).contains(&value) => Err(OpenAiError::invalid(
                format!("{name} must be between {min} and {max}, is {value}"),
                Some(name),
            )),
            value => Ok(value),
        };
        let mut settings = Map::new();
        let mut put = |name: &str, value: Value| settings.insert(name.to_owned(), value);
        if let Some(temperature) = in_range("temperature", self.temperature, 0.0, 2.0)? {
            put("temperature", json!(temperature));
        }
        if let Some(top_p) = in_range("top_p", self.top_p, 0.0, 1.0)? {
            // 0 leaves the most likely token only.
            put("top_p", json!(top_p.max(1e-6)));
        }
        if let Some(min_p) = in_range("min_p", self.min_p, 0.0, 1.0)? {
            put("min_p", json!(min_p));
        }
        if let Some(n_tokens) = max_completion_tokens.or(self.max_tokens) {
            if n_tokens == 0 {
                return Err(OpenAiError::invalid("max_tokens must be at least 1", Some("max_tokens")));
            }
            put("max_length_inference", json!(n_tokens));
        }
        put("seed", json!(self.seed.map_or_else(any_seed, |seed| seed.unsigned_abs())));
        if let Some(stop) = &self.stop {
            let texts = match stop {
                OneOrMany::One(text) => std::slice::from_ref(text),
                OneOrMany::Many(texts) => texts,
            };
            put("stop", json!(texts));
        }
        Ok(settings)
    }
}

/// Another seed for each request that names none, as clients expect.
fn any_seed() -> u64 {
    let mut bytes = [0; 4];
    // Without a source of randomness all answers are drawn with the same seed.
    let _ = getrandom::fill(&mut bytes);
    u64::from(u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: &Value) -> Result<Plan, OpenAiError> {
        ChatCompletion::parse(body.to_string().as_bytes())?.plan()
    }

    #[test]
    fn settings_get_their_names_here() {
        let plan = chat(&json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
            "temperature": 0.5, "min_p": 0.1, "max_tokens": 3, "max_completion_tokens": 4, "stop": "x", "seed": -7, "stream": true, "user": "u"}))
        .unwrap();
        assert!(plan.is_streamed && !plan.has_usage);
        let Question::Chat { messages, settings } = plan.question else { panic!("a conversation") };
        assert_eq!(messages[0].content, "ab");
        let expected =
            json!({"temperature": 0.5, "min_p": 0.1, "max_length_inference": 4, "seed": 7, "stop": ["x"]});
        assert_eq!(json!(settings), expected);
    }

    #[test]
    fn what_is_not_built_is_refused() {
        let request = |more: Value| {
            let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "a"}]});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            chat(&body)
        };
        assert!(request(json!({"n": 1, "tools": [], "logprobs": false, "frequency_penalty": 0})).is_ok());
        for (more, param) in [
            (json!({"n": 2}), "n"),
            (json!({"tools": [{}]}), "tools"),
            (json!({"logprobs": true}), "logprobs"),
            (json!({"temperature": 3}), "temperature"),
            (json!({"min_p": -1}), "min_p"),
            (json!({"response_format": {"type": "json_object"}}), "response_format"),
            (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages"),
            (json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}), "messages"),
        ] {
            let error = request(more).unwrap_err();
            assert_eq!((error.status, error.param.as_deref()), (400, Some(param)));
        }
        assert_eq!(chat(&json!({"model": "m"})).unwrap_err().status, 400);
    }
}
