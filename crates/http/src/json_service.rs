//! A service that takes JSON and answers JSON.

use std::io::Read;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use crate::agent::agent;
use crate::authorization::Authorization;
use crate::error::HttpError;
use crate::secret::scrub;

/// Larger answers are refused.
const MAX_ANSWER_BYTES: u64 = 16 << 20;
/// What is kept of the words of a service that refuses.
const MAX_MESSAGE_CHARS: usize = 300;

/// A service at an address, with the credentials that it alone sees.
#[derive(Debug, Clone)]
pub struct JsonService {
    agent: Agent,
    base: String,
    /// Scheme, host and port: what messages show.
    shown: String,
    authorization: Authorization,
    timeout: Duration,
}

impl JsonService {
    /// The service at `base`, an address below which its paths lie. `timeout` is for a whole request with its answer.
    ///
    /// A name and a password in the address (`https://name:password@host`) are used unless there is an `authorization`. No
    /// redirect is followed: credentials and what is sent stay with the host that was named.
    ///
    /// # Errors
    /// `base` does not begin with `http://` or `https://` and a host.
    pub fn new(base: &str, authorization: Authorization, timeout: Duration) -> Result<Self, HttpError> {
        let (base, in_address) = without_credentials(base);
        let not_one = || HttpError::Address { address: base.clone() };
        let uri: Uri = base.parse().map_err(|_| not_one())?;
        let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"));
        let (Some(scheme), Some(authority)) = (scheme, uri.authority()) else { return Err(not_one()) };
        let shown = format!("{scheme}://{authority}");
        let authorization = match authorization {
            Authorization::None => in_address,
            given => given,
        };
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { agent: agent(0), base, shown, authorization, timeout })
    }

    /// The same service, which messages call `name` instead of telling its host: they may end in files that others see.
    #[must_use]
    pub fn called(mut self, name: &str) -> Self {
        name.clone_into(&mut self.shown);
        self
    }

    /// Scheme, host and port, for messages.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// What the service answers to GET; `path` begins with a slash and may end in a query.
    ///
    /// # Errors
    /// No answer, another status than success, no JSON.
    pub fn get(&self, path: &str) -> Result<Value, HttpError> {
        let request = self.agent.get(format!("{}{path}", self.base));
        let request = request.config().timeout_global(Some(self.timeout)).build();
        let request = match self.authorization.header() {
            Some((name, value)) => request.header(name, value),
            None => request,
        };
        self.answer(path, request.call())
    }

    /// What the service answers to POST of `body`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, HttpError> {
        let request = self.agent.post(format!("{}{path}", self.base));
        let request = request.config().timeout_global(Some(self.timeout)).build();
        let request = match self.authorization.header() {
            Some((name, value)) => request.header(name, value),
            None => request,
        };
        self.answer(path, request.content_type("application/json").send(body.to_string().as_bytes()))
    }

    fn answer(&self, path: &str, answer: Result<Response<Body>, ureq::Error>) -> Result<Value, HttpError> {
        let path = path.split('?').next().unwrap_or_default();
        let address = format!("{}{path}", self.shown);
        let scrubbed = |text: &str| scrub(text, self.authorization.secret());
        let unreachable =
            |reason: String| HttpError::Unreachable { address: address.clone(), reason: scrubbed(&reason) };
        let mut response = answer.map_err(|error| unreachable(error.to_string()))?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let mut text = Vec::new();
        let read = response.body_mut().as_reader().take(MAX_ANSWER_BYTES + 1).read_to_end(&mut text);
        read.map_err(|error| unreachable(error.to_string()))?;
        if !(200..300).contains(&status) {
            let message = scrubbed(&message_in(&text));
            return Err(HttpError::Status { address, status, message, retry_after });
        }
        if text.len() as u64 > MAX_ANSWER_BYTES {
            return Err(HttpError::Answer { address, reason: format!("more than {MAX_ANSWER_BYTES} bytes") });
        }
        serde_json::from_slice(&text)
            .map_err(|error| HttpError::Answer { address, reason: format!("the answer is no JSON: {error}") })
    }
}

/// The address without name and password, and those.
fn without_credentials(address: &str) -> (String, Authorization) {
    let address = address.trim();
    let Some((scheme, rest)) = address.split_once("://") else {
        return (address.to_owned(), Authorization::None);
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let Some((credentials, host)) = authority.rsplit_once('@') else {
        return (address.to_owned(), Authorization::None);
    };
    let (username, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let authorization = Authorization::Basic { username: username.to_owned(), password: password.into() };
    (format!("{scheme}://{host}{path}"), authorization)
}

/// What a service says about a refusal: the message in the usual places of a JSON answer, else its beginning.
fn message_in(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let json: Option<Value> = serde_json::from_str(&text).ok();
    let found = json.as_ref().and_then(|json| {
        let places = ["/error/message", "/message", "/error", "/detail"];
        places.iter().find_map(|place| json.pointer(place)?.as_str().map(str::to_owned))
    });
    let message = found.unwrap_or_else(|| text.trim().to_owned());
    let words = message.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(MAX_MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_an_address_are_taken_out() {
        let service = JsonService::new(
            "https://me:topsecret@host:5000/base/",
            Authorization::None,
            Duration::from_secs(1),
        )
        .unwrap();
        assert_eq!((service.shown(), service.base.as_str()), ("https://host:5000", "https://host:5000/base"));
        let expected = Authorization::Basic { username: "me".to_owned(), password: "topsecret".into() };
        assert_eq!(service.authorization, expected);
        assert!(!format!("{service:?}").contains("topsecret"));
        assert_eq!(service.called("the server").shown(), "the server");
        for address in ["host:5000", "ftp://host", "", "file:///tmp"] {
            let refused = JsonService::new(address, Authorization::None, Duration::from_secs(1));
            assert!(matches!(refused, Err(HttpError::Address { .. })), "{address}");
        }
    }

    #[test]
    fn the_words_of_a_refusal_are_found_and_shortened() {
        assert_eq!(message_in(br#"{"error": {"message": "no  such\nmodel"}}"#), "no such model");
        assert_eq!(message_in(br#"{"error_code": "X", "message": "gone"}"#), "gone");
        assert_eq!(message_in(b"<html>"), "<html>");
        assert_eq!(message_in("ü".repeat(900).as_bytes()).chars().count(), MAX_MESSAGE_CHARS);
    }
}
