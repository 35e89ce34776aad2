//! Models in several GGUF files, as `llama-gguf-split` and the hub's large models have them: each is a GGUF file of its own
//! with some of the tensors, and the first one has the metadata.

use std::path::{Path, PathBuf};

use crate::error::{FormatError, Result};
use crate::gguf_metadata::Metadata;

/// More parts than any model has; keeps a lying file from having thousands opened.
const MAX_PARTS: usize = 4096;

/// Which part of how many a file says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Split {
    /// From 0 on.
    pub(crate) part_idx: usize,
    /// At least 2.
    pub(crate) n_parts: usize,
    /// Tensors of all parts together, where the file tells.
    pub(crate) n_tensors: Option<usize>,
}

impl Split {
    /// What `metadata` says; `None` for a file that is whole by itself.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] for numbers that cannot be.
    pub(crate) fn read(metadata: &Metadata) -> Result<Option<Self>> {
        let n_parts = metadata.usize("split.count")?.unwrap_or(0);
        if n_parts < 2 {
            return Ok(None);
        }
        let part_idx = metadata.usize("split.no")?.unwrap_or(0);
        if part_idx >= n_parts || n_parts > MAX_PARTS {
            return Err(malformed(
                metadata.path(),
                format!("it says that it is part {} of {n_parts} (split.no, split.count)", part_idx + 1),
            ));
        }
        let n_tensors = metadata.usize("split.tensors.count")?;
        Ok(Some(Self { part_idx, n_parts, n_tensors }))
    }

    /// The files of the model that the part at `path` belongs to, in order; whether they are there is not looked at.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when the file's name is not that of such a part: then nobody knows those of the others.
    pub(crate) fn paths(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let (part_no, n_parts) = (self.part_idx + 1, self.n_parts);
        let named = PartName::parse(name)
            .filter(|named| named.n_parts == n_parts && named.part_no == part_no)
            .ok_or_else(|| {
                malformed(
                    path,
                    format!(
                        "it is part {part_no} of {n_parts} of a model, but is not called so; the parts are found by names \
                         like model-{part_no:05}-of-{n_parts:05}.gguf"
                    ),
                )
            })?;
        Ok((1..=n_parts).map(|no| path.with_file_name(named.of_part(no))).collect())
    }
}

/// `model-00001-of-00003.gguf`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartName<'n> {
    /// What comes before the numbers.
    pub(crate) model: &'n str,
    /// From 1 on.
    pub(crate) part_no: usize,
    /// How many parts there are.
    pub(crate) n_parts: usize,
    ending: &'n str,
}

impl<'n> PartName<'n> {
    /// The parts of `name`; `None` for the name of anything else.
    pub(crate) fn parse(name: &'n str) -> Option<Self> {
        let at = name.len().checked_sub(".gguf".len())?;
        let (stem, ending) = name.split_at_checked(at)?;
        if !ending.eq_ignore_ascii_case(".gguf") {
            return None;
        }
        let (rest, n_parts) = stem.rsplit_once("-of-")?;
        let (model, part_no) = rest.rsplit_once('-')?;
        let number = |digits: &str| {
            let is_number = digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse::<usize>().ok()).flatten()
        };
        let (part_no, n_parts) = (number(part_no)?, number(n_parts)?);
        (part_no >= 1 && part_no <= n_parts).then_some(Self { model, part_no, n_parts, ending })
    }

    /// The name of another part of the same model.
    pub(crate) fn of_part(&self, part_no: usize) -> String {
        format!("{}-{part_no:05}-of-{:05}{}", self.model, self.n_parts, self.ending)
    }

    /// Whether both are parts of the same model.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        (self.model, self.n_parts) == (other.model, other.n_parts)
    }
}

/// The one model that files of these names make together: the name of one of them. `None` when there are several models, or
/// none.
pub(crate) fn only_model<'n>(names: &[&'n str]) -> Option<&'n str> {
    let (first, others) = names.split_first()?;
    let is_same = |other: &&str| match (PartName::parse(first), PartName::parse(other)) {
        (Some(first), Some(other)) => first.is_beside(&other),
        _ => false,
    };
    others.iter().all(is_same).then_some(*first)
}

/// The error for a part that is not there.
pub(crate) fn missing(path: &Path, part_no: usize, n_parts: usize) -> FormatError {
    FormatError::Missing {
        path: path.to_owned(),
        what: format!("this file, part {part_no} of {n_parts} of the model,"),
    }
}

fn malformed(path: &Path, reason: String) -> FormatError {
    FormatError::Malformed { path: path.to_owned(), format: "GGUF", reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_by_their_names() {
        let name = PartName::parse("Big-Model.Q4_K_M-00002-of-00003.gguf").unwrap();
        assert_eq!((name.model, name.part_no, name.n_parts), ("Big-Model.Q4_K_M", 2, 3));
        assert_eq!(name.of_part(1), "Big-Model.Q4_K_M-00001-of-00003.gguf");
        for other in [
            "model.gguf",
            "model-1-of-2.gguf",
            "model-00000-of-00002.gguf",
            "model-00003-of-00002.gguf",
            "model-00001-of-00002.safetensors",
            "-of-.gguf",
            "é.gguf",
            "",
        ] {
            assert_eq!(PartName::parse(other), None, "{other}");
        }
        assert_eq!(
            only_model(&["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"]),
            Some("a-00001-of-00002.gguf")
        );
        assert_eq!(only_model(&["a-00001-of-00002.gguf", "b-00002-of-00002.gguf"]), None);
        assert_eq!(only_model(&["a.gguf"]), Some("a.gguf"));
        assert_eq!(only_model(&["a.gguf", "a-00001-of-00002.gguf"]), None);
        assert_eq!(only_model(&[]), None);
    }
}
