//! What OpenAI's clients ask, and what of it a model here is asked.

use serde_json::{Map, Value, json};

use super::errors::OpenAiError;
use super::fields::{Fields, chat_fields, completion_fields, wrong_type};
use super::messages::read_messages;
use super::sampling::{Common, MAX_TOP_LOGPROBS};
use super::tools::put_tools_and_format;
use crate::chat::Question;

/// What is asked of which model, and how the answer is wanted.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) model: String,
    pub(super) question: Question,
    pub(super) n_choices: usize,
    pub(super) is_streamed: bool,
    pub(super) has_usage: bool,
    pub(super) has_logprobs: bool,
}

/// Variables that every template gets from the request itself.
const RESERVED_VARIABLES: [&str; 7] =
    ["messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "strftime_now"];

/// Reads a request for a turn of a conversation.
pub(super) fn chat_plan(body: &[u8]) -> Result<Plan, OpenAiError> {
    let fields = Fields::read(body, |name| chat_fields().find(|field| field.name == name))?;
    let missing = || OpenAiError::invalid("you must provide 'messages'", Some("messages"));
    let messages = read_messages(fields.list("messages")?.ok_or_else(missing)?)?;
    let max_tokens = fields.integer("max_tokens", 1, i64::from(u32::MAX))?;
    let max_completion_tokens = fields.integer("max_completion_tokens", 1, i64::from(u32::MAX))?;
    if max_tokens.is_some() && max_completion_tokens.is_some() && max_tokens != max_completion_tokens {
        let message = "'max_tokens' and 'max_completion_tokens' are the same limit: give one of them";
        return Err(OpenAiError::invalid(message, Some("max_tokens")));
    }
    let mut common = Common::read(&fields, max_completion_tokens.or(max_tokens))?;
    put_tools_and_format(&fields, &mut common.api)?;
    let variables = template_variables(&fields)?;
    if !variables.is_empty() {
        common.api.insert("template_variables".to_owned(), Value::Object(variables));
    }
    let has_logprobs = fields.flag("logprobs")?;
    let top_logprobs = fields.integer("top_logprobs", 0, MAX_TOP_LOGPROBS)?;
    if top_logprobs.is_some_and(|n_top| 0 < n_top) && !has_logprobs {
        let message = "'top_logprobs' is only allowed when 'logprobs' is true";
        return Err(OpenAiError::invalid(message, Some("top_logprobs")));
    }
    if has_logprobs {
        common.api.insert("top_logprobs".to_owned(), json!(top_logprobs.unwrap_or(0)));
    }
    let (settings, api) = (common.settings, Some(common.api));
    Ok(Plan {
        model: common.model,
        question: Question::Chat { messages, settings, api },
        n_choices: common.n_choices,
        is_streamed: common.is_streamed,
        has_usage: common.has_usage,
        has_logprobs,
    })
}

/// Reads a request to go on with texts.
pub(super) fn completion_plan(body: &[u8]) -> Result<Plan, OpenAiError> {
    let fields = Fields::read(body, |name| completion_fields().find(|field| field.name == name))?;
    let missing = || OpenAiError::invalid("you must provide a 'prompt'", Some("prompt"));
    let prompts = read_prompts(fields.get("prompt").ok_or_else(missing)?)?;
    let has_echo = fields.flag("echo")?;
    // Without a continuation the prompt itself is looked at.
    let max_tokens = fields.integer("max_tokens", i64::from(!has_echo), i64::from(u32::MAX))?;
    let is_only_prompt = max_tokens == Some(0);
    let mut common = Common::read(&fields, max_tokens.filter(|_| !is_only_prompt))?;
    let n_top = match fields.get("logprobs") {
        None | Some(Value::Bool(false)) => None,
        Some(_) => fields.integer("logprobs", 0, MAX_TOP_LOGPROBS)?,
    };
    if let Some(n_top) = n_top {
        common.api.insert("top_logprobs".to_owned(), json!(n_top));
    }
    common.api.insert("echo".to_owned(), json!(has_echo));
    common.api.insert("only_prompt".to_owned(), json!(is_only_prompt));
    if fields.get("add_special_tokens").is_some() {
        common.api.insert("add_special_tokens".to_owned(), json!(fields.flag("add_special_tokens")?));
    }
    let n_choices = prompts.len() * common.n_choices;
    let (settings, api) = (common.settings, Some(common.api));
    Ok(Plan {
        model: common.model,
        question: Question::Complete { prompt: Value::Array(prompts), settings, api },
        n_choices,
        is_streamed: common.is_streamed,
        has_usage: common.has_usage,
        has_logprobs: n_top.is_some(),
    })
}

/// Texts and lists of tokens.
fn read_prompts(prompt: &Value) -> Result<Vec<Value>, OpenAiError> {
    let wrong = || {
        wrong_type(
            "prompt",
            "a string, a list of strings, a list of token ids or a list of such lists",
            prompt,
        )
    };
    let is_ids = |items: &[Value]| {
        !items.is_empty()
            && items.iter().all(|item| item.as_u64().is_some_and(|id| u32::try_from(id).is_ok()))
    };
    match prompt {
        Value::String(_) => Ok(vec![prompt.clone()]),
        Value::Array(items) if items.is_empty() => {
            Err(OpenAiError::invalid("'prompt' must not be empty", Some("prompt")))
        }
        Value::Array(items) if is_ids(items) => Ok(vec![prompt.clone()]),
        Value::Array(items) if items.iter().all(Value::is_string) => Ok(items.clone()),
        Value::Array(items) if items.iter().all(|item| item.as_array().is_some_and(|ids| is_ids(ids))) => {
            Ok(items.clone())
        }
        _ => Err(wrong()),
    }
}

fn template_variables(fields: &Fields) -> Result<Map<String, Value>, OpenAiError> {
    let mut variables = fields.object("chat_template_kwargs")?.cloned().unwrap_or_default();
    if let Some(name) = variables.keys().find(|name| RESERVED_VARIABLES.contains(&name.as_str())) {
        let path = format!("chat_template_kwargs.{name}");
        let message =
            format!("'{path}' is not supported: the template gets '{name}' from the request itself");
        return Err(OpenAiError::unsupported(message, &path));
    }
    if let Some(effort) = fields.text("reasoning_effort")? {
        variables.insert("reasoning_effort".to_owned(), json!(effort));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests;
