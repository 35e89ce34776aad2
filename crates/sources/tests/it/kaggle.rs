//! Data sets of Kaggle, against a stub of its interface.

use serde_json::json;
use tunesmith_sources::{KaggleDataset, Source};

use crate::harness::{Place, ROWS, archive, many_rows};
use crate::stub::{Reply, Stub};

/// `me:topsecret`, as RFC 7617 writes it.
const BASIC: &str = "Basic bWU6dG9wc2VjcmV0";

fn kaggle(files: &Stub) -> Stub {
    let files = files.endpoint.clone();
    Stub::start(move |request| {
        let is_known = request.header("authorization") == BASIC;
        match &*request.path {
            "/api/v1/datasets/list/owner/name?pageSize=200" => Reply::ok(
                json!({"datasetFiles": [{"name": "train.csv", "totalBytes": 7}], "nextPageToken": "a b"})
                    .to_string(),
            ),
            "/api/v1/datasets/list/owner/name?pageSize=200&pageToken=a%20b" => {
                Reply::ok(json!({"datasetFiles": [{"name": "more/test.csv", "totalBytes": 8}]}).to_string())
            }
            "/api/v1/datasets/download/owner/name" | "/api/v1/competitions/data/download-all/titanic"
                if is_known =>
            {
                Reply::redirect(format!("{files}/all.zip?signature=topsecret"))
            }
            "/api/v1/datasets/download/owner/name?datasetVersionNumber=3" if is_known => {
                Reply::redirect(format!("{files}/all.zip"))
            }
            "/api/v1/datasets/download/owner/name/more/test.csv" => {
                Reply::redirect(format!("{files}/test.csv"))
            }
            "/api/v1/datasets/download/owner/name/large.jsonl" => {
                Reply::redirect(format!("{files}/large.jsonl"))
            }
            path if path.contains("name") || path.contains("titanic") => Reply::new("403 Forbidden", "{}"),
            _ => Reply::new("404 Not Found", "{}"),
        }
    })
}

fn files() -> Stub {
    let all = archive(&[
        ("train.csv", ROWS.as_bytes()),
        ("more/test.csv", ROWS.as_bytes()),
        ("notes.doc", b"words"),
    ]);
    // Kaggle packs larger files under their own name.
    let large = archive(&[("large.jsonl", many_rows().as_bytes())]);
    Stub::start(move |request| match &*request.path {
        path if path.starts_with("/all.zip") => Reply::file(request, &all, "\"all\""),
        "/large.jsonl" => Reply::file(request, &large, "\"large\""),
        _ => Reply::file(request, ROWS.as_bytes(), "\"rows\""),
    })
}

fn dataset(kaggle: &Stub, name: &str) -> KaggleDataset {
    KaggleDataset {
        username: "me".to_owned(),
        key: "topsecret".into(),
        endpoint: kaggle.endpoint.clone(),
        ..KaggleDataset::new(name)
    }
}

#[test]
fn all_tables_of_a_data_set_or_competition_arrive() {
    let files = files();
    let kaggle = kaggle(&files);
    for (wanted, name) in [
        (dataset(&kaggle, "owner/name"), "name"),
        (KaggleDataset { version: Some(3), ..dataset(&kaggle, "owner/name") }, "name"),
        (dataset(&kaggle, "competitions/titanic"), "titanic"),
    ] {
        let place = Place::new();
        let fetched = place.fetch(&Source::Kaggle(wanted)).unwrap();
        assert_eq!(fetched.name, name);
        assert_eq!(place.files(), ["test.csv", "train.csv"]);
    }
    assert!(files.requests().iter().all(|request| request.header("authorization").is_empty()));
}

#[test]
fn one_file_arrives_packed_or_not() {
    let files = files();
    let kaggle = kaggle(&files);
    let of = |file: &str| {
        Source::Kaggle(KaggleDataset { file: Some(file.to_owned()), ..dataset(&kaggle, "owner/name") })
    };
    assert_eq!(Place::new().tables(&of("more/test.csv")), [("test.csv".to_owned(), ROWS.to_owned())]);
    let tables = Place::new().tables(&of("large.jsonl"));
    assert_eq!(tables.len(), 1);
    assert_eq!(tables[0].1, many_rows());
    assert!(Place::new().complaint(&of("notes.doc")).contains("notes.doc is neither"));
}

#[test]
fn files_are_listed_page_by_page() {
    let files = files();
    let kaggle = kaggle(&files);
    let listing = Source::Kaggle(dataset(&kaggle, "owner/name")).list().unwrap();
    let found: Vec<(&str, u64)> = listing.objects.iter().map(|file| (&*file.key, file.n_bytes)).collect();
    assert_eq!(found, [("train.csv", 7), ("more/test.csv", 8)]);
}

#[test]
fn refusals_name_the_credentials_and_the_terms() {
    let files = files();
    let kaggle = kaggle(&files);
    let place = Place::new();
    let said = place
        .complaint(&Source::Kaggle(KaggleDataset { key: "wrong".into(), ..dataset(&kaggle, "owner/name") }));
    for part in ["kaggle://owner/name refuses access", "403", "user name and key", "terms"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(place.complaint(&Source::Kaggle(dataset(&kaggle, "a/b"))).contains("nothing at kaggle://a/b"));
    assert!(place.complaint(&Source::Kaggle(dataset(&kaggle, "a/b; rm"))).contains("owner/name"));
    // What newer tokens look like: one word, no user.
    kaggle.requests();
    let token = KaggleDataset { username: String::new(), ..dataset(&kaggle, "owner/name") };
    place.complaint(&Source::Kaggle(token));
    assert_eq!(kaggle.requests()[0].header("authorization"), "Bearer topsecret");
}
