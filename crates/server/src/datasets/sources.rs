//! Where tables come from: an upload, this machine, an address, the hub. All end as files in one folder.

use std::env;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use tunesmith_data::{Cell, read_table};
use utoipa::ToSchema;

use super::archive::unpack;
use super::fetch::Client;
use super::tables::{ending, free_path, plain_name_of, require_importable, tables_of};
use super::uploads;
use crate::error::{ApiError, ApiResult};
use crate::jobs::JobContext;
use crate::secrets::HUGGING_FACE_TOKEN;
use crate::state::AppState;

const DEFAULT_HUB: &str = "https://huggingface.co";

/// Where an import comes from.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Source {
    /// A file that was sent to `/uploads`.
    Upload {
        /// As `/uploads` answered.
        upload_id: String,
    },
    /// A file or folder of the machine that the studio runs on.
    Local {
        /// Its absolute path.
        path: String,
    },
    /// A file at an address.
    Url {
        /// `http://…` or `https://…`.
        url: String,
    },
    /// A data set of the Hugging Face hub.
    Hub {
        /// `owner/name`.
        repo: String,
        /// `train`, ….
        #[serde(default = "default_split")]
        split: String,
        /// One of several configurations; the first if none is named.
        #[serde(default)]
        config: Option<String>,
        /// For this import only; the stored one otherwise.
        #[serde(default)]
        token: Option<String>,
    },
}

fn default_split() -> String {
    "train".to_owned()
}

/// What a source gave.
pub(crate) struct Fetched {
    /// A name to suggest.
    pub name: String,
    /// Where it came from, in words, without secrets.
    pub source: String,
}

impl Source {
    /// A name for the job.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Upload { .. } => "Import an upload".to_owned(),
            Self::Local { path } => format!("Import {path}"),
            Self::Url { url } => format!("Import {}", plain_name_of(url.split('?').next().unwrap_or(url))),
            Self::Hub { repo, .. } => format!("Import {repo}"),
        }
    }

    /// Brings the tables into `folder`.
    ///
    /// # Errors
    /// Whatever keeps them from there.
    pub(crate) fn fetch(&self, state: &AppState, folder: &Path, context: &JobContext) -> ApiResult<Fetched> {
        let max_bytes = crate::settings::max_upload_bytes(state)?;
        match self {
            Self::Upload { upload_id } => {
                let path = uploads::find(state, upload_id)?;
                let name = file_name(&path);
                let kept = folder.join(&name);
                fs::rename(&path, &kept).map_err(|error| ApiError::io(&path, "move", &error))?;
                uploads::remove(state, upload_id)?;
                unpack_if_archive(&kept, max_bytes, context)?;
                Ok(Fetched { source: format!("upload of {name}"), name: stem(&name) })
            }
            Self::Local { path } => local(Path::new(path), folder, max_bytes, context),
            Self::Url { url } => {
                if !(url.starts_with("http://") || url.starts_with("https://")) {
                    let error = ApiError::bad_request(format!("{url:?} is not an address of the web"));
                    return Err(error.hint("it begins with https:// or http://"));
                }
                let bare = url.split(['?', '#']).next().unwrap_or(url);
                let name = plain_name_of(bare);
                require_importable(&name).map_err(|error| {
                    error.hint(
                        "the address ends in .csv, .tsv, .json, .jsonl, .parquet or .zip, before any question mark",
                    )
                })?;
                let path = folder.join(&name);
                context.say(format!("fetching {name}"));
                Client::new(None).download(url, &path, max_bytes, 0, context)?;
                unpack_if_archive(&path, max_bytes, context)?;
                Ok(Fetched { name: stem(&name), source: bare.to_owned() })
            }
            Self::Hub { repo, split, config, token } => {
                let token = match token.as_ref().filter(|token| !token.is_empty()) {
                    Some(token) => Some(token.clone()),
                    None => state.secrets.get(HUGGING_FACE_TOKEN)?.or_else(|| env::var("HF_TOKEN").ok()),
                };
                hub(&Client::new(token), (repo, split, config.as_deref()), folder, max_bytes, context)
            }
        }
    }
}

fn local(path: &Path, folder: &Path, max_bytes: u64, context: &JobContext) -> ApiResult<Fetched> {
    if !path.is_absolute() {
        return Err(ApiError::bad_request("the path of a local import begins at the root of the disk"));
    }
    let metadata = fs::metadata(path).map_err(|error| ApiError::io(path, "read", &error))?;
    let sources: Vec<PathBuf> = if metadata.is_dir() {
        tables_of(path)?.into_iter().map(|name| path.join(name)).collect()
    } else {
        vec![path.to_owned()]
    };
    if sources.is_empty() {
        return Err(ApiError::invalid(format!("there is no table in {}", path.display())));
    }
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |file| file.len());
    let total: u64 = sources.iter().map(size).sum();
    if total > max_bytes {
        let error = ApiError::invalid(format!("{} is larger than {max_bytes} bytes", path.display()));
        return Err(error.hint("raise the upload limit in Settings"));
    }
    let mut done = 0;
    for source in &sources {
        let name = file_name(source);
        require_importable(&name)?;
        context.say(format!("copying {name}"));
        let target = folder.join(&name);
        let mut from = File::open(source).map_err(|error| ApiError::io(source, "open", &error))?;
        let mut to = File::create(&target).map_err(|error| ApiError::io(&target, "create", &error))?;
        let mut chunk = vec![0; 1 << 20];
        loop {
            context.check()?;
            let n = from.read(&mut chunk).map_err(|error| ApiError::io(source, "read", &error))?;
            let Some(bytes) = chunk.get(..n).filter(|bytes| !bytes.is_empty()) else { break };
            to.write_all(bytes).map_err(|error| ApiError::io(&target, "write", &error))?;
            done += n as u64;
            context.bytes(done, Some(total));
        }
        drop(to);
        unpack_if_archive(&target, max_bytes, context)?;
    }
    let name = file_name(path);
    Ok(Fetched {
        name: if metadata.is_dir() { name } else { stem(&name) },
        source: path.display().to_string(),
    })
}

/// The hub keeps every public data set as Parquet files, too, and lists them by configuration and split.
fn hub(
    client: &Client,
    (repo, split, config): (&str, &str, Option<&str>),
    folder: &Path,
    max_bytes: u64,
    context: &JobContext,
) -> ApiResult<Fetched> {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    if !(1..=2).contains(&repo.split('/').count()) || !repo.split('/').all(is_part) {
        return Err(ApiError::bad_request(format!("{repo:?} is not the name of a data set on the hub"))
            .hint("write it like owner/name"));
    }
    let endpoint = env::var("HF_ENDPOINT").unwrap_or_else(|_| DEFAULT_HUB.to_owned());
    let endpoint = endpoint.trim_end_matches('/');
    context.say(format!("asking for the files of {repo}"));
    let listing = client.json(&format!("{endpoint}/api/datasets/{repo}/parquet"))?;
    let configs = listing.as_object().cloned().unwrap_or_default();
    let chosen = match config {
        Some(name) => configs.get(name).ok_or_else(|| unknown("configuration", name, configs.keys()))?,
        None => configs
            .get("default")
            .or_else(|| configs.values().next())
            .ok_or_else(|| ApiError::invalid(format!("{repo} has no tables on the hub")))?,
    };
    let splits = chosen.as_object().cloned().unwrap_or_default();
    let files = splits.get(split).ok_or_else(|| unknown("split", split, splits.keys()))?;
    let urls: Vec<&str> = files.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let stem = plain_name_of(&split.replace('/', "-"));
    let mut parts = Vec::new();
    let mut done = 0;
    for (idx, url) in urls.iter().enumerate() {
        context.say(format!("fetching file {} of {}", idx + 1, urls.len()));
        let name =
            if urls.len() == 1 { format!("{stem}.parquet") } else { format!("{stem}-{idx:05}.parquet") };
        let path = folder.join(name);
        done += client.download(url, &path, max_bytes.saturating_sub(done), done, context)?;
        parts.push(path);
    }
    if parts.len() > 1 {
        context.say("putting the files together");
        join_tables(&parts, &free_path(folder, &format!("{stem}.jsonl")), context)?;
        for part in parts {
            fs::remove_file(&part).map_err(|error| ApiError::io(&part, "remove", &error))?;
        }
    }
    let name = repo.rsplit('/').next().unwrap_or(repo).to_owned();
    Ok(Fetched { name, source: format!("{repo} ({split}) on the Hugging Face hub") })
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a String>) -> ApiError {
    let known: Vec<&str> = known.map(String::as_str).collect();
    ApiError::invalid(format!("there is no {what} {name:?}")).hint(format!("there are: {}", known.join(", ")))
}

/// Writes the rows of several tables one after the other as JSON lines.
pub(super) fn join_tables(parts: &[PathBuf], target: &Path, context: &JobContext) -> ApiResult<()> {
    let out = File::create(target).map_err(|error| ApiError::io(target, "create", &error))?;
    let mut out = BufWriter::new(out);
    let failed = |error: std::io::Error| ApiError::io(target, "write", &error);
    for part in parts {
        context.check()?;
        let table = read_table(part, None)?;
        for row in &table.rows {
            let object: Map<String, Value> = table
                .columns
                .iter()
                .zip(row)
                .filter(|(_, cell)| !cell.is_missing())
                .map(|(name, cell)| (name.clone(), json_of(cell)))
                .collect();
            writeln!(out, "{}", Value::Object(object)).map_err(failed)?;
        }
    }
    out.flush().map_err(failed)
}

fn json_of(cell: &Cell) -> Value {
    match cell {
        Cell::Missing => Value::Null,
        Cell::Text(text) => text.clone().into(),
        Cell::Int(value) => (*value).into(),
        Cell::Float(value) => serde_json::Number::from_f64(*value).map_or(Value::Null, Value::Number),
        Cell::Bool(value) => (*value).into(),
        Cell::Json(value) => value.clone(),
    }
}

/// Replaces a zip archive by the tables in it.
fn unpack_if_archive(path: &Path, max_bytes: u64, context: &JobContext) -> ApiResult<()> {
    if ending(&file_name(path)) != "zip" {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(path);
    unpack(path, folder, max_bytes, context)?;
    fs::remove_file(path).map_err(|error| ApiError::io(path, "remove", &error))
}

fn file_name(path: &Path) -> String {
    plain_name_of(&path.file_name().unwrap_or_default().to_string_lossy())
}

fn stem(name: &str) -> String {
    name.split('.').next().unwrap_or(name).to_owned()
}
