//! Google Cloud Storage.

use std::fs;
use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use tunesmith_http::Secret;

use super::connector::Connector;
use super::{Client, retry};
use crate::environment::variable;
use crate::error::{Result, SourceError};

/// Google Cloud Storage.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Google {
    /// Contents of a service account's key file, which is JSON; without, requests are not signed: public buckets.
    pub service_account: Secret,
    /// Address if it is not Google's own.
    pub endpoint: String,
}

impl Google {
    /// What the file named by `GOOGLE_APPLICATION_CREDENTIALS` and `STORAGE_EMULATOR_HOST` say.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn from_environment() -> Result<Self> {
        let file = variable(&["GOOGLE_APPLICATION_CREDENTIALS"]);
        let service_account = match file.is_empty() {
            true => Secret::default(),
            false => fs::read_to_string(&file).map_err(SourceError::io(file.as_ref(), "read"))?.into(),
        };
        let host = variable(&["STORAGE_EMULATOR_HOST"]);
        let endpoint = if host.is_empty() || host.contains("://") { host } else { format!("http://{host}") };
        Ok(Self { service_account, endpoint })
    }

    pub(super) fn open(&self, bucket: &str, connector: Connector) -> object_store::Result<Client> {
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(bucket)
            .with_retry(retry())
            .with_http_connector(connector.clone());
        if !self.endpoint.is_empty() {
            builder = builder.with_base_url(self.endpoint.trim_end_matches('/'));
        }
        builder = if self.service_account.is_empty() {
            // Credentials of its own, so that no others are looked for on this machine.
            let nobody = StaticCredentialProvider::new(GcpCredential { bearer: String::new() });
            builder.with_skip_signature(true).with_credentials(Arc::new(nobody))
        } else {
            builder.with_service_account_key(self.service_account.reveal())
        };
        Ok(Client::new(builder.build()?, connector))
    }
}
