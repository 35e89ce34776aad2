//! `references/`: what the reference model thinks of a set of comparisons, kept in the run folder so that a resumed run does
//! not ask it again.
//!
//! A file is named by a hash of all that its numbers depend on, to the bit: the samples as tokens, the weights the run
//! starts from, number formats, the machine, the version of this program, and how many tokens are run at once.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tunesmith_config::ExperimentConfig;
use tunesmith_data::TokenSample;

use crate::error::{IoContext, TrainError};
use crate::evaluate::TextLoss;
use crate::json_file::{read_json, write_json};
use crate::record::{RunRecord, samples_fingerprint};
use crate::reference::References;
use crate::run_folder::RunFolder;
use crate::state::Exact;

/// Where the references of one set are kept.
pub(crate) struct ReferenceFile {
    path: PathBuf,
}

/// Content of a file.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// Row, then sum of cross-entropies and number of labels of its text and of the one that it is compared with.
    rows: Vec<(usize, Exact, usize, Exact, usize)>,
}

impl ReferenceFile {
    /// The file of `samples` in the run that `record` describes.
    pub(crate) fn of(
        folder: &RunFolder,
        config: &ExperimentConfig,
        record: &RunRecord,
        samples: &[TokenSample],
    ) -> Self {
        let RunRecord { program_version, machine, dtypes, fingerprints, .. } = record;
        let parts = [
            "with the adapter that the run starts from".to_owned(),
            samples_fingerprint(samples),
            fingerprints.model.clone(),
            fingerprints.starting_weights.clone().unwrap_or_default(),
            format!("{} {} {}", dtypes.storage, dtypes.compute, dtypes.accumulation),
            format!("{} {} {}", machine.device, machine.instruction_set, machine.platform),
            program_version.clone(),
            References::max_batch_tokens(config).to_string(),
        ];
        let hash = Sha256::digest(parts.join("\n"));
        let name: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self { path: folder.references().join(format!("{name}.json")) }
    }

    /// The references, if they are there; a damaged file is as good as none.
    pub(crate) fn read(&self) -> Option<References> {
        let stored: Stored = read_json(&self.path).ok().flatten()?;
        let by_row = stored.rows.into_iter().map(|(row, sum, n_labels, other_sum, other_n_labels)| {
            let other = TextLoss { sum: other_sum.0, n_labels: other_n_labels };
            (row, [TextLoss { sum: sum.0, n_labels }, other])
        });
        Some(References::from_rows(by_row))
    }

    /// Keeps the references.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, references: &References) -> Result<(), TrainError> {
        let row = |(row, [text, other]): (usize, [TextLoss; 2])| {
            (row, Exact(text.sum), text.n_labels, Exact(other.sum), other.n_labels)
        };
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).at(folder, "create")?;
        }
        write_json(&self.path, &Stored { rows: references.rows().map(row).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_come_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let file = ReferenceFile { path: folder.path().join("references/x.json") };
        assert!(file.read().is_none());
        let text = |sum, n_labels| TextLoss { sum, n_labels };
        let rows = [(7, [text(0.1 + 0.2, 3), text(1e-300, 1)]), (2, [text(f64::MAX, 9), text(-0.0, 0)])];
        let references = References::from_rows(rows);
        file.write(&references).unwrap();
        assert_eq!(file.read().unwrap(), references);
        std::fs::write(&file.path, "{").unwrap();
        assert!(file.read().is_none());
    }
}
