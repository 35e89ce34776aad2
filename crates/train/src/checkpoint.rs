//! Checkpoints: folders that are complete or absent, whatever happens while they are written.
//!
//! A checkpoint holds `weights.safetensors` (the trainable parameters under the model's names), `optimizer.safetensors`
//! (`<parameter>.<number>`, the update rule's state) and `state.json` ([`TrainState`]), all in exact float32.

use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use tunesmith_formats::StoreDtype;
use tunesmith_formats::atomic::AtomicDir;
use tunesmith_formats::safetensors_io::{NamedTensor, SafetensorsFile, write_sharded};
use tunesmith_models::{CausalLm, Parameter};

use crate::error::{IoContext, TrainError};
use crate::optimizer::Optimizer;
use crate::state::TrainState;

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";

/// Writes a checkpoint to `dir`, replacing the one that is there, and gives its size in bytes.
pub(crate) fn save(
    dir: &Path,
    model: &CausalLm,
    optimizer: &Optimizer,
    state: &TrainState,
) -> Result<u64, TrainError> {
    let unfinished = AtomicDir::create(dir)?;
    let trainable = model.parameters().iter().filter(|parameter| parameter.trainable);
    let weights = trainable.map(|parameter| {
        let Parameter { name, shape, .. } = parameter;
        Ok(NamedTensor { name: name.clone(), shape: shape.clone(), data: parameter.to_vec()? })
    });
    let weights_bytes = write_tensors(unfinished.path(), WEIGHTS, weights)?;
    let moments = optimizer.state_values().map(|state| {
        let (name, data) = state?;
        Ok(NamedTensor { name, shape: vec![data.len()], data })
    });
    let optimizer_bytes = write_tensors(unfinished.path(), OPTIMIZER, moments)?;
    TrainState { weights_bytes, optimizer_bytes, ..state.clone() }.write(&unfinished.path().join(STATE))?;
    unfinished.commit()?;
    Ok(weights_bytes + optimizer_bytes + file_bytes(&dir.join(STATE))?)
}

/// Puts back a checkpoint's optimizer state; the weights come by [`load_weights`].
pub(crate) fn load_optimizer(
    dir: &Path,
    optimizer: &mut Optimizer,
    state: &TrainState,
) -> Result<(), TrainError> {
    let file = SafetensorsFile::open(&dir.join(OPTIMIZER))?;
    optimizer.restore(state.n_updates, |name, n_values| {
        let values = file.read_f32(name)?;
        check_length(file.path(), name, values.len(), n_values)?;
        Ok(values)
    })
}

/// Sets the trainable parameters of `model` to a checkpoint's, all of them and no others.
///
/// # Errors
/// When the checkpoint lacks a trainable parameter or has one that is not trainable, or the shapes differ.
pub fn load_weights(dir: &Path, model: &mut CausalLm) -> Result<(), TrainError> {
    let file = SafetensorsFile::open(&dir.join(WEIGHTS))?;
    let wrong = |reason: String| TrainError::RunFile { path: file.path().to_owned(), reason };
    for tensor in file.tensors() {
        let parameter = model.parameters().by_name(&tensor.name);
        if !parameter.is_some_and(|parameter| parameter.trainable) {
            return Err(wrong(format!("{} is not among the trained parameters", tensor.name)));
        }
    }
    let trainable: Vec<usize> = (0..model.parameters().len())
        .filter(|idx| model.parameters().get(*idx).is_some_and(|p| p.trainable))
        .collect();
    for parameter_idx in trainable {
        let Some(parameter) = model.parameters().get(parameter_idx) else { continue };
        let stored = file
            .tensor(&parameter.name)
            .ok_or_else(|| wrong(format!("the trained parameter {} is missing", parameter.name)))?;
        if stored.shape != parameter.shape {
            let (stored, here) = (&stored.shape, &parameter.shape);
            return Err(wrong(format!("{} has shape {stored:?}, the model needs {here:?}", parameter.name)));
        }
        let value = to_device(file.read_f32(&parameter.name)?, &parameter.tensor());
        model.parameters_mut().set_value(parameter_idx, value)?;
    }
    Ok(())
}

/// A checkpoint that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundCheckpoint {
    /// Its folder.
    pub path: PathBuf,
    /// Where the run was.
    pub state: TrainState,
}

/// The complete checkpoint under `checkpoints` that is furthest in training, after putting back what an interrupted
/// replacement left. `None` when there is none.
///
/// # Errors
/// When the folder cannot be read or a state has another version than this program's.
pub fn newest(checkpoints: &Path) -> Result<Option<FoundCheckpoint>, TrainError> {
    if !checkpoints.is_dir() {
        return Ok(None);
    }
    for name in entries(checkpoints)? {
        let interrupted = name
            .strip_prefix('.')
            .and_then(|rest| rest.strip_suffix(".old").or_else(|| rest.strip_suffix(".tmp")));
        if let Some(final_name) = interrupted {
            AtomicDir::recover(&checkpoints.join(final_name))?;
        }
    }
    let mut newest: Option<FoundCheckpoint> = None;
    for name in entries(checkpoints)? {
        let path = checkpoints.join(name);
        if !path.join(STATE).is_file() {
            continue;
        }
        let found = FoundCheckpoint { state: TrainState::read(&path.join(STATE))?, path };
        let is_complete = file_bytes(&found.path.join(WEIGHTS)).is_ok_and(|n| n == found.state.weights_bytes)
            && file_bytes(&found.path.join(OPTIMIZER)).is_ok_and(|n| n == found.state.optimizer_bytes);
        let is_newer = newest.as_ref().is_none_or(|newest| newest.state.progress() < found.state.progress());
        if is_complete && is_newer {
            newest = Some(found);
        }
    }
    Ok(newest)
}

/// Names of the checkpoints under `checkpoints`, sorted.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn names(checkpoints: &Path) -> Result<Vec<String>, TrainError> {
    if !checkpoints.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = entries(checkpoints)?;
    names.retain(|name| checkpoints.join(name).join(STATE).is_file());
    Ok(names)
}

/// The steps of the checkpoints `step_N` under `checkpoints`, ascending.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn steps(checkpoints: &Path) -> Result<Vec<u64>, TrainError> {
    let mut steps: Vec<u64> =
        names(checkpoints)?.iter().filter_map(|name| name.strip_prefix("step_")?.parse().ok()).collect();
    steps.sort_unstable();
    Ok(steps)
}

/// Removes a checkpoint. It loses its name first, so that a kill leaves all of it or what [`newest`] clears away.
pub(crate) fn remove(checkpoints: &Path, name: &str) -> Result<(), TrainError> {
    let (dir, unnamed) = (checkpoints.join(name), checkpoints.join(format!(".{name}.tmp")));
    std::fs::rename(&dir, &unnamed).at(&dir, "remove")?;
    std::fs::remove_dir_all(&unnamed).at(&unnamed, "remove")
}

/// Names in a folder, sorted.
fn entries(folder: &Path) -> Result<Vec<String>, TrainError> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut names: Vec<String> =
        entries.at(folder, "list")?.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// Streams `tensors` into one safetensors file of that name, in float32, and gives its size.
fn write_tensors(
    dir: &Path,
    file_name: &str,
    tensors: impl Iterator<Item = Result<NamedTensor, TrainError>>,
) -> Result<u64, TrainError> {
    let path = dir.join(file_name);
    for written in write_sharded(dir, tensors, StoreDtype::F32, u64::MAX)? {
        std::fs::rename(&written, &path).at(&written, "rename")?;
    }
    file_bytes(&path)
}

fn file_bytes(path: &Path) -> Result<u64, TrainError> {
    Ok(std::fs::metadata(path).at(path, "read the size of")?.len())
}

fn check_length(path: &Path, name: &str, found: usize, expected: usize) -> Result<(), TrainError> {
    if found == expected {
        return Ok(());
    }
    let reason = format!("{name} has {found} values, the parameter has {expected}");
    Err(TrainError::RunFile { path: path.to_owned(), reason })
}

/// Values as a flat tensor beside `neighbour`.
fn to_device(values: Vec<f32>, neighbour: &Tensor<1>) -> Tensor<1> {
    let n_values = values.len();
    Tensor::from_data(TensorData::new(values, [n_values]), &neighbour.device())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_state(checkpoints: &Path, name: &str, state: &TrainState) {
        let dir = checkpoints.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(WEIGHTS), [0; 8]).unwrap();
        std::fs::write(dir.join(OPTIMIZER), [0; 16]).unwrap();
        let state = TrainState {
            format_version: TrainState::FORMAT_VERSION,
            weights_bytes: 8,
            optimizer_bytes: 16,
            ..state.clone()
        };
        state.write(&dir.join(STATE)).unwrap();
    }

    fn at(step: u64, is_evaluation_due: bool) -> TrainState {
        TrainState { step, is_evaluation_due, ..TrainState::default() }
    }

    #[test]
    fn the_furthest_complete_checkpoint_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let name = |found: Option<FoundCheckpoint>| {
            found.map(|found| found.path.file_name().unwrap().to_str().unwrap().to_owned())
        };
        assert_eq!(newest(&dir.path().join("none")).unwrap(), None);
        assert_eq!(newest(dir.path()).unwrap(), None);
        write_state(dir.path(), "step_9", &at(9, true));
        write_state(dir.path(), "step_10", &at(10, true));
        write_state(dir.path(), "last", &at(4, false));
        assert_eq!(name(newest(dir.path()).unwrap()).unwrap(), "step_10");
        write_state(dir.path(), "best", &at(10, false));
        assert_eq!(name(newest(dir.path()).unwrap()).unwrap(), "best");
        std::fs::write(dir.path().join("best").join(WEIGHTS), [0; 7]).unwrap();
        assert_eq!(name(newest(dir.path()).unwrap()).unwrap(), "step_10");
        std::fs::remove_file(dir.path().join("step_10").join(OPTIMIZER)).unwrap();
        assert_eq!(name(newest(dir.path()).unwrap()).unwrap(), "step_9");
    }

    #[test]
    fn removed_checkpoints_are_gone_also_after_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        for step in [9, 10, 100] {
            write_state(dir.path(), &format!("step_{step}"), &at(step, true));
        }
        write_state(dir.path(), "last", &at(101, true));
        assert_eq!(steps(dir.path()).unwrap(), [9, 10, 100]);
        remove(dir.path(), "step_10").unwrap();
        // As a kill in the middle of removing leaves it.
        std::fs::rename(dir.path().join("step_9"), dir.path().join(".step_9.tmp")).unwrap();
        assert_eq!(newest(dir.path()).unwrap().unwrap().state.step, 101);
        assert_eq!(entries(dir.path()).unwrap(), ["last", "step_100"]);
    }

    #[test]
    fn an_interrupted_replacement_is_put_back() {
        let dir = tempfile::tempdir().unwrap();
        write_state(dir.path(), ".last.old", &at(4, false));
        write_state(dir.path(), ".last.tmp", &at(8, false));
        write_state(dir.path(), ".step_8.tmp", &at(8, true));
        let found = newest(dir.path()).unwrap().unwrap();
        assert_eq!((found.path, found.state.step), (dir.path().join("last"), 4));
        assert_eq!(entries(dir.path()).unwrap(), ["last"]);
    }
}
