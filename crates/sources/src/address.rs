//! Addresses of sources, as the command line takes them.

use std::path::{Path, PathBuf};

use crate::bucket::Bucket;
use crate::error::{Result, SourceError};
use crate::fetch::Source;
use crate::hub::HubDataset;
use crate::kaggle::KaggleDataset;
use crate::names::shown;
use crate::services::{Azure, Google, S3, Service};

const AZURE_HOST: &str = ".blob.core.windows.net";

/// The source at an address, still without credentials.
pub(crate) fn parse(address: &str) -> Result<Source> {
    let Some((scheme, rest)) = address.split_once("://") else {
        let is_local = Path::new(address).exists();
        return match address.strip_prefix("datasets/").filter(|name| !is_local && name.contains('/')) {
            Some(name) => Ok(hub(name)),
            None => Ok(Source::Local(PathBuf::from(address))),
        };
    };
    let wrong = |reason: &str| SourceError::address(address, reason);
    let (first, key) = rest.split_once('/').unwrap_or((rest, ""));
    let bucket = |service: Service| {
        if first.is_empty() {
            return Err(wrong("after :// stands the name of a bucket"));
        }
        Ok(Source::Bucket(Bucket { service, name: first.to_owned(), key: key.to_owned() }))
    };
    match scheme.to_lowercase().as_str() {
        "s3" | "s3a" => bucket(Service::S3(S3::default())),
        "gs" | "gcs" => bucket(Service::Google(Google::default())),
        "az" | "azure" => bucket(Service::Azure(Azure::default())),
        "abfs" | "abfss" => match first.split_once('@') {
            Some((container, host)) => {
                let account = host.split('.').next().unwrap_or_default().to_owned();
                let service = Service::Azure(Azure { account, ..Azure::default() });
                Ok(Source::Bucket(Bucket { service, name: container.to_owned(), key: key.to_owned() }))
            }
            None => bucket(Service::Azure(Azure::default())),
        },
        "hf" => {
            let name = rest.strip_prefix("datasets/").map(hub);
            name.ok_or_else(|| wrong("a data set of the hub is written hf://datasets/owner/name"))
        }
        "kaggle" => kaggle(rest).ok_or_else(|| wrong("a data set on Kaggle is written kaggle://owner/name")),
        // The pages of data sets, as they stand in a browser.
        "https" if first == "huggingface.co" && is_page(key, "datasets/", 3) => {
            Ok(hub(key.strip_prefix("datasets/").unwrap_or(key)))
        }
        "https" if matches!(first, "www.kaggle.com" | "kaggle.com") && is_page(key, "datasets/", 3) => {
            let name = key.strip_prefix("datasets/").unwrap_or(key);
            kaggle(name).ok_or_else(|| wrong("that is no data set of Kaggle"))
        }
        // A signed address is an ordinary one; any other of Azure's may need the account's key.
        "https" if first.ends_with(AZURE_HOST) && !rest.contains('?') => {
            let account = first.strip_suffix(AZURE_HOST).unwrap_or_default().to_owned();
            let (container, key) = key.split_once('/').unwrap_or((key, ""));
            let service = Service::Azure(Azure { account, ..Azure::default() });
            Ok(Source::Bucket(Bucket { service, name: container.to_owned(), key: key.to_owned() }))
        }
        "http" | "https" => Ok(Source::Url(address.to_owned())),
        _ => Err(SourceError::Address {
            address: shown(address),
            reason: "it begins with s3, gs, az, abfs, hf, kaggle, https or http and ://, or is a path"
                .to_owned(),
        }),
    }
}

/// `owner/name`, or `owner/name@revision`.
fn hub(name: &str) -> Source {
    let name = name.trim_end_matches('/');
    let (repo, revision) = name.split_once('@').map_or((name, None), |(repo, name)| (repo, Some(name)));
    let revision = revision.map(str::to_owned);
    Source::Hub(HubDataset { revision, ..HubDataset::new(repo) })
}

/// `owner/name`, or `owner/name/file`.
fn kaggle(name: &str) -> Option<Source> {
    let mut parts = name.trim_end_matches('/').splitn(3, '/');
    let (owner, name) = (parts.next()?, parts.next()?);
    let file = parts.next().map(str::to_owned);
    Some(Source::Kaggle(KaggleDataset { file, ..KaggleDataset::new(format!("{owner}/{name}")) }))
}

/// Whether the path of an address begins so and has that many parts.
fn is_page(path: &str, beginning: &str, n_parts: usize) -> bool {
    path.starts_with(beginning) && path.trim_end_matches('/').split('/').count() == n_parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood() {
        for (address, expected) in [
            ("s3://bucket/a/rows.csv", "s3://bucket/a/rows.csv"),
            ("s3://bucket", "s3://bucket/"),
            ("gs://bucket/a/", "gs://bucket/a/"),
            ("az://container/rows.csv", "az://container/rows.csv"),
            ("abfss://container@account.dfs.core.windows.net/rows.csv", "az://container/rows.csv"),
            ("https://account.blob.core.windows.net/container/a/rows.csv", "az://container/a/rows.csv"),
            (
                "https://account.blob.core.windows.net/c/rows.csv?sig=secret",
                "https://account.blob.core.windows.net/c/rows.csv",
            ),
            ("https://example.org/rows.csv?token=secret", "https://example.org/rows.csv"),
            ("hf://datasets/owner/name@refs/pr/1", "hf://datasets/owner/name@refs/pr/1"),
            ("kaggle://owner/name", "kaggle://owner/name"),
            ("kaggle://owner/name/a/rows.csv", "kaggle://owner/name/a/rows.csv"),
            ("https://huggingface.co/datasets/owner/name", "hf://datasets/owner/name"),
            (
                "https://huggingface.co/datasets/owner/name/resolve/main/rows.csv",
                "https://huggingface.co/datasets/owner/name/resolve/main/rows.csv",
            ),
            ("https://www.kaggle.com/datasets/owner/name/", "kaggle://owner/name"),
            ("datasets/owner/name", "hf://datasets/owner/name"),
            ("datasets/rows.csv", "datasets/rows.csv"),
            ("rows.csv", "rows.csv"),
        ] {
            assert_eq!(parse(address).unwrap().shown(), expected, "{address}");
        }
        let Source::Bucket(Bucket { service: Service::Azure(azure), .. }) =
            parse("abfs://c@account.dfs.core.windows.net/x").unwrap()
        else {
            panic!("not Azure")
        };
        assert_eq!(azure.account, "account");
        for wrong in ["s3://", "hf://owner/name", "kaggle://owner", "ftp://host/rows.csv"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
