//! The messages of a conversation, checked one by one and brought to the form that chat templates read.

use serde_json::{Map, Value, json};

use super::errors::OpenAiError;
use super::fields::wrong_type;

/// Reads the messages: role, content as one text or null, and what else a template may read of them.
pub(super) fn read_messages(messages: &[Value]) -> Result<Vec<Value>, OpenAiError> {
    if messages.is_empty() {
        return Err(OpenAiError::invalid("'messages' must have at least one message", Some("messages")));
    }
    messages
        .iter()
        .enumerate()
        .map(|(idx, message)| read_message(&format!("messages[{idx}]"), message))
        .collect()
}

fn read_message(path: &str, message: &Value) -> Result<Value, OpenAiError> {
    let fields = message.as_object().ok_or_else(|| wrong_type(path, "an object", message))?;
    let role_path = format!("{path}.role");
    let role = match fields.get("role") {
        Some(Value::String(role)) => role.as_str(),
        other => return Err(wrong_type(&role_path, "a string", other.unwrap_or(&Value::Null))),
    };
    if !matches!(role, "system" | "developer" | "user" | "assistant" | "tool") {
        let message = format!("'{role_path}' must be system, developer, user, assistant or tool, is {role}");
        return Err(OpenAiError::invalid(message, Some(&role_path)));
    }
    let mut read = Map::new();
    read.insert("role".to_owned(), json!(role));
    let content = read_content(&format!("{path}.content"), fields.get("content"))?;
    let has_calls = fields.get("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty());
    if content.is_null() && role != "assistant" {
        return Err(wrong_type(&format!("{path}.content"), "a string or a list of parts", &content));
    }
    // A turn without a word is an empty text; one that only calls has none.
    read.insert("content".to_owned(), if content.is_null() && !has_calls { json!("") } else { content });
    for (name, value) in fields {
        let field_path = format!("{path}.{name}");
        let text = || value.as_str().ok_or_else(|| wrong_type(&field_path, "a string", value));
        let kept = match name.as_str() {
            "role" | "content" => continue,
            _ if is_nothing(value) => continue,
            "name" => json!(text()?),
            "tool_call_id" if role == "tool" => json!(text()?),
            "tool_calls" if role == "assistant" => read_calls(&field_path, value)?,
            "reasoning_content" | "reasoning" if role == "assistant" => {
                read.insert("reasoning_content".to_owned(), json!(text()?));
                continue;
            }
            _ => {
                let message = format!("'{field_path}' is not supported in a message of the role {role}");
                return Err(OpenAiError::unsupported(message, &field_path));
            }
        };
        read.insert(name.clone(), kept);
    }
    Ok(Value::Object(read))
}

/// Clients send answers back with all fields that answers have, most of them empty.
fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// A text, null, or the texts of a list of parts together.
fn read_content(path: &str, content: Option<&Value>) -> Result<Value, OpenAiError> {
    match content {
        None | Some(Value::Null) => Ok(Value::Null),
        Some(Value::String(text)) => Ok(json!(text)),
        Some(Value::Array(parts)) => {
            let mut all = String::new();
            for (idx, part) in parts.iter().enumerate() {
                let part_path = format!("{path}[{idx}]");
                let kind = part.get("type").and_then(Value::as_str);
                if kind != Some("text") {
                    let what = kind.unwrap_or("a part without a type");
                    let message = format!("'{part_path}' must be of the type text: {what} is not supported");
                    return Err(OpenAiError::unsupported(message, &part_path));
                }
                let text = part.get("text").unwrap_or(&Value::Null);
                let text_path = format!("{part_path}.text");
                all.push_str(text.as_str().ok_or_else(|| wrong_type(&text_path, "a string", text))?);
            }
            Ok(json!(all))
        }
        Some(other) => Err(wrong_type(path, "a string or a list of parts", other)),
    }
}

fn read_calls(path: &str, calls: &Value) -> Result<Value, OpenAiError> {
    let calls = calls.as_array().ok_or_else(|| wrong_type(path, "a list", calls))?;
    calls.iter().enumerate().map(|(idx, call)| read_call(&format!("{path}[{idx}]"), call)).collect()
}

fn read_call(path: &str, call: &Value) -> Result<Value, OpenAiError> {
    let kind = call.get("type").and_then(Value::as_str).unwrap_or("function");
    if kind != "function" {
        let message = format!("'{path}.type' must be function: {kind} is not supported");
        return Err(OpenAiError::unsupported(message, &format!("{path}.type")));
    }
    let text = |name: &str| {
        let value = call.pointer(&format!("/{}", name.replace('.', "/"))).unwrap_or(&Value::Null);
        value.as_str().ok_or_else(|| wrong_type(&format!("{path}.{name}"), "a string", value))
    };
    let arguments = text("function.arguments")?;
    // Some clients write no arguments as nothing.
    let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
    if serde_json::from_str::<Map<String, Value>>(arguments).is_err() {
        let at = format!("{path}.function.arguments");
        return Err(OpenAiError::invalid(format!("'{at}' must be the JSON text of an object"), Some(&at)));
    }
    let mut read =
        json!({"type": "function", "function": {"name": text("function.name")?, "arguments": arguments}});
    if call.get("id").is_some_and(|id| !id.is_null()) {
        read["id"] = json!(text("id")?);
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(messages: &Value) -> Result<Vec<Value>, OpenAiError> {
        read_messages(messages.as_array().unwrap())
    }

    #[test]
    fn every_role_and_form_of_content_is_read() {
        let read = read(&json!([
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "hi", "name": "ann"},
            {"role": "assistant", "content": null, "refusal": null, "annotations": [], "audio": null,
                "reasoning_content": "hm", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
            {"role": "assistant"},
        ]))
        .unwrap();
        assert_eq!(
            read,
            [
                json!({"role": "developer", "content": "ab"}),
                json!({"role": "user", "content": "hi", "name": "ann"}),
                json!({"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
                {"type": "function", "function": {"name": "f", "arguments": "{}"}, "id": "c1"}]}),
                json!({"role": "tool", "content": "42", "tool_call_id": "c1"}),
                json!({"role": "assistant", "content": ""}),
            ]
        );
    }

    #[test]
    fn what_is_wrong_in_a_message_is_named() {
        for (message, param) in [
            (json!("hi"), "messages[0]"),
            (json!({"content": "hi"}), "messages[0].role"),
            (json!({"role": "robot", "content": "hi"}), "messages[0].role"),
            (json!({"role": "user"}), "messages[0].content"),
            (json!({"role": "user", "content": 3}), "messages[0].content"),
            (
                json!({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}),
                "messages[0].content[0]",
            ),
            (
                json!({"role": "user", "content": [{"type": "text", "text": 3}]}),
                "messages[0].content[0].text",
            ),
            (json!({"role": "user", "content": "x", "weight": 1}), "messages[0].weight"),
            (json!({"role": "user", "content": "x", "name": 1}), "messages[0].name"),
            (json!({"role": "user", "content": "x", "tool_call_id": "c"}), "messages[0].tool_call_id"),
            (json!({"role": "assistant", "tool_calls": {}}), "messages[0].tool_calls"),
            (json!({"role": "assistant", "function_call": {"name": "f"}}), "messages[0].function_call"),
            (
                json!({"role": "assistant", "tool_calls": [{"type": "custom"}]}),
                "messages[0].tool_calls[0].type",
            ),
            (
                json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}),
                "messages[0].tool_calls[0].function.arguments",
            ),
            (
                json!({"role": "assistant", "tool_calls": [{"function": {"name": 1, "arguments": "{}"}}]}),
                "messages[0].tool_calls[0].function.name",
            ),
        ] {
            let error = read(&json!([message])).unwrap_err();
            assert_eq!((error.status, error.param.as_deref()), (400, Some(param)), "{message}");
        }
        assert_eq!(read(&json!([])).unwrap_err().param.as_deref(), Some("messages"));
    }
}
