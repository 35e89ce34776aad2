//! Tools of a request, and the form that its answer must have.

use serde_json::{Map, Value, json};

use super::errors::OpenAiError;
use super::fields::{Fields, wrong_type};

/// Puts what a request says of tools and of the form of its answer into what the model's process is asked.
pub(super) fn put_tools_and_format(fields: &Fields, api: &mut Map<String, Value>) -> Result<(), OpenAiError> {
    let tools = read_tools(fields)?;
    let choice = read_choice(fields, &tools)?;
    let is_parallel = fields.get("parallel_tool_calls").is_none() || fields.flag("parallel_tool_calls")?;
    let schema = read_format(fields)?;
    // Without a choice the model is not even told of the tools: then it cannot call one.
    let has_tools = !tools.is_empty() && choice != "none";
    if has_tools && schema.is_some() {
        let message = "'response_format' is not supported together with tools that may be called";
        return Err(OpenAiError::unsupported(message, "response_format"));
    }
    if has_tools {
        api.insert("tools".to_owned(), json!(tools));
        api.insert("tool_choice".to_owned(), choice);
        api.insert("parallel_tool_calls".to_owned(), json!(is_parallel));
    }
    if let Some(schema) = schema {
        api.insert("json_schema".to_owned(), schema);
    }
    Ok(())
}

fn read_tools(fields: &Fields) -> Result<Vec<Value>, OpenAiError> {
    let tools = fields.list("tools")?.map(Vec::as_slice).unwrap_or_default();
    for (idx, tool) in tools.iter().enumerate() {
        let path = format!("tools[{idx}]");
        let kind = tool.get("type").and_then(Value::as_str);
        if kind != Some("function") {
            let what = kind.unwrap_or("a tool without a type");
            let message = format!("'{path}.type' must be function: {what} is not supported");
            return Err(OpenAiError::unsupported(message, &format!("{path}.type")));
        }
        let function = tool.get("function").unwrap_or(&Value::Null);
        let function = function
            .as_object()
            .ok_or_else(|| wrong_type(&format!("{path}.function"), "an object", function))?;
        let name_path = format!("{path}.function.name");
        let name = function.get("name").unwrap_or(&Value::Null);
        let name = name.as_str().ok_or_else(|| wrong_type(&name_path, "a string", name))?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || 64 < name.len() || !name.chars().all(is_name) {
            let message = format!(
                "'{name_path}' must have 1 to 64 letters, digits, underscores and dashes, is {name:?}"
            );
            return Err(OpenAiError::invalid(message, Some(&name_path)));
        }
        for (field, value) in function {
            let at = format!("{path}.function.{field}");
            match field.as_str() {
                "name" => {}
                _ if value.is_null() => {}
                "description" if !value.is_string() => return Err(wrong_type(&at, "a string", value)),
                "parameters" if !value.is_object() => return Err(wrong_type(&at, "an object", value)),
                "strict" if !value.is_boolean() => return Err(wrong_type(&at, "true or false", value)),
                "description" | "parameters" | "strict" => {}
                _ => return Err(OpenAiError::unsupported(format!("'{at}' is not supported"), &at)),
            }
        }
    }
    Ok(tools.iter().cloned().map(without_nulls).collect())
}

/// Templates write tools as they are given; a null in them is nothing that a model has learned.
fn without_nulls(mut tool: Value) -> Value {
    if let Some(function) = tool.get_mut("function").and_then(Value::as_object_mut) {
        function.retain(|_, value| !value.is_null());
    }
    tool
}

/// `"none"`, `"auto"`, `"required"` or `{"function": name}`.
fn read_choice(fields: &Fields, tools: &[Value]) -> Result<Value, OpenAiError> {
    let name = "tool_choice";
    let Some(choice) = fields.get(name) else { return Ok(json!("auto")) };
    let refuse = |message: String| Err(OpenAiError::invalid(message, Some(name)));
    let is_must = match choice {
        Value::String(text) => match text.as_str() {
            "none" | "auto" => false,
            "required" => true,
            other => {
                return refuse(format!("'{name}' must be none, auto, required or a function, is {other:?}"));
            }
        },
        Value::Object(_) if choice.get("type").is_some_and(|kind| kind == "function") => true,
        Value::Object(_) => return refuse(format!("'{name}' must be of the type function")),
        other => return Err(wrong_type(name, "a string or an object", other)),
    };
    if is_must && tools.is_empty() {
        return refuse(format!("'{name}' is only allowed when 'tools' are specified"));
    }
    if choice.is_string() {
        return Ok(choice.clone());
    }
    let wanted = choice.pointer("/function/name").unwrap_or(&Value::Null);
    if !wanted.is_string() {
        return Err(wrong_type("tool_choice.function.name", "a string", wanted));
    }
    if !tools.iter().any(|tool| tool.pointer("/function/name") == Some(wanted)) {
        return refuse(format!("'{name}' names the function {wanted}, which is not in 'tools'"));
    }
    Ok(json!({"function": wanted}))
}

/// The JSON schema that the answer must be valid by, if it must be JSON.
fn read_format(fields: &Fields) -> Result<Option<Value>, OpenAiError> {
    let name = "response_format";
    let Some(format) = fields.object(name)? else { return Ok(None) };
    let kind = format.get("type").unwrap_or(&Value::Null);
    match kind.as_str() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(json!({"type": "object"}))),
        Some("json_schema") => {
            let path = "response_format.json_schema";
            let given = format.get("json_schema").unwrap_or(&Value::Null);
            let given = given.as_object().ok_or_else(|| wrong_type(path, "an object", given))?;
            let schema = given.get("schema").unwrap_or(&Value::Null);
            if !schema.is_object() {
                return Err(wrong_type(&format!("{path}.schema"), "an object", schema));
            }
            Ok(Some(schema.clone()))
        }
        Some(other) => {
            let message =
                format!("'{name}.type' must be text, json_object or json_schema: {other} is not supported");
            Err(OpenAiError::unsupported(message, "response_format.type"))
        }
        None => Err(wrong_type("response_format.type", "a string", kind)),
    }
}
