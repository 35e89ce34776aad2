//! Classes, labels, numbers and preferences out of tables.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use tempfile::TempDir;
use tunesmith_config::{ExperimentConfig, ProblemType};
use tunesmith_data::{DataError, Splits, Target, load_splits};

/// What a csv of these lines becomes, all of it as validation data too, with these settings.
fn load(problem_type: ProblemType, lines: &str, changes: &[(&str, &str)]) -> Result<Splits, DataError> {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.csv");
    std::fs::write(&path, lines).unwrap();
    let path = path.display().to_string();
    let mut config = ExperimentConfig::for_problem_type(problem_type);
    config.set("dataset.prompt_column", "text").unwrap();
    config.set("dataset.train_dataframe", &path).unwrap();
    config.set("dataset.validation_strategy", "custom").unwrap();
    config.set("dataset.validation_dataframe", &path).unwrap();
    for (field, value) in changes {
        config.set(field, value).unwrap();
    }
    load_splits(&config)
}

fn classes(lines: &str, changes: &[(&str, &str)]) -> Result<Splits, DataError> {
    load(ProblemType::CausalClassificationModeling, lines, changes)
}

fn values(splits: &Splits) -> Vec<Vec<f32>> {
    splits.train.iter().map(|conversation| conversation.values().to_vec()).collect()
}

#[test]
fn several_labels_are_columns_of_zero_and_one() {
    let changes = [("dataset.answer_column", "x,y"), ("dataset.num_classes", "2")];
    let splits = classes("text,x,y\na,0,1\nb,1,1\nc,0,0\n", &changes).unwrap();
    assert_eq!(values(&splits), [[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]);
    assert_eq!(splits.train[0].rounds[0].answer, "0,1");
    let error = classes("text,x,y\na,0,2\n", &changes).unwrap_err();
    assert!(error.to_string().ends_with("column y: 1 of 1 cells are not 0 or 1: \"2\" in line 2"), "{error}");
    // Their number is found where none is given; truth values are 0 and 1.
    let splits = classes("text,x,y\na,False,True\nb,True,True\n", &changes[..1]).unwrap();
    assert_eq!(
        (values(&splits), splits.labels.unwrap().num_classes),
        (vec![vec![0.0, 1.0], vec![1.0, 1.0]], 2)
    );
    let note = "every row of the column y has 1: there is nothing to tell apart";
    assert!(splits.notes.iter().any(|text| text == note), "{:?}", splits.notes);
}

#[test]
fn regression_takes_any_numbers() {
    let regression = |lines: &str| {
        let changes = [("dataset.answer_column", "x,y")];
        load(ProblemType::CausalRegressionModeling, lines, &changes)
    };
    let splits = regression("text,x,y\na,0.5,-3\nb,1e3,2\n").unwrap();
    assert_eq!(values(&splits), [[0.5, -3.0], [1000.0, 2.0]]);
    let message = regression("text,x,y\na,0.5,-3\nb,,2\n").unwrap_err().to_string();
    assert!(message.ends_with("column x: 1 of 2 cells are not a number: nothing in line 3"), "{message}");
}

#[test]
fn preferences_name_both_answers() {
    let dpo = |lines: &str, changes: &[(&str, &str)]| load(ProblemType::DpoModeling, lines, changes);
    let lines = "text,chosen_response,rejected_response,other\np,good,bad,q\nr,same,same,s\n";
    let splits = dpo(lines, &[]).unwrap();
    let preference = |prompt: Option<&str>, answer: &str| Target::Preference {
        rejected_prompt: prompt.map(str::to_owned),
        rejected_answer: answer.to_owned(),
    };
    assert_eq!(splits.train[0].rounds[0].answer, "good");
    assert_eq!(splits.train[0].target(), &preference(None, "bad"));
    assert_eq!(splits.train[0].contrast().unwrap().rounds[0].answer, "bad");
    let note = "1 of 2 rows prefer an answer to itself: nothing is learned there";
    assert!(splits.notes.iter().any(|text| text == note), "{:?}", splits.notes);
    let splits = dpo(lines, &[("dataset.rejected_prompt_column", "other")]).unwrap();
    assert_eq!(splits.train[0].target(), &preference(Some("q"), "bad"));
    assert_eq!(splits.train[0].contrast().unwrap().rounds[0].prompt, "q");
    let error = dpo("text,chosen_response\na,b\n", &[]).unwrap_err().to_string();
    assert!(
        error.contains("no column \"rejected_response\" (set by dataset.rejected_answer_column)"),
        "{error}"
    );
}

#[test]
fn judged_answers_are_good_or_bad() {
    let kto = |lines: &str, changes: &[(&str, &str)]| {
        let mut all = vec![("training.loss_function", "KTOLoss"), ("dataset.answer_column", "answer")];
        all.extend(changes);
        load(ProblemType::DpoModeling, lines, &all)
    };
    let splits = kto("text,answer,label\np,a,Good\nq,b,bad\nr,c,yes\n", &[]).unwrap();
    assert_eq!(values(&splits), [[1.0], [0.0], [1.0]]);
    let note = "2 answers are good and 1 bad, by the column label";
    assert!(splits.notes.iter().any(|text| text == note), "{:?}", splits.notes);
    // The answer to the prompt before, in a circle.
    let mismatched: Vec<String> =
        splits.train.iter().map(|c| c.contrast().unwrap().rounds[0].answer.clone()).collect();
    assert_eq!(mismatched, ["c", "a", "b"]);
    for cells in ["true", "1", "1.0"].into_iter().zip(["false", "0", "0.0"]) {
        let lines = format!("text,answer,thumb\np,a,{}\nq,b,{}\n", cells.0, cells.1);
        let splits = kto(&lines, &[("dataset.judgement_column", "thumb")]).unwrap();
        assert_eq!(values(&splits), [[1.0], [0.0]], "{cells:?}");
    }
    let error = kto("text,answer,label\np,a,good\nq,b,fine\nr,c,\n", &[]).unwrap_err().to_string();
    let expected = "2 of 3 cells are not true or false, 1 or 0, good or bad, yes or no: \"fine\" in line 3, nothing in \
                    line 4";
    assert!(error.contains(expected), "{error}");
    let error = kto("text,answer\np,a\n", &[]).unwrap_err().to_string();
    assert!(error.contains("dataset.judgement_column"), "{error}");
    let splits = kto("text,answer,label\np,a,1\nq,b,1\n", &[]).unwrap();
    assert!(splits.notes.iter().any(|text| text.contains("one kind")), "{:?}", splits.notes);
}
