//! A bucket that is being asked: waiting for answers, pages of listings, errors in this crate's words.

use std::future::Future;

use object_store::list::PaginatedListOptions;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStoreExt};
use tokio::runtime::{Builder, Runtime};
use tunesmith_formats::resume::Failure;
use tunesmith_http::scrub;

use super::{Bucket, Listing, Object};
use crate::error::{Result, SourceError};
use crate::services::{Client, last_source};

/// Entries of a listing, after which it is cut: nobody chooses from more.
pub(super) const MAX_LISTED: usize = 5_000;

/// A bucket and a thread's way to wait for its answers.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) bucket: Bucket,
    runtime: Runtime,
}

impl Opened {
    pub(super) fn new(bucket: &Bucket) -> Result<Self> {
        let address = bucket.shown();
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '$');
        if bucket.name.is_empty() || !bucket.name.chars().all(is_name) {
            return Err(SourceError::address(&address, "that is no name of a bucket"));
        }
        let client = bucket.service.open(&bucket.name, &address)?;
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| SourceError::Answer {
            address,
            reason: format!("no thread can wait for it: {error}"),
        })?;
        Ok(Self { client, runtime, bucket: bucket.clone() })
    }

    pub(super) fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.block_on(answer)
    }

    /// Size and version of an object.
    pub(super) fn head(&self, path: &Path) -> object_store::Result<ObjectMeta> {
        let answer = self.wait(self.client.objects.head(path));
        match answer {
            Err(Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) => {}
            answer => return answer,
        }
        // An answer to HEAD has no body, hence no reason; one to GET has.
        let options = GetOptions { range: Some(GetRange::Bounded(0..1)), ..GetOptions::default() };
        self.wait(self.client.objects.get_opts(path, options)).map(|result| result.meta)
    }

    pub(super) fn path(&self, key: &str) -> Result<Path> {
        Path::parse(key).map_err(|error| SourceError::address(&self.bucket.address(key), error.to_string()))
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Listing> {
        let mut listing = Listing::default();
        let mut page_token = None;
        loop {
            let options = PaginatedListOptions {
                delimiter: Some("/".into()),
                page_token,
                ..PaginatedListOptions::default()
            };
            let asked = Some(prefix).filter(|prefix| !prefix.is_empty());
            let page = self.wait(self.client.pages.list_paginated(asked, options));
            let page = page.map_err(|error| self.failure(prefix, &error).into_error())?;
            listing.folders.extend(page.result.common_prefixes.iter().map(|path| format!("{path}/")));
            // Some tools mark a folder by an empty object of its name.
            let is_marker = |key: &str| key.is_empty() || key == prefix.trim_end_matches('/');
            let objects = page.result.objects.iter().filter(|object| !is_marker(object.location.as_ref()));
            listing.objects.extend(
                objects.map(|object| Object { key: object.location.to_string(), n_bytes: object.size }),
            );
            page_token = page.page_token;
            if page_token.is_none() {
                return Ok(listing);
            }
            if listing.objects.len() + listing.folders.len() >= MAX_LISTED {
                listing.is_cut = true;
                return Ok(listing);
            }
        }
    }

    /// An error of the service in this crate's words.
    pub(super) fn failure(&self, key: &str, error: &object_store::Error) -> Failure<SourceError> {
        let address = self.bucket.address(key);
        let said = scrub(&said_in(&last_source(error)), self.bucket.service.secrets());
        let status = self.client.status();
        if let Some(region) = self.client.region().filter(|_| matches!(status, 300..=400)) {
            let asked = self.bucket.service.region();
            let reason = format!("the bucket lies in the region {region}, and was looked for in {asked}");
            return Failure::Final(SourceError::Region { address, reason, region });
        }
        match (error, status) {
            (Error::NotFound { .. }, _) | (_, 404) => {
                Failure::Final(SourceError::NotFound { address, reason: said })
            }
            // 409 is how Azure says that an account has no public containers.
            (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, _) | (_, 401 | 403 | 409) => {
                Failure::Final(SourceError::Refused { address, reason: said, hint: self.refusal_hint() })
            }
            (Error::Precondition { .. }, _) | (_, 412 | 416) => Failure::Changed(SourceError::Unreachable {
                address,
                reason: "the file has changed".to_owned(),
            }),
            (_, 300..=399) => Failure::Final(SourceError::Answer {
                address,
                reason: format!("it redirects (HTTP status {status}); is the region right?"),
            }),
            (_, 400 | 405..=407 | 410..=428) => Failure::Final(SourceError::Answer { address, reason: said }),
            _ => Failure::Passing(SourceError::Unreachable { address, reason: said }),
        }
    }

    fn refusal_hint(&self) -> String {
        let service = &self.bucket.service;
        match service.credentials() {
            Some(credentials) => format!("check {credentials}: wrong, expired, or may not read this bucket"),
            None => format!("it is not public: give {}", service.accepted_credentials()),
        }
    }
}

/// What an answer's XML says, or its text itself, on one line and not without end.
fn said_in(text: &str) -> String {
    let inside = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>")).map(|(inside, _)| inside.trim())
    };
    let said = match (inside("Code"), inside("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(said), None) | (None, Some(said)) => said.to_owned(),
        (None, None) => text.to_owned(),
    };
    // How the library begins, where the answer has no text of its own.
    let said = said
        .strip_prefix("Server returned non-2xx status code: ")
        .map_or(said.as_str(), |said| said.trim_end_matches(": "));
    let said: Vec<&str> = said.split_whitespace().collect();
    let said = said.join(" ");
    match said.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", said.get(..end).unwrap_or_default()),
        None => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_quoted_briefly() {
        let answer = "Server returned non-2xx status code: 404 Not Found: <?xml version=\"1.0\"?><Error>\
                      <Code>NoSuchBucket</Code><Message>The specified bucket\n does not exist</Message></Error>";
        assert_eq!(said_in(answer), "NoSuchBucket: The specified bucket does not exist");
        assert_eq!(said_in("no  answer"), "no answer");
        assert_eq!(said_in(&"x".repeat(1_000)).chars().count(), 301);
    }
}
