//! Plain texts for continued pre-training: out of tables, text files and folders, into samples of which all is learned.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tunesmith_config::{ExperimentConfig, Packing, ProblemType};
use tunesmith_data::{BatchOptions, Splits, Target, load_splits, plan_epoch, tokenize};
use tunesmith_formats::tokenizer::Tokenizer;

/// `Die Katze schläft.\n\nThe end`, by vocabulary.
const EXPECTED: [(&str, &[u32]); 3] = [
    (
        "bpe-llama3",
        &[
            398, 35, 72, 68, 220, 42, 281, 89, 68, 258, 66, 71, 75, 127, 97, 69, 83, 13, 198, 198, 290, 220,
            68, 267, 401,
        ],
    ),
    (
        "spm-llama",
        &[
            1, 358, 71, 366, 359, 358, 78, 284, 413, 359, 261, 377, 364, 368, 198, 167, 375, 360, 372, 13,
            13, 388, 269, 358, 359, 271, 2,
        ],
    ),
    (
        "bpe-smollm",
        &[
            38, 75, 71, 223, 45, 284, 92, 71, 261, 69, 74, 78, 130, 100, 72, 86, 16, 201, 201, 293, 223, 71,
            270, 2,
        ],
    ),
];

fn tokenizer(name: &str) -> Tokenizer {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tokenizers").join(name);
    Tokenizer::from_folder(&dir).unwrap()
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn config(data: PathBuf, changes: &[(&str, &str)]) -> ExperimentConfig {
    let mut config = ExperimentConfig::for_problem_type(ProblemType::ContinuedPretraining);
    config.dataset.train_dataframe = data.display().to_string();
    config.dataset.validation_size = 0.0;
    for (field, value) in changes {
        config.set(field, value).unwrap();
    }
    config
}

fn load(data: PathBuf, changes: &[(&str, &str)]) -> Splits {
    load_splits(&config(data, changes)).unwrap()
}

fn texts(splits: &Splits) -> Vec<(String, bool, bool)> {
    let text = |conversation: &tunesmith_data::Conversation| match &conversation.rounds[0].target {
        Target::Text { starts, ends } => Some((conversation.rounds[0].answer.clone(), *starts, *ends)),
        _ => None,
    };
    splits.train.iter().map(|conversation| text(conversation).unwrap()).collect()
}

/// Sentences with their numbers, of about 30 bytes each.
fn sentences(n: usize) -> String {
    (0..n).map(|number| format!("This is sentence number {number}.\n\n")).collect()
}

#[test]
fn defaults_are_those_of_texts() {
    let config = ExperimentConfig::for_problem_type(ProblemType::ContinuedPretraining);
    assert_eq!(config.dataset.answer_column.all(), ["text"]);
    assert!(config.dataset.prompt_column.is_empty() && config.dataset.parent_id_column.is_none());
    assert_eq!(
        (config.training.packing, config.prediction.metric.as_str()),
        (Packing::Wrapped, "Perplexity")
    );
    assert_eq!(config.check(), []);
    let mut odd = config;
    odd.set("dataset.prompt_column", "title").unwrap();
    odd.set("dataset.text_prompt_start", "Q: ").unwrap();
    let fields: Vec<String> = odd.check().into_iter().map(|finding| finding.field).collect();
    assert_eq!(fields, ["dataset.prompt_column", "dataset.text_prompt_start"]);
}

/// The expected ids are those of transformers: `tokenizer(text)`, then the end-of-text token.
#[test]
fn a_text_begins_and_ends_as_the_models_tokenizer_has_it() {
    let rows = folder(&[("rows.csv", "text\n\"Die Katze schläft.\n\nThe end\"\n \n")]);
    let splits = load(rows.path().join("rows.csv"), &[]);
    assert!(splits.notes.iter().any(|note| note.contains("1 of 2 rows hold no text")), "{:?}", splits.notes);
    for (name, expected) in EXPECTED {
        let config = config(rows.path().join("rows.csv"), &[("training.packing", "samples")]);
        let (set, report) = tokenize(&config, &tokenizer(name), &splits.train, None).unwrap();
        assert_eq!(set.samples.len(), 1, "{name}");
        assert_eq!(set.samples[0].ids, expected, "{name}");
        assert!(set.samples[0].trained.iter().all(|trained| *trained));
        assert_eq!((report.n_cut, report.n_without_end), (0, 0));
    }
}

#[test]
fn passages_that_stay_neighbours_are_one_text() {
    let book = sentences(2000);
    let files = folder(&[("a.txt", &book), ("b.md", "A note.")]);
    let whole = load(files.path().to_owned(), &[]);
    assert_eq!(texts(&whole), [(book.clone(), true, true), ("A note.".to_owned(), true, true)]);

    let split = load(files.path().to_owned(), &[("dataset.validation_size", "0.2")]);
    let parts = texts(&split);
    let n_validation: usize = split.validation.iter().map(|text| text.rounds[0].answer.len()).sum();
    let n_train: usize = parts.iter().map(|(text, ..)| text.len()).sum();
    assert_eq!(n_train + n_validation, book.len() + "A note.".len());
    // What lies between two parts validates, so they begin or end in the middle of the text.
    assert!(parts.len() > 1 && parts.iter().any(|(_, starts, ends)| !(*starts && *ends)));
    for (text, starts, ends) in parts.iter().filter(|(text, ..)| text != "A note.") {
        assert!(book.contains(text.as_str()));
        assert_eq!((book.starts_with(text.as_str()), book.ends_with(text.as_str())), (*starts, *ends));
    }
}

#[test]
fn no_token_is_lost_however_samples_are_packed() {
    let book = sentences(300);
    let files = folder(&[("a.txt", &book)]);
    let tokenizer = tokenizer("bpe-smollm");
    let mut expected = tokenizer.encode(&book).unwrap();
    expected.push(tokenizer.eos_id());
    for packing in ["samples", "rows", "wrapped"] {
        let changes = [
            ("training.packing", packing),
            ("tokenizer.max_length", "64"),
            ("training.drop_last_batch", "false"),
        ];
        let config = config(files.path().to_owned(), &changes);
        let splits = load_splits(&config).unwrap();
        let (set, report) = tokenize(&config, &tokenizer, &splits.train, None).unwrap();
        let ids: Vec<u32> = set.samples.iter().flat_map(|sample| sample.ids.clone()).collect();
        assert_eq!(ids, expected, "{packing}");
        assert!(set.samples.iter().all(|sample| sample.ids.len() <= 64), "{packing}");
        assert_eq!((report.n_tokens, report.n_cut_tokens), (expected.len(), 0), "{packing}");
        let plan = plan_epoch(&set, &BatchOptions::of(&config, 1, 0));
        let batches = (0..plan.n_micro_batches()).map(|idx| plan.micro_batch(&set, idx));
        let mut seen: Vec<u32> = batches.flat_map(|batch| batch.ids).collect();
        let mut all = expected.clone();
        seen.sort_unstable();
        all.sort_unstable();
        assert_eq!(seen, all, "{packing}");
    }
}

#[test]
fn a_prompt_is_the_beginning_of_a_text() {
    let config = config(PathBuf::new(), &[]);
    let llama = tokenizer("bpe-llama3");
    let assembler = tunesmith_data::Assembler::new(&config, &llama).unwrap();
    let round = tunesmith_data::Round { prompt: "Once".to_owned(), ..tunesmith_data::Round::default() };
    let conversation = tunesmith_data::Conversation::new(vec![round]).unwrap();
    let mut expected = vec![llama.bos_id().unwrap()];
    expected.extend(llama.encode("Once").unwrap());
    assert_eq!(assembler.prompt_ids(&conversation).unwrap(), expected);
}
