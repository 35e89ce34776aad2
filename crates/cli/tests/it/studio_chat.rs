//! Talking to models through the studio.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::Sandbox;
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

/// A question with settings of the wrong type was once never answered.
#[test]
fn settings_of_the_wrong_type_are_an_answer_too() {
    let sandbox = Sandbox::new();
    let studio = Studio::start(&sandbox);
    let heard = studio.stream("/chat", &question("model:tiny", json!({"temperature": "hot"})));
    let error = heard[heard.len() - 1].json();
    assert_eq!(heard[heard.len() - 1].event, "error");
    assert_eq!(error["message"], "'settings.temperature' must be a number, is \"hot\"");
    let well = studio.stream("/chat", &question("model:tiny", json!({"max_length_inference": 2})));
    assert_eq!(well[well.len() - 1].event, "done");
}
