//! Data sets of the hub, against a stub of its interface.

use std::fs;

use serde_json::json;
use tunesmith_sources::{HubDataset, Source};

use crate::harness::{Place, ROWS};
use crate::stub::{Reply, Request, Stub};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "Bearer hf_topsecret";

/// The hub with one data set: two configurations as the hub exports them, and two files of its own in the repository.
fn hub(files: &Stub) -> Stub {
    let files = files.endpoint.clone();
    Stub::start(move |request| {
        let state = json!({"sha": COMMIT, "cardData": {"configs": [{"config_name": "default", "data_files": [
                {"split": "train", "path": "data/part-*.jsonl"}, {"split": "test", "path": "held-out.jsonl"}]}]},
            "siblings": [{"rfilename": "README.md"}, {"rfilename": "data/part-a.jsonl", "size": 9},
                {"rfilename": "data/part-b.jsonl", "size": 9}, {"rfilename": "held-out.jsonl", "size": 9}]});
        let export = |split: &str| format!("{files}/export/{split}/0.csv");
        let listing = json!({"default": {"train": [export("train")], "test": [export("a"), export("b")]},
            "small": {"train": [export("small")]}});
        let resolve = format!("/datasets/owner/name/resolve/{COMMIT}/");
        match &*request.path {
            "/api/datasets/owner/name/revision/main?blobs=true"
            | "/api/datasets/owner/name/revision/v1.0?blobs=true"
            | "/api/datasets/owner/name/revision/refs%2Fpr%2F1?blobs=true" => Reply::ok(state.to_string()),
            "/api/datasets/owner/name/parquet" => Reply::ok(listing.to_string()),
            path if path.starts_with("/api/datasets/owner/gated/")
                && request.header("authorization") == TOKEN =>
            {
                match path.ends_with("/parquet") {
                    true => Reply::new("404 Not Found", ""),
                    false => {
                        Reply::ok(json!({"sha": COMMIT, "siblings": [{"rfilename": "rows.csv"}]}).to_string())
                    }
                }
            }
            path if path.starts_with("/datasets/owner/gated/")
                && request.header("authorization") == TOKEN =>
            {
                Reply::redirect(format!("{files}/signed/rows.csv?signature=topsecret"))
            }
            path if path.starts_with("/api/datasets/owner/gated/") => Reply::new("401 Unauthorized", ""),
            path if path.starts_with(&resolve) => Reply::file(
                request,
                format!("{{\"a\":\"{}\"}}\n", &path[path.len() - 7..path.len() - 6]).as_bytes(),
                "",
            ),
            _ => Reply::new("404 Not Found", ""),
        }
    })
}

fn files() -> Stub {
    Stub::start(|request: &Request| match &*request.path {
        "/export/a/0.csv" => Reply::file(request, b"n,text\n1,one\n", "\"a\""),
        "/export/b/0.csv" => Reply::file(request, b"n,text\n2,\n", "\"b\""),
        _ => Reply::file(request, ROWS.as_bytes(), "\"rows\""),
    })
}

fn dataset(hub: &Stub, repo: &str) -> HubDataset {
    HubDataset { endpoint: hub.endpoint.clone(), ..HubDataset::new(repo) }
}

#[test]
fn a_split_is_one_table_in_however_many_files_it_comes() {
    let files = files();
    let hub = hub(&files);
    let place = Place::new();
    let source = Source::Hub(dataset(&hub, "owner/name"));
    let fetched = place.fetch(&source).unwrap();
    assert_eq!((&*fetched.name, &*fetched.source), ("name", "owner/name (train) on the Hugging Face hub"));
    assert_eq!(fs::read_to_string(&fetched.tables[0]).unwrap(), ROWS);
    let test = Source::Hub(HubDataset { split: "test".to_owned(), ..dataset(&hub, "owner/name") });
    let joined =
        "{\"n\":\"1\",\"text\":\"one\"}\n{\"n\":\"2\"}\n".replace("\"1\"", "1").replace("\"2\"", "2");
    let tables = Place::new().tables(&test);
    assert_eq!(tables[0].1.replace("\"1\"", "1").replace("\"2\"", "2"), joined);
    assert_eq!((tables.len(), &*tables[0].0), (1, "test.jsonl"));
    let small = Source::Hub(HubDataset { config: Some("small".to_owned()), ..dataset(&hub, "owner/name") });
    files.requests();
    Place::new().fetch(&small).unwrap();
    assert_eq!(files.paths(), ["/export/small/0.csv"]);
}

#[test]
fn a_revision_is_pinned_to_the_commit_it_stands_for() {
    let files = files();
    let hub = hub(&files);
    for revision in ["v1.0", "refs/pr/1"] {
        let source =
            Source::Hub(HubDataset { revision: Some(revision.to_owned()), ..dataset(&hub, "owner/name") });
        let tables = Place::new().tables(&source);
        assert_eq!(tables, [("train.jsonl".to_owned(), "{\"a\":\"a\"}\n{\"a\":\"b\"}\n".to_owned())]);
        let asked = hub.paths();
        assert!(
            asked.iter().any(|path| path.ends_with(&format!("/resolve/{COMMIT}/data/part-b.jsonl"))),
            "{asked:?}"
        );
    }
    assert_eq!(files.paths(), [""; 0]);
}

#[test]
fn a_token_opens_what_is_gated_and_is_shown_to_the_hub_only() {
    let files = files();
    let hub = hub(&files);
    let place = Place::new();
    let closed = place.complaint(&Source::Hub(dataset(&hub, "owner/gated")));
    assert!(closed.contains("refuses access") && closed.contains("access token"), "{closed}");
    let source = Source::Hub(HubDataset { token: "hf_topsecret".into(), ..dataset(&hub, "owner/gated") });
    assert_eq!(place.tables(&source), [("train.csv".to_owned(), ROWS.to_owned())]);
    let requests = files.requests();
    assert_eq!((requests.len(), requests[0].header("authorization")), (1, ""));
    assert!(hub.requests().iter().skip(1).all(|request| request.header("authorization") == TOKEN));
}

#[test]
fn wrong_choices_are_answered_with_the_right_ones() {
    let files = files();
    let hub = hub(&files);
    let place = Place::new();
    let of = |change: &dyn Fn(&mut HubDataset)| {
        let mut wanted = dataset(&hub, "owner/name");
        change(&mut wanted);
        place.complaint(&Source::Hub(wanted))
    };
    let said = of(&|wanted| wanted.split = "dev".to_owned());
    assert!(said.contains("no split \"dev\"") && said.contains("train, test"), "{said}");
    let said = of(&|wanted| wanted.config = Some("large".to_owned()));
    assert!(said.contains("no configuration \"large\"") && said.contains("default, small"), "{said}");
    let said = of(&|wanted| wanted.repo = "owner/nothing".to_owned());
    assert!(said.contains("nothing at") && said.contains("owner/nothing"), "{said}");
    let said = of(&|wanted| wanted.revision = Some("v9".to_owned()));
    assert!(said.contains("nothing at") && said.contains("v9"), "{said}");
    assert!(of(&|wanted| wanted.repo = "../../etc".to_owned()).contains("owner/name"));
}
