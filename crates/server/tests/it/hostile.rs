//! Files that mean harm, and files that are broken.

use std::io::Write;

use serde_json::json;

use crate::harness::{Studio, archive, questions};

/// Everything below the work folder, to see that nothing was written elsewhere.
fn names_below(folder: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        names.push(entry.file_name().to_string_lossy().into_owned());
        if entry.path().is_dir() {
            names.extend(names_below(&entry.path()));
        }
    }
    names
}

#[tokio::test]
async fn archives_that_name_places_outside_are_refused_whole() {
    let studio = Studio::new();
    let rows = questions();
    for name in ["../evil.csv", "a/../../evil.csv", "/tmp/evil.csv", "a\\..\\..\\evil.csv"] {
        let bytes = archive(&[("good.csv", rows.as_bytes()), (name, rows.as_bytes())]);
        let job = studio.import_job("rows.zip", bytes).await;
        assert_eq!(job["state"], "failed", "{name}");
        assert!(job["error"]["message"].as_str().unwrap().contains("outside"), "{job}");
    }
    let names = names_below(studio.folder.path());
    assert!(!names.iter().any(|name| name.contains("evil") || name.contains("good")), "{names:?}");
}

#[tokio::test]
async fn an_archive_that_is_far_too_large_unpacked_is_stopped() {
    let studio = Studio::new();
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("bomb.csv", zip::write::SimpleFileOptions::default()).unwrap();
    let block = vec![b'0'; 1 << 20];
    for _ in 0..80 {
        zip.write_all(&block).unwrap();
    }
    let bytes = zip.finish().unwrap().into_inner();
    assert!(bytes.len() < 200_000, "{}", bytes.len());
    let job = studio.import_job("bomb.zip", bytes).await;
    assert!(job["error"]["message"].as_str().unwrap().contains("far larger"), "{job}");
    assert!(!names_below(studio.folder.path()).iter().any(|name| name.contains("bomb")));
}

#[tokio::test]
async fn gv_3_3_an_archive_gives_its_tables_and_nothing_else() {
    let studio = Studio::new();
    let rows = questions();
    let bytes = archive(&[
        ("data/train.csv", rows.as_bytes()),
        ("data/test.csv", rows.as_bytes()),
        ("more/train.csv", rows.as_bytes()),
        ("__MACOSX/data/._train.csv", b"x"),
        ("data/.hidden.csv", b"x"),
        ("readme.md", b"x"),
    ]);
    let import = studio.import("My rows.zip", bytes).await;
    let names: Vec<&str> =
        import["tables"].as_array().unwrap().iter().map(|table| table["path"].as_str().unwrap()).collect();
    assert_eq!(names, ["test.csv", "train.csv", "train_1.csv"]);
    assert_eq!(import["guess"]["validation_table"], "test.csv");
    let job = studio.import_job("no.zip", archive(&[("picture.png", b"x")])).await;
    assert!(job["error"]["message"].as_str().unwrap().contains("no table"), "{job}");
    let job = studio.import_job("no.zip", "this is no archive").await;
    assert_eq!(job["state"], "failed");
}

#[tokio::test]
async fn names_of_uploads_never_become_paths() {
    let studio = Studio::new();
    for (name, kept) in [
        ("../../../evil.csv", "evil.csv"),
        ("C:\\windows\\evil.csv", "evil.csv"),
        ("a\0b\n.csv", "a_b_.csv"),
        ("..csv.csv", "csv.csv"),
    ] {
        let upload = studio.upload(name, questions()).await.ok();
        assert_eq!(upload["name"], kept, "{name:?}");
    }
    assert!(!studio.folder.path().join("evil.csv").exists());
    studio.upload("../../etc/passwd", "x").await.refused(422);
    for id in ["..", "../datasets", "upload-x", "import-x"] {
        let source = json!({"kind": "upload", "upload_id": id});
        let job = studio.post("/imports", json!({"source": source})).await.ok();
        assert_eq!(studio.ended(&job).await["state"], "failed", "{id}");
    }
}

#[tokio::test]
async fn an_upload_over_the_limit_leaves_nothing() {
    let studio = Studio::new();
    studio.with("PATCH", "/settings", json!({"max_upload_bytes": 2_000})).await.ok();
    studio.upload("small.csv", questions()).await.ok();
    let error = studio.upload("large.csv", vec![b'x'; 2_001]).await.refused(413);
    assert_eq!(error["code"], "too_large");
    assert!(!names_below(studio.folder.path()).contains(&"large.csv".to_owned()));
}

#[tokio::test]
async fn line_ends_of_windows_are_read_and_broken_lines_are_named() {
    let studio = Studio::new();
    let import = studio.import("rows.csv", questions().replace('\n', "\r\n")).await;
    assert_eq!(import["tables"][0]["columns"][1]["name"], "answer");
    let body = json!({"settings": import["guess"]});
    let checked = studio.post(&format!("/imports/{}/check", import["id"].as_str().unwrap()), body).await.ok();
    assert!(checked["problems"].to_string().contains("line ends of Windows"), "{checked}");

    let job = studio.import_job("rows.csv", "q,a\n1,2\n3,4,5\n").await;
    let problem = &job["error"]["details"]["problems"][0];
    assert_eq!(problem["rows"], json!([3]), "{job}");
    assert!(problem["message"].as_str().unwrap().starts_with("rows.csv:3:"), "{job}");
    let job = studio.import_job("rows.csv", "q,a\n1,\"open\n").await;
    assert_eq!(job["error"]["details"]["problems"][0]["rows"], json!([2]), "{job}");
    let job = studio.import_job("rows.jsonl", "{\"a\": 1}\n{broken\n").await;
    assert_eq!(job["error"]["details"]["problems"][0]["rows"], json!([2]), "{job}");
}
