//! A folder to fetch into, what was told on the way, and the servers of other people.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tunesmith_sources::{Fetched, Progress, Result, Source, SourceError, Task};

/// Rows that are short.
pub(crate) const ROWS: &str = "question,answer\nWhat is 1 + 1?,2\nWhat is 2 + 2?,4\n";

/// Rows of so many bytes that they come in many pieces.
pub(crate) fn many_rows() -> String {
    (0..40_000)
        .map(|idx| format!("{{\"question\":\"What is {idx} + 1?\",\"answer\":\"{}\"}}\n", idx + 1))
        .collect()
}

/// A folder to fetch into.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) max_bytes: u64,
    /// Bytes after which it is cancelled.
    pub(crate) cancel_after: u64,
    told: RefCell<Vec<String>>,
    bytes: RefCell<Vec<(u64, Option<u64>)>>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            max_bytes: 1 << 30,
            cancel_after: u64::MAX,
            told: RefCell::default(),
            bytes: RefCell::default(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn fetch(&self, source: &Source) -> Result<Fetched> {
        let on_progress = |progress: Progress<'_>| match progress {
            Progress::Bytes { done, total } => self.bytes.borrow_mut().push((done, total)),
            Progress::Doing(words) => self.told.borrow_mut().push(words.to_owned()),
            Progress::Retrying(words) => self.told.borrow_mut().push(format!("again: {words}")),
        };
        let is_cancelled = || self.bytes.borrow().last().is_some_and(|(done, _)| *done > self.cancel_after);
        let task = Task { max_bytes: self.max_bytes, on_progress: &on_progress, is_cancelled: &is_cancelled };
        source.fetch(self.path(), &task)
    }

    /// Names and contents of the tables that a source gives.
    pub(crate) fn tables(&self, source: &Source) -> Vec<(String, String)> {
        let fetched = self.fetch(source).unwrap();
        let tables = fetched.tables.iter().map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        });
        tables.collect()
    }

    /// Everything that an error says.
    pub(crate) fn complaint(&self, source: &Source) -> String {
        said(&self.fetch(source).unwrap_err())
    }

    /// What it was told, and forgets it.
    pub(crate) fn told(&self) -> Vec<String> {
        self.told.take()
    }

    /// Bytes done and to do, in the order in which they were told.
    pub(crate) fn bytes(&self) -> Vec<(u64, Option<u64>)> {
        self.bytes.take()
    }

    /// What lies in the folder, hidden files too.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

pub(crate) fn said(error: &SourceError) -> String {
    // The debug form, too, as it may end in a log.
    let debug = format!("{error:?}");
    assert!(!debug.contains("topsecret"), "{debug}");
    format!("{error}\n{}", error.hint().unwrap_or_default())
}

/// A zip archive of these files.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A server of somebody else's, which ends with this.
pub(crate) struct RealServer {
    child: Child,
    /// What it says of itself.
    pub(crate) facts: Value,
    _files: TempDir,
}

impl RealServer {
    /// Starts `tests/servers/<name>_server.py`. None, and a printed reason, where its packages are not installed; with
    /// `TUNESMITH_REQUIRE_SOURCE_SERVERS` set that is a failure instead.
    pub(crate) fn start(name: &str) -> Option<Self> {
        let Some(installed) = installed() else {
            let reason = "the servers are not installed: scripts/source-servers does it, TUNESMITH_SOURCE_SERVERS says where";
            assert!(std::env::var_os("TUNESMITH_REQUIRE_SOURCE_SERVERS").is_none(), "{reason}");
            println!("skipped: {reason}");
            return None;
        };
        let files = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(files.path().join(name), bytes).unwrap();
        write("rows.csv", ROWS.as_bytes());
        write("big.jsonl", many_rows().as_bytes());
        write("tables.zip", &archive(&[("train.csv", ROWS.as_bytes()), ("more/test.csv", ROWS.as_bytes())]));
        let script = format!("{}/tests/servers/{name}_server.py", env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(installed.join("venv/bin/python"))
            .arg(script)
            .arg(files.path())
            .arg(installed.join("node_modules/.bin/azurite-blob"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let facts = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{name} did not start: {line:?}"));
        Some(Self { child, facts, _files: files })
    }

    pub(crate) fn fact(&self, pointer: &str) -> String {
        self.facts
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("{pointer}: {}", self.facts))
            .to_owned()
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        // The end of its input ends the script, and that ends its server.
        drop(self.child.stdin.take());
        self.child.wait().ok();
    }
}

fn installed() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("TUNESMITH_SOURCE_SERVERS")?);
    folder.join("installed").is_file().then_some(folder)
}
