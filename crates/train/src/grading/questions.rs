//! Questions that take the place of the validation rows: those of MT-Bench, which users bring along.
//!
//! A line of `mt-bench/question.jsonl` is `{"category": …, "turns": [first question, …], "reference": [answer to it, …]}`, as
//! FastChat publishes it; other keys are passed over. Only the first turn is asked.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tunesmith_config::{ExperimentConfig, ProblemType};
use tunesmith_data::{Conversation, Round};
use tunesmith_metrics::mt_bench_template;

use super::MT_BENCH;
use crate::error::{IoContext, TrainError};

/// Questions with categories.
#[derive(Debug)]
pub(super) struct Questions {
    path: PathBuf,
    all: Vec<Question>,
}

#[derive(Debug, Deserialize)]
struct Question {
    category: String,
    turns: Vec<String>,
    #[serde(default)]
    reference: Option<Vec<String>>,
}

impl Questions {
    /// # Errors
    /// There is no such file or it holds something else; the problem type does not answer questions.
    pub(super) fn read(folder: &Path, config: &ExperimentConfig) -> Result<Self, TrainError> {
        let wrong = |reason: String| TrainError::Judge { reason };
        if config.problem_type == ProblemType::DpoModeling {
            let reason =
                "the questions of mt-bench have no rejected answers, so they cannot validate preferences";
            return Err(wrong(reason.to_owned()));
        }
        let path = folder.join(MT_BENCH).join("question.jsonl");
        if !path.is_file() {
            let reason = format!(
                "the template mt-bench needs its questions at {}; they do not come with this program",
                path.display()
            );
            return Err(wrong(reason));
        }
        let text = std::fs::read_to_string(&path).at(&path, "read")?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let all = lines.map(|(line_idx, line)| {
            let malformed =
                |reason: String| wrong(format!("{}, line {}: {reason}", path.display(), line_idx + 1));
            let question: Question =
                serde_json::from_str(line).map_err(|error| malformed(error.to_string()))?;
            if question.turns.is_empty() {
                return Err(malformed("there is no turn".to_owned()));
            }
            Ok(question)
        });
        let all = all.collect::<Result<Vec<_>, TrainError>>()?;
        if all.is_empty() {
            return Err(wrong(format!("{} has no questions", path.display())));
        }
        Ok(Self { path, all })
    }

    /// Each question as a conversation of one round, with the first reference, or nothing, as the expected answer.
    pub(super) fn conversations(&self) -> Vec<Conversation> {
        let round = |(row, question): (usize, &Question)| Round {
            prompt: question.turns.first().cloned().unwrap_or_default(),
            answer: question.reference.iter().flatten().next().cloned().unwrap_or_default(),
            row,
            ..Round::default()
        };
        self.all.iter().enumerate().map(round).filter_map(|round| Conversation::new(vec![round])).collect()
    }

    /// The category of the question at `row`.
    pub(super) fn category(&self, row: usize) -> &str {
        self.all.get(row).map_or("", |question| question.category.as_str())
    }

    /// Whether it has a right answer, which the judge is shown.
    pub(super) fn needs_reference(&self, row: usize) -> bool {
        mt_bench_template(self.category(row)) != MT_BENCH
    }

    /// Name and file.
    pub(super) fn shown(&self) -> String {
        format!("{MT_BENCH}, on the {} questions of {}", self.all.len(), self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_become_conversations() {
        let folder = tempfile::tempdir().unwrap();
        let config = ExperimentConfig::default();
        let missing = Questions::read(folder.path(), &config).unwrap_err().to_string();
        assert!(missing.contains("question.jsonl"), "{missing}");
        std::fs::create_dir(folder.path().join(MT_BENCH)).unwrap();
        let path = folder.path().join("mt-bench/question.jsonl");
        std::fs::write(
            &path,
            "{\"question_id\": 1, \"category\": \"math\", \"turns\": [\"1 + 1?\", \"2 + 2?\"], \"reference\": [\"2\", \"4\"]}\n\n\
             {\"category\": \"writing\", \"turns\": [\"A poem.\"]}\n",
        )
        .unwrap();
        let questions = Questions::read(folder.path(), &config).unwrap();
        let conversations = questions.conversations();
        assert_eq!(conversations.len(), 2);
        let [first, second] = [&conversations[0].rounds[0], &conversations[1].rounds[0]];
        assert_eq!((first.prompt.as_str(), first.answer.as_str()), ("1 + 1?", "2"));
        assert_eq!((second.prompt.as_str(), second.answer.as_str(), second.row), ("A poem.", "", 1));
        assert!(questions.needs_reference(0) && !questions.needs_reference(1));
        assert_eq!(questions.category(1), "writing");

        std::fs::write(&path, "{\"category\": \"math\", \"turns\": []}\n").unwrap();
        assert!(Questions::read(folder.path(), &config).unwrap_err().to_string().contains("line 1"));
        let preferences = ExperimentConfig::for_problem_type(ProblemType::DpoModeling);
        assert!(Questions::read(folder.path(), &preferences).unwrap_err().to_string().contains("rejected"));
    }
}
