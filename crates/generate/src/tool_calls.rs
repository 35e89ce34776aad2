//! Calls of tools in what a model writes: in which form it writes them, reading them back, and the grammar of that form.
//!
//! The form is the model's own: its chat template is given a conversation with a call in it, and the text that comes out shows
//! how the model has learned to write one. A form that is not known here is refused rather than guessed.

use serde_json::{Map, Value, json};
use tunesmith_formats::chat_template::ChatTemplate;
use tunesmith_formats::tokenizer::Tokenizer;

use crate::grammar::{Grammar, lark_json};
use crate::prompt::render_messages;

/// A function that the model wants called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Its name, as the model wrote it.
    pub name: String,
    /// Its arguments, a JSON object.
    pub arguments: String,
}

/// A function that may be called.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The JSON schema of its arguments.
    pub parameters: Value,
}

/// How a model writes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolFormat {
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, once for each call: Hermes, Qwen.
    Hermes,
    /// `{"name": …, "parameters": {…}}` as the whole answer, perhaps after `<|python_tag|>`: Llama 3.
    Llama,
    /// `[TOOL_CALLS] [{"name": …, "arguments": {…}}, …]`: Mistral, its tokenizers up to version 7.
    MistralList,
    /// `[TOOL_CALLS]name[ARGS]{…}`, once for each call: Mistral, since version 11.
    MistralArgs,
}

/// Why tools cannot be used with a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ToolProblem {
    /// The template writes the same with tools as without.
    #[error("the model's chat template does not write tools: it was not trained to call any")]
    NoTools,
    /// The template writes tools, but how a call looks is not known here.
    #[error("the form in which the model's chat template writes calls of tools is not supported")]
    UnknownFormat,
    /// The template refuses a conversation with tools.
    #[error("the model's chat template refuses tools: {0}")]
    Refused(String),
}

pub(crate) const HERMES_OPEN: &str = "<tool_call>";
pub(crate) const HERMES_CLOSE: &str = "</tool_call>";
pub(crate) const LLAMA_TAG: &str = "<|python_tag|>";
pub(crate) const MISTRAL_CALLS: &str = "[TOOL_CALLS]";
const MISTRAL_ARGS: &str = "[ARGS]";
const MISTRAL_ID: &str = "[CALL_ID]";

/// Names and texts of the conversation that shows the form; no template has them by itself.
const PROBE_QUESTION: &str = "probe_question";
const PROBE_NAME: &str = "probe_function";

impl ToolFormat {
    /// The form that a model's template writes.
    ///
    /// # Errors
    /// The template does not write tools, or calls in a form that is not known here.
    pub fn from_template(template: &ChatTemplate, tokenizer: &Tokenizer) -> Result<Self, ToolProblem> {
        let tools = json!([{"type": "function", "function": {
            "name": PROBE_NAME,
            "description": "probe",
            "parameters": {"type": "object", "properties": {"probe_argument": {"type": "string"}}},
        }}]);
        let variables = Map::from_iter([("tools".to_owned(), tools)]);
        let question = json!({"role": "user", "content": PROBE_QUESTION});
        let render = |messages: &[Value], has_prompt| {
            render_messages(template, tokenizer, messages, has_prompt, &variables)
                .map_err(|error| ToolProblem::Refused(error.to_string()))
        };
        if !render(std::slice::from_ref(&question), true)?.contains(PROBE_NAME) {
            return Err(ToolProblem::NoTools);
        }
        // Nine letters and digits: Mistral's templates refuse other ids.
        let call = json!({"role": "assistant", "content": null, "tool_calls": [{
            "id": "probe0001", "type": "function",
            "function": {"name": PROBE_NAME, "arguments": {"probe_argument": "probe_value"}},
        }]});
        let written = render(&[question, call], false).ok();
        let after_question =
            written.as_deref().and_then(|text| text.rsplit_once(PROBE_QUESTION)).map(|x| x.1);
        let of_call = after_question.filter(|text| text.contains(PROBE_NAME)).and_then(Self::from_text);
        // A template that leaves calls out may still say in words how they are to be written.
        of_call.or_else(|| Self::from_text(template.source())).ok_or(ToolProblem::UnknownFormat)
    }

    fn from_text(text: &str) -> Option<Self> {
        if text.contains(MISTRAL_CALLS) {
            let is_list = !text.contains(MISTRAL_ARGS);
            return Some(if is_list { Self::MistralList } else { Self::MistralArgs });
        }
        if text.contains(HERMES_OPEN) {
            // Qwen3-Coder's form has these tags, too, but no JSON in them.
            return (!text.contains("<function=")).then_some(Self::Hermes);
        }
        let is_llama = text.contains(r#""name": "#) && text.contains(r#""parameters": "#);
        is_llama.then_some(Self::Llama)
    }

    /// Texts by which calls are found in an answer; where they are special tokens these must be shown.
    pub fn markers(self) -> &'static [&'static str] {
        match self {
            Self::Hermes => &[HERMES_OPEN, HERMES_CLOSE],
            Self::Llama => &[LLAMA_TAG],
            Self::MistralList | Self::MistralArgs => &[MISTRAL_CALLS, MISTRAL_ARGS, MISTRAL_ID],
        }
    }

    /// An id for a call, made of random bytes. Mistral's templates take nine letters and digits only.
    pub fn call_id(self, random: [u8; 12]) -> String {
        let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::MistralList | Self::MistralArgs => digits.chars().take(9).collect(),
            Self::Hermes | Self::Llama => format!("call_{digits}"),
        }
    }

    /// The calls in a text: what stands between Hermes' tags, Llama's whole answer, all that begins with Mistral's marker.
    /// `None` when it is none.
    pub(crate) fn parse(self, text: &str) -> Option<Vec<ToolCall>> {
        let text = text.trim();
        let calls = match self {
            Self::Hermes => json_calls(text, "arguments")?,
            Self::Llama => json_calls(text.strip_prefix(LLAMA_TAG).unwrap_or(text), "parameters")?,
            Self::MistralList | Self::MistralArgs => mistral_calls(text)?,
        };
        (!calls.is_empty()).then_some(calls)
    }

    /// The token that begins the calls of an answer, where there is one: what follows it can be nothing but calls.
    pub fn opening(self, tokenizer: &Tokenizer) -> Option<&'static str> {
        let marker = match self {
            Self::Hermes => HERMES_OPEN,
            Self::MistralList | Self::MistralArgs => MISTRAL_CALLS,
            Self::Llama => return None,
        };
        tokenizer.token_id(marker).map(|_| marker)
    }

    /// The grammar of an answer that is calls of these tools and nothing else: one, or with `is_parallel` one or more.
    /// `is_open` leaves out what [`ToolFormat::opening`] has written.
    pub fn grammar(self, tools: &[Tool], is_parallel: bool, is_open: bool, tokenizer: &Tokenizer) -> Grammar {
        let marker = |text: &str| match tokenizer.token_id(text) {
            Some(id) if tokenizer.is_special(id) => format!("<[{id}]>"),
            _ => quoted(text),
        };
        let alternatives: Vec<String> = (0..tools.len()).map(|idx| format!("call_{idx}")).collect();
        let any = alternatives.join(" | ");
        let as_object = |tool: &Tool, key: &str, idx: usize| {
            let opening = format!("{{\"name\": {}, \"{key}\": ", Value::from(tool.name.as_str()));
            format!("{} arguments_{idx} \"}}\"", quoted(&opening))
        };
        let more = |text: &str| if is_parallel { format!("({text})*") } else { String::new() };
        let opening = |marker: String| if is_open { String::new() } else { marker };
        let (start, call) = match self {
            Self::Hermes => {
                let open = marker(HERMES_OPEN);
                let more = more(&format!(r#""\n" {open} call"#));
                let call = format!(r#""\n" ({any}) "\n" {}"#, marker(HERMES_CLOSE));
                (format!("{} call {more}", opening(open)), call)
            }
            // Several calls are not a form that Llama was trained on.
            Self::Llama => ("call".to_owned(), any),
            Self::MistralList => {
                let more = more(r#"", " call"#);
                (format!(r#"{} " [" call {more} "]""#, opening(marker(MISTRAL_CALLS))), any)
            }
            Self::MistralArgs => {
                let open = marker(MISTRAL_CALLS);
                let more = more(&format!("{open} call"));
                (format!("{} call {more}", opening(open)), any)
            }
        };
        let mut source = format!("start: {start}\ncall: {call}\n");
        for (idx, tool) in tools.iter().enumerate() {
            let body = match self {
                Self::Hermes | Self::MistralList => as_object(tool, "arguments", idx),
                Self::Llama => as_object(tool, "parameters", idx),
                Self::MistralArgs => {
                    format!("{} {} arguments_{idx}", quoted(&tool.name), marker(MISTRAL_ARGS))
                }
            };
            source
                .push_str(&format!("call_{idx}: {body}\narguments_{idx}: {}\n", lark_json(&tool.parameters)));
        }
        Grammar::Lark(source)
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// JSON objects with `name` and `key`, one after the other or in a list; nothing else may stand between them.
fn json_calls(text: &str, key: &str) -> Option<Vec<ToolCall>> {
    let mut calls = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next()?.ok()? {
            Value::Array(items) => {
                for item in &items {
                    calls.push(call(item, key)?);
                }
            }
            value => calls.push(call(&value, key)?),
        }
        rest = rest.get(values.byte_offset()..)?.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
    }
    Some(calls)
}

fn call(value: &Value, key: &str) -> Option<ToolCall> {
    let name = value.get("name")?.as_str().filter(|name| !name.is_empty())?.to_owned();
    // Models mix the two names up.
    let given = [key, "arguments", "parameters"].into_iter().find_map(|key| value.get(key));
    let arguments = match given {
        None | Some(Value::Null) => "{}".to_owned(),
        Some(object @ Value::Object(_)) => object.to_string(),
        Some(Value::String(text)) => {
            serde_json::from_str::<Map<String, Value>>(text).ok()?;
            text.clone()
        }
        Some(_) => return None,
    };
    Some(ToolCall { name, arguments })
}

fn mistral_calls(text: &str) -> Option<Vec<ToolCall>> {
    let mut calls = Vec::new();
    for part in text.split(MISTRAL_CALLS).map(str::trim).filter(|part| !part.is_empty()) {
        if part.starts_with('[') || part.starts_with('{') {
            calls.extend(json_calls(part, "arguments")?);
            continue;
        }
        let at = part.find(MISTRAL_ARGS).or_else(|| part.find('{'))?;
        let (head, arguments) = part.split_at(at);
        let name = head.split(MISTRAL_ID).next().unwrap_or(head).trim();
        let arguments = arguments.strip_prefix(MISTRAL_ARGS).unwrap_or(arguments).trim();
        let arguments: Map<String, Value> = serde_json::from_str(arguments).ok()?;
        if name.is_empty() {
            return None;
        }
        calls.push(ToolCall { name: name.to_owned(), arguments: Value::Object(arguments).to_string() });
    }
    Some(calls)
}

#[cfg(test)]
mod tests;
