//! The HTTP client of the rest of this crate, in the form that `object_store` wants.
//!
//! It blocks. That is harmless: the only runtime it is used from has one thread and one thing to do, and the thread waits
//! for it anyway.

use std::io::Read;
use std::pin::Pin;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use ureq::Agent;
use ureq::http::Request;

const CHUNK_BYTES: usize = 1 << 17;

/// Makes clients; knows the status of their last answer, which errors of `object_store` only tell in words.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    agent: Agent,
    status: Arc<AtomicU16>,
    region: Arc<Mutex<Option<String>>>,
}

impl Connector {
    pub(crate) fn new() -> Self {
        // Requests are signed for one address: following a redirect makes no sense.
        Self { agent: tunesmith_http::agent(0), status: Arc::default(), region: Arc::default() }
    }

    /// HTTP status of the last answer; 0 when there was none.
    pub(crate) fn status(&self) -> u16 {
        self.status.load(Ordering::Relaxed)
    }

    /// The region that an answer named as the bucket's own; only Amazon's do.
    pub(crate) fn region(&self) -> Option<String> {
        self.region.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn agent(&self) -> &Agent {
        &self.agent
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.status.store(0, Ordering::Relaxed);
        let (parts, body) = request.into_parts();
        // Only listing, reading and asking for tokens are done here, all with small bodies in one piece.
        let body = body.as_bytes().cloned().unwrap_or_default();
        let outcome = if body.is_empty() {
            self.agent.run(Request::from_parts(parts, ()))
        } else {
            self.agent.run(Request::from_parts(parts, body.to_vec()))
        };
        let (parts, body) = outcome.map_err(failed)?.into_parts();
        self.status.store(parts.status.as_u16(), Ordering::Relaxed);
        if let Some(region) = parts.headers.get("x-amz-bucket-region").and_then(|region| region.to_str().ok())
        {
            *self.region.lock().unwrap_or_else(PoisonError::into_inner) = Some(region.to_owned());
        }
        let body = HttpResponseBody::new(Reading(Mutex::new(Box::new(body.into_reader()))));
        Ok(HttpResponse::from_parts(parts, body))
    }
}

/// What was received of an answer, piece by piece.
struct Reading(Mutex<Box<dyn Read + Send>>);

impl Body for Reading {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let mut reader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut chunk = vec![0; CHUNK_BYTES];
        Poll::Ready(match reader.read(&mut chunk) {
            Ok(0) => None,
            Ok(n) => {
                chunk.truncate(n);
                Some(Ok(Frame::data(chunk.into())))
            }
            Err(error) => Some(Err(HttpError::new(HttpErrorKind::Interrupted, error))),
        })
    }
}

fn failed(error: ureq::Error) -> HttpError {
    let kind = match &error {
        ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => HttpErrorKind::Connect,
        ureq::Error::Io(_) => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error)
}
