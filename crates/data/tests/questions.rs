//! Rows that a trained model is asked about.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use tempfile::TempDir;
use tunesmith_config::{ExperimentConfig, ProblemType};
use tunesmith_data::{DataError, Questions, Target, load_questions};

/// The questions of a table with this name and text, by the settings of a run.
fn ask(name: &str, text: &str, changes: &[(&str, &str)]) -> Result<Questions, DataError> {
    of_type(ProblemType::CausalLanguageModeling, name, text, changes)
}

fn of_type(
    problem_type: ProblemType,
    name: &str,
    text: &str,
    changes: &[(&str, &str)],
) -> Result<Questions, DataError> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let mut config = ExperimentConfig::for_problem_type(problem_type);
    config.set("dataset.prompt_column", "prompt").unwrap();
    for (field, value) in changes {
        config.set(field, value).unwrap();
    }
    load_questions(&config, &path, None)
}

/// Prompts of all rounds of each row.
fn prompts(questions: &Questions) -> Vec<Vec<&str>> {
    questions
        .conversations
        .iter()
        .map(|one| one.rounds.iter().map(|round| round.prompt.as_str()).collect())
        .collect()
}

#[test]
fn answers_may_be_missing() {
    let questions =
        ask("new.csv", "prompt,more\na,1\nb,2\n", &[("dataset.parent_id_column", "None")]).unwrap();
    assert_eq!(prompts(&questions), [["a"], ["b"]]);
    assert_eq!(questions.table.columns, ["prompt", "more"]);
    assert!(!questions.notes.iter().any(|note| note.contains("answer")), "{:?}", questions.notes);
    // A prompt may not.
    let error = ask("new.csv", "question\na\n", &[]).unwrap_err();
    assert!(matches!(error, DataError::MissingColumn { .. }), "{error}");
}

#[test]
fn scores_have_no_values_yet() {
    let classes = ProblemType::CausalClassificationModeling;
    let questions = of_type(classes, "new.csv", "prompt,label\na,not known\n", &[]).unwrap();
    assert_eq!(questions.conversations[0].target(), &Target::Values(Vec::new()));
}

#[test]
fn earlier_rows_come_along() {
    let table = "id,parent_id,prompt,answer\nx,,a,1\ny,x,b,\n";
    let changes = [("dataset.parent_id_column", "parent_id"), ("dataset.limit_chained_samples", "true")];
    let questions = ask("new.csv", table, &changes).unwrap();
    assert_eq!(prompts(&questions), [vec!["a"], vec!["a", "b"]]);
}

#[test]
fn messages_end_with_a_question_or_its_answer() {
    let table = r#"{"messages": [{"role": "user", "content": "a"}]}
{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "1"}, {"role": "user", "content": "b"}]}
{"messages": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "2"}]}
"#;
    let questions = ask("new.jsonl", table, &[]).unwrap();
    assert_eq!(prompts(&questions), [vec!["a"], vec!["a", "b"], vec!["c"]]);
    let alpaca = "{\"instruction\": \"Add.\", \"input\": \"2, 2\"}\n";
    assert_eq!(prompts(&ask("new.jsonl", alpaca, &[]).unwrap()), [["Add.\n\n2, 2"]]);
}

#[test]
fn what_has_no_questions_is_refused() {
    let tree = "{\"message_id\": \"1\", \"parent_id\": null, \"role\": \"prompter\", \"text\": \"a\"}\n";
    for (problem_type, name, text) in [
        (ProblemType::CausalLanguageModeling, "new.jsonl", tree),
        (ProblemType::ContinuedPretraining, "new.csv", "text\na\n"),
    ] {
        let error = of_type(problem_type, name, text, &[]).unwrap_err();
        assert!(matches!(error, DataError::Setting { .. }), "{error}");
    }
}
