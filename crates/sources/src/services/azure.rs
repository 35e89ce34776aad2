//! Azure Blob Storage, also of a Data Lake.

use object_store::azure::MicrosoftAzureBuilder;
use tunesmith_http::Secret;

use super::connector::Connector;
use super::{Client, retry};
use crate::environment::variable;
use crate::error::{Result, SourceError};

/// Azure Blob Storage, also of a Data Lake.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Azure {
    /// Storage account.
    pub account: String,
    /// Key of the account; without key and token, requests are not signed: public containers.
    pub access_key: Secret,
    /// A shared access signature: `sv=…&sig=…`.
    pub sas_token: Secret,
    /// Address of the account if it is not Microsoft's usual one.
    pub endpoint: String,
}

impl Azure {
    /// What `AZURE_STORAGE_CONNECTION_STRING`, or `AZURE_STORAGE_ACCOUNT`, `AZURE_STORAGE_KEY` and
    /// `AZURE_STORAGE_SAS_TOKEN` say.
    ///
    /// # Errors
    /// A connection string that is none.
    pub fn from_environment() -> Result<Self> {
        let connection_string = variable(&["AZURE_STORAGE_CONNECTION_STRING"]);
        if !connection_string.is_empty() {
            return Self::from_connection_string(&connection_string.into());
        }
        Ok(Self {
            account: variable(&["AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"]),
            access_key: variable(&["AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY"]).into(),
            sas_token: variable(&["AZURE_STORAGE_SAS_TOKEN"]).into(),
            endpoint: String::new(),
        })
    }

    /// What a connection string of Azure's portal says.
    ///
    /// # Errors
    /// Something else.
    pub fn from_connection_string(text: &Secret) -> Result<Self> {
        let part = |name: &str| {
            let parts = text.reveal().split(';').filter_map(|part| part.split_once('='));
            let mut found =
                parts.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
            found.next_back().unwrap_or_default().to_owned()
        };
        let mut account = part("AccountName");
        let suffix = Some(part("EndpointSuffix")).filter(|suffix| !suffix.is_empty());
        let mut endpoint = part("BlobEndpoint").trim_end_matches('/').to_owned();
        if endpoint.is_empty()
            && !account.is_empty()
            && let Some(suffix) = suffix.filter(|suffix| suffix != "core.windows.net")
        {
            let scheme = Some(part("DefaultEndpointsProtocol")).filter(|scheme| !scheme.is_empty());
            endpoint = format!("{}://{account}.blob.{suffix}", scheme.as_deref().unwrap_or("https"));
        }
        if account.is_empty() {
            // One with a signature names only the address.
            let host = endpoint.split_once("://").map_or("", |(_, host)| host);
            account = host.split_once(".blob.").map_or("", |(account, _)| account).to_owned();
        }
        if account.is_empty() {
            // Not the text itself: it holds the key.
            let reason =
                "a connection string looks like DefaultEndpointsProtocol=…;AccountName=…;AccountKey=…";
            return Err(SourceError::address("the connection string", reason));
        }
        Ok(Self {
            account,
            access_key: part("AccountKey").into(),
            sas_token: part("SharedAccessSignature").into(),
            endpoint,
        })
    }

    pub(super) fn open(&self, container: &str, connector: Connector) -> object_store::Result<Client> {
        let mut builder = MicrosoftAzureBuilder::new()
            .with_account(&self.account)
            .with_container_name(container)
            .with_retry(retry())
            .with_http_connector(connector.clone());
        if !self.endpoint.is_empty() {
            builder =
                builder.with_endpoint(self.endpoint.trim_end_matches('/').to_owned()).with_allow_http(true);
        }
        builder = if !self.access_key.is_empty() {
            builder.with_access_key(self.access_key.reveal())
        } else if !self.sas_token.is_empty() {
            builder.with_sas_authorization(query_pairs(self.sas_token.reveal()))
        } else {
            builder.with_skip_signature(true)
        };
        Ok(Client::new(builder.build()?, connector))
    }
}

/// Pairs of a query, decoded.
fn query_pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.trim_start_matches('?').split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (percent_decode(name), percent_decode(value))).collect()
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = digits.filter(|_| first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(decoded.unwrap_or(first));
        rest = if decoded.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_are_understood() {
        let text = "DefaultEndpointsProtocol=https;AccountName=data;AccountKey=a+b/c==;EndpointSuffix=core.windows.net";
        let expected = Azure { account: "data".to_owned(), access_key: "a+b/c==".into(), ..Azure::default() };
        assert_eq!(Azure::from_connection_string(&text.into()).unwrap(), expected);
        let text = "BlobEndpoint=https://data.blob.core.windows.net/;SharedAccessSignature=sv=2020&sig=x%3D";
        let azure = Azure::from_connection_string(&text.into()).unwrap();
        assert_eq!(azure.account, "data");
        assert_eq!(
            query_pairs(azure.sas_token.reveal()),
            [("sv", "2020"), ("sig", "x=")].map(|(a, b)| (a.into(), b.into()))
        );
        let error = Azure::from_connection_string(&"AccountKey=topsecret".into()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("topsecret"));
    }
}
