//! Trained models asked about new rows.

use std::path::Path;

use tunesmith_config::{ExperimentConfig, ProblemType};
use tunesmith_data::{Assembler, Table, load_questions, read_table, training_tokenizer};
use tunesmith_train::{Predicted, RunWeights, SavedRun, StopFlag, predict};

use crate::problem_types::Types;
use crate::support::Bench;

const CLASSES: ProblemType = ProblemType::CausalClassificationModeling;

/// What a run makes of a table, and the table.
fn ask(run_dir: &Path, data: &Path, changes: &[(&str, &str)]) -> (Predicted, Table) {
    let run = SavedRun::open(run_dir, None).unwrap();
    let mut config: ExperimentConfig = run.config().clone();
    for (field, value) in changes {
        config.set(field, value).unwrap();
    }
    let questions = load_questions(&config, data, None).unwrap();
    let tokenizer = training_tokenizer(&config, run.tokenizer()).unwrap();
    let assembler = Assembler::new(&config, &tokenizer).unwrap();
    let model = run.model(&RunWeights::Result, &tunesmith_ops::open_device("cpu").unwrap()).unwrap();
    let mut n_told = 0;
    let conversations = &questions.conversations;
    let predicted =
        predict(&model, &config, &assembler, conversations, 0, &StopFlag::new(), &mut |n| n_told = n)
            .unwrap();
    let predicted = predicted.unwrap();
    assert_eq!(n_told, predicted.rows.len());
    (predicted, questions.table)
}

/// The cells of a column, by their rows.
fn column(table: &Table, name: &str) -> Vec<String> {
    let column = table.column_idx(name).unwrap();
    (0..table.n_rows()).map(|row| table.cell(row, column).text()).collect()
}

#[test]
fn predictions_are_those_of_the_validation() {
    let types = Types::new();
    let several = [
        ("dataset.answer_column", "three"),
        ("dataset.num_classes", "3"),
        ("training.loss_function", "CrossEntropyLoss"),
        ("prediction.metric", "Accuracy"),
    ];
    types.run("classes", types.config(CLASSES, &several)).unwrap();
    let validated = read_table(&types.0.folder("classes").predictions(), None).unwrap();

    // The same rows, without the classes and with a column that is called like ours.
    let rows = read_table(&types.0.path("types.csv"), None).unwrap();
    let lines: String = column(&rows, "text").iter().map(|text| format!("{text},mine\n")).collect();
    let data = types.0.path("new.csv");
    std::fs::write(&data, format!("text,prediction\n{lines}")).unwrap();
    let (predicted, table) =
        ask(&types.0.path("classes"), &data, &[("prediction.batch_size_inference", "1")]);
    assert_eq!(predicted.columns, ["prediction", "probability_0", "probability_1", "probability_2"]);
    assert_eq!(predicted.rows.len(), 40);
    let out = types.0.path("out.csv");
    predicted.write_csv(&table, &out).unwrap();
    let out = read_table(&out, None).unwrap();
    assert_eq!(out.columns[..3], ["text", "prediction", "prediction_2"]);
    assert!(column(&out, "prediction").iter().all(|text| text == "mine"));

    let (classes, likely) = (column(&out, "prediction_2"), column(&out, "probability_1"));
    let rows_of_validation = column(&validated, "row");
    assert_eq!(rows_of_validation.len(), 8);
    for (idx, row) in rows_of_validation.iter().enumerate() {
        let row: usize = row.parse().unwrap();
        assert_eq!(classes[row], column(&validated, "prediction")[idx]);
        let number = |text: &str| text.parse::<f32>().unwrap();
        let difference = number(&likely[row]) - number(&column(&validated, "probability_1")[idx]);
        assert!(difference.abs() < 1e-6, "row {row}: {difference}");
    }
}

#[test]
fn rows_that_ask_nothing_have_no_prediction() {
    let types = Types::new();
    let changes = [
        ("dataset.answer_column", "size,three"),
        ("prediction.metric", "R2"),
        ("training.epochs", "1"),
        ("dataset.text_prompt_start", ""),
        ("dataset.text_answer_separator", ""),
        ("dataset.add_eos_token_to_prompt", "false"),
    ];
    types.run("numbers", types.config(ProblemType::CausalRegressionModeling, &changes)).unwrap();
    let data = types.0.path("new.jsonl");
    std::fs::write(&data, "{\"text\": \"red warm\"}\n{\"text\": \"\"}\n{\"text\": \"red warm\"}\n").unwrap();
    let (predicted, table) = ask(&types.0.path("numbers"), &data, &[]);
    assert_eq!(predicted.columns, ["prediction_size", "prediction_three"]);
    assert_eq!(predicted.rows.keys().copied().collect::<Vec<_>>(), [0, 2]);
    assert_eq!(predicted.rows[&0], predicted.rows[&2]);
    let out = types.0.path("out.csv");
    predicted.write_csv(&table, &out).unwrap();
    let text = std::fs::read_to_string(out).unwrap();
    assert!(text.lines().nth(2).unwrap().ends_with(",,"), "{text}");
}

#[test]
fn language_models_answer_each_row() {
    let bench = Bench::new();
    bench.run("run", &[("prediction.max_length_inference", "4")]).unwrap();
    let data = bench.path("questions.csv");
    std::fs::write(&data, "instruction\nturn on the light\nturn off the light\n").unwrap();
    let (together, _) = ask(&bench.path("run"), &data, &[("prediction.batch_size_inference", "2")]);
    let (single, _) = ask(&bench.path("run"), &data, &[("prediction.batch_size_inference", "1")]);
    assert_eq!(together, single);
    assert_eq!((together.columns.as_slice(), together.rows.len()), (["prediction".to_owned()].as_slice(), 2));
}
