//! The interface of OpenAI's clients, against real models.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Sandbox, repository, tiny_model};
use crate::studio_client::{Message, Studio};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// What Qwen's and Hermes' templates do, in fewer tokens than a tiny model's context has; its thoughts can be switched off.
const TOOLS_TEMPLATE: &str = "{% for t in tools or [] %}{{ t.function.name }} {% endfor %}\
    {% for m in messages %}{{ m.role[:1] }}:{{ m.content or '' }}{% for c in m.tool_calls or [] %}<tool_call>\n\
    {\"name\": \"{{ c.function.name }}\", \"arguments\": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}\n{% endfor %}\
    {% if add_generation_prompt %}a:{% if enable_thinking %}<think>{% endif %}{% endif %}";

/// The tiny model with another chat template. Its length in the file may change by whole blocks of 32 bytes only, since what is
/// behind it is aligned to them.
fn with_template(template: &str) -> Vec<u8> {
    let bytes = std::fs::read(tiny_model()).unwrap();
    let key = b"tokenizer.chat_template";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
    let length = usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap();
    let mut template = template.to_owned();
    template.push_str("{#");
    while (template.len() + 2) % 32 != length % 32 {
        template.push(' ');
    }
    template.push_str("#}");
    let size = (template.len() as u64).to_le_bytes();
    [&bytes[..at], size.as_slice(), template.as_bytes(), &bytes[at + 8 + length..]].concat()
}

/// A studio with the model `tiny`, and `tools` with the template above.
fn studio(sandbox: &Sandbox) -> Studio {
    sandbox.write("cache/models/tools.gguf", with_template(TOOLS_TEMPLATE));
    Studio::start(sandbox)
}

fn request(more: Value) -> Value {
    let body = json!({"model": "tiny", "messages": [{"role": "user", "content": "say 3"}], "temperature": 0});
    with(body, more)
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The pieces of a stream but its last message.
fn chunks(heard: &[Message]) -> Vec<Value> {
    let (last, chunks) = heard.split_last().unwrap();
    assert_eq!(last.data, "[DONE]");
    chunks.iter().map(Message::json).collect()
}

/// A choice's message as a client puts it together from the deltas, and why it ended.
fn put_together(chunks: &[Value], idx: u64) -> (Value, Value) {
    let (mut content, mut reasoning) = (String::new(), String::new());
    let (mut calls, mut finish): (Vec<Value>, Value) = (Vec::new(), Value::Null);
    for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap()) {
        if choice["index"] != idx {
            continue;
        }
        let delta = &choice["delta"];
        content.push_str(delta["content"].as_str().unwrap_or_default());
        reasoning.push_str(delta["reasoning_content"].as_str().unwrap_or_default());
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let at = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            if at == calls.len() {
                calls.push(json!({"id": call["id"], "type": call["type"], "function": {"name": call["function"]["name"], "arguments": ""}}));
            }
            let more = call["function"]["arguments"].as_str().unwrap();
            let arguments = calls[at]["function"]["arguments"].as_str().unwrap().to_owned() + more;
            calls[at]["function"]["arguments"] = json!(arguments);
        }
        if !choice["finish_reason"].is_null() {
            finish = choice["finish_reason"].clone();
        }
    }
    (json!({"content": content, "reasoning": reasoning, "tool_calls": calls}), finish)
}

#[test]
fn models_answers_and_errors() {
    let sandbox = Sandbox::new();
    let studio = Studio::start(&sandbox);
    let id = studio.create(&sandbox, "talker", &json!({}));
    studio.wait_for_status(&id, "finished");
    let models = studio.get("/v1/models");
    assert_eq!(models["data"][0]["id"], "talker");
    assert_eq!(models["data"][1]["object"], "model");
    // The file was written and the run ended a moment ago, not in 1970.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for model in models["data"].as_array().unwrap() {
        let created = model["created"].as_u64().unwrap();
        assert!(created <= now && now < created + 3600, "{model}");
    }
    assert_eq!(studio.get("/v1/models/tiny")["id"], "tiny");

    let whole = studio.send("POST", CHAT, &request(json!({"max_tokens": 5})), 200);
    assert_eq!(whole["object"], "chat.completion");
    let choice = &whole["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["role"]),
        (&json!("length"), &json!("assistant"))
    );
    assert_eq!(whole["usage"]["completion_tokens"], 5);
    let usage = &whole["usage"];
    let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"].as_u64().unwrap(), sum);
    let text = choice["message"]["content"].as_str().unwrap();

    let body = request(
        json!({"max_completion_tokens": 5, "stream": true, "stream_options": {"include_usage": true}}),
    );
    let streamed = studio.stream(CHAT, &body);
    assert_eq!(streamed[streamed.len() - 1].data, "[DONE]");
    let chunks: Vec<Value> = streamed[..streamed.len() - 1].iter().map(|message| message.json()).collect();
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"])
    );
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let pieces: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(pieces, text);
    assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "length");
    for name in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(chunks[chunks.len() - 1]["usage"][name], usage[name]);
    }
    assert!(chunks[..chunks.len() - 1].iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)));

    // Where the stop text appears the answer ends; it is not part of it.
    let long = studio.send("POST", CHAT, &request(json!({"max_tokens": 30})), 200);
    let text = long["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    if let Some((at, c)) = text.char_indices().nth(3) {
        let stop = c.to_string();
        let stopped = studio.send("POST", CHAT, &request(json!({"max_tokens": 30, "stop": [stop]})), 200);
        let choice = &stopped["choices"][0];
        assert_eq!(choice["finish_reason"], "stop", "{stopped}");
        assert!(!choice["message"]["content"].as_str().unwrap().contains(&stop) && text[..at].len() <= at);
    }
    let seeded = |seed: u64| {
        let body = request(json!({"temperature": 1.5, "seed": seed, "max_tokens": 8}));
        studio.send("POST", CHAT, &body, 200)["choices"][0]["message"]["content"].clone()
    };
    assert_eq!(seeded(1), seeded(1));

    let plain = json!({"model": "tiny", "prompt": "say", "max_tokens": 3, "temperature": 0});
    let plain = studio.send("POST", COMPLETIONS, &plain, 200);
    assert_eq!(
        (&plain["object"], &plain["usage"]["completion_tokens"]),
        (&json!("text_completion"), &json!(3))
    );
    let body = json!({"model": "tiny", "prompt": ["say"], "max_tokens": 3, "temperature": 0, "stream": true});
    let streamed = studio.stream(COMPLETIONS, &body);
    let pieces: String = streamed[..streamed.len() - 1]
        .iter()
        .map(|message| message.json()["choices"][0]["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(pieces, plain["choices"][0]["text"].as_str().unwrap());

    let long = "a very long word ".repeat(300);
    for (path, body, status, code, param) in [
        (CHAT, request(json!({"n": 99})), 400, "invalid_request", json!("n")),
        (CHAT, request(json!({"temperature": "hot"})), 400, "invalid_request", json!("temperature")),
        (CHAT, request(json!({"store": true})), 400, "unsupported_parameter", json!("store")),
        (CHAT, request(json!({"model": "nobody"})), 404, "model_not_found", json!("model")),
        (CHAT, request(json!({"messages": []})), 400, "invalid_request", json!("messages")),
        (
            CHAT,
            request(json!({"messages": [{"role": "user", "content": long}]})),
            400,
            "context_length_exceeded",
            json!("messages"),
        ),
        (
            CHAT,
            request(json!({"chat_template_kwargs": {"enable_thinking": true}})),
            400,
            "invalid_request",
            json!("chat_template_kwargs.enable_thinking"),
        ),
        (
            CHAT,
            request(json!({"reasoning_effort": "low"})),
            400,
            "invalid_request",
            json!("reasoning_effort"),
        ),
        (
            CHAT,
            request(json!({"tools": [{"type": "function", "function": {"name": "f"}}]})),
            400,
            "invalid_request",
            json!("tools"),
        ),
        (
            CHAT,
            request(
                json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "frog"}}}}),
            ),
            400,
            "invalid_request",
            json!("response_format"),
        ),
        (COMPLETIONS, json!({"prompt": "a"}), 400, "invalid_request", json!("model")),
        (
            COMPLETIONS,
            json!({"model": "tiny", "prompt": long}),
            400,
            "context_length_exceeded",
            json!("prompt"),
        ),
        (
            COMPLETIONS,
            json!({"model": "tiny", "prompt": "a", "suffix": "b"}),
            400,
            "unsupported_parameter",
            json!("suffix"),
        ),
        ("/v1/embeddings", json!({}), 404, "not_found", Value::Null),
    ] {
        let error = studio.send("POST", path, &body, status)["error"].clone();
        assert_eq!(
            (&error["code"], &error["type"]),
            (&json!(code), &json!("invalid_request_error")),
            "{error}"
        );
        assert!(error["message"].is_string());
        assert_eq!(error["param"], param, "{error}");
    }
}

#[test]
fn several_choices_with_log_probabilities() {
    let sandbox = Sandbox::new();
    let studio = studio(&sandbox);
    let more =
        json!({"n": 3, "temperature": 1.5, "seed": 4, "max_tokens": 6, "logprobs": true, "top_logprobs": 2});
    let whole = studio.send("POST", CHAT, &request(more.clone()), 200);
    let choices = whole["choices"].as_array().unwrap();
    let texts: Vec<&str> =
        choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap()).collect();
    assert!(choices.len() == 3 && (texts[0] != texts[1] || texts[1] != texts[2]), "{texts:?}");
    let mut n_tokens = 0;
    for (idx, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], idx);
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        n_tokens += tokens.len() + usize::from(choice["finish_reason"] == "stop");
        for token in tokens {
            assert!(token["logprob"].as_f64().unwrap() <= 0.0 && token["token"].is_string(), "{token}");
            assert!(!token["bytes"].as_array().unwrap().is_empty(), "{token}");
            let top = token["top_logprobs"].as_array().unwrap();
            assert!(top.len() == 2 && top[0]["logprob"].as_f64() >= top[1]["logprob"].as_f64(), "{token}");
        }
    }
    assert_eq!(whole["usage"]["completion_tokens"], n_tokens);

    let streamed = chunks(&studio.stream(CHAT, &request(with(more, json!({"stream": true})))));
    for (idx, choice) in choices.iter().enumerate() {
        let (message, finish) = put_together(&streamed, idx as u64);
        assert_eq!(message["content"], choice["message"]["content"]);
        assert_eq!(finish, choice["finish_reason"]);
        let tokens: Vec<Value> = streamed
            .iter()
            .map(|chunk| &chunk["choices"][0])
            .filter(|streamed| streamed["index"] == idx)
            .flat_map(|streamed| streamed["logprobs"]["content"].as_array().cloned().unwrap_or_default())
            .collect();
        assert_eq!(json!(tokens), choice["logprobs"]["content"]);
    }
    // What the first request left in the cache is used by the same one, and said.
    let again = studio.send("POST", CHAT, &request(json!({"max_tokens": 2})), 200);
    let usage = &again["usage"];
    let n_cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert_eq!(n_cached, usage["prompt_tokens"].as_u64().unwrap() - 1);
}

#[test]
fn completions_with_echo_and_columns_of_log_probabilities() {
    let sandbox = Sandbox::new();
    let studio = studio(&sandbox);
    let body = |more: Value| {
        with(
            json!({"model": "tiny", "prompt": "say it", "max_tokens": 4, "temperature": 0, "logprobs": 2}),
            more,
        )
    };
    let plain = studio.send("POST", COMPLETIONS, &body(json!({})), 200);
    let echoed = studio.send("POST", COMPLETIONS, &body(json!({"echo": true})), 200);
    let (plain, choice) = (&plain["choices"][0], &echoed["choices"][0]);
    assert_eq!(choice["text"].as_str().unwrap(), format!("say it{}", plain["text"].as_str().unwrap()));
    let columns = &choice["logprobs"];
    let length = |name: &str| columns[name].as_array().unwrap().len();
    let n_tokens = length("tokens");
    assert!(
        [length("token_logprobs"), length("top_logprobs"), length("text_offset")]
            .iter()
            .all(|n| *n == n_tokens)
    );
    let usage = &echoed["usage"];
    assert_eq!(usage["total_tokens"], n_tokens, "{echoed}");
    assert_eq!((&columns["token_logprobs"][0], &columns["top_logprobs"][0]), (&Value::Null, &Value::Null));
    assert!(columns["token_logprobs"][1].as_f64().unwrap() < 0.0);
    // The first token generated stands where the prompt ends.
    let n_prompt = usize::try_from(usage["prompt_tokens"].as_u64().unwrap()).unwrap();
    assert_eq!(columns["text_offset"][n_prompt], 6);
    assert_eq!(columns["token_logprobs"][n_prompt], plain["logprobs"]["token_logprobs"][0]);

    // Only the prompt is read: how likely is it? Its numbers are the same.
    let only = studio.send("POST", COMPLETIONS, &body(json!({"echo": true, "max_tokens": 0})), 200);
    assert_eq!(
        (&only["choices"][0]["text"], &only["usage"]["completion_tokens"]),
        (&json!("say it"), &json!(0))
    );
    let of_prompt = only["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap();
    for (a, b) in of_prompt.iter().zip(columns["token_logprobs"].as_array().unwrap()) {
        assert!(
            a.is_null() == b.is_null()
                && (a.as_f64().unwrap_or(0.0) - b.as_f64().unwrap_or(0.0)).abs() < 1e-4
        );
    }
    // Several prompts, as texts and as tokens, each with its choices.
    let many = studio.send("POST", COMPLETIONS, &body(json!({"prompt": ["say it", "say"], "n": 2})), 200);
    let choices = many["choices"].as_array().unwrap();
    assert_eq!(
        choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    assert_eq!(choices[1]["text"], plain["text"]);
    let ids = studio.send("POST", COMPLETIONS, &body(json!({"prompt": [[5, 6, 7]], "echo": true})), 200);
    assert_eq!(ids["usage"]["prompt_tokens"], 3);
    let without = studio.send("POST", COMPLETIONS, &body(json!({"add_special_tokens": false})), 200);
    assert_eq!(without["usage"]["prompt_tokens"], usage["prompt_tokens"].as_u64().unwrap() - 1);

    let streamed = chunks(&studio.stream(COMPLETIONS, &body(json!({"echo": true, "stream": true}))));
    let join = |name: &str| -> Vec<Value> {
        let columns =
            streamed.iter().flat_map(|chunk| chunk["choices"][0]["logprobs"][name].as_array().cloned());
        columns.flatten().collect()
    };
    for name in ["tokens", "token_logprobs", "text_offset"] {
        assert_eq!(json!(join(name)), columns[name], "{name}");
    }
}

#[test]
fn an_answer_by_a_schema_is_valid_json() {
    let sandbox = Sandbox::new();
    let studio = studio(&sandbox);
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["light", "level"], "properties": {
        "light": {"enum": ["on", "off"]}, "level": {"type": "integer", "minimum": 0, "maximum": 9}}});
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "command", "strict": true, "schema": schema}});
    for seed in 0..4 {
        let more =
            json!({"response_format": format, "temperature": 1.5, "seed": seed, "n": 2, "max_tokens": 200});
        let whole = studio.send("POST", CHAT, &request(more), 200);
        for choice in whole["choices"].as_array().unwrap() {
            let text = choice["message"]["content"].as_str().unwrap();
            assert_eq!(choice["finish_reason"], "stop", "{choice}");
            let value: Value = serde_json::from_str(text).unwrap();
            assert!(value["light"] == "on" || value["light"] == "off", "{text}");
            assert!((0..=9).contains(&value["level"].as_i64().unwrap()), "{text}");
        }
    }
    let more = json!({"response_format": {"type": "json_object"}, "max_tokens": 20});
    let whole = studio.send("POST", CHAT, &request(more), 200);
    assert!(whole["choices"][0]["message"]["content"].as_str().unwrap().starts_with('{'), "{whole}");
}

#[test]
fn tools_that_must_be_called_are_called() {
    let sandbox = Sandbox::new();
    let studio = studio(&sandbox);
    let tool = |name: &str, parameters: Value| json!({"type": "function", "function": {"name": name, "description": "x", "parameters": parameters}});
    let city = json!({"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"], "additionalProperties": false});
    let tools = json!([
        tool("weather", city),
        tool("now", json!({"type": "object", "properties": {}, "additionalProperties": false}))
    ]);
    let ask = |more: Value| {
        let body = json!({"model": "tools", "tools": tools, "parallel_tool_calls": false, "max_tokens": 180, "seed": 1, "temperature": 1.0});
        with(request(body), more)
    };
    let whole = studio.send("POST", CHAT, &ask(json!({"tool_choice": "required"})), 200);
    let choice = &whole["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &Value::Null),
        "{choice}"
    );
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert!(calls.len() == 1 && calls[0]["type"] == "function", "{choice}");
    assert!(calls[0]["id"].as_str().unwrap().starts_with("call_"));

    let named = json!({"tool_choice": {"type": "function", "function": {"name": "weather"}}});
    for seed in 0..3 {
        let more = with(named.clone(), json!({"seed": seed}));
        let whole = studio.send("POST", CHAT, &ask(more.clone()), 200);
        let message = &whole["choices"][0]["message"];
        let function = &message["tool_calls"][0]["function"];
        assert_eq!(function["name"], "weather");
        let arguments: Value = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
        assert!(arguments["city"] == "Paris" || arguments["city"] == "Rome", "{arguments}");
        let streamed = chunks(&studio.stream(CHAT, &ask(with(more, json!({"stream": true})))));
        let (of_stream, finish) = put_together(&streamed, 0);
        assert_eq!((&of_stream["tool_calls"][0]["function"], &finish), (function, &json!("tool_calls")));

        // The answer goes back as it came, with what the tool said.
        let messages = json!([{"role": "user", "content": "say 3"}, message,
            {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "12"}]);
        let next = studio.send("POST", CHAT, &ask(json!({"messages": messages, "max_tokens": 5})), 200);
        assert!(next["usage"]["prompt_tokens"].as_u64() > whole["usage"]["prompt_tokens"].as_u64());
    }
    // Told of no tools, the model cannot call any; the prompt is that without tools.
    let none = studio.send("POST", CHAT, &ask(json!({"tool_choice": "none", "max_tokens": 5})), 200);
    let without = studio.send("POST", CHAT, &request(json!({"model": "tools", "max_tokens": 5})), 200);
    assert_eq!(none["usage"]["prompt_tokens"], without["usage"]["prompt_tokens"]);
    let auto = studio.send("POST", CHAT, &ask(json!({"max_tokens": 5})), 200);
    assert!(auto["usage"]["prompt_tokens"].as_u64() > none["usage"]["prompt_tokens"].as_u64());
}

#[test]
fn thoughts_come_apart_from_the_content() {
    let sandbox = Sandbox::new();
    let studio = studio(&sandbox);
    // The prompt ends inside of the thoughts, which this model never ends: all is thought.
    let body = request(
        json!({"model": "tools", "max_tokens": 6, "chat_template_kwargs": {"enable_thinking": true}}),
    );
    let whole = studio.send("POST", CHAT, &body, 200);
    let message = &whole["choices"][0]["message"];
    assert_eq!(message["content"], "", "{whole}");
    assert!(!message["reasoning_content"].as_str().unwrap().is_empty(), "{whole}");
    assert_eq!(whole["usage"]["completion_tokens_details"]["reasoning_tokens"], 6, "{whole}");
    let streamed = chunks(&studio.stream(CHAT, &with(body, json!({"stream": true}))));
    assert_eq!(put_together(&streamed, 0).0["reasoning"], message["reasoning_content"]);
    let off = request(
        json!({"model": "tools", "max_tokens": 6, "chat_template_kwargs": {"enable_thinking": false}}),
    );
    let message = studio.send("POST", CHAT, &off, 200)["choices"][0]["message"].clone();
    assert_eq!(message.get("reasoning_content"), None);
}

/// Needs a Python with the package `openai`, named by `TUNESMITH_OPENAI_PYTHON`.
#[test]
fn the_official_python_client() {
    let Some(python) = std::env::var_os("TUNESMITH_OPENAI_PYTHON") else {
        eprintln!("skipped: TUNESMITH_OPENAI_PYTHON names no Python with the package openai");
        return;
    };
    let sandbox = Sandbox::new();
    let studio = studio(&sandbox);
    let id = studio.create(&sandbox, "talker", &json!({}));
    studio.wait_for_status(&id, "finished");
    let script = repository().join("scripts/check-openai-client.py");
    let output = Command::new(python).arg(script).args([studio.url(), "talker", "tools"]).output().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
