//! The schema for forms, settings in both directions, the studio's own settings and secrets.

use serde_json::json;

use crate::harness::{Studio, questions};

#[tokio::test]
async fn the_schema_has_every_field_and_says_what_is_not_built() {
    let studio = Studio::new();
    studio.with("PATCH", "/settings", json!({"default.training.epochs": 3})).await.ok();
    let schema = studio.get("/schema").await.ok();
    let fields: Vec<_> = schema["sections"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|section| section["fields"].as_array().unwrap())
        .collect();
    assert_eq!(fields.len(), tunesmith_config::schema().len());
    let field = |path: &str| *fields.iter().find(|field| field["path"] == path).unwrap();
    assert_eq!(field("training.epochs")["default"], 3);
    assert_eq!(field("training.epochs")["is_built"], true);
    assert_eq!(field("architecture.pretrained")["is_built"], false);
    assert!(field("architecture.pretrained")["not_built_note"].as_str().unwrap().contains("not built"));
    assert_eq!(field("training.optimizer")["kind"], "choice");
}

#[tokio::test]
async fn settings_are_checked_and_written_as_yaml_that_reads_back() {
    let studio = Studio::new();
    studio.dataset("Sums", &questions()).await;
    let values = json!({"training.epochs": 2, "training.lora": "maybe", "architecture.pretrained": false});
    let body = json!({"values": values, "dataset_id": "sums"});
    let checked = studio.post("/config/check", body).await.ok();
    let findings = checked["findings"].to_string();
    assert!(findings.contains("training.lora") && findings.contains("architecture.pretrained"), "{findings}");
    let changed = checked["changed"].to_string();
    assert!(changed.contains("training.epochs") && changed.contains("dataset.train_dataframe"), "{changed}");
    let parsed = studio.post("/config/parse", json!({"yaml": checked["yaml"]})).await.ok();
    assert_eq!(parsed["values"]["training.epochs"], 2);
    assert_eq!(parsed["values"]["dataset.prompt_column"], json!(["question"]));
    assert_eq!(parsed["warnings"], json!([]));

    let yaml = "problem_type: text_causal_language_modeling\ntraining:\n    epochs: many\n";
    let error = studio.post("/config/parse", json!({"yaml": yaml})).await.refused(422);
    assert_eq!(
        (&error["details"]["line"], &error["details"]["problems"][0]["field"]),
        (&json!(3), &json!("training.epochs"))
    );
    let error = studio.post("/config/parse", json!({"yaml": "a: [1\nb: 2"})).await.refused(422);
    assert!(error["details"]["line"].is_number(), "{error}");
}

#[tokio::test]
async fn settings_take_only_what_they_can_be() {
    let studio = Studio::new();
    for bad in [
        json!({"theme": "pink"}),
        json!({"runs_per_device": 0}),
        json!({"nonsense": 1}),
        json!({"default.training.epochs": "many"}),
        json!({"default.nonsense": 1}),
        json!({"cache_dir": "/tmp"}),
    ] {
        studio.with("PATCH", "/settings", bad).await.refused(422);
    }
    let answer = studio.with("PATCH", "/settings", json!({"theme": "dark", "queue_paused": true})).await.ok();
    assert_eq!(
        (&answer["values"]["theme"], &answer["values"]["runs_per_device"]),
        (&json!("dark"), &json!(1))
    );
    let answer = studio.with("PATCH", "/settings", json!({"theme": null})).await.ok();
    assert_eq!(answer["values"]["theme"], "system");
    let error =
        studio.send(studio.request("PATCH", "/settings").body("{".into()).unwrap()).await.refused(415);
    assert_eq!(error["code"], "bad_request");
}

#[tokio::test]
async fn gv_11_2_secrets_come_back_to_nobody_and_are_not_readable_on_the_disk() {
    const VALUE: &str = "hf_0123456789secret";
    let studio = Studio::new();
    assert_eq!(studio.get("/secrets").await.ok()[0]["is_set"], false);
    studio.with("PUT", "/secrets/huggingface_token", json!({"value": VALUE})).await.ok();
    let answer = studio.get("/secrets").await;
    assert_eq!(answer.ok()[0]["is_set"], true);
    assert!(!String::from_utf8_lossy(&answer.bytes).contains(VALUE));
    for entry in std::fs::read_dir(studio.folder.path().join("work")).unwrap().flatten() {
        if entry.path().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains(VALUE), "{:?}", entry.path());
            #[cfg(unix)]
            if entry.file_name().to_string_lossy().starts_with("secrets") {
                use std::os::unix::fs::PermissionsExt;
                assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
            }
        }
    }
    let studio = studio.restarted();
    assert_eq!(studio.state.secrets.get("huggingface_token").unwrap().as_deref(), Some(VALUE));
    studio.with("DELETE", "/secrets/huggingface_token", json!({})).await.ok();
    assert_eq!(studio.state.secrets.get("huggingface_token").unwrap(), None);
    // Runs get what judges and trackers need by the names that these have everywhere.
    studio.with("PUT", "/secrets/openai_api_key", json!({"value": VALUE})).await.ok();
    studio.with("PUT", "/secrets/mlflow_tracking_uri", json!({"value": "http://host:5000"})).await.ok();
    let expected = [("OPENAI_API_KEY", VALUE), ("MLFLOW_TRACKING_URI", "http://host:5000")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(studio.state.secrets.variables().unwrap(), expected);
    studio.with("PUT", "/secrets/other", json!({"value": "x"})).await.refused(404);
}
