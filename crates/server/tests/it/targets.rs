//! Data sets of classes, numbers and preferences, from tables to the settings of an experiment.

use serde_json::{Value, json};

use crate::harness::Studio;

fn id(value: &Value) -> &str {
    value["id"].as_str().unwrap()
}

/// Rows of a text and some cells.
fn table(columns: &str, cells: &[&str]) -> String {
    let rows: String =
        cells.iter().enumerate().map(|(i, cells)| format!("text number {i},{cells}\n")).collect();
    format!("text,{columns}\n{rows}")
}

async fn check(studio: &Studio, import: &Value, settings: &Value) -> Value {
    let body = json!({"settings": settings});
    studio.post(&format!("/imports/{}/check", id(import)), body).await.ok()
}

/// Level, rows and message of the problems of a field.
fn problems(checked: &Value, field: &str) -> Vec<(String, Value, String)> {
    let all = checked["problems"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.filter(|problem| problem["field"] == field)
        .map(|problem| (text(&problem["level"]), problem["rows"].clone(), text(&problem["message"])))
        .collect()
}

/// The fields that an experiment on the data set gets, apart from its tables.
async fn fields_of(studio: &Studio, dataset: &Value) -> Value {
    tunesmith_server::runs::start(&studio.state).await;
    // Where no program can be started, an experiment still shows what it would be started with.
    studio.with("PATCH", "/settings", json!({"queue_paused": true})).await.ok();
    let body = json!({"name": "one", "dataset_id": dataset["id"], "values": {"llm_backbone": "some/model"}});
    let made = studio.post("/experiments", body).await.ok();
    studio.get(&format!("/experiments/{}", id(&made[0]))).await.ok()
}

#[tokio::test]
async fn classes_are_found_counted_and_learned() {
    let studio = Studio::new();
    let csv = table("label", &["0", "2", "1", "0", "1", "2", "0", "1", "2", "0", "1", "2"]);
    let import = studio.import("topics.csv", csv).await;
    let guess = &import["guess"];
    assert_eq!(guess["problem_type"], "text_causal_classification_modeling");
    assert_eq!((&guess["prompt_columns"], &guess["label_columns"]), (&json!(["text"]), &json!(["label"])));
    let checked = check(&studio, &import, guess).await;
    assert_eq!((&checked["problems"], &checked["num_classes"]), (&json!([]), &json!(3)));
    let turns =
        json!([{"role": "user", "content": "text number 1"}, {"role": "label", "content": "label: 2"}]);
    assert_eq!(checked["conversations"][1]["turns"], turns);

    let body = json!({"import_id": import["id"], "name": "Topics", "settings": guess});
    let dataset = studio.post("/datasets", body).await.ok();
    assert_eq!(dataset["problem_type"], "text_causal_classification_modeling");
    assert_eq!(dataset["settings"]["num_classes"], 3);
    let statistics = studio.get("/datasets/topics/statistics").await.ok();
    let counts = [0, 1, 2].map(|label| json!({"label": label, "name": label.to_string(), "count": 4}));
    assert_eq!(statistics["targets"][0]["labels"], json!(counts));
    let detail = fields_of(&studio, &dataset).await;
    let values = &detail["values"];
    assert_eq!(
        (&values["dataset.answer_column"], &values["dataset.num_classes"]),
        (&json!("label"), &json!(3))
    );
    assert_eq!(values["training.loss_function"], "CrossEntropyLoss");
}

#[tokio::test]
async fn labels_that_are_no_classes_are_named_by_their_rows() {
    let studio = Studio::new();
    let check_labels = async |cells: &[&str], num_classes: Value| {
        let import = studio.import("rows.csv", table("label", cells)).await;
        let mut settings = import["guess"].clone();
        settings["problem_type"] = json!("text_causal_classification_modeling");
        settings["label_columns"] = json!(["label"]);
        settings["prompt_columns"] = json!(["text"]);
        settings["num_classes"] = num_classes;
        check(&studio, &import, &settings).await
    };
    let checked = check_labels(&["0", "1", "", "1", "-2", "1.5"], Value::Null).await;
    let found = problems(&checked, "label_columns");
    let rows: Vec<&Value> = found.iter().map(|(_, rows, _)| rows).collect();
    assert_eq!(rows, [&json!([3]), &json!([6])], "{found:?}");
    assert!(found.iter().all(|(level, ..)| level == "error"));
    assert_eq!((&checked["num_classes"], &checked["conversations"]), (&Value::Null, &json!([])));

    // Numbers with gaps between them are labels, and are told so by training.
    let checked = check_labels(&["0", "3", "0", "1"], Value::Null).await;
    assert_eq!((problems(&checked, "label_columns"), &checked["num_classes"]), (Vec::new(), &json!(3)));
    let checked = check_labels(&["0", "1", "2"], json!(2)).await;
    assert_eq!(problems(&checked, "num_classes")[0].2, "label has 3 labels, which do not fit 2 classes");
    let many: Vec<String> = (0..10_001).map(|n| format!("name {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let checked = check_labels(&many, Value::Null).await;
    assert_eq!(problems(&checked, "label_columns")[0].2, "label has 10001 labels");
    let checked = check_labels(&["0", "0"], Value::Null).await;
    assert!(problems(&checked, "label_columns")[0].2.contains("the same label"), "{checked}");
    assert_eq!(checked["num_classes"], 1);
}

#[tokio::test]
async fn words_are_labels() {
    let studio = Studio::new();
    let words = ["ham", "spam", "eggs", "ham", "spam", "eggs"];
    let import = studio.import("mail.csv", table("label", &words)).await;
    let guess = &import["guess"];
    assert_eq!(guess["problem_type"], "text_causal_classification_modeling");
    assert_eq!((&guess["prompt_columns"], &guess["label_columns"]), (&json!(["text"]), &json!(["label"])));
    let checked = check(&studio, &import, guess).await;
    assert_eq!((problems(&checked, "label_columns"), &checked["num_classes"]), (Vec::new(), &json!(3)));
    let turns =
        json!([{"role": "user", "content": "text number 1"}, {"role": "label", "content": "label: spam"}]);
    assert_eq!(checked["conversations"][1]["turns"], turns);
    let body = json!({"import_id": import["id"], "name": "Mail", "settings": guess});
    let dataset = studio.post("/datasets", body).await.ok();
    let statistics = studio.get("/datasets/mail/statistics").await.ok();
    let counts = [(0, "eggs"), (1, "ham"), (2, "spam")];
    let counts = counts.map(|(label, name)| json!({"label": label, "name": name, "count": 2}));
    assert_eq!(statistics["targets"][0]["labels"], json!(counts));
    let values = &fields_of(&studio, &dataset).await["values"];
    assert_eq!(
        (&values["dataset.num_classes"], &values["training.loss_function"]),
        (&json!(3), &json!("CrossEntropyLoss"))
    );
}

#[tokio::test]
async fn lists_are_any_number_of_labels() {
    let studio = Studio::new();
    let import = studio.import("tags.csv", table("tags", &["a|b", "b", "a|c", "b", "c|b", "a"])).await;
    let mut settings = import["guess"].clone();
    settings["problem_type"] = json!("text_causal_classification_modeling");
    settings["label_columns"] = json!(["tags"]);
    settings["prompt_columns"] = json!(["text"]);
    settings["answer_column"] = Value::Null;
    let checked = check(&studio, &import, &settings).await;
    assert_eq!((problems(&checked, "label_columns"), &checked["num_classes"]), (Vec::new(), &json!(3)));
    assert_eq!(checked["conversations"][0]["turns"][1]["content"], "tags: a|b");
    let body = json!({"import_id": import["id"], "name": "Tags", "settings": settings});
    let dataset = studio.post("/datasets", body).await.ok();
    assert_eq!(dataset["settings"]["has_label_lists"], true);
    let statistics = studio.get("/datasets/tags/statistics").await.ok();
    let counts = [(0, "a", 3), (1, "b", 4), (2, "c", 2)];
    let counts = counts.map(|(label, name, count)| json!({"label": label, "name": name, "count": count}));
    assert_eq!(statistics["targets"][0]["labels"], json!(counts));
    let values = &fields_of(&studio, &dataset).await["values"];
    assert_eq!(
        (&values["dataset.num_classes"], &values["training.loss_function"]),
        (&json!(3), &json!("BinaryCrossEntropyLoss"))
    );
}

#[tokio::test]
async fn several_labels_are_zero_or_one() {
    let studio = Studio::new();
    let import = studio.import("tags.csv", table("label_a,label_b", &["0,1", "1,1", "0,0", "1,0"])).await;
    let guess = import["guess"].clone();
    assert_eq!(guess["label_columns"], json!(["label_a", "label_b"]));
    let checked = check(&studio, &import, &guess).await;
    assert_eq!((problems(&checked, "label_columns"), &checked["num_classes"]), (Vec::new(), &json!(2)));
    let roles: Vec<&Value> = checked["conversations"][1]["turns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|turn| &turn["content"])
        .collect();
    assert_eq!(roles, ["text number 1", "label_a: 1", "label_b: 1"]);
    let body = json!({"import_id": import["id"], "name": "Tags", "settings": guess});
    let detail = fields_of(&studio, &studio.post("/datasets", body).await.ok()).await;
    assert_eq!(detail["values"]["dataset.answer_column"], json!(["label_a", "label_b"]));
    assert_eq!(detail["values"]["dataset.num_classes"], 2);
    assert_eq!(detail["values"]["training.loss_function"], "BinaryCrossEntropyLoss");

    let import = studio.import("tags.csv", table("label_a,label_b", &["0,1", "1,2", "0,0", "1,0"])).await;
    let mut settings = guess;
    settings["train_table"] = import["guess"]["train_table"].clone();
    let checked = check(&studio, &import, &settings).await;
    assert_eq!(problems(&checked, "label_columns")[0].1, json!([2]));
    settings["label_columns"] = json!(["label_a", "label_c"]);
    settings["num_classes"] = json!(5);
    let checked = check(&studio, &import, &settings).await;
    assert!(problems(&checked, "label_columns")[0].2.contains("label_c"));
    assert_eq!(problems(&checked, "num_classes").len(), 1);
}

#[tokio::test]
async fn numbers_are_checked_and_counted() {
    let studio = Studio::new();
    let csv = table("score,other", &["0.5,1", "2.25,x", "1,2", "3,", "-1,4"]);
    let import = studio.import("scores.csv", csv).await;
    let mut settings = import["guess"].clone();
    assert_eq!(settings["problem_type"], "text_causal_regression_modeling");
    assert_eq!(settings["label_columns"], json!(["score"]));
    let body = json!({"import_id": import["id"], "name": "Scores", "settings": settings});
    settings["label_columns"] = json!(["score", "other"]);
    let checked = check(&studio, &import, &settings).await;
    let rows: Vec<Value> = problems(&checked, "label_columns").into_iter().map(|(_, rows, _)| rows).collect();
    assert_eq!(rows, [json!([4]), json!([2])]);

    let dataset = studio.post("/datasets", body).await.ok();
    let numbers = studio.get("/datasets/scores/statistics").await.ok()["targets"][0]["numbers"].clone();
    assert_eq!((&numbers["min"], &numbers["max"]), (&json!(-1.0), &json!(3.0)));
    let page = studio.get("/datasets/scores/conversations?limit=1").await.ok();
    assert_eq!(page["conversations"][0]["turns"][1], json!({"role": "target", "content": "score: 0.5"}));
    let detail = fields_of(&studio, &dataset).await;
    assert_eq!(detail["values"]["problem_type"], "text_causal_regression_modeling");
    assert_eq!(detail["values"]["dataset.answer_column"], "score");
}

#[tokio::test]
async fn answers_are_preferred_to_others() {
    let studio = Studio::new();
    let csv = "prompt,chosen,rejected\nHow?,Well,Badly\nWho?,Me,Me\nWhy?,So,\n";
    let import = studio.import("pairs.csv", csv).await;
    let settings = import["guess"].clone();
    assert_eq!(settings["problem_type"], "text_dpo_modeling");
    let checked = check(&studio, &import, &settings).await;
    let rows: Vec<Value> =
        problems(&checked, "rejected_answer_column").into_iter().map(|(_, rows, _)| rows).collect();
    assert_eq!(rows, [json!([3]), json!([2])]);
    let turns = json!([
        {"role": "user", "content": "How?"}, {"role": "assistant", "content": "Well"},
        {"role": "rejected", "content": "Badly"},
    ]);
    assert_eq!(checked["conversations"][0]["turns"], turns);
    for (field, value) in [
        ("rejected_answer_column", json!("rejectd")),
        ("rejected_answer_column", Value::Null),
        ("answer_column", json!("rejected")),
    ] {
        let mut wrong = settings.clone();
        wrong[field] = value;
        let checked = check(&studio, &import, &wrong).await;
        let problem = &checked["problems"][0];
        assert_eq!(
            (&problem["level"], &problem["field"]),
            (&json!("error"), &json!("rejected_answer_column")),
            "{checked}"
        );
    }
    let body = json!({"import_id": import["id"], "name": "Pairs", "settings": settings});
    let detail = fields_of(&studio, &studio.post("/datasets", body).await.ok()).await;
    assert_eq!(detail["values"]["dataset.answer_column"], "chosen");
    assert_eq!(detail["values"]["dataset.rejected_answer_column"], "rejected");
    assert_eq!(detail["values"]["dataset.rejected_prompt_column"], "None");
}

#[tokio::test]
async fn a_table_without_names_is_noticed() {
    let studio = Studio::new();
    let tsv = "ham\tSee you at the station at eight\nspam\tWin a prize now\nham\tOn my way\nham\tOk\n";
    let import = studio.import("sms.tsv", tsv).await;
    let checked = check(&studio, &import, &import["guess"]).await;
    let found = problems(&checked, "train_table");
    assert!(
        found.iter().any(|(level, _, message)| level == "warning" && message.contains("no header")),
        "{checked}"
    );
}

#[tokio::test]
async fn real_tables_keep_their_meaning() {
    let Some(shared) = std::env::var_os("TUNESMITH_SHARED") else {
        println!("skipped: TUNESMITH_SHARED does not name the folder with data sets");
        return;
    };
    let shared = std::path::Path::new(&shared).join("data");
    let studio = Studio::new();
    let cases = [
        ("sms-spam/sms.tsv", true),
        ("emobank/emobank.csv", false),
        ("gsm8k/train.jsonl", false),
        ("gsm8k-pairs/pairs.jsonl", false),
    ];
    for (name, has_no_header) in cases {
        let path = shared.join(name);
        if !path.is_file() {
            println!("skipped: {} is not there", path.display());
            continue;
        }
        let file_name = path.file_name().unwrap().to_string_lossy().into_owned();
        let import = studio.import(&file_name, std::fs::read(&path).unwrap()).await;
        let checked = check(&studio, &import, &import["guess"]).await;
        println!("{name}: {} {}", import["guess"], checked["problems"]);
        let is_noticed =
            problems(&checked, "train_table").iter().any(|(.., message)| message.contains("no header"));
        assert_eq!(is_noticed, has_no_header, "{name}");
    }
}
