//! Files and JSON over HTTP: credentials that stay with the host they are for, redirects, ranges.

use std::io::Read;

use serde_json::Value;
use tunesmith_formats::resume::{Failure, Part};
use tunesmith_http::{Secret, agent, scrub};
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use crate::download::{Answer, Remote};
use crate::error::{Result, SourceError};
use crate::names::shown;

const MAX_JSON_BYTES: u64 = 64 << 20;

/// A client for one host and whatever it redirects to.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    /// The value of `Authorization`, and the origin that may see it.
    authorization: Option<(Secret, (String, String))>,
    /// What may help when access is refused.
    refusal_hint: &'static str,
}

/// A file at an address.
pub(crate) struct HttpFile {
    pub(crate) client: Client,
    pub(crate) url: String,
    /// The address without secrets.
    pub(crate) shown: String,
}

impl Client {
    /// A client that shows `authorization`, if there is one, to the host of `endpoint` and to nobody else.
    pub(crate) fn new(
        endpoint: &str,
        authorization: Option<String>,
        refusal_hint: &'static str,
    ) -> Result<Self> {
        let origin = origin(endpoint)
            .ok_or_else(|| SourceError::address(endpoint, "it begins with https:// or http:// and a host"))?;
        let authorization = authorization.map(|value| (Secret::from(value), origin));
        Ok(Self { agent: agent(8), authorization, refusal_hint })
    }

    /// An answer that is JSON.
    ///
    /// # Errors
    /// Another status than success, no answer, no JSON.
    pub(crate) fn json(&self, url: &str) -> Result<Value> {
        let response = self.get(url, &shown(url), 0, None);
        let mut response = response.map_err(Failure::into_error)?;
        let mut text = Vec::new();
        let read = response.body_mut().as_reader().take(MAX_JSON_BYTES).read_to_end(&mut text);
        read.map_err(|error| unreachable(&shown(url), &error.to_string()))?;
        serde_json::from_slice(&text)
            .map_err(|error| SourceError::Answer { address: shown(url), reason: format!("no JSON: {error}") })
    }

    /// The file at `url`, called `address` in messages, from byte `start` on if it is still `identity`.
    fn get(
        &self,
        url: &str,
        address: &str,
        start: u64,
        identity: Option<&str>,
    ) -> std::result::Result<Response<Body>, Failure<SourceError>> {
        let mut request = self.agent.get(url).header("Accept-Encoding", "identity");
        // The pool takes it off again when a redirect leads to another host.
        if let Some((value, _)) =
            self.authorization.as_ref().filter(|(_, allowed)| origin(url).as_ref() == Some(allowed))
        {
            request = request.header("Authorization", value.reveal());
        }
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
            if let Some(identity) = identity {
                request = request.header("If-Range", identity);
            }
        }
        let response = request.call().map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Failure::Final(SourceError::address(url, "the address is malformed"))
            }
            error => {
                let secrets = self.authorization.iter().map(|(value, _)| value);
                Failure::Passing(unreachable(address, &scrub(&error.to_string(), secrets)))
            }
        })?;
        let (status, unavailable) = (response.status(), |reason: &str| unreachable(address, reason));
        let address = address.to_owned();
        Err(match status.as_u16() {
            200..=299 => return Ok(response),
            401 | 403 => Failure::Final(SourceError::Refused {
                address,
                reason: format!("HTTP status {status}"),
                hint: self.refusal_hint.to_owned(),
            }),
            404 | 410 => Failure::Final(SourceError::NotFound { address, reason: String::new() }),
            416 => Failure::Changed(unavailable("the file has changed")),
            408 | 429 | 500.. => Failure::Passing(unavailable(&format!("HTTP status {status}"))),
            _ => Failure::Final(SourceError::Answer { address, reason: format!("HTTP status {status}") }),
        })
    }
}

impl Remote for HttpFile {
    fn open(&self, start: u64, identity: Option<&str>) -> std::result::Result<Answer, Failure<SourceError>> {
        let response = self.client.get(&self.url, &self.shown, start, identity)?;
        if header(&response, "content-type").is_some_and(|kind| kind.to_lowercase().starts_with("text/html"))
        {
            return Err(Failure::Final(SourceError::WebPage { address: self.shown.clone() }));
        }
        let length = header(&response, "content-length").and_then(|text| text.trim().parse::<u64>().ok());
        let range = header(&response, "content-range").unwrap_or_default();
        let is_part = response.status().as_u16() == 206;
        if is_part && !range.trim().starts_with(&format!("bytes {start}-")) {
            let reason = format!("it was asked for the bytes from {start} on, and sent the range {range:?}");
            return Err(Failure::Final(SourceError::Answer { address: self.shown.clone(), reason }));
        }
        let start = if is_part { start } else { 0 };
        // A weak tag promises no equal bytes; a date is better than nothing.
        let tag = header(&response, "etag").filter(|tag| !tag.starts_with("W/"));
        let identity = tag.or_else(|| header(&response, "last-modified")).map(str::to_owned);
        let total_bytes = length.map(|length| start + length);
        Ok(Answer {
            part: Part { start, total_bytes, body: Box::new(response.into_body().into_reader()) },
            identity,
        })
    }

    fn shown(&self) -> String {
        self.shown.clone()
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

fn unreachable(address: &str, reason: &str) -> SourceError {
    SourceError::Unreachable { address: address.to_owned(), reason: reason.to_owned() }
}

/// Scheme, host and port.
fn origin(url: &str) -> Option<(String, String)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_lowercase();
    matches!(scheme.as_str(), "http" | "https").then(|| ())?;
    Some((scheme, uri.authority()?.as_str().to_lowercase()))
}
