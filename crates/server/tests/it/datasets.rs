//! From tables to data sets and back.

use std::path::Path;

use serde_json::{Value, json};
use tunesmith_store::ExperimentRecord;

use crate::harness::{Studio, questions};

fn id(value: &Value) -> &str {
    value["id"].as_str().unwrap()
}

#[tokio::test]
async fn a_table_becomes_a_data_set() {
    let studio = Studio::new();
    let mut listener = studio.state.events.subscribe();
    let import = studio.import("Sums.csv", questions()).await;
    assert_eq!(import["suggested_name"], "Sums");
    assert_eq!(import["tables"][0]["n_rows"], 12);
    assert_eq!(import["tables"][0]["columns"][1]["kind"], "number");
    assert_eq!(import["guess"]["prompt_columns"], json!(["question"]));
    let body = json!({"settings": import["guess"]});
    let checked = studio.post(&format!("/imports/{}/check", id(&import)), body).await.ok();
    assert_eq!(checked["problems"], json!([]));
    let first = json!([
        {"role": "user", "content": "What is 0 + 0?"}, {"role": "assistant", "content": "0"},
    ]);
    assert_eq!(checked["conversations"][0]["turns"], first);

    let body = json!({"import_id": import["id"], "name": "Sums", "settings": import["guess"]});
    let dataset = studio.post("/datasets", body.clone()).await.ok();
    assert_eq!((id(&dataset), &dataset["n_rows"]), ("sums", &json!(12)));
    studio.post("/datasets", body).await.refused(404);
    let mut names = Vec::new();
    while let Ok((_, event)) = listener.try_recv() {
        names.push(format!("{event:?}"));
    }
    assert!(names.iter().any(|name| name.contains("Created")), "{names:?}");

    let rows = studio.get("/datasets/sums/rows?offset=10&limit=5").await.ok();
    assert_eq!(rows["rows"], json!([["What is 10 + 10?", "20"], ["What is 11 + 11?", "22"]]));
    assert_eq!(rows["n_rows"], 12);
    let page = studio.get("/datasets/sums/conversations?offset=11").await.ok();
    assert_eq!((&page["n"], &page["conversations"][0]["row"]), (&json!(12), &json!(11)));
    let statistics = studio.get("/datasets/sums/statistics").await.ok();
    assert_eq!(statistics["prompt_words"]["max"], 5);
    assert_eq!(statistics["n_conversations"], 12);
    let zip = studio.get("/datasets/sums/download").await;
    assert!(zip.bytes.starts_with(b"PK"));
    assert_eq!(zip::ZipArchive::new(std::io::Cursor::new(zip.bytes)).unwrap().len(), 2);
}

#[tokio::test]
async fn wrong_columns_and_doubtful_rows_are_told() {
    let studio = Studio::new();
    let csv = format!("{}What is 1 + 1?,2\n,7\nWhat now?,\n", questions());
    let import = studio.import("rows.csv", csv).await;
    let address = format!("/imports/{}/check", id(&import));
    let checked = studio.post(&address, json!({"settings": import["guess"]})).await.ok();
    let rows_of = |field: &str| -> Value {
        let problems = checked["problems"].as_array().unwrap();
        problems.iter().find(|problem| problem["field"] == field).unwrap()["rows"].clone()
    };
    assert_eq!(rows_of("train_table"), json!([13]));
    assert_eq!(rows_of("prompt_columns"), json!([14]));
    assert_eq!(rows_of("answer_column"), json!([15]));

    let mut settings = import["guess"].clone();
    settings["answer_column"] = json!("anwser");
    let checked = studio.post(&address, json!({"settings": settings})).await.ok();
    let problem = &checked["problems"][0];
    assert_eq!((&problem["level"], &problem["field"]), (&json!("error"), &json!("answer_column")));
    assert!(problem["hint"].as_str().unwrap().contains("answer"), "{problem}");
    let body = json!({"import_id": import["id"], "name": "x", "settings": settings});
    studio.post("/datasets", body).await.refused(422);
    settings["train_table"] = json!("../../../etc/passwd");
    studio.post(&address, json!({"settings": settings})).await.refused(400);
}

#[tokio::test]
async fn a_data_set_in_use_is_not_deleted() {
    let studio = Studio::new();
    let dataset = studio.dataset("Sums", &questions()).await;
    let experiment = ExperimentRecord {
        id: "run".to_owned(),
        name: "My run".to_owned(),
        dataset_id: Some(id(&dataset).to_owned()),
        status: "finished".to_owned(),
        queue_position: None,
        detail: json!({}),
        created_unix_secs: 1.0,
    };
    studio.state.store.put_experiment(&experiment).unwrap();
    let error = studio.with("DELETE", "/datasets/sums", json!({})).await.refused(409);
    assert_eq!((&error["code"], &error["details"]["experiments"]), (&json!("in_use"), &json!(["My run"])));
    assert_eq!(studio.get("/datasets/sums").await.ok()["n_experiments"], 1);
    studio.state.store.delete_experiment("run").unwrap();
    studio.with("DELETE", "/datasets/sums", json!({})).await.ok();
    studio.get("/datasets/sums").await.refused(404);
    assert_eq!(std::fs::read_dir(studio.folder.path().join("work/datasets")).unwrap().count(), 0);
}

#[tokio::test]
async fn names_and_roles_change_and_tables_are_added() {
    let studio = Studio::new();
    studio.dataset("One", &questions()).await;
    studio.dataset("Two", &questions()).await;
    studio.with("PATCH", "/datasets/one", json!({"name": "Two"})).await.refused(409);
    let changed = studio.with("PATCH", "/datasets/one", json!({"name": " Three "})).await.ok();
    assert_eq!((&changed["name"], &changed["id"]), (&json!("Three"), &json!("one")));
    let merged = studio.post("/datasets/one/merge", json!({"from": "two"})).await.ok();
    assert_eq!(merged["tables"].as_array().unwrap().len(), 2);
    let mut settings = merged["settings"].clone();
    settings["validation_table"] = json!("rows_1.csv");
    let changed = studio.with("PATCH", "/datasets/one", json!({"settings": settings})).await.ok();
    assert_eq!(changed["n_validation_rows"], 12);
    assert_eq!(studio.get("/datasets").await.ok().as_array().unwrap().len(), 2);
    studio.post("/datasets/one/merge", json!({"from": "one"})).await.refused(400);
}

#[tokio::test]
async fn a_lost_or_damaged_database_is_filled_from_the_files() {
    let studio = Studio::new();
    let before = studio.dataset("Sums", &questions()).await;
    let database = studio.folder.path().join("work/studio.sqlite3");
    let remove = |path: &Path| {
        for ending in ["", "-wal", "-shm"] {
            std::fs::remove_file(format!("{}{ending}", path.display())).ok();
        }
    };
    remove(&database);
    let studio = studio.restarted();
    assert_eq!(studio.get("/datasets/sums").await.ok(), before);
    remove(&database);
    std::fs::write(&database, b"this was a database once, before the disk broke").unwrap();
    let studio = studio.restarted();
    assert_eq!(studio.get("/datasets").await.ok(), json!([before]));
    assert!(studio.folder.path().join("work/studio.sqlite3.damaged").exists());
    std::fs::remove_dir_all(studio.folder.path().join("work/datasets/sums")).unwrap();
    assert_eq!(studio.restarted().get("/datasets").await.ok(), json!([]));
}

#[tokio::test]
async fn tables_of_this_machine_are_copied() {
    let studio = Studio::new();
    let path = studio.folder.path().join("mine.csv");
    std::fs::write(&path, questions()).unwrap();
    let source = json!({"kind": "local", "path": path});
    let job = studio.post("/imports", json!({"source": source})).await.ok();
    let job = studio.ended(&job).await;
    assert_eq!((&job["state"], &job["share"]), (&json!("done"), &json!(1.0)), "{job}");
    assert!(path.exists());
    for bad in ["mine.csv", "/nonexistent.csv"] {
        let source = json!({"kind": "local", "path": bad});
        let job = studio.post("/imports", json!({"source": source})).await.ok();
        assert_eq!(studio.ended(&job).await["state"], "failed");
    }
    let files = studio.get(&format!("/files?path={}", studio.folder.path().display())).await.ok();
    let names: Vec<&str> =
        files["entries"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["work", "mine.csv"]);
}

#[tokio::test]
async fn real_tables_are_understood() {
    let Some(shared) = std::env::var_os("TUNESMITH_SHARED") else {
        println!("skipped: TUNESMITH_SHARED does not name the folder with data sets");
        return;
    };
    let studio = Studio::new();
    let mut n_tables = 0;
    for folder in ["gsm8k", "oasst-en-100", "self-instruct", "sms-spam", "gsm8k-pairs", "emobank"] {
        let path = Path::new(&shared).join("data").join(folder);
        if !path.is_dir() {
            println!("skipped: {} is not there", path.display());
            continue;
        }
        let source = json!({"kind": "local", "path": path});
        let job = studio.post("/imports", json!({"source": source})).await.ok();
        let job = studio.ended(&job).await;
        if job["state"] != "done" {
            println!("{folder}: {}", job["error"]);
            continue;
        }
        let address = format!("/imports/{}", job["result"]["import_id"].as_str().unwrap());
        let import = studio.get(&address).await.ok();
        let checked =
            studio.post(&format!("{address}/check"), json!({"settings": import["guess"]})).await.ok();
        println!("{folder}: {} -> {}", import["guess"], checked["problems"]);
        assert!(!checked["conversations"].as_array().unwrap().is_empty(), "{folder}: {checked}");
        n_tables += 1;
    }
    assert!(n_tables > 0 || !Path::new(&shared).join("data").is_dir());
}
