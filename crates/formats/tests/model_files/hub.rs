//! The hub client against a small HTTP server on this machine.
//!
//! Length: every test needs the server and its model.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use sha2::{Digest, Sha256};
use tunesmith_formats::FormatError;
use tunesmith_formats::hub::{Hub, Progress};

/// A request as the server saw it, with header names in lower case.
#[derive(Debug, Clone)]
struct Request {
    path: String,
    headers: BTreeMap<String, String>,
}

impl Request {
    fn range_start(&self) -> Option<usize> {
        self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What the server answers: head, body, and how many bytes of the body it sends before it hangs up.
struct Reply {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    n_sent: usize,
}

impl Reply {
    fn new(status: &'static str, body: &[u8]) -> Self {
        Self { status, headers: Vec::new(), body: body.to_vec(), n_sent: body.len() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn cut_after(mut self, n_sent: usize) -> Self {
        self.n_sent = n_sent;
        self
    }

    /// `content` as a server that knows ranges sends it.
    fn file(request: &Request, content: &[u8]) -> Self {
        match request.range_start() {
            Some(start) if start < content.len() => Self::new("206 Partial Content", &content[start..])
                .with("Content-Range", format!("bytes {start}-{}/{}", content.len() - 1, content.len())),
            Some(_) => Self::new("416 Range Not Satisfiable", b""),
            None => Self::new("200 OK", content),
        }
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// Serves until the test's process ends.
struct Server {
    endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, handler): (_, Arc<Handler>) = (Arc::clone(&requests), Arc::new(handler));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, handler) = (Arc::clone(&log), Arc::clone(&handler));
                thread::spawn(move || answer(stream, &log, &*handler));
            }
        });
        Self { endpoint, requests }
    }

    fn hub(&self) -> Hub {
        Hub {
            endpoint: self.endpoint.clone(),
            token: None,
            timeout_secs: 5.0,
            retry_wait_secs: 0.001,
            offline: false,
            hf_cache: None,
        }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn answer(stream: TcpStream, log: &Mutex<Vec<Request>>, handler: &Handler) {
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let Some(path) = lines.next().and_then(|line| Some(line.split(' ').nth(1)?.to_owned())) else { return };
    let headers = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned())))
        .collect();
    let request = Request { path, headers };
    let reply = handler(&request);
    log.lock().unwrap().push(request);
    let mut head = format!("HTTP/1.1 {}\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    write!(head, "Content-Length: {}\r\n\r\n", reply.body.len()).unwrap();
    let mut stream = &stream;
    // A client that has gone away is the client's business.
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&reply.body[..reply.n_sent])).ok();
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hub's list of `files`; those over 100 bytes are large files with a hash.
fn listing(files: &[(&str, &[u8])]) -> Vec<u8> {
    let siblings: Vec<_> = files
        .iter()
        .map(|(name, content)| {
            let mut entry = serde_json::json!({ "rfilename": name, "size": content.len(), "blobId": &sha256(content)[..40] });
            if content.len() > 100 {
                entry["lfs"] = serde_json::json!({ "sha256": sha256(content), "size": content.len() });
            }
            entry
        })
        .collect();
    serde_json::json!({ "id": "o/m", "sha": "c0ffee", "siblings": siblings }).to_string().into_bytes()
}

fn weights() -> Vec<u8> {
    (0..300_000u32).flat_map(|i| (i % 251).to_le_bytes()).collect()
}

/// A model with a configuration, weights and things nobody wants.
fn model(request: &Request) -> Reply {
    let weights = weights();
    match request.path.as_str() {
        "/api/models/o/m/revision/main?blobs=true" => Reply::new(
            "200 OK",
            &listing(&[
                ("config.json", b"{}"),
                ("model.safetensors", &weights),
                ("pytorch_model.bin", &weights),
            ]),
        ),
        "/o/m/resolve/c0ffee/config.json" => Reply::file(request, b"{}"),
        "/o/m/resolve/c0ffee/model.safetensors" => Reply::file(request, &weights),
        _ => Reply::new("404 Not Found", b""),
    }
}

fn pull(hub: &Hub, cache: &Path) -> Result<std::path::PathBuf, FormatError> {
    hub.pull("o/m", None, cache, &mut |_| {})
}

fn visible_files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

#[test]
fn a_model_is_fetched_once_with_progress_and_without_its_pickles() {
    let server = Server::start(model);
    let cache = tempfile::tempdir().unwrap();
    let (mut listed, mut last_bytes) = (None, 0);
    let folder = server
        .hub()
        .pull("o/m", None, cache.path(), &mut |progress| match progress {
            Progress::Listed { n_files, n_bytes } => listed = Some((n_files, n_bytes)),
            Progress::Bytes { done_bytes, .. } => {
                assert!(done_bytes >= last_bytes, "progress never goes back");
                last_bytes = done_bytes;
            }
            other => panic!("{other:?}"),
        })
        .unwrap();
    assert_eq!(folder, cache.path().join("models/o--m/main"));
    assert_eq!(folder, Hub::folder("o/m", None, cache.path()).unwrap());
    assert_eq!(visible_files(&folder), ["config.json", "model.safetensors"]);
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
    assert_eq!((listed, last_bytes), (Some((2, 1_200_002)), 1_200_002));

    let n_requests = server.requests().len();
    assert_eq!(n_requests, 3);
    pull(&server.hub(), cache.path()).unwrap();
    assert_eq!(server.requests().len(), n_requests + 1, "only the list is asked for again");
    // A file that was removed is fetched again.
    fs::remove_file(folder.join("config.json")).unwrap();
    pull(&server.hub(), cache.path()).unwrap();
    assert_eq!(server.requests().last().unwrap().path, "/o/m/resolve/c0ffee/config.json");
}

#[test]
fn an_interrupted_download_goes_on_where_it_stopped() {
    let server = Server::start(|request| {
        let reply = model(request);
        let is_first_part = request.path.ends_with("model.safetensors") && request.range_start().is_none();
        if is_first_part { reply.cut_after(500_000) } else { reply }
    });
    let cache = tempfile::tempdir().unwrap();
    let mut retries = Vec::new();
    let folder = server
        .hub()
        .pull("o/m", None, cache.path(), &mut |progress| {
            if let Progress::Retrying { file, reason } = progress {
                retries.push((file.to_owned(), reason.to_owned()));
            }
        })
        .unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
    assert_eq!(retries.len(), 1, "{retries:?}");
    let starts: Vec<_> = server.requests().iter().filter_map(Request::range_start).collect();
    assert_eq!(starts, [500_000]);
}

#[test]
fn a_later_call_continues_what_an_earlier_one_left() {
    let broken = Server::start(|request| match request.range_start() {
        // Every continuation breaks at once.
        Some(_) => Reply::file(request, &weights()).cut_after(0),
        None if request.path.ends_with("model.safetensors") => model(request).cut_after(700_000),
        None => model(request),
    });
    let cache = tempfile::tempdir().unwrap();
    let error = pull(&broken.hub(), cache.path()).unwrap_err();
    assert!(matches!(error, FormatError::Unreachable { .. }), "{error}");
    let folder = Hub::folder("o/m", None, cache.path()).unwrap();
    assert_eq!(visible_files(&folder), ["config.json"], "half a file has no name");

    let server = Server::start(model);
    pull(&server.hub(), cache.path()).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
    let requests: Vec<_> = server.requests().iter().map(|r| (r.path.clone(), r.range_start())).collect();
    assert_eq!(requests[1..], [("/o/m/resolve/c0ffee/model.safetensors".to_owned(), Some(700_000))]);
    let leftovers = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(leftovers.filter(|path| path.extension().is_some_and(|end| end == "part")).count(), 0);
}

#[test]
fn a_server_without_ranges_sends_the_file_again() {
    let first = Mutex::new(true);
    let server = Server::start(move |request| {
        let whole = Request { path: request.path.clone(), headers: BTreeMap::new() };
        let reply = model(&whole);
        let is_weights = request.path.ends_with("model.safetensors");
        if is_weights && std::mem::take(&mut *first.lock().unwrap()) { reply.cut_after(300) } else { reply }
    });
    let cache = tempfile::tempdir().unwrap();
    let folder = pull(&server.hub(), cache.path()).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
}

#[test]
fn overload_is_waited_out_and_a_lasting_one_reported() {
    let n_left = Mutex::new(2);
    let server = Server::start(move |request| {
        let mut n_left = n_left.lock().unwrap();
        if request.path.ends_with("config.json") && *n_left > 0 {
            *n_left -= 1;
            return Reply::new("503 Service Unavailable", b"");
        }
        model(request)
    });
    let cache = tempfile::tempdir().unwrap();
    pull(&server.hub(), cache.path()).unwrap();

    let overloaded = Server::start(|request| match request.path.ends_with("config.json") {
        true => Reply::new("429 Too Many Requests", b""),
        false => model(request),
    });
    let cache = tempfile::tempdir().unwrap();
    let error = pull(&overloaded.hub(), cache.path()).unwrap_err();
    assert!(error.to_string().contains("HTTP status 429"), "{error}");
}

#[test]
fn a_file_that_is_not_the_announced_one_is_refused_and_removed() {
    let server = Server::start(|request| match request.path.ends_with("model.safetensors") {
        true => {
            let mut damaged = weights();
            damaged[77] ^= 1;
            Reply::file(request, &damaged)
        }
        false => model(request),
    });
    let cache = tempfile::tempdir().unwrap();
    let error = pull(&server.hub(), cache.path()).unwrap_err();
    assert!(matches!(error, FormatError::Checksum { .. }), "{error}");
    assert!(error.to_string().contains(&sha256(&weights())), "{error}");
    let folder = Hub::folder("o/m", None, cache.path()).unwrap();
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("safetensors")), "{names:?}");
}

#[test]
fn the_hash_of_a_redirect_is_checked_and_the_token_stays_with_the_hub() {
    let store = Server::start(|request| Reply::file(request, b"stored elsewhere"));
    let address = format!("{}/blob", store.endpoint);
    let announced = Arc::new(Mutex::new(sha256(b"stored elsewhere")));
    let hash = Arc::clone(&announced);
    let server = Server::start(move |request| match request.path.as_str() {
        path if path.starts_with("/api/models/o/m/") => {
            let files = r#"{"sha":"c0ffee","siblings":[{"rfilename":"model.safetensors"}]}"#;
            Reply::new("200 OK", files.as_bytes())
        }
        "/o/m/resolve/c0ffee/model.safetensors" => {
            Reply::new("307 Temporary Redirect", b"").with("Location", "/moved")
        }
        "/moved" => Reply::new("302 Found", b"")
            .with("Location", address.clone())
            .with("X-Linked-Etag", format!("\"{}\"", hash.lock().unwrap())),
        _ => Reply::new("404 Not Found", b""),
    });
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub { token: Some("hf_abc".into()), ..server.hub() };
    let folder = pull(&hub, cache.path()).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), b"stored elsewhere");
    let sent = |request: &Request| request.headers.get("authorization").cloned();
    assert!(server.requests().iter().all(|request| sent(request).as_deref() == Some("Bearer hf_abc")));
    assert!(store.requests().iter().all(|request| sent(request).is_none()));

    *announced.lock().unwrap() = sha256(b"something else");
    let error = pull(&hub, tempfile::tempdir().unwrap().path()).unwrap_err();
    assert!(matches!(error, FormatError::Checksum { .. }), "{error}");
}

#[test]
fn refusals_say_what_to_do() {
    let refusing = |status: &'static str| Server::start(move |_| Reply::new(status, b""));
    let cache = tempfile::tempdir().unwrap();
    let server = refusing("401 Unauthorized");
    let error = pull(&server.hub(), cache.path()).unwrap_err();
    assert!(error.to_string().ends_with("access refused (HTTP 401) for o/m"), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains("set HF_TOKEN") && hint.contains("hf auth login"), "{hint}");
    assert!(hint.contains(&format!("{}/o/m asks for it, accept the license", server.endpoint)), "{hint}");
    let error = pull(&Hub { token: Some("hf_abc".into()), ..server.hub() }, cache.path()).unwrap_err();
    assert!(error.hint().unwrap().contains("check that HF_TOKEN"), "{error}");

    let error = pull(&refusing("404 Not Found").hub(), cache.path()).unwrap_err();
    assert!(error.to_string().ends_with("not found (HTTP 404): model o/m at revision main"), "{error}");
    assert!(error.hint().unwrap().contains("revision"));
    let error = pull(&refusing("400 Bad Request").hub(), cache.path()).unwrap_err();
    assert!(error.to_string().contains("HTTP status 400"), "{error}");

    let server = Server::start(|_| Reply::new("200 OK", b"<html>"));
    let error = pull(&server.hub(), cache.path()).unwrap_err();
    assert!(error.to_string().contains("the list of files is not understood"), "{error}");
    assert!(!cache.path().join("models").exists(), "nothing was created for a model that was not found");
}

#[test]
fn a_hub_that_does_not_answer_is_given_up_soon() {
    // Bound and dropped: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::start(model);
    let closed = Hub { endpoint: format!("http://127.0.0.1:{port}"), ..server.hub() };
    let cache = tempfile::tempdir().unwrap();
    let error = pull(&closed, cache.path()).unwrap_err();
    assert!(matches!(error, FormatError::Unreachable { .. }), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains("path of a model folder") && hint.contains("HF_ENDPOINT"), "{hint}");

    // Accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_hub = Hub {
        endpoint: format!("http://{}", silent.local_addr().unwrap()),
        timeout_secs: 0.2,
        ..server.hub()
    };
    let error = pull(&silent_hub, cache.path()).unwrap_err();
    assert!(error.to_string().contains("no answer within 0.2 s"), "{error}");

    // What was fetched before serves without the network, and says so.
    let folder = pull(&server.hub(), cache.path()).unwrap();
    for hub in [closed, silent_hub, Hub { offline: true, ..server.hub() }] {
        let mut reasons = Vec::new();
        let found = hub.pull("o/m", None, cache.path(), &mut |progress| {
            if let Progress::Cached { reason } = progress {
                reasons.push(reason.to_owned());
            }
        });
        assert_eq!((found.unwrap(), reasons.len()), (folder.clone(), 1));
    }
    let empty = tempfile::tempdir().unwrap();
    let error = pull(&Hub { offline: true, ..server.hub() }, empty.path()).unwrap_err();
    assert!(error.to_string().contains("HF_HUB_OFFLINE is set"), "{error}");
}

/// The cache of huggingface_hub with these files of o/m at the commit c0ffee, as links to blobs.
#[cfg(unix)]
fn hf_cache(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let cache = tempfile::tempdir().unwrap();
    let model = cache.path().join("models--o--m");
    for folder in ["refs", "blobs", "snapshots/c0ffee"] {
        fs::create_dir_all(model.join(folder)).unwrap();
    }
    fs::write(model.join("refs/main"), "c0ffee").unwrap();
    for (name, content) in files {
        let hash = sha256(content);
        let blob = if content.len() > 100 { hash.as_str() } else { &hash[..40] };
        fs::write(model.join("blobs").join(blob), content).unwrap();
        let link = model.join("snapshots/c0ffee").join(name);
        std::os::unix::fs::symlink(Path::new("../../blobs").join(blob), link).unwrap();
    }
    cache
}

#[test]
#[cfg(unix)]
fn what_the_python_package_fetched_is_not_fetched_again() {
    let server = Server::start(model);
    let theirs = hf_cache(&[("model.safetensors", &weights())]);
    let hub = Hub { hf_cache: Some(theirs.path().to_owned()), ..server.hub() };
    let cache = tempfile::tempdir().unwrap();
    let folder = pull(&hub, cache.path()).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
    let asked: Vec<_> = server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[1].ends_with("config.json"), "{asked:?}");
    // The other cache may be cleared, and a later call asks for the list only.
    fs::remove_dir_all(theirs.path()).unwrap();
    pull(&server.hub(), cache.path()).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
    assert_eq!(server.requests().len(), 3);

    // Neither other content under the name of a blob nor that of another commit is taken.
    let damaged = hf_cache(&[("model.safetensors", &weights()[..500])]);
    let hub = Hub { hf_cache: Some(damaged.path().to_owned()), ..server.hub() };
    let folder = pull(&hub, tempfile::tempdir().unwrap().path()).map(|folder| folder.exists());
    assert!(folder.is_ok());
    assert!(server.requests().last().unwrap().path.ends_with("model.safetensors"));
}

#[test]
#[cfg(unix)]
fn offline_the_cache_of_the_python_package_is_enough() {
    let server = Server::start(model);
    let whole = hf_cache(&[("model.safetensors", &weights()), ("config.json", b"{}"), ("README.md", b"#")]);
    let offline = |folder: &Path| Hub { offline: true, hf_cache: Some(folder.to_owned()), ..server.hub() };
    for revision in [None, Some("c0ffee")] {
        let cache = tempfile::tempdir().unwrap();
        let mut n_cached = 0;
        let folder = offline(whole.path())
            .pull("o/m", revision, cache.path(), &mut |progress| {
                n_cached += usize::from(matches!(progress, Progress::Cached { .. }));
            })
            .unwrap();
        assert_eq!(n_cached, 1);
        assert_eq!(visible_files(&folder), ["config.json", "model.safetensors"]);
        assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
        if revision.is_none() {
            // Online again, nothing has to be fetched.
            pull(&server.hub(), cache.path()).unwrap();
            assert_eq!(server.requests().len(), 1, "only the list");
        }
    }
    for revision in ["other", "../refs", "refs/../../x"] {
        let cache = tempfile::tempdir().unwrap();
        let error = offline(whole.path()).pull("o/m", Some(revision), cache.path(), &mut |_| {}).unwrap_err();
        assert!(error.to_string().ends_with("HF_HUB_OFFLINE is set"), "{error}");
    }
    // Without all of the weights it is no model.
    let index = br#"{"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}"#;
    let parts = hf_cache(&[
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("model-1-of-2.safetensors", &[0; 200]),
    ]);
    let cache = tempfile::tempdir().unwrap();
    let text = pull(&offline(parts.path()), cache.path()).unwrap_err().to_string();
    assert!(text.contains("has no model-2-of-2.safetensors of this model"), "{text}");
    let none = hf_cache(&[("config.json", b"{}")]);
    let text = pull(&offline(none.path()), cache.path()).unwrap_err().to_string();
    assert!(text.contains("has no weights of this model"), "{text}");
    assert!(!cache.path().join("models").exists());
}

#[test]
fn a_changed_model_replaces_its_files() {
    let is_sharded = Arc::new(Mutex::new(false));
    let state = Arc::clone(&is_sharded);
    let server = Server::start(move |request| {
        let (one, two, index): (&[u8], &[u8], &[u8]) = (&[1; 200], &[2; 200], b"{}");
        let sharded = *state.lock().unwrap();
        let name = request.path.rsplit('/').next().unwrap_or_default();
        match name {
            _ if request.path.starts_with("/api/") && !sharded => {
                Reply::new("200 OK", &listing(&[("model.safetensors", one), ("config.json", b"{}")]))
            }
            _ if request.path.starts_with("/api/") => Reply::new(
                "200 OK",
                &listing(&[
                    ("model-1-of-1.safetensors", two),
                    ("model.safetensors.index.json", index),
                    ("config.json", b"{ }"),
                ]),
            ),
            "model.safetensors" => Reply::file(request, one),
            "model-1-of-1.safetensors" => Reply::file(request, two),
            "config.json" if sharded => Reply::file(request, b"{ }"),
            _ => Reply::file(request, index),
        }
    });
    let cache = tempfile::tempdir().unwrap();
    let folder = pull(&server.hub(), cache.path()).unwrap();
    assert_eq!(visible_files(&folder), ["config.json", "model.safetensors"]);
    *is_sharded.lock().unwrap() = true;
    let stale = folder.join(".model.safetensors.0123456789abcdef.part");
    fs::write(&stale, b"half of what the model was once").unwrap();
    pull(&server.hub(), cache.path()).unwrap();
    assert_eq!(
        visible_files(&folder),
        ["config.json", "model-1-of-1.safetensors", "model.safetensors.index.json"]
    );
    assert_eq!(fs::read(folder.join("config.json")).unwrap(), b"{ }");
    assert!(!stale.exists());
}
