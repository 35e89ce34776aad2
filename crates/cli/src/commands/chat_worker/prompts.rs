//! The prompt of a question of the programming interface: a conversation by the model's chat template or its marker texts, with
//! tools, and what the answer must be.

use serde_json::{Value, json};
use tunesmith_formats::chat_template::{ChatMessage, ChatTemplate};
use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_generate::{
    ChatLayout, GenerateError, Grammar, THINK_CLOSE, Tool, ToolFormat, opens_reasoning, render_messages,
};

use super::questions::{ApiWishes, Conversation, ToolChoice, split_system};
use super::{Refusal, Worker};

/// A prompt, and how its answer is taken apart.
pub(super) struct Asking {
    pub(super) ids: Vec<u32>,
    pub(super) is_reasoning: bool,
    pub(super) tools: Option<ToolFormat>,
    pub(super) grammar: Option<Grammar>,
    /// The text behind which the grammar begins.
    pub(super) grammar_after: Option<&'static str>,
}

impl Worker<'_> {
    /// The prompt of a conversation.
    pub(super) fn asking(&mut self, conversation: &Conversation, api: &ApiWishes) -> Result<Asking, Refusal> {
        let layout = match &self.chat {
            Some(chat) => chat.layout().clone(),
            None => {
                return Err(Refusal {
                    hint: Some("use /v1/completions, or a model that was tuned for chat".to_owned()),
                    ..Refusal::new("the model has no chat template: it was not tuned for conversations")
                        .param("model")
                });
            }
        };
        let n_asked = conversation.messages.iter().filter(|message| role(message) != Some("system")).count();
        if self.is_single_turn && 1 < n_asked {
            let what =
                "the model has an encoder and was trained on single questions: it cannot read earlier turns";
            return Err(Refusal::new(what).param("messages"));
        }
        let mut asking = match &layout {
            ChatLayout::Template(template) => self.by_template(template, &conversation.messages, api)?,
            ChatLayout::Markers(_) => self.by_markers(conversation, api)?,
        };
        if let Some(schema) = &api.json_schema {
            asking.grammar = Some(Grammar::JsonSchema(schema.clone()));
        }
        Ok(asking)
    }

    fn by_template(
        &self,
        template: &ChatTemplate,
        messages: &[Value],
        api: &ApiWishes,
    ) -> Result<Asking, Refusal> {
        let mut variables = api.template_variables.clone();
        for name in variables.keys() {
            if !names_variable(template.source(), name) {
                let what = format!("the model's chat template does not know the variable '{name}'");
                let is_own_field = name == "reasoning_effort";
                let param = if is_own_field { name.clone() } else { format!("chat_template_kwargs.{name}") };
                return Err(Refusal::new(what).param(param));
            }
        }
        let mut messages = messages.to_vec();
        // Few templates know the newer name of the same role.
        if !template.source().contains("developer") {
            for message in messages.iter_mut().filter(|message| role(message) == Some("developer")) {
                message["role"] = json!("system");
            }
        }
        let begins_with_system =
            messages.first().is_some_and(|first| matches!(role(first), Some("system" | "developer")));
        let is_blank = messages
            .first()
            .and_then(|first| first.get("content")?.as_str())
            .is_some_and(|text| text.trim().is_empty());
        if begins_with_system && is_blank {
            // Says that there is none.
            messages.remove(0);
        } else if !begins_with_system && let Some(system) = &self.system {
            messages.insert(0, json!({"role": "system", "content": system}));
        }
        let (format, (grammar, opening)) = if api.tools.is_empty() {
            (None, (None, None))
        } else {
            let format =
                self.tools.clone().map_err(|problem| Refusal::new(problem.to_string()).param("tools"))?;
            variables.insert("tools".to_owned(), json!(api.tools));
            (Some(format), grammar_of_calls(format, api, self.tokenizer)?)
        };
        let text = render_messages(template, self.tokenizer, &messages, true, &variables)
            .map_err(|error| Refusal::from(error).param("messages"))?;
        let ids = self.tokenizer.encode(&text).map_err(GenerateError::from)?;
        let is_reasoning = opens_reasoning(&text);
        let grammar_after = opening.or(is_reasoning.then_some(THINK_CLOSE));
        Ok(Asking { ids, is_reasoning, tools: format, grammar, grammar_after })
    }

    /// Markers know questions and answers, and a system text before them.
    fn by_markers(&mut self, conversation: &Conversation, api: &ApiWishes) -> Result<Asking, Refusal> {
        let refused = |what: &str, param: &str| Err(Refusal::new(what).param(param));
        if !api.tools.is_empty() {
            return refused(
                "the model was trained with marker texts, not with a chat template that has tools",
                "tools",
            );
        }
        if !api.template_variables.is_empty() {
            return refused(
                "the model was trained with marker texts, not with a chat template",
                "chat_template_kwargs",
            );
        }
        let plain = |message: &Value| {
            let content = message.get("content").and_then(Value::as_str).unwrap_or_default();
            ChatMessage::new(role(message).unwrap_or_default(), content)
        };
        let (system, messages) = split_system(conversation.messages.iter().map(plain).collect());
        if let Some(other) =
            messages.iter().find(|message| !matches!(message.role.as_str(), "user" | "assistant"))
        {
            let what = format!(
                "the model was trained with marker texts, which have no place for the role '{}' here",
                other.role
            );
            return refused(&what, "messages");
        }
        if messages.last().is_none_or(|last| last.role != "user") {
            return refused("the last message must be the user's", "messages");
        }
        let system = system.or_else(|| self.system.clone()).unwrap_or_default();
        let Some(chat) = &mut self.chat else { return refused("the model has no chat layout", "model") };
        chat.set_system(&system);
        chat.set_history_rounds(None);
        chat.restore(&messages);
        Ok(Asking {
            ids: chat.prompt_ids()?,
            is_reasoning: false,
            tools: None,
            grammar: None,
            grammar_after: None,
        })
    }
}

/// The grammar of an answer that calls tools, and the text behind which it begins; at once where a call is a must.
fn grammar_of_calls(
    format: ToolFormat,
    api: &ApiWishes,
    tokenizer: &Tokenizer,
) -> Result<(Option<Grammar>, Option<&'static str>), Refusal> {
    let is_strict = |tool: &Value| tool.pointer("/function/strict").and_then(Value::as_bool).unwrap_or(false);
    let is_must = api.tool_choice != ToolChoice::Auto;
    let tools: Vec<Tool> = api
        .tools
        .iter()
        .filter_map(|tool| {
            let function = tool.get("function")?;
            let name = function.get("name")?.as_str()?.to_owned();
            if matches!(&api.tool_choice, ToolChoice::Function(wanted) if *wanted != name) {
                return None;
            }
            // A function without parameters takes none.
            let none = || json!({"type": "object", "properties": {}, "additionalProperties": false});
            let mut parameters = function.get("parameters").cloned().unwrap_or_else(none);
            if let Some(schema) = parameters.as_object_mut() {
                // Arguments are an object whatever the schema leaves open.
                schema.entry("type").or_insert_with(|| json!("object"));
            }
            let is_free = !is_must && !is_strict(tool);
            Some(Tool { name, parameters: if is_free { json!({"type": "object"}) } else { parameters } })
        })
        .collect();
    if tools.is_empty() {
        let what = "'tool_choice' names a function that is not among the tools";
        return Err(Refusal::new(what).param("tool_choice"));
    }
    let is_parallel = api.parallel_tool_calls && !matches!(api.tool_choice, ToolChoice::Function(_));
    if is_must {
        return Ok((Some(format.grammar(&tools, is_parallel, false, tokenizer)), None));
    }
    let has_strict = api.tools.iter().any(is_strict);
    if !has_strict && is_parallel {
        return Ok((None, None));
    }
    match format.opening(tokenizer) {
        Some(opening) => Ok((Some(format.grammar(&tools, is_parallel, true, tokenizer)), Some(opening))),
        // Llama's calls are single ones anyway.
        None if !has_strict => Ok((None, None)),
        None => {
            let what = "the model marks calls by no token of its own, so their form can be forced only where a call is a must";
            let hint = Some("leave 'strict' out, or set 'tool_choice' to 'required'".to_owned());
            Err(Refusal { hint, ..Refusal::new(what).param("tools") })
        }
    }
}

fn role(message: &Value) -> Option<&str> {
    message.get("role")?.as_str()
}

/// Whether a template has a word that is this name.
fn names_variable(source: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    source.match_indices(name).any(|(at, _)| {
        let before = source.get(..at).and_then(|text| text.chars().next_back());
        let after = source.get(at + name.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_whole_words() {
        assert!(names_variable("{% if enable_thinking is defined %}", "enable_thinking"));
        assert!(!names_variable("{% if not_enable_thinking %}", "enable_thinking"));
        assert!(!names_variable("", "x"));
    }
}
