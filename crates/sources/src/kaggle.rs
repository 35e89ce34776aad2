//! Data sets and competitions of Kaggle, over its HTTP interface: one archive of all files, or one file.

use tunesmith_http::{Secret, basic};

use crate::bucket::{Listing, Object};
use crate::download::Item;
use crate::error::{Result, SourceError};
use crate::http::{Client, HttpFile};
use crate::names::{is_importable, percent_encode, plain_name_of};

/// Where Kaggle answers.
const ENDPOINT: &str = "https://www.kaggle.com";
/// What stands in the place of an owner for the data of a competition.
const COMPETITIONS: &str = "competitions";
/// Pages of a list of files that are read.
const MAX_PAGES: usize = 50;

/// A data set of Kaggle.
#[derive(Debug, Clone)]
pub struct KaggleDataset {
    /// `owner/name`, as in the data set's address, or `competitions/name`.
    pub dataset: String,
    /// One file of it; all if none is named.
    pub file: Option<String>,
    /// One of its versions; the newest if none is named.
    pub version: Option<u32>,
    /// The user's name on Kaggle. Public data sets may be read without; newer tokens stand for themselves.
    pub username: String,
    /// The user's key or token.
    pub key: Secret,
    /// Where Kaggle answers; another place only in tests.
    pub endpoint: String,
}

impl KaggleDataset {
    /// The newest version of the whole data set, without credentials.
    pub fn new(dataset: impl Into<String>) -> Self {
        Self {
            dataset: dataset.into(),
            file: None,
            version: None,
            username: String::new(),
            key: Secret::default(),
            endpoint: ENDPOINT.to_owned(),
        }
    }

    /// Its address, as the command line takes it.
    pub(crate) fn shown(&self) -> String {
        let file = self.file.as_ref().map(|file| format!("/{file}")).unwrap_or_default();
        format!("kaggle://{}{file}", self.dataset)
    }

    pub(crate) fn items(&self) -> Result<Vec<Item>> {
        let (owner, name) = self.parts()?;
        let mut url = match (owner, &self.file) {
            (COMPETITIONS, None) => format!("{}/api/v1/competitions/data/download-all/{name}", self.endpoint),
            (COMPETITIONS, Some(_)) => format!("{}/api/v1/competitions/data/download/{name}", self.endpoint),
            _ => format!("{}/api/v1/datasets/download/{owner}/{name}", self.endpoint),
        };
        let file_name = match &self.file {
            Some(file) => {
                let plain = plain_name_of(file);
                if !is_importable(&plain) {
                    return Err(SourceError::NotATable { name: plain });
                }
                let parts: Vec<String> = file.split('/').map(percent_encode).collect();
                url.push('/');
                url.push_str(&parts.join("/"));
                plain
            }
            None => format!("{name}.zip"),
        };
        if let Some(version) = self.version.filter(|_| owner != COMPETITIONS) {
            url.push_str(&format!("?datasetVersionNumber={version}"));
        }
        let file = HttpFile { client: self.client()?, url, shown: self.shown() };
        let version = self.version.map(|version| version.to_string()).unwrap_or_default();
        Ok(vec![Item { name: file_name, n_bytes: None, version, remote: Box::new(file) }])
    }

    /// The files of the data set.
    ///
    /// # Errors
    /// As when fetching.
    pub(crate) fn list(&self) -> Result<Listing> {
        let (owner, name) = self.parts()?;
        let client = self.client()?;
        let (what, files) = match owner {
            COMPETITIONS => (format!("competitions/data/list/{name}"), "files"),
            _ => (format!("datasets/list/{owner}/{name}"), "datasetFiles"),
        };
        let base = format!("{}/api/v1/{what}?pageSize=200", self.endpoint);
        let mut listing = Listing::default();
        let mut url = base.clone();
        for _ in 0..MAX_PAGES {
            let page = client.json(&url)?;
            for file in page.get(files).and_then(|files| files.as_array()).into_iter().flatten() {
                let key = file.get("name").and_then(|name| name.as_str()).unwrap_or_default().to_owned();
                let n_bytes = file.get("totalBytes").and_then(|bytes| bytes.as_u64()).unwrap_or(0);
                listing.objects.push(Object { key, n_bytes });
            }
            let token = page.get("nextPageToken").and_then(|token| token.as_str()).unwrap_or_default();
            if token.is_empty() {
                return Ok(listing);
            }
            url = format!("{base}&pageToken={}", percent_encode(token));
        }
        listing.is_cut = true;
        Ok(listing)
    }

    fn client(&self) -> Result<Client> {
        let authorization = match (self.username.is_empty(), self.key.is_empty()) {
            (_, true) => None,
            (true, false) => Some(format!("Bearer {}", self.key.reveal())),
            (false, false) => Some(basic(&self.username, &self.key)),
        };
        Client::new(
            &self.endpoint,
            authorization,
            "private data sets need your user name and key (kaggle.com, Settings, API); competitions and some data sets, that \
             their terms are accepted on the website first",
        )
    }

    fn parts(&self) -> Result<(&str, &str)> {
        let is_part = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        self.dataset.split_once('/').filter(|(owner, name)| is_part(owner) && is_part(name)).ok_or_else(
            || {
                SourceError::address(
                    &format!("kaggle://{}", self.dataset),
                    "a data set on Kaggle is called owner/name",
                )
            },
        )
    }
}
