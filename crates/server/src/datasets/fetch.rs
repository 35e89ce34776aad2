//! Files over HTTP: with progress, a limit, a way to cancel, and going on after an interruption.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tunesmith_formats::hub::system_roots;
use ureq::http::Response;
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};

use crate::error::{ApiError, ApiResult};
use crate::jobs::JobContext;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A connection that gives no byte for this long is taken for broken.
const STALL: Duration = Duration::from_secs(30);
/// Failures in a row, without a byte in between, after which a transfer is given up.
const MAX_FAILURES: u32 = 4;
const MAX_JSON_BYTES: u64 = 16 << 20;

/// A client for imports.
pub(crate) struct Client {
    agent: Agent,
    token: Option<String>,
}

impl Client {
    /// A client that sends this bearer token with every request, to the host it asks first only.
    pub(crate) fn new(token: Option<String>) -> Self {
        let config = Agent::config_builder()
            .user_agent(concat!("tunesmith/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(STALL))
            .timeout_per_read(Some(STALL))
            .tls_config(TlsConfig::builder().root_certs(system_roots()).build());
        Self { agent: config.build().new_agent(), token }
    }

    /// An answer that is JSON.
    ///
    /// # Errors
    /// Another status than success, no answer, no JSON.
    pub(crate) fn json(&self, url: &str) -> ApiResult<Value> {
        let mut response = self.get(url, 0)?;
        check_status(url, &response)?;
        let mut text = Vec::new();
        let read = response.body_mut().as_reader().take(MAX_JSON_BYTES).read_to_end(&mut text);
        read.map_err(|error| unreachable(url, &error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| unreachable(url, &format!("no JSON: {error}")))
    }

    /// Writes a file to `path`, going on where a broken connection stopped if the server can do that. `done_bytes` were
    /// done before, of other files.
    ///
    /// # Errors
    /// No answer after some tries, another status than success, more than `max_bytes`, a full disk, cancelled.
    pub(crate) fn download(
        &self,
        url: &str,
        path: &Path,
        max_bytes: u64,
        done_bytes: u64,
        context: &JobContext,
    ) -> ApiResult<u64> {
        let mut n_failures = 0;
        let mut wait = Duration::from_millis(500);
        fs::remove_file(path).ok();
        loop {
            let before = size(path);
            match self.download_once(url, path, max_bytes, done_bytes, context) {
                Ok(()) => return Ok(size(path)),
                Err(error) if error.code != "unreachable" => return Err(error),
                Err(error) => {
                    n_failures = if size(path) > before { 1 } else { n_failures + 1 };
                    if n_failures >= MAX_FAILURES {
                        return Err(error);
                    }
                    context.say(format!("{}; going on from there", error.message));
                    context.check()?;
                    thread::sleep(wait);
                    wait *= 2;
                }
            }
        }
    }

    fn download_once(
        &self,
        url: &str,
        path: &Path,
        max_bytes: u64,
        done_bytes: u64,
        context: &JobContext,
    ) -> ApiResult<()> {
        let mut n_here = size(path);
        let mut response = self.get(url, n_here)?;
        if response.status().as_u16() == 416 {
            // What is here is no beginning of the file that is there now.
            fs::remove_file(path).ok();
            return Err(unreachable(url, "the file has changed"));
        }
        check_status(url, &response)?;
        if response.status().as_u16() != 206 {
            n_here = 0;
        }
        let announced: Option<u64> =
            header(&response, "content-length").and_then(|text| text.trim().parse().ok());
        let total = announced.map(|rest| n_here + rest);
        if total.is_some_and(|total| total > max_bytes) {
            return Err(too_large(url, max_bytes));
        }
        let opened =
            OpenOptions::new().create(true).write(true).truncate(n_here == 0).append(n_here > 0).open(path);
        let mut out: File = opened.map_err(|error| ApiError::io(path, "open", &error))?;
        let mut body = response.body_mut().as_reader();
        let mut chunk = vec![0; 1 << 17];
        loop {
            context.check()?;
            let n = body.read(&mut chunk).map_err(|error| unreachable(url, &error.to_string()))?;
            let Some(bytes) = chunk.get(..n).filter(|bytes| !bytes.is_empty()) else {
                return match total {
                    Some(total) if n_here < total => Err(unreachable(
                        url,
                        &format!("the connection ended after {n_here} of {total} bytes"),
                    )),
                    _ => Ok(()),
                };
            };
            n_here += n as u64;
            if n_here > max_bytes {
                return Err(too_large(url, max_bytes));
            }
            out.write_all(bytes).map_err(|error| ApiError::io(path, "write", &error))?;
            context.bytes(done_bytes + n_here, total.map(|total| done_bytes + total));
        }
    }

    fn get(&self, url: &str, start: u64) -> ApiResult<Response<Body>> {
        let mut request = self.agent.get(url).header("Accept-Encoding", "identity");
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {}", token.trim()));
        }
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
        }
        request.call().map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                ApiError::bad_request(format!("{} is no address", shown(url)))
            }
            error => unreachable(url, &error.to_string()),
        })
    }
}

/// A header of an answer.
pub(crate) fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

fn check_status(url: &str, response: &Response<Body>) -> ApiResult<()> {
    let status = response.status();
    match status.as_u16() {
        200..=299 => Ok(()),
        401 | 403 => Err(ApiError::invalid(format!("{} refuses access ({status})", shown(url)))
            .hint("it may need a token: Settings, Secrets")),
        404 => Err(ApiError::invalid(format!("there is nothing at {}", shown(url)))),
        408 | 429 | 500.. => Err(unreachable(url, &format!("HTTP status {status}"))),
        _ => Err(ApiError::invalid(format!("{} answers with the HTTP status {status}", shown(url)))),
    }
}

fn unreachable(url: &str, reason: &str) -> ApiError {
    let message = format!("{} cannot be read: {reason}", shown(url));
    ApiError::new(axum::http::StatusCode::BAD_GATEWAY, "unreachable", message)
        .hint("check the address and the network of the machine that the studio runs on")
}

fn too_large(url: &str, max_bytes: u64) -> ApiError {
    ApiError::new(
        axum::http::StatusCode::PAYLOAD_TOO_LARGE,
        "too_large",
        format!("{} is larger than {max_bytes} bytes", shown(url)),
    )
    .hint("raise the upload limit in Settings")
}

/// An address without what may be secret in it: the query of a signed one, a name and password.
fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit('@').next().unwrap_or(host);
            format!("{scheme}://{host}/{path}")
        }
        None => url.to_owned(),
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_addresses_are_not_shown() {
        let url = "https://me:secret@host.org/a/b.csv?X-Amz-Signature=secret#secret";
        assert_eq!(shown(url), "https://host.org/a/b.csv");
    }
}
