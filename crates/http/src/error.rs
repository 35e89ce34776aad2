//! What can go wrong on the way to a service and back.

use std::time::Duration;

/// A request without a usable answer. Texts hold host and path of the address, never a query or a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The address is no address of the web.
    #[error("{address:?} is not an address that begins with https:// or http:// and a host")]
    Address {
        /// As it was given, without what stands before an `@`.
        address: String,
    },
    /// No connection, or it broke, or the time was up.
    #[error("{address}: {reason}")]
    Unreachable {
        /// Where to.
        address: String,
        /// The reason in words.
        reason: String,
    },
    /// The service answers that it does not do it.
    #[error("{address}: HTTP status {status}{}", said(.message))]
    Status {
        /// Where to.
        address: String,
        /// The number of the status.
        status: u16,
        /// What the service says about it, shortened; may be empty.
        message: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The answer is not what it should be.
    #[error("{address}: {reason}")]
    Answer {
        /// Where to.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl HttpError {
    /// Whether the same request may do later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::Address { .. } | Self::Answer { .. } => false,
        }
    }

    /// Whether the service does not know who asks, or does not let them.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Status { status: 401 | 403, .. })
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let status = |status| HttpError::Status {
            address: "http://host/a".to_owned(),
            status,
            message: "no".to_owned(),
            retry_after: None,
        };
        let passing = [400, 401, 404, 408, 429, 500, 503].map(|number| status(number).is_passing());
        assert_eq!(passing, [false, false, false, true, true, true, true]);
        assert!(status(403).is_refusal() && !status(404).is_refusal());
        assert_eq!(status(404).to_string(), "http://host/a: HTTP status 404: no");
    }
}
