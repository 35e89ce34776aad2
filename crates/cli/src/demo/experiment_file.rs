//! The demo's files: the data set and a short experiment file that a person can read and change.

use std::fs;
use std::path::{Path, PathBuf};

use tunesmith_formats::write_file;

use super::dataset::{DataSet, Size, generate, to_jsonl};
use super::grammar::Spoken;
use crate::failure::Failure;

/// Enough rows to learn from in a few minutes, and enough held out to tell 80 % from 90 %.
const SIZE: Size = Size { n_train: 900, n_held_out: 60, seed: 1 };

/// Where the demo's files are.
pub(crate) struct DemoFiles {
    /// Rows to learn from.
    pub(crate) train: PathBuf,
    /// Rows for scoring.
    pub(crate) held_out: PathBuf,
    /// The experiment.
    pub(crate) experiment: PathBuf,
    /// The rows for scoring themselves.
    pub(crate) held_out_rows: Vec<Spoken>,
    /// Number of rows to learn from.
    pub(crate) n_train: usize,
}

/// Writes data set and experiment file below `folder`.
pub(crate) fn write(folder: &Path) -> Result<DemoFiles, Failure> {
    // Absolute, so that the experiment file works from anywhere.
    let folder = std::path::absolute(folder).map_err(|error| Failure::cannot_write(folder, &error))?;
    let data = folder.join("data");
    fs::create_dir_all(&data).map_err(|error| Failure::cannot_write(&data, &error))?;
    let DataSet { train, held_out } = generate(SIZE);
    let files = DemoFiles {
        train: data.join("train.jsonl"),
        held_out: data.join("held-out.jsonl"),
        experiment: folder.join("demo.yaml"),
        held_out_rows: held_out,
        n_train: train.len(),
    };
    write_file(&files.train, to_jsonl(&train).as_bytes())?;
    write_file(&files.held_out, to_jsonl(&files.held_out_rows).as_bytes())?;
    write_file(&files.experiment, experiment(&files.train, &files.held_out).as_bytes())?;
    Ok(files)
}

/// The experiment as YAML. Paths are quoted the way YAML's single quotes want it.
fn experiment(train: &Path, held_out: &Path) -> String {
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "''"));
    include_str!("demo.yaml").replace("TRAIN", &quoted(train)).replace("HELD_OUT", &quoted(held_out))
}

#[cfg(test)]
mod tests {
    use tunesmith_config::ExperimentConfig;

    use super::*;

    #[test]
    fn the_experiment_file_is_valid_and_says_nothing_that_needs_a_warning() {
        let text = experiment(Path::new("/a/it's/train.jsonl"), Path::new("/b/held-out.jsonl"));
        let (config, warnings) = ExperimentConfig::from_yaml(&text, "demo.yaml").unwrap();
        assert_eq!(warnings, []);
        assert_eq!(config.check(), []);
        assert_eq!(config.dataset.train_dataframe, "/a/it's/train.jsonl");
        assert_eq!(config.dataset.validation_dataframe.as_deref(), Some("/b/held-out.jsonl"));
    }

    #[test]
    fn the_files_hold_all_rows() {
        let folder = tempfile::tempdir().unwrap();
        let files = write(folder.path()).unwrap();
        let n_lines = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((n_lines(&files.train), n_lines(&files.held_out)), (SIZE.n_train, SIZE.n_held_out));
        assert_eq!(files.n_train, SIZE.n_train);
    }
}
