//! The table of validation predictions of a run.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::Studio;

/// A studio with one experiment whose run was stopped, and the folder of that run.
async fn studio_with_a_run() -> (Studio, PathBuf) {
    let studio = Studio::new();
    let folder = studio.folder.path().join("work/experiments/one");
    fs::create_dir_all(folder.join("run")).unwrap();
    let file = json!({"id": "one", "name": "One", "values": {}, "created_unix_secs": 1.0});
    fs::write(folder.join("experiment.json"), file.to_string()).unwrap();
    tunesmith_server::runs::start(&studio.state).await;
    (studio, folder.join("run"))
}

/// As a run does it: whole, and then renamed into its place.
fn write(run: &std::path::Path, csv: &str) {
    fs::write(run.join("predictions.tmp"), csv).unwrap();
    fs::rename(run.join("predictions.tmp"), run.join("validation_predictions.csv")).unwrap();
}

fn column(answer: &Value, idx: usize) -> Vec<Value> {
    answer["rows"].as_array().unwrap().iter().map(|row| row[idx].clone()).collect()
}

const ADDRESS: &str = "/experiments/one/predictions";

#[tokio::test]
async fn predictions_are_told_once_there_are_some() {
    let (studio, run) = studio_with_a_run().await;
    let error = studio.get(ADDRESS).await.refused(404);
    assert_eq!(error["code"], "no_predictions");
    assert!(error["hint"].as_str().unwrap().contains("evaluation"), "{error}");
    studio.get("/experiments/none/predictions").await.refused(404);

    let long = "word ".repeat(1000);
    write(
        &run,
        &format!(
            "row,prompt,answer,prediction,perplexity\n4,\"Say\nhello, please\",Hello,hello,1.5\n7,{long},Long,,20\n9,Bye,Bye,Bye,nan\n"
        ),
    );
    let all = studio.get(ADDRESS).await.ok();
    assert_eq!(
        all["columns"],
        json!([
            {"name": "row", "kind": "number"}, {"name": "prompt", "kind": "text"}, {"name": "answer", "kind": "text"},
            {"name": "prediction", "kind": "text"}, {"name": "perplexity", "kind": "number"},
        ])
    );
    assert_eq!(all["rows"][0], json!([4.0, "Say\nhello, please", "Hello", "hello", 1.5]));
    assert_eq!((&all["rows"][1][3], &all["rows"][2][4]), (&Value::Null, &json!("nan")));
    assert_eq!((&all["n_rows"], &all["n_found"], &all["step"]), (&json!(3), &json!(3), &Value::Null));
    assert!(all["rows"][1][1].as_str().unwrap().len() < 1100, "long texts are cut on pages");
    let whole = studio.get(&format!("{ADDRESS}/1")).await.ok();
    assert_eq!(whole["cells"][1], long);
    studio.get(&format!("{ADDRESS}/3")).await.refused(404);

    let about =
        json!({"step": 225, "metric": "Perplexity", "higher_is_better": false, "sort_column": "perplexity"});
    fs::write(run.join("validation_predictions.json"), about.to_string()).unwrap();
    let worst = studio.get(&format!("{ADDRESS}?sort=perplexity&descending=true&limit=2")).await.ok();
    assert_eq!(column(&worst, 0), [9.0, 7.0], "what is no number is worst");
    assert_eq!((&worst["positions"], &worst["n_found"]), (&json!([2, 1]), &json!(3)));
    assert_eq!((&worst["step"], &worst["sort_column"]), (&json!(225), &json!("perplexity")));
    assert_eq!((&worst["higher_is_better"], &worst["metric"]), (&json!(false), &json!("Perplexity")));
    let found = studio.get(&format!("{ADDRESS}?search=HELLO&limit=1&offset=0")).await.ok();
    assert_eq!((column(&found, 0), &found["n_found"]), (vec![json!(4.0)], &json!(1)));
    let differing = studio.get(&format!("{ADDRESS}?differing=true&offset=1")).await.ok();
    assert_eq!((column(&differing, 0), &differing["n_found"]), (vec![json!(7.0)], &json!(2)));
    let error = studio.get(&format!("{ADDRESS}?sort=bleu")).await.refused(400);
    assert!(error["hint"].as_str().unwrap().contains("perplexity"), "{error}");

    let detail = studio.get("/experiments/one").await.ok();
    let artifacts = detail["artifacts"].as_array().unwrap();
    assert!(artifacts.iter().any(|artifact| artifact["name"] == "predictions"), "{detail}");
    let csv = studio.get("/experiments/one/artifacts/predictions").await;
    assert_eq!(csv.bytes, fs::read(run.join("validation_predictions.csv")).unwrap());
    let name = csv.headers["content-disposition"].to_str().unwrap();
    assert!(name.contains("one-predictions.csv"), "{name}");
}

#[tokio::test]
async fn a_new_evaluation_takes_the_place_of_the_old_one() {
    let (studio, run) = studio_with_a_run().await;
    write(&run, "row,prompt,answer,loss\n0,a,b,1\n1,c,d,2\n");
    assert_eq!(column(&studio.get(&format!("{ADDRESS}?sort=loss")).await.ok(), 0), [0.0, 1.0]);
    // File systems tell changes apart by a few milliseconds.
    tokio::time::sleep(Duration::from_millis(20)).await;
    write(&run, "row,prompt,answer,loss\n0,a,b,3\n1,c,d,2\n");
    assert_eq!(column(&studio.get(&format!("{ADDRESS}?sort=loss")).await.ok(), 0), [1.0, 0.0]);
    // What the run says of it may be damaged, or of another table.
    for about in ["", "[]", "{\"step\": \"x\", \"sort_column\": \"gone\", \"metric\": 3}"] {
        fs::write(run.join("validation_predictions.json"), about).unwrap();
        let answer = studio.get(ADDRESS).await.ok();
        assert_eq!((&answer["step"], &answer["sort_column"]), (&Value::Null, &Value::Null), "{about}");
    }
}

/// 100 000 rows, 80 MB: pages, sorting and searching hold on to a small part of that.
#[tokio::test]
async fn a_large_table_is_not_held_in_memory() {
    let (studio, run) = studio_with_a_run().await;
    let text = "some words of a conversation ".repeat(25);
    let mut csv = "row,prompt,answer,prediction,loss\n".to_owned();
    for row in 0..100_000_u64 {
        // Each loss once, in an order that is not the file's.
        csv += &format!(
            "{row},\"Question {row}\n{text}\",Answer {row},Answer {},{}\n",
            row % 7,
            row * 7919 % 100_000
        );
    }
    write(&run, &csv);
    let n_bytes = csv.len();
    drop(csv);
    let before = resident_bytes();
    let worst = studio.get(&format!("{ADDRESS}?sort=loss&descending=true&limit=3")).await.ok();
    assert_eq!(column(&worst, 4), [99_999.0, 99_998.0, 99_997.0]);
    let last = studio.get(&format!("{ADDRESS}?sort=loss&descending=true&offset=99999")).await.ok();
    assert_eq!(column(&last, 4), [0.0]);
    let found = studio.get(&format!("{ADDRESS}?search=question%2077777&sort=prompt")).await.ok();
    assert_eq!((&found["n_found"], &found["rows"][0][0]), (&json!(1), &json!(77_777.0)));
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        let grown = after.saturating_sub(before);
        println!("{n_bytes} bytes of file, {grown} bytes of memory");
        assert!(grown < 40_000_000, "{grown} bytes for a file of {n_bytes}");
    }
}

/// Memory of this process, where the system tells it.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(1024 * line.split_whitespace().next()?.parse::<u64>().ok()?)
}
