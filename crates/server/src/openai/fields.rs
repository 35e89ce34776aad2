//! Reading a request field by field: what each field of the interface does here, and errors in the interface's own words.
//!
//! Every field that OpenAI or the servers of open models know has an entry: it is used, or refused unless its value changes
//! nothing, or it concerns something that this server does not have to do with, such as accounts. A field without an entry is
//! refused, as OpenAI does.

use serde_json::{Map, Value};

use super::errors::OpenAiError;

/// What becomes of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Treatment {
    /// It does what it says.
    Used,
    /// It is not built: refused, unless the value is null or one of these JSON texts, which ask for nothing.
    Refused(&'static [&'static str]),
    /// It cannot change the answer, only accounts, prices or times elsewhere.
    Ignored,
}

/// A field of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) treatment: Treatment,
}

const fn used(name: &'static str) -> Field {
    Field { name, treatment: Treatment::Used }
}

const fn refused(name: &'static str, neutral: &'static [&'static str]) -> Field {
    Field { name, treatment: Treatment::Refused(neutral) }
}

const fn ignored(name: &'static str) -> Field {
    Field { name, treatment: Treatment::Ignored }
}

/// Fields of both kinds of requests.
const COMMON: &[Field] = &[
    used("model"),
    used("frequency_penalty"),
    used("logit_bias"),
    used("logprobs"),
    used("max_tokens"),
    used("n"),
    used("presence_penalty"),
    used("seed"),
    used("stop"),
    used("stream"),
    used("stream_options"),
    used("temperature"),
    used("top_p"),
    ignored("user"),
    // Of vLLM and others.
    used("min_p"),
    used("min_tokens"),
    used("repetition_penalty"),
    used("top_k"),
    ignored("priority"),
    ignored("request_id"),
    refused("allowed_token_ids", &["[]"]),
    refused("bad_words", &["[]"]),
    refused("best_of", &["1"]),
    refused("guided_choice", &[]),
    refused("guided_grammar", &[]),
    refused("guided_json", &[]),
    refused("guided_regex", &[]),
    refused("ignore_eos", &["false"]),
    refused("include_stop_str_in_output", &["false"]),
    refused("length_penalty", &["1", "1.0"]),
    refused("logits_processors", &["[]"]),
    refused("prompt_logprobs", &[]),
    refused("return_token_ids", &["false"]),
    refused("return_tokens_as_token_ids", &["false"]),
    refused("skip_special_tokens", &["true"]),
    refused("spaces_between_special_tokens", &["true"]),
    refused("stop_token_ids", &["[]"]),
    refused("structured_outputs", &[]),
    refused("truncate_prompt_tokens", &[]),
    refused("use_beam_search", &["false"]),
];

/// Further fields of `/v1/chat/completions`.
const CHAT: &[Field] = &[
    used("messages"),
    used("max_completion_tokens"),
    used("parallel_tool_calls"),
    used("reasoning_effort"),
    used("response_format"),
    used("tool_choice"),
    used("tools"),
    used("top_logprobs"),
    ignored("metadata"),
    ignored("prediction"),
    ignored("prompt_cache_key"),
    ignored("prompt_cache_retention"),
    ignored("safety_identifier"),
    ignored("service_tier"),
    refused("audio", &[]),
    refused("function_call", &["\"none\"", "\"auto\""]),
    refused("functions", &["[]"]),
    refused("modalities", &["[\"text\"]"]),
    refused("store", &["false"]),
    refused("verbosity", &["\"medium\""]),
    refused("web_search_options", &[]),
    // Of vLLM and others.
    used("chat_template_kwargs"),
    refused("add_generation_prompt", &["true"]),
    refused("add_special_tokens", &["false"]),
    refused("chat_template", &[]),
    refused("continue_final_message", &["false"]),
    refused("documents", &["[]"]),
    refused("echo", &["false"]),
    refused("include_reasoning", &["true"]),
    refused("mm_processor_kwargs", &["{}"]),
];

/// Further fields of `/v1/completions`.
const COMPLETION: &[Field] = &[
    used("prompt"),
    used("echo"),
    refused("suffix", &["\"\""]),
    used("add_special_tokens"),
    refused("response_format", &["{\"type\":\"text\"}"]),
];

/// All fields of a request for a turn of a conversation.
pub(super) fn chat_fields() -> impl Iterator<Item = &'static Field> {
    COMMON.iter().chain(CHAT)
}

/// All fields of a request to go on with a text.
pub(super) fn completion_fields() -> impl Iterator<Item = &'static Field> {
    COMMON.iter().chain(COMPLETION)
}

/// The fields of a request, which have all been looked at.
#[derive(Debug)]
pub(super) struct Fields {
    values: Map<String, Value>,
}

impl Fields {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// No JSON object, a field that is not known, one that is not built.
    pub(super) fn read(
        body: &[u8],
        mut known: impl FnMut(&str) -> Option<&'static Field>,
    ) -> Result<Self, OpenAiError> {
        let body: Value = serde_json::from_slice(body).map_err(|error| {
            let message = format!(
                "the body of the request is not valid JSON (line {}, column {})",
                error.line(),
                error.column()
            );
            OpenAiError::invalid(message, None)
        })?;
        let Value::Object(values) = body else {
            let message = format!("the body of the request must be an object, is {}", kind(&body));
            return Err(OpenAiError::invalid(message, None));
        };
        for (name, value) in &values {
            let Some(field) = known(name) else {
                return Err(OpenAiError::invalid(
                    format!("Unrecognized request argument supplied: {name}"),
                    Some(name),
                ));
            };
            if let Treatment::Refused(neutral) = field.treatment
                && !value.is_null()
                && !neutral
                    .iter()
                    .any(|text| serde_json::from_str::<Value>(text).is_ok_and(|one| one == *value))
            {
                return Err(OpenAiError::unsupported(format!("'{name}' is not supported"), name));
            }
        }
        Ok(Self { values })
    }

    /// A value that is there and not null.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    /// A number in a range.
    pub(super) fn number(&self, name: &str, min: f64, max: f64) -> Result<Option<f64>, OpenAiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_f64().ok_or_else(|| wrong_type(name, "a number", value))?;
        if !(min..=max).contains(&number) {
            let range =
                if max < f64::MAX { format!("between {min} and {max}") } else { format!("{min} or more") };
            return Err(OpenAiError::invalid(format!("'{name}' must be {range}, is {number}"), Some(name)));
        }
        Ok(Some(number))
    }

    /// A whole number in a range.
    pub(super) fn integer(&self, name: &str, min: i64, max: i64) -> Result<Option<i64>, OpenAiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let whole = value.as_i64().or_else(|| {
            let number = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15)?;
            Some(number as i64)
        });
        let number = whole.ok_or_else(|| wrong_type(name, "a whole number", value))?;
        if !(min..=max).contains(&number) {
            let range =
                if max < i64::MAX { format!("between {min} and {max}") } else { format!("at least {min}") };
            return Err(OpenAiError::invalid(format!("'{name}' must be {range}, is {number}"), Some(name)));
        }
        Ok(Some(number))
    }

    /// True or false; false where it is left out.
    pub(super) fn flag(&self, name: &str) -> Result<bool, OpenAiError> {
        let flag = self
            .get(name)
            .map(|value| value.as_bool().ok_or_else(|| wrong_type(name, "true or false", value)));
        Ok(flag.transpose()?.unwrap_or(false))
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, OpenAiError> {
        self.get(name)
            .map(|value| value.as_str().ok_or_else(|| wrong_type(name, "a string", value)))
            .transpose()
    }

    /// A list.
    pub(super) fn list(&self, name: &str) -> Result<Option<&Vec<Value>>, OpenAiError> {
        self.get(name)
            .map(|value| value.as_array().ok_or_else(|| wrong_type(name, "a list", value)))
            .transpose()
    }

    /// An object.
    pub(super) fn object(&self, name: &str) -> Result<Option<&Map<String, Value>>, OpenAiError> {
        self.get(name)
            .map(|value| value.as_object().ok_or_else(|| wrong_type(name, "an object", value)))
            .transpose()
    }

    /// One text, or a list of texts.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, OpenAiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let wrong = || wrong_type(name, "a string or a list of strings", value);
        match value {
            Value::String(text) => Ok(Some(vec![text.clone()])),
            Value::Array(items) => {
                let texts: Option<Vec<String>> =
                    items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
                texts.map(Some).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

/// The refusal of a value of another type than a field has.
pub(super) fn wrong_type(name: &str, expected: &str, value: &Value) -> OpenAiError {
    OpenAiError::invalid(format!("'{name}' must be {expected}, is {}", kind(value)), Some(name))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
