//! A conversation in OpenAI's form as the text that a chat template makes of it.
//!
//! Templates differ in what they expect of messages with calls of tools: most take the arguments as an object and write it as
//! JSON, some take the text; some want no content to be null, some join it to a text. Each form is tried, the usual one first.

use serde_json::{Map, Value};
use tunesmith_formats::chat_template::ChatTemplate;
use tunesmith_formats::tokenizer::Tokenizer;

use crate::error::Result;

/// Where a reasoning model's thoughts begin.
pub const THINK_OPEN: &str = "<think>";
/// Where they end.
pub const THINK_CLOSE: &str = "</think>";

/// Lays `messages` out by the template: objects with `role`, `content` (text or null), and perhaps `tool_calls` and others that the
/// template reads. `variables` go to the template beside `bos_token` and `eos_token`: `tools`, `enable_thinking` and the like.
///
/// # Errors
/// The template does not compile, or refuses the conversation.
pub fn render_messages(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    messages: &[Value],
    add_generation_prompt: bool,
    variables: &Map<String, Value>,
) -> Result<String> {
    let mut all = Map::new();
    all.insert("bos_token".to_owned(), tokenizer.bos_token().unwrap_or_default().into());
    all.insert("eos_token".to_owned(), tokenizer.eos_token().into());
    all.extend(variables.clone());
    let render = |messages: Vec<Value>| -> Result<String> {
        Ok(template.render_json(&Value::Array(messages), add_generation_prompt, &all)?)
    };
    let has_calls = messages.iter().any(|message| message.get("tool_calls").is_some());
    let with_objects: Vec<Value> = messages.iter().map(with_argument_objects).collect();
    let first = render_content(&with_objects, &render);
    if has_calls && first.is_err() {
        return render_content(messages, &render).or(first);
    }
    first
}

/// Whether the model has to go on inside of its thoughts after this prompt.
pub fn opens_reasoning(prompt: &str) -> bool {
    prompt.trim_end().ends_with(THINK_OPEN)
}

/// Null contents as they are, or as empty texts where the template cannot do with them or writes them out as `None`.
fn render_content(messages: &[Value], render: &dyn Fn(Vec<Value>) -> Result<String>) -> Result<String> {
    let as_given = render(messages.to_vec());
    if !messages.iter().any(|message| message.get("content").is_none_or(Value::is_null)) {
        return as_given;
    }
    let with_texts = messages.iter().cloned().map(|mut message| {
        if let Some(object) = message.as_object_mut()
            && object.get("content").is_none_or(Value::is_null)
        {
            object.insert("content".to_owned(), "".into());
        }
        message
    });
    let with_texts = render(with_texts.collect());
    let n_none = |text: &str| text.matches("None").count();
    match (as_given, with_texts) {
        (Ok(null), Ok(empty)) if n_none(&empty) < n_none(&null) => Ok(empty),
        (Err(_), Ok(empty)) => Ok(empty),
        (as_given, _) => as_given,
    }
}

/// The message with the arguments of its calls as objects instead of texts.
fn with_argument_objects(message: &Value) -> Value {
    let mut message = message.clone();
    for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(arguments) = call.pointer_mut("/function/arguments")
            && let Some(parsed) = arguments.as_str().and_then(|text| serde_json::from_str(text).ok())
        {
            *arguments = parsed;
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn rendered(source: &str, messages: &Value) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tokenizers/bpe-smollm");
        let tokenizer = Tokenizer::from_folder(&folder).unwrap();
        let template = ChatTemplate::new(source.to_owned());
        render_messages(&template, &tokenizer, messages.as_array().unwrap(), false, &Map::new()).unwrap()
    }

    #[test]
    fn calls_are_given_to_templates_as_each_takes_them() {
        let messages = json!([{"role": "assistant", "content": null, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]}]);
        let as_json = "{% for m in messages %}{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}";
        assert_eq!(rendered(as_json, &messages), r#"{"x": 1}"#);
        let as_text = "{% for m in messages %}{% for c in m.tool_calls %}{{ 'args ' + c.function.arguments }}{% endfor %}{% endfor %}";
        assert_eq!(rendered(as_text, &messages), r#"args {"x": 1}"#);
    }

    #[test]
    fn content_that_is_null_is_not_written_out() {
        let messages =
            json!([{"role": "user", "content": "None of it"}, {"role": "assistant", "content": null}]);
        let joined = "{% for m in messages %}{{ '[' + m.content + ']' }}{% endfor %}";
        assert_eq!(rendered(joined, &messages), "[None of it][]");
        let printed = "{% for m in messages %}[{{ m.content }}]{% endfor %}";
        assert_eq!(rendered(printed, &messages), "[None of it][]");
        let asking = "{% for m in messages %}{% if m.content is none %}(call){% else %}{{ m.content }}{% endif %}{% endfor %}";
        assert_eq!(rendered(asking, &messages), "None of it(call)");
    }

    #[test]
    fn an_open_thought_is_seen() {
        assert!(opens_reasoning("<|assistant|>\n<think>\n"));
        assert!(!opens_reasoning("<|assistant|>\n<think>\n\n</think>\n\n"));
    }
}
