//! Tests of the readers and writers of model files against reference files, damaged files and a local hub.

#![expect(clippy::unwrap_used, reason = "in a test, a failed unwrap is the failure of the test")]

mod foreign;
mod golden;
mod hostile;
mod hub;
mod real_model;
mod tied;

use std::path::{Path, PathBuf};

/// A file or folder among the reference files of the repository.
fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}
