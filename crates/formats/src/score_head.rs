//! A score head beside a model or an adapter: `classification_head.safetensors` or `regression_head.safetensors`, a
//! file with the one matrix that neither Hugging Face's classes nor PEFT have a place for.

use std::path::Path;

use crate::dtype::StoreDtype;
use crate::error::{FormatError, Result};
use crate::safetensors_io::{NamedTensor, read_safetensors_f32};
use crate::safetensors_write::write_safetensors;

const NAMES: [&str; 2] = ["classification_head", "regression_head"];

/// Writes a head, called `classification_head.weight` or `regression_head.weight`, into the existing folder `dir` under
/// its own name, in float32.
///
/// # Errors
/// [`FormatError::Malformed`] for a tensor of another name; as [`write_safetensors`].
pub fn write_score_head(dir: &Path, tensor: &NamedTensor) -> Result<()> {
    match NAMES.into_iter().find(|name| tensor.name == weight_name(name)) {
        Some(name) => {
            let path = dir.join(format!("{name}.safetensors"));
            write_safetensors(&path, std::slice::from_ref(tensor), &[], StoreDtype::F32)
        }
        None => Err(malformed(dir, format!("a score head is not called {}", tensor.name))),
    }
}

/// Reads the head in the folder `dir`; `None` when there is none.
///
/// # Errors
/// [`FormatError::Malformed`] when the file holds something else or the head is there only as H2O LLM Studio's pickled
/// `.pth` file; what the safetensors reader refuses.
pub fn read_score_head(dir: &Path) -> Result<Option<NamedTensor>> {
    for name in NAMES {
        let path = dir.join(format!("{name}.safetensors"));
        if path.is_file() {
            let mut tensors = read_safetensors_f32(&path)?;
            return match (tensors.pop(), tensors.is_empty()) {
                (Some(tensor), true) if tensor.name == weight_name(name) => Ok(Some(tensor)),
                _ => Err(malformed(&path, format!("it should hold one tensor, {}", weight_name(name)))),
            };
        }
        let pickled = dir.join(format!("{name}.pth"));
        if pickled.is_file() {
            let reason = format!(
                "it is pickled, a format that can run code when opened; save its tensor as {} in {name}.safetensors",
                weight_name(name)
            );
            return Err(malformed(&pickled, reason));
        }
    }
    Ok(None)
}

fn weight_name(name: &str) -> String {
    format!("{name}.weight")
}

fn malformed(path: &Path, reason: String) -> FormatError {
    FormatError::Malformed { path: path.to_owned(), format: "score head", reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str) -> NamedTensor {
        NamedTensor { name: name.to_owned(), shape: vec![2, 3], data: vec![0.5; 6] }
    }

    #[test]
    fn heads_survive_writing_and_reading() {
        for name in NAMES {
            let folder = tempfile::tempdir().unwrap();
            assert_eq!(read_score_head(folder.path()).unwrap(), None);
            let head = tensor(&weight_name(name));
            write_score_head(folder.path(), &head).unwrap();
            assert_eq!(read_score_head(folder.path()).unwrap(), Some(head));
        }
    }

    #[test]
    fn what_is_no_head_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write_score_head(folder.path(), &tensor("score.weight")).is_err());
        std::fs::write(folder.path().join("regression_head.pth"), b"").unwrap();
        assert!(read_score_head(folder.path()).unwrap_err().to_string().contains("pickled"));
        let path = folder.path().join("classification_head.safetensors");
        write_safetensors(&path, &[tensor("other")], &[], StoreDtype::F32).unwrap();
        assert!(read_score_head(folder.path()).unwrap_err().to_string().contains("one tensor"));
    }
}
