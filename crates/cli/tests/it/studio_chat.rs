//! Talking to models through the studio and through the interface of OpenAI's clients.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Sandbox, repository};
use crate::studio_client::Studio;

fn trained(sandbox: &Sandbox) -> (Studio, String) {
    let studio = Studio::start(sandbox);
    let id = studio.create(sandbox, "talker", &json!({}));
    studio.wait_for_status(&id, "finished");
    (studio, id)
}

fn question(model: &str, settings: Value) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "say 3"}], "settings": settings})
}

#[test]
fn chat_with_a_result_and_its_base() {
    let sandbox = Sandbox::new();
    let (studio, id) = trained(&sandbox);
    let models = studio.get("/chat/models");
    let ids: Vec<&str> =
        models.as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["run:talker", "model:tiny"]);
    assert_eq!((&models[0]["is_loaded"], &models[0]["context"]), (&json!(false), &Value::Null));
    let defaults = studio.get("/chat/defaults?model=run:talker");
    assert_eq!(defaults["settings"]["max_length_inference"], 8);
    assert!(defaults["suggestions"][0].as_str().unwrap().starts_with("say "), "{defaults}");

    let heard = studio.stream("/chat", &question("run:talker", json!({})));
    let names: Vec<&str> = heard.iter().map(|message| message.event.as_str()).collect();
    assert_eq!((names[0], names[names.len() - 1]), ("loading", "done"));
    let text: String = heard
        .iter()
        .filter(|message| message.event == "text")
        .map(|message| message.json()["text"].as_str().unwrap().to_owned())
        .collect();
    let run = sandbox.path(&format!("work/experiments/{id}/run"));
    let said = sandbox.run(&["chat", run.to_str().unwrap(), "--prompt", "say 3", "--json"]).success();
    let expected: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(text, expected["text"].as_str().unwrap());
    let done = heard[heard.len() - 1].json();
    assert_eq!(done["n_prompt_tokens"], expected["n_prompt_tokens"]);

    // The second question finds it loaded; the base model beside it.
    let again = studio.stream("/chat", &question("run:talker", json!({"temperature": null})));
    assert_ne!(again[0].event, "loading");
    let base = studio.stream("/chat", &question("model:tiny", json!({"max_length_inference": 3})));
    assert_eq!(base[base.len() - 1].json()["n_new_tokens"], 3);
    let models = studio.get("/chat/models");
    assert!(models.as_array().unwrap().iter().all(|model| model["is_loaded"] == true), "{models}");
    assert_eq!(
        studio.send("POST", "/chat/unload", &json!({"model": "run:talker"}), 200),
        json!({"was_loaded": true})
    );
    assert_eq!(studio.get("/chat/models")[0]["is_loaded"], false);

    let wrong = studio.stream("/chat", &question("run:talker", json!({"repetition_penalty": -1})));
    let error = wrong[wrong.len() - 1].json();
    assert!(error["message"].as_str().unwrap().contains("repetition_penalty"), "{error}");
    assert_eq!(
        studio.send("POST", "/chat", &question("run:nobody", json!({})), 404)["error"]["code"],
        "not_found"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn workers_end_with_the_server_however_it_ends() {
    let sandbox = Sandbox::new();
    let studio = Studio::start(&sandbox);
    studio.stream("/chat", &question("model:tiny", json!({})));
    let marker = sandbox.path("cache").display().to_string();
    let workers = || {
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
            .filter(|line| {
                let line = String::from_utf8_lossy(line);
                line.contains("chat-worker") && line.contains(&marker)
            })
            .count()
    };
    assert_eq!(workers(), 1);
    studio.kill_hard();
    let started = Instant::now();
    while workers() != 0 {
        assert!(started.elapsed() < Duration::from_secs(10), "a worker outlived the server");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_interface_of_openai() {
    let sandbox = Sandbox::new();
    let (studio, _) = trained(&sandbox);
    let models = studio.get("/v1/models");
    assert_eq!(models["data"][0]["id"], "talker");
    assert_eq!(models["data"][1]["object"], "model");
    assert_eq!(studio.get("/v1/models/tiny")["id"], "tiny");

    let request = |more: Value| {
        let mut body =
            json!({"model": "tiny", "messages": [{"role": "user", "content": "say 3"}], "temperature": 0});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let whole = studio.send("POST", "/v1/chat/completions", &request(json!({"max_tokens": 5})), 200);
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
    let streamed = studio.stream("/v1/chat/completions", &body);
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
    assert_eq!(chunks[chunks.len() - 1]["usage"], *usage);

    // Where the stop text appears the answer ends; it is not part of it.
    let long = studio.send("POST", "/v1/chat/completions", &request(json!({"max_tokens": 30})), 200);
    let text = long["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    if let Some((at, c)) = text.char_indices().nth(3) {
        let stop = c.to_string();
        let stopped = studio.send(
            "POST",
            "/v1/chat/completions",
            &request(json!({"max_tokens": 30, "stop": [stop]})),
            200,
        );
        let choice = &stopped["choices"][0];
        assert_eq!(choice["finish_reason"], "stop", "{stopped}");
        assert!(!choice["message"]["content"].as_str().unwrap().contains(&stop) && text[..at].len() <= at);
    }
    let seeded = |seed: u64| {
        let body = request(json!({"temperature": 1.5, "seed": seed, "max_tokens": 8}));
        studio.send("POST", "/v1/chat/completions", &body, 200)["choices"][0]["message"]["content"].clone()
    };
    assert_eq!(seeded(1), seeded(1));

    let plain = json!({"model": "tiny", "prompt": "say", "max_tokens": 3, "temperature": 0});
    let plain = studio.send("POST", "/v1/completions", &plain, 200);
    assert_eq!(
        (&plain["object"], &plain["usage"]["completion_tokens"]),
        (&json!("text_completion"), &json!(3))
    );
    let body = json!({"model": "tiny", "prompt": ["say"], "max_tokens": 3, "temperature": 0, "stream": true});
    let streamed = studio.stream("/v1/completions", &body);
    let pieces: String = streamed[..streamed.len() - 1]
        .iter()
        .map(|message| message.json()["choices"][0]["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(pieces, plain["choices"][0]["text"].as_str().unwrap());

    for (path, body, status, code) in [
        ("/v1/chat/completions", request(json!({"n": 2})), 400, "invalid_request"),
        ("/v1/chat/completions", request(json!({"model": "nobody"})), 404, "model_not_found"),
        ("/v1/chat/completions", request(json!({"messages": []})), 400, "invalid_request"),
        ("/v1/completions", json!({"prompt": "a"}), 400, "invalid_request"),
        ("/v1/embeddings", json!({}), 404, "not_found"),
    ] {
        let error = studio.send("POST", path, &body, status)["error"].clone();
        assert_eq!(
            (&error["code"], &error["type"]),
            (&json!(code), &json!("invalid_request_error")),
            "{error}"
        );
        assert!(error["message"].is_string() && error.get("param").is_some());
    }
}

/// Needs a Python with the package `openai`, named by `TUNESMITH_OPENAI_PYTHON`.
#[test]
fn the_official_python_client() {
    let Some(python) = std::env::var_os("TUNESMITH_OPENAI_PYTHON") else {
        eprintln!("skipped: TUNESMITH_OPENAI_PYTHON names no Python with the package openai");
        return;
    };
    let sandbox = Sandbox::new();
    let (studio, _) = trained(&sandbox);
    let script = repository().join("scripts/check-openai-client.py");
    let output = Command::new(python).arg(script).args([studio.url(), "talker"]).output().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
