//! The services that keep buckets: what each needs to be asked, from a form, a connection string or the environment.

mod azure;
mod connector;
mod google;
mod s3;

use std::sync::Arc;
use std::time::Duration;

use object_store::list::PaginatedListStore;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use serde_json::{Map, Value};
use tunesmith_http::{Secret, scrub};

pub use self::azure::Azure;
use self::connector::Connector;
pub use self::google::Google;
pub use self::s3::S3;
use crate::error::{Result, SourceError};

/// Who keeps a bucket.
#[derive(Debug, Clone, PartialEq)]
pub enum Service {
    /// Amazon S3 and what speaks its protocol.
    S3(S3),
    /// Azure Blob Storage.
    Azure(Azure),
    /// Google Cloud Storage.
    Google(Google),
}

/// A service, ready to be asked about one bucket.
pub(crate) struct Client {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) pages: Arc<dyn PaginatedListStore>,
    connector: Connector,
}

impl Client {
    fn new<S: ObjectStore + PaginatedListStore>(store: S, connector: Connector) -> Self {
        let store = Arc::new(store);
        Self { objects: Arc::clone(&store) as Arc<dyn ObjectStore>, pages: store, connector }
    }

    /// HTTP status of the last answer; 0 when there was none.
    pub(crate) fn status(&self) -> u16 {
        self.connector.status()
    }

    /// The region that an answer named as the bucket's own.
    pub(crate) fn region(&self) -> Option<String> {
        self.connector.region()
    }
}

impl Service {
    /// How addresses of its buckets begin.
    pub(crate) fn scheme(&self) -> &'static str {
        match self {
            Self::S3(_) => "s3",
            Self::Azure(_) => "az",
            Self::Google(_) => "gs",
        }
    }

    pub(crate) fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::S3(s3) => vec![&s3.access_key_id, &s3.secret_access_key, &s3.session_token],
            Self::Azure(azure) => vec![&azure.access_key, &azure.sas_token],
            Self::Google(google) => vec![&google.service_account],
        }
    }

    /// What is shown to be let in, in words; none when requests are not signed.
    pub(crate) fn credentials(&self) -> Option<&'static str> {
        match self {
            Self::S3(s3) => (!s3.access_key_id.is_empty()).then_some("the access key and its secret key"),
            Self::Azure(azure) if !azure.access_key.is_empty() => Some("the key of the account"),
            Self::Azure(azure) => (!azure.sas_token.is_empty()).then_some("the shared access signature"),
            Self::Google(google) => (!google.service_account.is_empty()).then_some("the service account"),
        }
    }

    /// What may be shown to be let in, in words.
    pub(crate) fn accepted_credentials(&self) -> &'static str {
        match self {
            Self::S3(_) => "an access key and its secret key",
            Self::Azure(_) => "a connection string, the key of the account or a shared access signature",
            Self::Google(_) => "the key file of a service account",
        }
    }

    /// Address of the service where it is not the usual one; of Azure's also the account.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::S3(s3) => s3.endpoint.clone(),
            Self::Azure(azure) => format!("{} {}", azure.account, azure.endpoint),
            Self::Google(google) => google.endpoint.clone(),
        }
    }

    /// The region that is asked, where a service has such.
    pub(crate) fn region(&self) -> &str {
        match self {
            Self::S3(s3) if s3.region.is_empty() => s3::DEFAULT_REGION,
            Self::S3(s3) => &s3.region,
            Self::Azure(_) | Self::Google(_) => "",
        }
    }

    /// Ready to be asked about `bucket`, called `address` in messages.
    pub(crate) fn open(&self, bucket: &str, address: &str) -> Result<Client> {
        self.check().map_err(|reason| SourceError::address(address, reason))?;
        let connector = Connector::new();
        let opened = match self {
            Self::S3(s3) => s3.open(bucket, connector),
            Self::Azure(azure) => azure.open(bucket, connector),
            Self::Google(google) => google.open(bucket, connector),
        };
        opened.map_err(|error| SourceError::address(address, scrub(&last_source(&error), self.secrets())))
    }

    /// What is missing before anybody can be asked.
    fn check(&self) -> std::result::Result<(), &'static str> {
        let (endpoint, missing) = match self {
            Self::S3(s3) => {
                let is_half = s3.access_key_id.is_empty() != s3.secret_access_key.is_empty();
                (
                    &s3.endpoint,
                    is_half.then_some("give both access key and secret key, or neither for a public bucket"),
                )
            }
            Self::Azure(azure) => (
                &azure.endpoint,
                azure.account.is_empty().then_some("it needs the name of the storage account"),
            ),
            Self::Google(google) => {
                let account = google.service_account.reveal();
                let is_key_file = serde_json::from_str::<Map<String, Value>>(account).is_ok();
                (
                    &google.endpoint,
                    (!account.is_empty() && !is_key_file)
                        .then_some("the key of a service account is the whole JSON file that Google gives"),
                )
            }
        };
        if !(endpoint.is_empty() || endpoint.starts_with("http://") || endpoint.starts_with("https://")) {
            return Err("the address of the service begins with https:// or http://");
        }
        missing.map_or(Ok(()), Err)
    }
}

/// Few attempts: whoever fetches goes on by itself after what passes.
fn retry() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(200),
        max_backoff: Duration::from_secs(2),
        ..BackoffConfig::default()
    };
    RetryConfig { backoff, max_retries: 2, retry_timeout: Duration::from_secs(20) }
}

/// The innermost reason of an error; the outer ones repeat it among internals.
pub(crate) fn last_source(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_key_is_refused_before_anybody_is_asked() {
        let s3 = S3 { access_key_id: "AKIA".into(), endpoint: "http://127.0.0.1:1".into(), ..S3::default() };
        let error = Service::S3(s3).open("b", "s3://b").err().unwrap();
        assert!(error.to_string().contains("both"), "{error}");
    }
}
