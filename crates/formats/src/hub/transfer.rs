//! HTTP with the hub: time-outs, redirects that do not leak the token, and downloads that are continued
//! after an interruption and checked at the end.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::listing::{Listing, RemoteFile, sha256_hex};
use super::{Hub, Progress};
use crate::error::{FormatError, Result};
use crate::resume::{Failure, Part, STALL_SECS, Transfer, file_size, remove, resume};

const MAX_REDIRECTS: usize = 8;
/// Largest list of files that is read into memory.
const MAX_LISTING_BYTES: u64 = 64 << 20;
const CHUNK_BYTES: usize = 1 << 17;

/// A hub and a model on it.
pub(super) struct Client<'a> {
    hub: &'a Hub,
    model_id: &'a str,
    endpoint: &'a str,
    agent: Agent,
}

/// What to fetch and where to.
pub(super) struct Target<'a> {
    pub(super) file: &'a RemoteFile,
    pub(super) folder: &'a Path,
    pub(super) commit: &'a str,
    /// Bytes of the model that were there before this file.
    pub(super) done_bytes: u64,
}

/// An answer with what the redirects before it said about the file.
struct Answer {
    response: Response<Body>,
    announced_sha256: Option<String>,
}

/// A file of a model on its way.
struct FileTransfer<'a> {
    client: &'a Client<'a>,
    url: &'a str,
    target: &'a Target<'a>,
    expected_sha256: Option<String>,
    on_progress: &'a mut dyn FnMut(Progress),
}

impl<'a> Client<'a> {
    pub(super) fn new(hub: &'a Hub, model_id: &'a str) -> Result<Self> {
        let endpoint = hub.endpoint.trim_end_matches('/');
        let timeout = Duration::try_from_secs_f64(hub.timeout_secs).map_err(|_| FormatError::Hub {
            url: endpoint.to_owned(),
            reason: format!("a time-out of {} seconds is not possible", hub.timeout_secs),
        })?;
        // Reading the system's takes a while.
        let roots = if endpoint.starts_with("https:") { system_roots() } else { RootCerts::WebPki };
        let config = Agent::config_builder()
            .user_agent(concat!("tunesmith/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(timeout))
            .timeout_connect(Some(timeout))
            .timeout_recv_response(Some(timeout))
            .timeout_per_read(Some(Duration::from_secs(STALL_SECS).max(timeout)))
            .tls_config(TlsConfig::builder().root_certs(roots).build());
        Ok(Self { hub, model_id, endpoint, agent: config.build().new_agent() })
    }

    pub(super) fn unreachable(&self, reason: &str) -> FormatError {
        FormatError::Unreachable { url: self.endpoint.to_owned(), reason: reason.to_owned() }
    }

    /// The files of the model at `revision`.
    pub(super) fn list(&self, revision: &str) -> Result<Listing> {
        let url = format!(
            "{}/api/models/{}/revision/{}?blobs=true",
            self.endpoint,
            self.model_id,
            percent_encode(revision)
        );
        let what = format!("model {} at revision {revision}", self.model_id);
        let answer = self.get(&url, None)?;
        let mut response = self.check_status(&url, &what, answer.response).map_err(Failure::into_error)?;
        let mut text = Vec::new();
        let read = response.body_mut().as_reader().take(MAX_LISTING_BYTES).read_to_end(&mut text);
        read.map_err(|error| FormatError::Unreachable { url: url.clone(), reason: error.to_string() })?;
        serde_json::from_slice(&text).map_err(|error| FormatError::Hub {
            url,
            reason: format!("the list of files is not understood: {error}"),
        })
    }

    /// Downloads a file to its path, continuing where an earlier attempt stopped.
    pub(super) fn fetch(&self, target: &Target, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let Target { file, folder, commit, .. } = *target;
        let revision = if commit.is_empty() { "main" } else { commit };
        let url =
            format!("{}/{}/resolve/{revision}/{}", self.endpoint, self.model_id, percent_encode(&file.name));
        let unfinished = unfinished_path(folder, file, commit);
        let wait = Duration::try_from_secs_f64(self.hub.retry_wait_secs).unwrap_or_default();
        let mut transfer =
            FileTransfer { client: self, url: &url, target, expected_sha256: file.sha256(), on_progress };
        // Whole, or too long and then refused by the check.
        let is_here = file.n_bytes.is_some_and(|n_bytes| n_bytes > 0 && file_size(&unfinished) >= n_bytes);
        if !is_here {
            resume(&mut transfer, &unfinished, wait)?;
        }
        let expected_sha256 = transfer.expected_sha256;
        self.check_content(&url, &unfinished, file.n_bytes, expected_sha256.as_deref())?;
        let path = folder.join(&file.name);
        fs::rename(&unfinished, &path).map_err(FormatError::io(&path, "replace"))
    }

    /// Compares size and SHA-256 with what was announced; a file that differs is removed.
    fn check_content(
        &self,
        url: &str,
        path: &Path,
        n_bytes: Option<u64>,
        sha256: Option<&str>,
    ) -> Result<()> {
        let differs = |expected: String, actual: String| {
            remove(path).map_err(FormatError::io(path, "remove"))?;
            Err(FormatError::Checksum { path: path.to_owned(), url: url.to_owned(), expected, actual })
        };
        // An empty file never started.
        if !path.exists() {
            File::create(path).map_err(FormatError::io(path, "create"))?;
        }
        let actual_bytes = file_size(path);
        if let Some(n_bytes) = n_bytes.filter(|n_bytes| *n_bytes != actual_bytes) {
            return differs(format!("{n_bytes} bytes"), format!("{actual_bytes} bytes"));
        }
        if let Some(sha256) = sha256 {
            let actual = hash_file(path).map_err(FormatError::io(path, "read"))?;
            if actual != sha256 {
                return differs(format!("SHA-256 {sha256}"), format!("SHA-256 {actual}"));
            }
        }
        Ok(())
    }

    /// Asks for `url`, from byte `start` on, following redirects. The token goes to the endpoint only.
    fn get(&self, url: &str, start: Option<u64>) -> Result<Answer> {
        let mut address = url.to_owned();
        let mut announced_sha256 = None;
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.agent.get(&address).header("Accept-Encoding", "identity");
            if let Some(token) = self.hub.token.as_ref().filter(|_| origin(&address) == origin(self.endpoint))
            {
                request = request.header("Authorization", format!("Bearer {}", token.trim()));
            }
            if let Some(start) = start {
                request = request.header("Range", format!("bytes={start}-"));
            }
            let response = request.call().map_err(|error| self.describe(&address, error))?;
            announced_sha256 =
                announced_sha256.or_else(|| sha256_hex(header(response.headers(), "x-linked-etag")?));
            match header(response.headers(), "location").filter(|_| response.status().is_redirection()) {
                Some(location) => address = resolve(&address, location),
                None => return Ok(Answer { response, announced_sha256 }),
            }
        }
        Err(FormatError::Hub { url: url.to_owned(), reason: format!("more than {MAX_REDIRECTS} redirects") })
    }

    fn describe(&self, url: &str, error: ureq::Error) -> FormatError {
        let url = url.split('?').next().unwrap_or_default().to_owned();
        let reason = match error {
            ureq::Error::Timeout(_) => format!("no answer within {} s", self.hub.timeout_secs),
            ureq::Error::HostNotFound => "there is no such host, or no network".to_owned(),
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
                return FormatError::Hub { url, reason: error.to_string() };
            }
            _ => error.to_string(),
        };
        FormatError::Unreachable { url, reason }
    }

    fn check_status(
        &self,
        url: &str,
        what: &str,
        response: Response<Body>,
    ) -> std::result::Result<Response<Body>, Failure<FormatError>> {
        let url = url.split('?').next().unwrap_or_default().to_owned();
        let status = response.status();
        Err(match status {
            _ if status.is_success() => return Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Final(FormatError::AccessRefused {
                url,
                status: status.as_u16(),
                model_id: self.model_id.to_owned(),
                had_token: self.hub.token.is_some(),
            }),
            StatusCode::NOT_FOUND => Failure::Final(FormatError::NotOnHub { url, what: what.to_owned() }),
            _ => {
                let error = FormatError::Hub { url, reason: format!("HTTP status {status} for {what}") };
                let passes = status.is_server_error()
                    || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
                if passes { Failure::Passing(error) } else { Failure::Final(error) }
            }
        })
    }
}

impl Transfer for FileTransfer<'_> {
    type Error = FormatError;

    fn open(&mut self, start: u64) -> std::result::Result<Part, Failure<FormatError>> {
        let Self { client, url, target, .. } = *self;
        let name = &target.file.name;
        let answer = client.get(url, Some(start).filter(|n| *n > 0)).map_err(Failure::Passing)?;
        if let Some(announced) = answer.announced_sha256 {
            self.expected_sha256.get_or_insert(announced);
        }
        if answer.response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            let reason = format!("the hub has no byte {start} of {name}");
            return Err(Failure::Changed(FormatError::Hub { url: url.to_owned(), reason }));
        }
        let what = format!("{name} of {}", client.model_id);
        let response = client.check_status(url, &what, answer.response)?;
        let start = if start > 0 && continues_at(&response, start) { start } else { 0 };
        let total_bytes =
            content_length(response.headers()).map(|n_bytes| n_bytes + start).or(target.file.n_bytes);
        Ok(Part { start, total_bytes, body: Box::new(response.into_body().into_reader()) })
    }

    fn arrived(&mut self, n_bytes: u64, _total_bytes: Option<u64>) -> Result<()> {
        (self.on_progress)(Progress::Bytes {
            file: &self.target.file.name,
            file_bytes: n_bytes,
            done_bytes: self.target.done_bytes + n_bytes,
        });
        Ok(())
    }

    fn retrying(&mut self, error: &FormatError, wait: Duration) -> Result<()> {
        let reason = error.to_string();
        (self.on_progress)(Progress::Retrying { file: &self.target.file.name, reason: &reason });
        thread::sleep(wait);
        Ok(())
    }

    fn broken(&self, reason: String) -> FormatError {
        FormatError::Unreachable { url: self.url.to_owned(), reason }
    }

    fn io(&self, path: &Path, action: &'static str, error: io::Error) -> FormatError {
        FormatError::io(path, action)(error)
    }
}

/// The system's certificates, which a company's proxy needs; Mozilla's where the system has none.
pub fn system_roots() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    let certificates: Vec<_> = found.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    match certificates.is_empty() {
        true => RootCerts::WebPki,
        false => RootCerts::Specific(Arc::new(certificates)),
    }
}

/// `.model.safetensors.<start of its identity>.part` in the model's folder: only the same content is
/// continued.
pub(super) fn unfinished_path(folder: &Path, file: &RemoteFile, commit: &str) -> PathBuf {
    let identity: String =
        file.identity(commit).chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    folder.join(format!(".{}.{identity}.part", file.name))
}

pub(super) fn hash_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => hash.update(chunk.get(..n).unwrap_or_default()),
        }
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    header(headers, "content-length")?.trim().parse().ok()
}

/// Whether the answer is the rest of the file from byte `start` on, and not the whole again.
fn continues_at(response: &Response<Body>, start: u64) -> bool {
    let range = header(response.headers(), "content-range").unwrap_or_default();
    response.status() == StatusCode::PARTIAL_CONTENT && range.starts_with(&format!("bytes {start}-"))
}

/// Scheme, host and port.
fn origin(url: &str) -> Option<(String, String)> {
    let uri: Uri = url.parse().ok()?;
    Some((uri.scheme_str()?.to_lowercase(), uri.authority()?.as_str().to_lowercase()))
}

/// The address that `location` means in an answer from `base`.
fn resolve(base: &str, location: &str) -> String {
    if location.contains("://") {
        return location.to_owned();
    }
    let Some((scheme, host)) = origin(base) else { return location.to_owned() };
    match (location.strip_prefix("//"), location.starts_with('/')) {
        (Some(rest), _) => format!("{scheme}://{rest}"),
        (None, true) => format!("{scheme}://{host}{location}"),
        (None, false) => {
            let path = base.split(['?', '#']).next().unwrap_or_default();
            let folder = path.rsplit_once('/').map_or(path, |(folder, _)| folder);
            format!("{folder}/{location}")
        }
    }
}

fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved_against_the_address_they_came_from() {
        let base = "https://hub.example/a/b/resolve/main/x.bin?q=1";
        assert_eq!(resolve(base, "https://cdn.example/y"), "https://cdn.example/y");
        assert_eq!(resolve(base, "//cdn.example/y"), "https://cdn.example/y");
        assert_eq!(resolve(base, "/api/y?z"), "https://hub.example/api/y?z");
        assert_eq!(resolve(base, "y"), "https://hub.example/a/b/resolve/main/y");
        assert_ne!(origin("https://hub.example"), origin("http://hub.example"));
        assert_eq!(origin("https://Hub.example/x"), origin("https://hub.example"));
        assert_eq!(percent_encode("refs/pr/1 ü"), "refs%2Fpr%2F1%20%C3%BC");
    }
}
