//! Files at addresses and of this machine.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use tunesmith_sources::{Source, SourceError};

use crate::harness::{Place, ROWS, many_rows, said};
use crate::stub::{Reply, Stub};

fn url(stub: &Stub, path: &str) -> Source {
    Source::parse(&format!("{}{path}", stub.endpoint)).unwrap()
}

#[test]
fn a_file_arrives_whole_and_nothing_else_stays() {
    let stub = Stub::start(|request| Reply::file(request, ROWS.as_bytes(), "\"1\""));
    let place = Place::new();
    let source = url(&stub, "/data/rows.csv?token=topsecret#part");
    let fetched = place.fetch(&source).unwrap();
    assert_eq!((&*fetched.name, &*fetched.source), ("rows", &*format!("{}/data/rows.csv", stub.endpoint)));
    assert_eq!(fs::read_to_string(&fetched.tables[0]).unwrap(), ROWS);
    assert_eq!(place.files(), ["rows.csv"]);
    assert_eq!(stub.paths(), ["/data/rows.csv?token=topsecret"]);
    let all = ROWS.len() as u64;
    assert_eq!(place.bytes().last(), Some(&(all, Some(all))));
    assert!(place.told().iter().all(|words| !words.contains("topsecret")));
    // A second time there is something in the way.
    assert!(matches!(place.fetch(&source), Err(SourceError::Exists { .. })));
}

#[test]
fn a_connection_that_breaks_is_gone_on_with() {
    let rows = many_rows();
    let half = rows.len() / 2;
    let whole = rows.clone();
    let n_asked = AtomicUsize::new(0);
    let stub = Stub::start(move |request| {
        let reply = Reply::file(request, whole.as_bytes(), "\"v1\"");
        if n_asked.fetch_add(1, Ordering::SeqCst) == 0 { reply.cut_after(half) } else { reply }
    });
    let place = Place::new();
    assert_eq!(place.tables(&url(&stub, "/rows.jsonl")), [("rows.jsonl".to_owned(), rows)]);
    let requests = stub.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].header("range"), "");
    assert_eq!(requests[1].header("range"), format!("bytes={half}-"));
    assert_eq!(requests[1].header("if-range"), "\"v1\"");
    assert!(place.told().iter().any(|words| words.starts_with("again: ")));
    let bytes = place.bytes();
    assert!(bytes.is_sorted_by_key(|(done, _)| *done), "progress goes back: {bytes:?}");
}

/// A cancelled transfer, and one whose program was killed, leave the same: the part and the record.
#[test]
fn another_call_goes_on_where_one_was_cancelled() {
    let rows = many_rows();
    let whole = rows.clone();
    let stub = Stub::start(move |request| Reply::file(request, whole.as_bytes(), "\"v1\""));
    let mut place = Place::new();
    place.cancel_after = 200_000;
    let source = url(&stub, "/rows.jsonl");
    assert!(matches!(place.fetch(&source), Err(SourceError::Cancelled)));
    assert!(place.files().contains(&".rows.jsonl.part".to_owned()), "{:?}", place.files());
    let n_here = fs::metadata(place.path().join(".rows.jsonl.part")).unwrap().len();
    assert!(200_000 < n_here && n_here < rows.len() as u64);
    place.cancel_after = u64::MAX;
    place.bytes();
    stub.requests();
    assert_eq!(place.tables(&source), [("rows.jsonl".to_owned(), rows)]);
    assert_eq!(stub.requests()[0].header("range"), format!("bytes={n_here}-"));
    assert_eq!(place.files(), ["rows.jsonl"]);
}

#[test]
fn bytes_of_another_version_or_source_are_not_gone_on_with() {
    let n_asked = AtomicUsize::new(0);
    let stub = Stub::start(move |request| {
        // Of the old version half arrives; the server then has another. Later it tells no version at all.
        match n_asked.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::file(request, b"question,answer\nold,old\n", "\"v1\"").cut_after(20),
            1 => Reply::file(request, ROWS.as_bytes(), "\"v2\""),
            2 => Reply::file(request, b"question,answer\nold,old\n", "").cut_after(20),
            _ if request.path.ends_with("one") => {
                Reply::file(request, ROWS.as_bytes(), "\"1\"").cut_after(20)
            }
            _ => Reply::file(request, ROWS.as_bytes(), ""),
        }
    });
    let rows = [("rows.csv".to_owned(), ROWS.to_owned())];
    assert_eq!(Place::new().tables(&url(&stub, "/rows.csv")), rows);
    stub.requests();
    let mut place = Place::new();
    place.cancel_after = 0;
    assert!(place.fetch(&url(&stub, "/rows.csv")).is_err());
    place.cancel_after = u64::MAX;
    assert_eq!(place.tables(&url(&stub, "/rows.csv")), rows);
    let requests = stub.requests();
    assert!(requests.iter().all(|request| request.method == "GET" && request.body.is_empty()));
    assert!(requests.iter().all(|request| request.header("range").is_empty()));

    let mut place = Place::new();
    place.cancel_after = 0;
    assert!(place.fetch(&url(&stub, "/rows.csv?one")).is_err());
    place.cancel_after = u64::MAX;
    assert_eq!(place.tables(&url(&stub, "/rows.csv?two")), rows);
    assert_eq!(place.files(), ["rows.csv"]);
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let rows = many_rows();
    let whole = rows.clone();
    let n_asked = AtomicUsize::new(0);
    let stub = Stub::start(move |_| {
        let reply = Reply::ok(&whole).with("ETag", "\"v1\"");
        if n_asked.fetch_add(1, Ordering::SeqCst) == 0 { reply.cut_after(whole.len() / 3) } else { reply }
    });
    assert_eq!(Place::new().tables(&url(&stub, "/rows.jsonl")), [("rows.jsonl".to_owned(), rows)]);
}

#[test]
fn more_bytes_than_allowed_are_refused_announced_or_not() {
    for is_told in [true, false] {
        let stub = Stub::start(move |_| {
            let reply = Reply::ok(vec![b'x'; 500_000]);
            if is_told { reply } else { reply.without_length() }
        });
        let mut place = Place::new();
        place.max_bytes = 300_000;
        let error = place.fetch(&url(&stub, "/rows.csv")).unwrap_err();
        assert!(matches!(error, SourceError::TooLarge { max_bytes: 300_000, .. }), "{error}");
    }
}

#[test]
fn refusals_say_what_where_and_what_to_do() {
    let stub = Stub::start(|request| match &*request.path {
        path if path.starts_with("/401") => Reply::new("401 Unauthorized", "topsecret"),
        path if path.starts_with("/403") => Reply::new("403 Forbidden", ""),
        path if path.starts_with("/404") => Reply::new("404 Not Found", ""),
        path if path.starts_with("/418") => Reply::new("418 I'm a teapot", ""),
        path if path.starts_with("/503") => Reply::new("503 Service Unavailable", ""),
        path if path.starts_with("/range") => {
            Reply::new("206 Partial Content", "x").with("Content-Range", "bytes 7-7/8")
        }
        path if path.starts_with("/page") => {
            Reply::ok("<html>").with("Content-Type", "text/html; charset=utf-8")
        }
        _ => Reply::redirect("/round.csv"),
    });
    let place = Place::new();
    for (path, expected) in [
        ("/401/rows.csv?sig=topsecret", ["/401/rows.csv refuses access", "401", "needs a login"]),
        ("/403/rows.csv", ["/403/rows.csv refuses access", "403", "needs a login"]),
        ("/404/rows.csv", ["nothing at http://127.0.0.1", "/404/rows.csv", "spelling"]),
        ("/418/rows.csv", ["/418/rows.csv answers", "unexpected", "418"]),
        ("/503/rows.csv", ["/503/rows.csv cannot be read", "503", "network"]),
        ("/range/rows.csv", ["/range/rows.csv answers", "from 0 on", "7-7/8"]),
        ("/page/rows.csv", ["/page/rows.csv sends", "web page", "Raw"]),
        ("/round.csv", ["/round.csv", "redirects", "network"]),
    ] {
        let said = place.complaint(&url(&stub, path));
        assert!(expected.iter().all(|part| said.contains(part)), "{path}: {said}");
        assert!(!said.contains("topsecret"), "{said}");
    }
    assert_eq!(stub.paths().iter().filter(|path| path.starts_with("/503")).count(), 4);
    for (path, ending) in [("/page", "page is neither"), ("/rows.csv.exe", "rows.csv.exe is neither")] {
        assert!(place.complaint(&url(&stub, path)).contains(ending), "{path}");
    }
    assert_eq!(stub.paths(), [""; 0], "what is no table is not even asked for");
    let nobody = Source::parse("http://127.0.0.1:1/rows.csv").unwrap();
    assert!(place.complaint(&nobody).contains("cannot be read"));
    assert!(said(&Source::parse("ftp://host/rows.csv").unwrap_err()).contains("ftp://host/rows.csv"));
}

#[test]
fn tables_of_this_machine_are_copied() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["train.csv", "test.csv", "notes.doc", ".hidden.csv"] {
        fs::write(folder.path().join(name), ROWS).unwrap();
    }
    let source = Source::parse(folder.path().to_str().unwrap()).unwrap();
    let place = Place::new();
    let names: Vec<String> = place.tables(&source).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["test.csv", "train.csv"]);
    let one = Source::Local(folder.path().join("notes.doc"));
    assert!(Place::new().complaint(&one).contains("notes.doc is neither"));
    let none = Source::Local(folder.path().join("nothing.csv"));
    assert!(Place::new().complaint(&none).contains("nothing.csv: cannot read"));
    let mut place = Place::new();
    place.max_bytes = 2 * ROWS.len() as u64 - 1;
    assert!(place.complaint(&source).contains("larger"));
}

#[test]
fn a_folder_is_written_to_by_one_at_a_time() {
    let stub = Stub::start(|_| Reply::ok(ROWS));
    let place = Place::new();
    let lock = fs::File::create(place.path().join(".tunesmith-fetch.lock")).unwrap();
    lock.lock().unwrap();
    assert!(matches!(place.fetch(&url(&stub, "/rows.csv")), Err(SourceError::Busy { .. })));
    drop(lock);
    place.fetch(&url(&stub, "/rows.csv")).unwrap();
}
