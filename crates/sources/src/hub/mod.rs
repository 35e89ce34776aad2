//! Data sets of the Hugging Face hub: the Parquet files that the hub makes of most, or the files of one revision as they lie
//! in the repository.

mod files;

use serde_json::Value;
use tunesmith_data::file_types::{is_table_name, table_ending};
use tunesmith_http::Secret;

use self::files::files_of_split;
use crate::download::Item;
use crate::error::{Result, SourceError};
use crate::http::{Client, HttpFile};
use crate::names::{percent_encode, plain_name_of};

const ENDPOINT: &str = "https://huggingface.co";

/// Address of a file, and its size where that is known.
type RemoteFile = (String, Option<u64>);

/// A data set of the hub.
#[derive(Debug, Clone)]
pub struct HubDataset {
    /// `owner/name`, or `name` for the oldest.
    pub repo: String,
    /// One of several configurations; the default or first if none is named.
    pub config: Option<String>,
    /// `train`, ….
    pub split: String,
    /// A branch, tag or commit. The hub makes Parquet files of the main branch only: of a revision come the files of the
    /// repository that its card, or else their names, give to the split.
    pub revision: Option<String>,
    /// For private ones; shown to the endpoint's own host only.
    pub token: Secret,
    /// Address of the hub.
    pub endpoint: String,
}

impl HubDataset {
    /// The training split of the main branch on huggingface.co.
    pub fn new(repo: impl Into<String>) -> Self {
        Self {
            repo: repo.into(),
            config: None,
            split: "train".to_owned(),
            revision: None,
            token: Secret::default(),
            endpoint: ENDPOINT.to_owned(),
        }
    }

    /// Its address, as the command line takes it.
    pub(crate) fn shown(&self) -> String {
        let revision = self.revision.as_ref().map(|name| format!("@{name}")).unwrap_or_default();
        format!("hf://datasets/{}{revision}", self.repo)
    }

    /// Name for the table of the split.
    pub(crate) fn table_stem(&self) -> String {
        plain_name_of(&self.split.replace('/', "-"))
    }

    pub(crate) fn items(&self) -> Result<Vec<Item>> {
        let is_part = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        if !(1..=2).contains(&self.repo.split('/').count()) || !self.repo.split('/').all(is_part) {
            let reason = "a data set on the hub is called owner/name";
            return Err(SourceError::address(&self.shown(), reason));
        }
        let endpoint = self.endpoint.trim_end_matches('/');
        let authorization = (!self.token.is_empty()).then(|| format!("Bearer {}", self.token.reveal()));
        let client = Client::new(
            endpoint,
            authorization,
            "private and gated data sets need an access token of an account that may read them",
        )?;
        // The commit says of which state the files are.
        let revision = self.revision.as_deref().unwrap_or("main");
        let url =
            format!("{endpoint}/api/datasets/{}/revision/{}?blobs=true", self.repo, percent_encode(revision));
        let state = client.json(&url)?;
        let commit = state.get("sha").and_then(Value::as_str).unwrap_or_default().to_owned();
        let exported = match self.revision {
            None => self.exported(&client, endpoint)?,
            Some(_) => None,
        };
        let files = match exported {
            Some(files) => files,
            None => {
                let at = if commit.is_empty() { revision } else { &commit };
                let base = format!("{endpoint}/datasets/{}/resolve/{}", self.repo, percent_encode(at));
                self.in_repository(&state, &base)?
            }
        };
        let stem = self.table_stem();
        let n_files = files.len();
        let items = files.into_iter().enumerate().map(|(idx, (url, n_bytes))| {
            let address = url.split('?').next().unwrap_or_default();
            let ending = match is_table_name(address) {
                true => table_ending(address),
                false => "parquet".to_owned(),
            };
            let name =
                if n_files == 1 { format!("{stem}.{ending}") } else { format!("{stem}-{idx:05}.{ending}") };
            let shown = format!("{} ({}, file {} of {n_files})", self.shown(), self.split, idx + 1);
            let remote = Box::new(HttpFile { client: client.clone(), url, shown });
            Item { name, n_bytes, version: commit.clone(), remote }
        });
        Ok(items.collect())
    }

    /// The hub lists its Parquet files by configuration and split; of some data sets, as of most private ones, it has none.
    fn exported(&self, client: &Client, endpoint: &str) -> Result<Option<Vec<RemoteFile>>> {
        let listing = match client.json(&format!("{endpoint}/api/datasets/{}/parquet", self.repo)) {
            Err(SourceError::NotFound { .. } | SourceError::Refused { .. } | SourceError::Answer { .. }) => {
                return Ok(None);
            }
            listing => listing?,
        };
        let Some(configs) = listing.as_object().filter(|configs| !configs.is_empty()) else {
            return Ok(None);
        };
        let unknown =
            |what, name: &str, known: Vec<String>| SourceError::Choice { what, name: name.to_owned(), known };
        let chosen = match &self.config {
            Some(name) => configs
                .get(name)
                .ok_or_else(|| unknown("configuration", name, configs.keys().cloned().collect()))?,
            None => configs.get("default").or_else(|| configs.values().next()).unwrap_or(&listing),
        };
        let splits = chosen.as_object().cloned().unwrap_or_default();
        let urls = splits
            .get(&self.split)
            .ok_or_else(|| unknown("split", &self.split, splits.keys().cloned().collect()))?;
        let urls = urls.as_array().into_iter().flatten().filter_map(Value::as_str);
        // The last part of such an address is a number and `.parquet`.
        Ok(Some(urls.map(|url| (url.to_owned(), None)).collect()))
    }

    fn in_repository(&self, state: &Value, base: &str) -> Result<Vec<RemoteFile>> {
        let listed = state.get("siblings").and_then(Value::as_array).cloned().unwrap_or_default();
        let files: Vec<(&str, Option<u64>)> = listed
            .iter()
            .filter_map(|file| {
                Some((file.get("rfilename")?.as_str()?, file.get("size").and_then(Value::as_u64)))
            })
            .collect();
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        let configs = state.pointer("/cardData/configs").unwrap_or(&Value::Null);
        let chosen = files_of_split(&names, configs, self)?;
        let address = |name: &str| {
            let parts: Vec<String> = name.split('/').map(percent_encode).collect();
            format!("{base}/{}", parts.join("/"))
        };
        let n_bytes =
            |name: &str| files.iter().find(|(known, _)| *known == name).and_then(|(_, n_bytes)| *n_bytes);
        Ok(chosen.into_iter().map(|name| (address(name), n_bytes(name))).collect())
    }
}
