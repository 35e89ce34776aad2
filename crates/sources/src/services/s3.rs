//! Amazon S3 and what speaks its protocol.

use object_store::aws::AmazonS3Builder;
use tunesmith_http::Secret;

use super::connector::Connector;
use super::{Client, retry};
use crate::environment::variable;

/// Region of buckets whose own is not to be found out.
pub(super) const DEFAULT_REGION: &str = "us-east-1";

/// Amazon S3, or something that speaks its protocol.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct S3 {
    /// Name of the key; without name and key, requests are not signed: public buckets.
    pub access_key_id: Secret,
    /// The key.
    pub secret_access_key: Secret,
    /// For keys that end after some hours.
    pub session_token: Secret,
    /// Region; found out if empty.
    pub region: String,
    /// Address of another service than Amazon's, such as `http://localhost:9000`; Amazon's own if empty.
    pub endpoint: String,
}

impl S3 {
    /// What `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_DEFAULT_REGION`,
    /// `AWS_ENDPOINT_URL_S3` and `AWS_ENDPOINT_URL` say.
    pub fn from_environment() -> Self {
        Self {
            access_key_id: variable(&["AWS_ACCESS_KEY_ID"]).into(),
            secret_access_key: variable(&["AWS_SECRET_ACCESS_KEY"]).into(),
            session_token: variable(&["AWS_SESSION_TOKEN"]).into(),
            region: variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
            endpoint: variable(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
        }
    }

    pub(super) fn open(&self, bucket: &str, connector: Connector) -> object_store::Result<Client> {
        let region = match (self.region.trim(), self.endpoint.is_empty()) {
            ("", true) => region_of(bucket, &connector),
            ("", false) => DEFAULT_REGION.to_owned(),
            (region, _) => region.to_owned(),
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(region)
            .with_retry(retry())
            .with_http_connector(connector.clone());
        if !self.endpoint.is_empty() {
            builder = builder.with_endpoint(self.endpoint.trim_end_matches('/')).with_allow_http(true);
        }
        if self.access_key_id.is_empty() {
            return Ok(Client::new(builder.with_skip_signature(true).build()?, connector));
        }
        builder = builder
            .with_access_key_id(self.access_key_id.reveal())
            .with_secret_access_key(self.secret_access_key.reveal());
        if !self.session_token.is_empty() {
            builder = builder.with_token(self.session_token.reveal());
        }
        Ok(Client::new(builder.build()?, connector))
    }
}

/// Amazon says where a bucket lies to whoever asks, whatever else it says.
fn region_of(bucket: &str, connector: &Connector) -> String {
    let answer = connector.agent().head(format!("https://s3.amazonaws.com/{bucket}")).call();
    let header = |answer: ureq::http::Response<ureq::Body>| {
        answer.headers().get("x-amz-bucket-region")?.to_str().ok().map(str::to_owned)
    };
    answer.ok().and_then(header).unwrap_or_else(|| DEFAULT_REGION.to_owned())
}
