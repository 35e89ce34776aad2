//! Training through the studio, with real processes that are killed at bad moments.

use serde_json::{Value, json};

use crate::harness::Sandbox;
use crate::stub::{Reply, Stub};
use crate::studio_client::{Studio, kill_process};

/// Some seconds of training.
fn long() -> Value {
    json!({"training.epochs": 120, "training.evaluation_epochs": 10.0})
}

fn lines(sandbox: &Sandbox, id: &str) -> Vec<String> {
    sandbox.read(&format!("work/experiments/{id}/run/events.jsonl")).lines().map(str::to_owned).collect()
}

/// Every step of the run is there once, in order.
#[track_caller]
fn assert_gapless(lines: &[String], n_steps: u64) {
    let events: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<u64> = events
        .iter()
        .filter(|event| event["event"] == "step")
        .map(|event| event["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, (1..=n_steps).collect::<Vec<_>>());
    assert_eq!(events.first().unwrap()["event"], "run_started");
    assert_eq!(events.last().unwrap()["event"], "run_finished");
}

fn process_of(sandbox: &Sandbox, id: &str) -> u64 {
    let process: Value =
        serde_json::from_str(&sandbox.read(&format!("work/experiments/{id}/process.json"))).unwrap();
    process["pid"].as_u64().unwrap()
}

#[test]
fn an_experiment_from_creation_to_its_files() {
    let sandbox = Sandbox::new();
    let studio = Studio::start(&sandbox);
    assert_eq!(studio.get("/experiments"), json!([]));
    let id = studio.create(
        &sandbox,
        "My First Run",
        &json!({"training.epochs": 12, "environment.device": "auto"}),
    );
    assert_eq!(id, "my-first-run");

    // A client that goes away after a few messages and comes back misses nothing and hears nothing twice.
    let path = format!("/experiments/{id}/events");
    let mut n_heard = 0;
    let first = studio.listen(&path, None, |_| {
        n_heard += 1;
        n_heard < 5
    });
    assert_eq!(first.len(), 5);
    let rest = studio.listen(&path, Some(&first[4].id), |message| message.event != "end");
    let mut heard: Vec<String> = first.iter().chain(&rest).map(|message| message.data.clone()).collect();
    assert_eq!(heard.pop().unwrap(), json!({"status": "finished"}).to_string());
    assert_eq!(heard, lines(&sandbox, &id));
    assert_gapless(&heard, 96);

    let shown = studio.wait_for_status(&id, "finished");
    assert_ne!(shown["device"], "auto", "what computed is told");
    assert_eq!(
        (&shown["step"], &shown["n_steps"], &shown["progress"]),
        (&json!(96), &json!(96), &json!(1.0))
    );
    assert!(
        shown["metric"].is_f64() && shown["train_loss"].is_f64() && shown["finished_unix_secs"].is_f64(),
        "{shown}"
    );
    assert_eq!(shown["values"]["training.lora_r"], 4);
    assert!(
        shown["changed"].as_array().unwrap().contains(&json!("training.learning_rate")),
        "{}",
        shown["changed"]
    );
    assert!(shown["record"]["fingerprints"].is_object());
    assert!(shown["yaml"].as_str().unwrap().contains("lora_r: 4"));
    let command = shown["command"].as_str().unwrap();
    assert!(command.starts_with("tunesmith train -Y ") && command.ends_with("request.yaml"), "{command}");
    assert_eq!(
        shown["can"],
        json!({"stop": false, "kill": false, "resume": false, "chat": true, "export": true, "delete": true})
    );

    let curves = studio.get(&format!("/experiments/{id}/series?max_points=20"));
    let loss = &curves["series"]
        .as_array()
        .unwrap()
        .iter()
        .find(|curve| curve["name"] == "train_loss")
        .unwrap()["points"];
    assert!(loss.as_array().unwrap().len() <= 20 && loss[0][0] == 1, "{loss}");
    assert_eq!(curves["n_lines"], heard.len());
    let after =
        studio.listen(&format!("{path}?after={}", curves["next_id"].as_str().unwrap()), None, |_| true);
    assert_eq!(after.iter().map(|message| message.event.as_str()).collect::<Vec<_>>(), ["end"]);
    let table = String::from_utf8(studio.download(&format!("/experiments/{id}/series.csv"))).unwrap();
    assert!(table.starts_with("step,train_loss,") && table.lines().count() == 97, "{table}");
    let log = studio.download(&format!("/experiments/{id}/log"));
    assert_eq!(String::from_utf8(log).unwrap(), sandbox.read(&format!("work/experiments/{id}/run/logs.log")));
    let samples = studio.get(&format!("/experiments/{id}/samples?n=2"));
    assert_eq!(samples["samples"].as_array().unwrap().len(), 2);

    let names: Vec<&str> = shown["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|artifact| artifact["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["adapter", "predictions", "events", "log", "config", "summary", "everything"]);
    let archive = studio.download(&format!("/experiments/{id}/artifacts/adapter"));
    let archive = sandbox.write("adapter.zip", archive);
    let listed =
        std::process::Command::new("python3").args(["-m", "zipfile", "-t"]).arg(&archive).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let listed =
        std::process::Command::new("python3").args(["-m", "zipfile", "-l"]).arg(&archive).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("adapter_model.safetensors"));
    let job = studio.send(
        "POST",
        &format!("/experiments/{id}/export"),
        &json!({"kind": "merged", "dtype": "bf16"}),
        202,
    );
    let result = studio.wait_for_job(&job);
    assert!(result["path"].as_str().unwrap().ends_with("exports/merged"), "{result}");
    assert!(sandbox.path(&format!("work/experiments/{id}/exports/merged/config.json")).is_file());
    assert_eq!(studio.ask("GET", &format!("/experiments/{id}/artifacts/nonsense"), None).0, 404);

    let renamed = studio.send("PATCH", &format!("/experiments/{id}"), &json!({"name": "Better"}), 200);
    assert_eq!((&renamed["id"], &renamed["name"]), (&json!(id), &json!("Better")));
    assert_eq!(
        studio.send("POST", &format!("/experiments/{id}/resume"), &json!({}), 409)["error"]["code"],
        "conflict"
    );
    studio.send("DELETE", &format!("/experiments/{id}"), &json!({}), 204);
    assert_eq!(studio.ask("GET", &format!("/experiments/{id}"), None).0, 404);
    assert!(!sandbox.path(&format!("work/experiments/{id}")).exists());
}

#[test]
fn a_run_outlives_the_server_and_the_next_one_finds_it() {
    let sandbox = Sandbox::new();
    let studio = Studio::start(&sandbox);
    let id = studio.create(&sandbox, "long", &long());
    let waiting = studio.create(&sandbox, "waiting", &json!({}));
    studio.wait(&id, "running", |experiment| 3 < experiment["step"].as_u64().unwrap());
    let process = process_of(&sandbox, &id);
    studio.kill_hard();

    let studio = Studio::start(&sandbox);
    let found = studio.get(&format!("/experiments/{id}"));
    assert_eq!(found["status"], "running", "{found}");
    assert_eq!(process_of(&sandbox, &id), process);
    assert_eq!(
        studio.get(&format!("/experiments/{waiting}"))["status"],
        "queued",
        "the device is still in use"
    );
    let heard = studio.listen(&format!("/experiments/{id}/events"), None, |message| message.event != "end");
    studio.wait_for_status(&id, "finished");
    let heard: Vec<String> = heard.iter().take(heard.len() - 1).map(|message| message.data.clone()).collect();
    assert_eq!(heard, lines(&sandbox, &id));
    assert_gapless(&heard, 960);
    studio.wait_for_status(&waiting, "finished");

    // Without the database everything is found again from the folders.
    studio.kill_hard();
    for name in ["studio.sqlite3", "studio.sqlite3-wal", "studio.sqlite3-shm"] {
        let _ = std::fs::remove_file(sandbox.path(&format!("work/{name}")));
    }
    let studio = Studio::start(&sandbox);
    assert_eq!(studio.get("/experiments").as_array().unwrap().len(), 2);
    assert_eq!(studio.get(&format!("/experiments/{id}"))["status"], "finished");
    assert_eq!(studio.send("POST", "/reindex", &json!({}), 200), json!({"found": 2, "added": 0}));
}

#[test]
fn stopped_and_killed_runs_go_on_where_they_were() {
    let sandbox = Sandbox::new();
    let studio = Studio::start(&sandbox);
    let id = studio.create(
        &sandbox,
        "again",
        &json!({"training.epochs": 120, "training.checkpoint_every_steps": 20}),
    );
    let running = |step: u64| move |experiment: &Value| step < experiment["step"].as_u64().unwrap();
    studio.wait(&id, "running", running(10));
    studio.send("POST", &format!("/experiments/{id}/stop"), &json!({}), 200);
    let stopped = studio.wait_for_status(&id, "stopped");
    let step = stopped["step"].as_u64().unwrap();
    assert!(10 < step && stopped["can"]["resume"] == true && stopped["can"]["chat"] == true, "{stopped}");
    assert!(stopped["can"]["export"] == true && stopped["eta_secs"].is_null());
    studio.send("POST", &format!("/experiments/{id}/stop"), &json!({}), 409);

    studio.send("POST", &format!("/experiments/{id}/resume"), &json!({}), 200);
    studio.wait(&id, "going on", running(step + 30));
    // The machine's memory ran out, say: nobody was asked.
    kill_process(process_of(&sandbox, &id));
    let killed = studio.wait_for_status(&id, "killed");
    assert!(killed["can"]["resume"] == true && killed["can"]["delete"] == true, "{killed}");

    // Who had heard more than the last checkpoint is told that the file was cut.
    let curves = studio.get(&format!("/experiments/{id}/series"));
    let place = curves["next_id"].as_str().unwrap();
    studio.send("POST", &format!("/experiments/{id}/resume"), &json!({}), 200);
    let heard = studio
        .listen(&format!("/experiments/{id}/events?after={place}"), None, |message| message.event != "end");
    let rewind = heard.iter().rposition(|message| message.event == "rewind");
    let first = rewind.map_or(0, |rewind| rewind + 1);
    let heard: Vec<String> =
        heard[first..heard.len() - 1].iter().map(|message| message.data.clone()).collect();
    studio.wait_for_status(&id, "finished");
    let all = lines(&sandbox, &id);
    match rewind {
        Some(_) => assert_eq!(heard, all),
        // It was killed in the instant after a checkpoint, so there was nothing to cut.
        None => assert!(all.ends_with(&heard), "{heard:?}"),
    }
    assert_gapless(&all, 960);

    let other = studio.create(&sandbox, "killed", &long());
    studio.wait(&other, "running", running(2));
    studio.send("DELETE", &format!("/experiments/{other}"), &json!({}), 409);
    assert_eq!(
        studio.send("POST", &format!("/experiments/{other}/kill"), &json!({}), 200)["status"],
        "killed"
    );
    studio.send("DELETE", &format!("/experiments/{other}"), &json!({}), 204);
}

#[test]
fn one_run_at_a_time_in_the_order_of_the_queue() {
    let sandbox = Sandbox::new();
    let studio = Studio::start(&sandbox);
    let first = studio.create(&sandbox, "run", &json!({"training.epochs": 60}));
    studio.wait(&first, "started", |experiment| experiment["status"] != "queued");
    let ids: Vec<String> = (0..3).map(|_| studio.create(&sandbox, "run", &json!({}))).collect();
    assert_eq!(ids, ["run-2", "run-3", "run-4"]);
    let position = |id: &str| studio.get(&format!("/experiments/{id}"))["queue_position"].clone();
    assert_eq!(ids.iter().map(|id| position(id)).collect::<Vec<_>>(), [json!(0), json!(1), json!(2)]);
    let order = studio.send("PUT", "/queue", &json!({"ids": ["run-4", "nonsense"]}), 200);
    assert_eq!(order["ids"], json!(["run-4", "run-2", "run-3"]));
    studio.send("POST", "/experiments/run-3/stop", &json!({}), 200);
    assert_eq!(studio.get("/experiments/run-3")["status"], "stopped");
    studio.send("POST", &format!("/experiments/{first}/stop"), &json!({}), 200);
    let started = |id: &str| studio.wait_for_status(id, "finished")["started_unix_secs"].as_f64().unwrap();
    let (fourth, second) = (started("run-4"), started("run-2"));
    let fourth_ended = studio.get("/experiments/run-4")["finished_unix_secs"].as_f64().unwrap();
    assert!(fourth < second && fourth_ended <= second, "{fourth}, {fourth_ended}, {second}");
    studio.send("POST", "/experiments/run-3/requeue", &json!({}), 200);
    studio.wait_for_status("run-3", "finished");
}

#[test]
fn a_grid_makes_one_experiment_for_each_combination() {
    let sandbox = Sandbox::new();
    let studio = Studio::start(&sandbox);
    let request = json!({
        "name": "grid",
        "values": crate::studio_client::values(&sandbox.path("rows.jsonl")),
        "grid": {"training.lora": [true, false], "training.lora_r": [2, 4]},
    });
    let made = studio.send("POST", "/experiments", &request, 201);
    let names: Vec<&str> = made.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["grid_lora_true_lora_r_2", "grid_lora_true_lora_r_4", "grid_lora_false"]);
    assert!(made[0]["grid_id"].is_string() && made[0]["grid_id"] == made[2]["grid_id"]);
    for one in made.as_array().unwrap() {
        studio.wait_for_status(one["id"].as_str().unwrap(), "finished");
    }
    let whole = studio.get(&format!("/experiments/{}", made[2]["id"].as_str().unwrap()));
    assert_eq!(whole["artifacts"][0]["name"], "model", "all weights were trained");
}

#[test]
fn what_goes_wrong_is_told_with_a_way_out() {
    let sandbox = Sandbox::new();
    let studio = Studio::start(&sandbox);
    let refused = |values: Value| {
        let mut all = crate::studio_client::values(&sandbox.path("rows.jsonl"));
        all.as_object_mut().unwrap().extend(values.as_object().unwrap().clone());
        studio.send("POST", "/experiments", &json!({"name": "wrong", "values": all}), 422)["error"].clone()
    };
    assert!(refused(json!({"training.epoch": 1}))["message"].as_str().unwrap().contains("training.epoch"));
    let error = refused(json!({"architecture.pretrained": false}));
    assert_eq!(error["details"]["findings"][0]["field"], "architecture.pretrained", "{error}");
    assert_eq!(studio.get("/experiments"), json!([]), "none of them was made");

    let id = studio.create(&sandbox, "no data", &json!({"dataset.train_dataframe": "/nowhere/rows.jsonl"}));
    let failed = studio.wait_for_status(&id, "failed");
    assert!(failed["failure"]["message"].as_str().unwrap().contains("/nowhere/rows.jsonl"), "{failed}");
    let id = studio.create(&sandbox, "no model", &json!({"llm_backbone": "/nowhere/model"}));
    let failed = studio.wait_for_status(&id, "failed");
    assert!(failed["failure"]["message"].as_str().unwrap().contains("/nowhere/model"), "{failed}");
    assert!(failed["failure"]["hint"].is_string(), "{failed}");
    let log = studio.download(&format!("/experiments/{id}/log"));
    assert!(String::from_utf8(log).unwrap().contains("error: "));

    let values = crate::studio_client::values(&sandbox.path("rows.jsonl"));
    let forecast = studio.send("POST", "/forecast", &json!({"values": values}), 200);
    assert_eq!((&forecast["time"]["steps"], &forecast["memory"]["fits"]), (&json!(16), &json!(true)));
    let mut values = values;
    values["llm_backbone"] = json!("owner/name");
    let missing = studio.send("POST", "/forecast", &json!({"values": values}), 409);
    assert_eq!(
        (&missing["error"]["code"], &missing["error"]["details"]["model"]),
        (&json!("model_missing"), &json!("owner/name"))
    );
}

#[test]
fn runs_get_the_judge_and_the_tracker_from_the_secrets() {
    const KEY: &str = "sk-kept-by-the-studio";
    let judge = Stub::start(|_| {
        Reply::ok(json!({"choices": [{"message": {"content": "EXPLANATION: fine\nSCORE: 1"}}]}).to_string())
    });
    let sandbox = Sandbox::new();
    let studio = Studio::start(&sandbox);
    let keep = |name: &str, value: &str| {
        studio.send("PUT", &format!("/secrets/{name}"), &json!({"value": value}), 204);
    };
    keep("openai_api_base", &format!("{}/v1", judge.endpoint));
    keep("openai_api_key", KEY);
    let values =
        json!({"prediction.metric": "GPT", "prediction.max_length_inference": 4, "logging.logger": "MLflow"});
    let unsaid = studio.create(&sandbox, "No Address", &values);
    let failed = studio.wait_for_status(&unsaid, "failed");
    assert!(failed.to_string().contains("MLFLOW_TRACKING_URI"), "{failed}");

    let tracker = Stub::start(|_| Reply::new("403 Forbidden", ""));
    keep("mlflow_tracking_uri", &tracker.endpoint);
    keep("mlflow_tracking_token", "token-of-the-studio");
    let id = studio.create(&sandbox, "Graded", &values);
    let shown = studio.wait_for_status(&id, "finished");
    assert_eq!(shown["metric"], 1.0, "{shown}");
    let requests = judge.requests();
    assert!(!requests.is_empty());
    assert!(requests.iter().all(|request| request.header("authorization") == format!("Bearer {KEY}")));
    assert_eq!(tracker.requests()[0].header("authorization"), "Bearer token-of-the-studio");
    for name in sandbox.list() {
        let path = sandbox.path(&name);
        let content = if path.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        assert!(!content.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "{name}");
    }
}
