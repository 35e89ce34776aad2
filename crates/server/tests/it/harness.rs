//! A studio in a temporary folder, and requests to it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;
use tunesmith_server::{Access, AppState, ServeOptions, router, state};

/// A studio; its folder goes with it.
pub(crate) struct Studio {
    pub(crate) folder: TempDir,
    pub(crate) state: AppState,
    router: Router,
    pub(crate) cookie: Option<String>,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| {
            panic!("{} is no JSON: {error}: {}", self.status, String::from_utf8_lossy(&self.bytes))
        })
    }

    /// The JSON of a success.
    pub(crate) fn ok(&self) -> Value {
        assert!(self.status.is_success(), "{}: {}", self.status, String::from_utf8_lossy(&self.bytes));
        if self.bytes.is_empty() { Value::Null } else { self.json() }
    }

    /// The code of a refusal.
    pub(crate) fn refused(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()["error"].clone()
    }
}

pub(crate) fn options(folder: &Path, password: Option<&str>) -> ServeOptions {
    ServeOptions {
        host: "127.0.0.1".to_owned(),
        port: 0,
        workdir: folder.join("work"),
        access: Access { password: password.map(str::to_owned) },
        program: PathBuf::from("/nonexistent/tunesmith"),
        cache_dir: folder.join("cache"),
        compiled_backends: Vec::new(),
    }
}

impl Studio {
    pub(crate) fn new() -> Self {
        Self::with_password(None)
    }

    pub(crate) fn with_password(password: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = state(&options(folder.path(), password)).unwrap();
        Self { folder, router: router(state.clone()), state, cookie: None }
    }

    /// The same folder after the process has ended.
    pub(crate) fn restarted(self) -> Self {
        let Self { folder, state: old, router: old_router, .. } = self;
        drop((old, old_router));
        let state = state(&options(folder.path(), None)).unwrap();
        Self { folder, router: router(state.clone()), state, cookie: None }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec();
        Answer { status, headers, bytes }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> axum::http::request::Builder {
        let builder = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::HOST, "localhost:10101")
            .header("x-tunesmith", "1");
        match &self.cookie {
            Some(cookie) => builder.header(header::COOKIE, cookie),
            None => builder,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn with(&self, method: &str, path: &str, body: Value) -> Answer {
        let builder = self.request(method, path).header(header::CONTENT_TYPE, "application/json");
        self.send(builder.body(Body::from(body.to_string())).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.with("POST", path, body).await
    }

    pub(crate) async fn upload(&self, name: &str, bytes: impl Into<Body>) -> Answer {
        let name: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let builder = self.request("POST", &format!("/uploads?name={name}"));
        self.send(builder.body(bytes.into()).unwrap()).await
    }

    /// The job when it has ended.
    pub(crate) async fn ended(&self, job: &Value) -> Value {
        let started = Instant::now();
        loop {
            let job = self.get(&format!("/jobs/{}", job["id"].as_str().unwrap())).await.ok();
            if job["state"] != "running" {
                return job;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{job}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The job of an import of these bytes.
    pub(crate) async fn import_job(&self, name: &str, bytes: impl Into<Body>) -> Value {
        let upload = self.upload(name, bytes).await.ok();
        let source = json!({"kind": "upload", "upload_id": upload["upload_id"]});
        let job = self.post("/imports", json!({"source": source})).await.ok();
        self.ended(&job).await
    }

    pub(crate) async fn import(&self, name: &str, bytes: impl Into<Body>) -> Value {
        let job = self.import_job(name, bytes).await;
        assert_eq!(job["state"], "done", "{job}");
        self.get(&format!("/imports/{}", job["result"]["import_id"].as_str().unwrap())).await.ok()
    }

    pub(crate) async fn dataset(&self, name: &str, csv: &str) -> Value {
        let import = self.import("rows.csv", csv.to_owned()).await;
        let body = json!({"import_id": import["id"], "name": name, "settings": import["guess"]});
        self.post("/datasets", body).await.ok()
    }
}

/// Twelve rows of questions and answers.
pub(crate) fn questions() -> String {
    let rows: String = (0..12).map(|i| format!("What is {i} + {i}?,{}\n", 2 * i)).collect();
    format!("question,answer\n{rows}")
}

/// A zip archive of these files.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}
