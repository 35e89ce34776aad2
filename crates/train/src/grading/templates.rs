//! Which text the judge gets: a file of the user's, or one that comes with the program.

use std::collections::BTreeSet;
use std::path::Path;

use tunesmith_metrics::{JudgeTemplate, PREDICTED_TEXT, PROMPT, TARGET_TEXT, shipped_template};

use crate::error::{IoContext, TrainError};

/// The templates that come with the program and can be asked for by name.
const SHIPPED: [&str; 3] = ["general", "rag", "mt-bench"];
const ENDING: &str = "txt";

/// A template and where it is from.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) parsed: JudgeTemplate,
    pub(super) text: String,
    /// Its name, or the path of its file.
    pub(super) shown: String,
}

/// The template called `name`: `NAME.txt` in the folder of the user's own, else the one that comes with the program.
///
/// # Errors
/// There is neither, or the file cannot be read or is malformed.
pub(super) fn find_template(folder: &Path, name: &str) -> Result<Template, TrainError> {
    let is_plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0']);
    let path = folder.join(format!("{name}.{ENDING}"));
    let (text, shown) = if is_plain && path.is_file() {
        (std::fs::read_to_string(&path).at(&path, "read")?, path.display().to_string())
    } else if let Some(text) = shipped_template(name) {
        (text.to_owned(), name.to_owned())
    } else {
        let reason = format!(
            "there is no template called {name:?}; there are {}, and files NAME.{ENDING} in {}",
            choices(folder).into_iter().collect::<Vec<_>>().join(", "),
            folder.display()
        );
        return Err(TrainError::Judge { reason });
    };
    let parsed = JudgeTemplate::parse(&text)
        .map_err(|error| TrainError::Judge { reason: format!("{shown}: {error}") })?;
    Ok(Template { parsed, text, shown })
}

/// The names there are.
fn choices(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let own = paths.filter(|path| path.extension().is_some_and(|ending| ending == ENDING));
    let own = own.filter_map(|path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    own.chain(SHIPPED.map(str::to_owned)).collect()
}

impl Template {
    /// The columns it asks for besides prompt, answer and expected answer.
    pub(super) fn columns(&self) -> Vec<String> {
        let columns =
            self.parsed.columns().filter(|name| ![PROMPT, PREDICTED_TEXT, TARGET_TEXT].contains(name));
        columns.map(str::to_owned).collect()
    }

    /// An error about it.
    pub(super) fn wrong(&self, reason: String) -> TrainError {
        TrainError::Judge { reason: format!("the template {} {reason}", self.shown) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_own_template_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find_template(folder.path(), "general").unwrap().shown, "general");
        assert_eq!(find_template(folder.path(), "rag").unwrap().columns(), ["context_truncated", "question"]);
        let path = folder.path().join("general.txt");
        std::fs::write(&path, "{_PROMPT} {topic}").unwrap();
        let own = find_template(folder.path(), "general").unwrap();
        assert_eq!((own.shown, own.text.as_str()), (path.display().to_string(), "{_PROMPT} {topic}"));
        std::fs::write(&path, "{").unwrap();
        assert!(find_template(folder.path(), "general").unwrap_err().to_string().contains("general.txt"));
        std::fs::write(folder.path().join("mine.txt"), "").unwrap();
        for name in ["other", "../mine", ""] {
            let refused = find_template(folder.path(), name).unwrap_err().to_string();
            assert!(refused.contains("there are general, mine, mt-bench, rag"), "{refused}");
        }
    }
}
