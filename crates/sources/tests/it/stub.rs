//! A small HTTP server: answers what a test says, also half of it, and remembers what it was asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request as the server saw it, with header names in lower case.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn range_start(&self) -> Option<usize> {
        self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What the server answers: head, body, and how many bytes of the body it sends before it hangs up.
pub(crate) struct Reply {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    n_sent: usize,
    is_length_told: bool,
}

impl Reply {
    pub(crate) fn new(status: &'static str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref().to_vec();
        Self { status, headers: Vec::new(), n_sent: body.len(), body, is_length_told: true }
    }

    pub(crate) fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::new("200 OK", body)
    }

    pub(crate) fn redirect(to: impl Into<String>) -> Self {
        Self::new("302 Found", "").with("Location", to)
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn cut_after(mut self, n_sent: usize) -> Self {
        self.n_sent = n_sent;
        self
    }

    pub(crate) fn without_length(mut self) -> Self {
        self.is_length_told = false;
        self
    }

    /// `content` of version `tag`, as a server that knows ranges sends it.
    pub(crate) fn file(request: &Request, content: &[u8], tag: &str) -> Self {
        let is_same = request.headers.get("if-range").is_none_or(|known| known == tag);
        let reply = match request.range_start().filter(|_| is_same) {
            Some(start) if start < content.len() => Self::new("206 Partial Content", &content[start..])
                .with("Content-Range", format!("bytes {start}-{}/{}", content.len() - 1, content.len())),
            Some(_) => Self::new("416 Range Not Satisfiable", b""),
            None => Self::ok(content),
        };
        if tag.is_empty() { reply } else { reply.with("ETag", tag) }
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// Serves until the test's process ends.
pub(crate) struct Stub {
    pub(crate) endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Stub {
    pub(crate) fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
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

    /// What it was asked since it was last looked at.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }

    /// The paths of what it was asked.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.path).collect()
    }
}

fn answer(mut stream: TcpStream, log: &Mutex<Vec<Request>>, handler: &Handler) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.trim_end().split_once(": ") {
            headers.insert(name.to_lowercase(), value.to_owned());
        }
    }
    let n_bytes = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = Vec::new();
    if reader.take(n_bytes).read_to_end(&mut body).is_err() {
        return;
    }
    let request = Request { method, path, headers, body };
    log.lock().unwrap().push(request.clone());
    let reply = handler(&request);
    let mut head = format!("HTTP/1.1 {}\r\nConnection: close\r\n", reply.status);
    if reply.is_length_told {
        write!(head, "Content-Length: {}\r\n", reply.body.len()).unwrap();
    }
    for (name, value) in &reply.headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    let sent = stream
        .write_all(format!("{head}\r\n").as_bytes())
        .and_then(|()| stream.write_all(&reply.body[..reply.n_sent.min(reply.body.len())]));
    // The other side may have gone, which is what some tests are about.
    sent.ok();
}
