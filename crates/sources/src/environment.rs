//! Credentials from the environment variables that each service's own tools read.

use std::env;

use crate::error::Result;
use crate::fetch::Source;
use crate::services::{Azure, Google, S3, Service};

impl Source {
    /// The same with the credentials, endpoint and region that the usual variables name, where the source itself has none.
    ///
    /// A source with any of these is left as it is: nobody's credentials are shown to a service they are not meant for.
    ///
    /// # Errors
    /// A file that a variable names cannot be read; a variable that makes no sense.
    pub fn with_environment(mut self) -> Result<Self> {
        match &mut self {
            Self::Local(_) | Self::Url(_) => {}
            Self::Hub(hub) => {
                if hub.token.is_empty() {
                    hub.token = variable(&["HF_TOKEN"]).into();
                }
                let endpoint = variable(&["HF_ENDPOINT"]);
                if !endpoint.is_empty() {
                    hub.endpoint = endpoint;
                }
            }
            Self::Kaggle(kaggle) if kaggle.key.is_empty() => {
                kaggle.username = variable(&["KAGGLE_USERNAME"]);
                kaggle.key = variable(&["KAGGLE_KEY"]).into();
                if kaggle.key.is_empty() {
                    kaggle.username = String::new();
                    kaggle.key = variable(&["KAGGLE_API_TOKEN"]).into();
                }
            }
            Self::Kaggle(_) => {}
            Self::Bucket(bucket) => match &mut bucket.service {
                Service::S3(s3) if *s3 == S3::default() => *s3 = S3::from_environment(),
                Service::Google(google) if *google == Google::default() => {
                    *google = Google::from_environment()?
                }
                Service::Azure(azure) => {
                    let found = Azure::from_environment()?;
                    let named = Azure { account: azure.account.clone(), ..Azure::default() };
                    // Another account's key is of no use.
                    if *azure == named && (azure.account.is_empty() || azure.account == found.account) {
                        *azure = found;
                    }
                }
                Service::S3(_) | Service::Google(_) => {}
            },
        }
        Ok(self)
    }
}

/// The first of these environment variables that is set to something.
pub(crate) fn variable(names: &[&str]) -> String {
    let value = |name: &&str| env::var(name).ok().map(|value| value.trim().to_owned());
    names.iter().filter_map(value).find(|value| !value.is_empty()).unwrap_or_default()
}
