//! What both kinds of requests have in common: the model, how tokens are chosen, and how the answer is wanted.

use serde_json::{Map, Value, json};

use super::errors::OpenAiError;
use super::fields::{Fields, wrong_type};

/// Choices of one request: each takes the memory of a whole conversation.
pub(super) const MAX_CHOICES: i64 = 16;
/// Likeliest tokens beside each one.
pub(super) const MAX_TOP_LOGPROBS: i64 = 20;

/// The common part of a request.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) model: String,
    pub(super) is_streamed: bool,
    /// Whether a stream ends with the counts of its tokens.
    pub(super) has_usage: bool,
    pub(super) n_choices: usize,
    /// By the names of the `prediction` section. What a request leaves out stays as the model has it.
    pub(super) settings: Map<String, Value>,
    /// What else the model's process is asked.
    pub(super) api: Map<String, Value>,
}

impl Common {
    /// Reads it; `max_tokens` is the limit that the request gives under whatever name.
    pub(super) fn read(fields: &Fields, max_tokens: Option<i64>) -> Result<Self, OpenAiError> {
        let missing = || OpenAiError::invalid("you must provide a 'model'", Some("model"));
        let model = fields.text("model")?.ok_or_else(missing)?.to_owned();
        let n_choices = fields.integer("n", 1, MAX_CHOICES)?.unwrap_or(1);
        let (is_streamed, has_usage) = read_stream(fields)?;
        let mut settings = read_sampling(fields, n_choices)?;
        if let Some(n_tokens) = max_tokens {
            settings.insert("max_length_inference".to_owned(), json!(n_tokens));
        }
        let mut api = Map::new();
        api.insert("n".to_owned(), json!(n_choices));
        for name in ["frequency_penalty", "presence_penalty"] {
            if let Some(penalty) = fields.number(name, -2.0, 2.0)? {
                api.insert(name.to_owned(), json!(penalty));
            }
        }
        if let Some(bias) = fields.object("logit_bias")? {
            api.insert("logit_bias".to_owned(), read_bias(bias)?);
        }
        Ok(Self { model, is_streamed, has_usage, n_choices: n_choices as usize, settings, api })
    }
}

fn read_stream(fields: &Fields) -> Result<(bool, bool), OpenAiError> {
    let is_streamed = fields.flag("stream")?;
    let Some(options) = fields.object("stream_options")? else { return Ok((is_streamed, false)) };
    if !is_streamed {
        let message = "'stream_options' is only allowed when 'stream' is true";
        return Err(OpenAiError::invalid(message, Some("stream_options")));
    }
    let mut has_usage = false;
    for (name, value) in options {
        let path = format!("stream_options.{name}");
        let flag = || value.as_bool().ok_or_else(|| wrong_type(&path, "true or false", value));
        match name.as_str() {
            _ if value.is_null() => {}
            "include_usage" => has_usage = flag()?,
            // Only makes the lengths of messages on the wire harder to guess.
            "include_obfuscation" => {
                flag()?;
            }
            _ if *value == json!(false) => {}
            _ => return Err(OpenAiError::unsupported(format!("'{path}' is not supported"), &path)),
        }
    }
    Ok((is_streamed, has_usage))
}

fn read_sampling(fields: &Fields, n_choices: i64) -> Result<Map<String, Value>, OpenAiError> {
    let mut settings = Map::new();
    let mut put = |name: &str, value: Value| settings.insert(name.to_owned(), value);
    let temperature = fields.number("temperature", 0.0, 2.0)?;
    // 0 leaves the most likely token only.
    let top_p = fields.number("top_p", 0.0, 1.0)?.map(|top_p| top_p.max(1e-6));
    // -1 means all, as 0 does.
    let top_k = fields.integer("top_k", -1, i64::from(u32::MAX))?.map(|top_k| top_k.max(0));
    let min_p = fields.number("min_p", 0.0, 1.0)?;
    if let Some(temperature) = temperature {
        put("temperature", json!(temperature));
    } else if top_p.is_some() || top_k.is_some() || min_p.is_some() || 1 < n_choices {
        // Who says among which tokens to draw, or wants several answers, wants them drawn.
        put("do_sample", json!(true));
    }
    for (name, value) in [
        ("top_p", top_p.map(Value::from)),
        ("top_k", top_k.map(Value::from)),
        ("min_p", min_p.map(Value::from)),
    ] {
        if let Some(value) = value {
            put(name, value);
        }
    }
    if let Some(penalty) = fields.number("repetition_penalty", 0.01, 100.0)? {
        put("repetition_penalty", json!(penalty));
    }
    if let Some(n_tokens) = fields.integer("min_tokens", 0, i64::from(u32::MAX))? {
        put("min_length_inference", json!(n_tokens));
    }
    let seed = fields.integer("seed", i64::MIN, i64::MAX)?;
    put("seed", json!(seed.map_or_else(any_seed, i64::cast_unsigned)));
    if let Some(texts) = fields.texts("stop")? {
        put("stop", json!(texts));
    }
    Ok(settings)
}

fn read_bias(bias: &Map<String, Value>) -> Result<Value, OpenAiError> {
    let mut read = Map::new();
    for (id, value) in bias {
        let path = format!("logit_bias.{id}");
        if id.parse::<u32>().is_err() {
            let message = format!("'logit_bias' must have ids of tokens as keys, has {id:?}");
            return Err(OpenAiError::invalid(message, Some("logit_bias")));
        }
        let number = value.as_f64().ok_or_else(|| wrong_type(&path, "a number", value))?;
        if !(-100.0..=100.0).contains(&number) {
            let message = format!("'{path}' must be between -100 and 100, is {number}");
            return Err(OpenAiError::invalid(message, Some("logit_bias")));
        }
        read.insert(id.clone(), json!(number));
    }
    Ok(Value::Object(read))
}

/// Another seed for each request that names none, as clients expect.
fn any_seed() -> u64 {
    let mut bytes = [0; 4];
    // Without a source of randomness all answers are drawn with the same seed.
    let _ = getrandom::fill(&mut bytes);
    u64::from(u32::from_le_bytes(bytes))
}
