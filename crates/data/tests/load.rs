//! From files to the conversations of both sides: layouts, chains, splits, sampling, personalising.
//!
//! Length: one test program for the whole way from file to conversations; its cases share tables and settings.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says why it was skipped"
)]

use std::collections::HashSet;
use std::path::PathBuf;

use tempfile::TempDir;
use tunesmith_config::{DataPart, ExperimentConfig, TableLayout, ValidationStrategy};
use tunesmith_data::{Conversation, DataError, Splits, load_splits};

/// Files in a folder of their own, and settings that read `train.<ending>`.
struct Fixture {
    folder: TempDir,
    config: ExperimentConfig,
}

impl Fixture {
    fn new(ending: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = ExperimentConfig::default();
        config.dataset.train_dataframe = write(&folder, &format!("train.{ending}"), text);
        config.dataset.prompt_column = vec!["prompt".to_owned()];
        config.dataset.answer_column = "answer".into();
        Self { folder, config }
    }

    fn validation(mut self, ending: &str, text: &str) -> Self {
        let path = write(&self.folder, &format!("val.{ending}"), text);
        self.config.dataset.validation_strategy = ValidationStrategy::Custom;
        self.config.dataset.validation_dataframe = path.into();
        self
    }

    /// All training conversations and none held back: the table validates itself.
    fn whole(&self) -> Splits {
        let mut config = self.config.clone();
        config.dataset.validation_strategy = ValidationStrategy::Custom;
        config.dataset.validation_dataframe = config.dataset.train_dataframe.clone().into();
        load_splits(&config).unwrap_or_else(|error| panic!("{error}"))
    }

    fn load(&self) -> Splits {
        load_splits(&self.config).unwrap_or_else(|error| panic!("{error}"))
    }

    fn error(&self) -> DataError {
        load_splits(&self.config).unwrap_err()
    }
}

fn write(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn rows(conversations: &[Conversation]) -> Vec<usize> {
    conversations.iter().map(|conversation| conversation.row).collect()
}

/// Rows of every round of every conversation.
fn chains(conversations: &[Conversation]) -> Vec<Vec<usize>> {
    conversations.iter().map(|c| c.rounds.iter().map(|round| round.row).collect()).collect()
}

fn prompts(conversations: &[Conversation]) -> Vec<&str> {
    conversations.iter().map(|c| c.rounds.last().unwrap().prompt.as_str()).collect()
}

/// A CSV with the columns prompt and answer.
fn pairs(n: usize) -> String {
    let rows: String = (0..n).map(|i| format!("p{i},a{i}\n")).collect();
    format!("prompt,answer\n{rows}")
}

/// A CSV of chained rows; ids count from 1.
fn chained(parents: &[Option<usize>]) -> String {
    let mut text = "prompt,answer,id,parent_id\n".to_owned();
    for (i, parent) in parents.iter().enumerate() {
        let parent = parent.map(|parent| parent.to_string()).unwrap_or_default();
        text.push_str(&format!("p{i},a{i},{},{parent}\n", i + 1));
    }
    text
}

fn has_note(splits: &Splits, part: &str) -> bool {
    splits.notes.iter().any(|note| note.contains(part))
}

#[test]
fn rows_are_split_in_the_order_of_the_draw() {
    let mut fixture = Fixture::new("csv", &pairs(10));
    fixture.config.dataset.validation_size = 0.2;
    let splits = fixture.load();
    assert_eq!(rows(&splits.validation), [6, 3]);
    assert_eq!(rows(&splits.train), [0, 4, 5, 2, 1, 9, 8, 7]);
    assert_eq!(prompts(&splits.validation), ["p6", "p3"]);
    assert!(has_note(&splits, "layout columns (found by its columns)"));
    assert!(has_note(&splits, "8 training and 2 validation conversations"));
    // What stands in the defaults but not in the table is said, not required.
    assert!(has_note(&splits, "no column system") && has_note(&splits, "no column parent_id"));
}

#[test]
fn the_split_does_not_depend_on_the_seed() {
    let mut fixture = Fixture::new("csv", &pairs(50));
    let first = fixture.load();
    fixture.config.environment.seed = 5;
    assert_eq!(fixture.load(), first);
}

#[test]
fn gv_11_2_custom_validation_keeps_both_tables() {
    let fixture =
        Fixture::new("csv", &pairs(5)).validation("jsonl", "{\"prompt\": \"q\", \"answer\": \"b\"}\n");
    let splits = fixture.load();
    assert_eq!((rows(&splits.train), rows(&splits.validation)), (vec![0, 1, 2, 3, 4], vec![0]));

    let mut fixture = Fixture::new("csv", &pairs(5));
    fixture.config.dataset.validation_strategy = ValidationStrategy::Custom;
    fixture.config.dataset.validation_dataframe = "None".into();
    assert!(matches!(fixture.error(), DataError::Setting { field: "dataset.validation_dataframe", .. }));
}

#[test]
fn validation_rows_can_be_trained_on_as_well() {
    let mut fixture = Fixture::new("csv", &pairs(3)).validation("csv", "prompt,answer\nq,b\n");
    fixture.config.training.train_validation_data = true;
    let splits = fixture.load();
    assert_eq!(prompts(&splits.train), ["p0", "p1", "p2", "q"]);
    assert_eq!(rows(&splits.train), [0, 1, 2, 3], "numbered after the training table");
    assert_eq!(rows(&splits.validation), [0]);

    let mut fixture = Fixture::new("csv", &pairs(10));
    fixture.config.training.train_validation_data = true;
    let splits = fixture.load();
    assert_eq!(rows(&splits.train).into_iter().collect::<HashSet<_>>(), (0..10).collect());
}

#[test]
fn a_tenth_of_the_rows_is_sampled_where_asked() {
    let mut fixture = Fixture::new("csv", &pairs(30)).validation("csv", &pairs(30));
    fixture.config.dataset.data_sample = 0.4;
    let expected = [20, 14, 6, 19, 5, 24, 16, 28, 8, 0, 26, 11];
    let splits = fixture.load();
    assert_eq!((rows(&splits.train), rows(&splits.validation)), (expected.to_vec(), expected.to_vec()));
    fixture.config.dataset.data_sample_choice = vec![DataPart::Validation];
    let splits = fixture.load();
    assert_eq!((splits.train.len(), rows(&splits.validation)), (30, expected.to_vec()));
}

#[test]
fn chained_rows_become_conversations() {
    // Two conversations of four rows.
    let parents = [None, Some(1), Some(2), Some(3), None, Some(5), Some(6), Some(7)];
    let splits = Fixture::new("csv", &chained(&parents)).whole();
    assert_eq!(chains(&splits.train)[..4], [vec![0], vec![0, 1], vec![0, 1, 2], vec![0, 1, 2, 3]]);
    assert_eq!(splits.train.len(), 8);
    let mut limited = Fixture::new("csv", &chained(&parents));
    limited.config.dataset.limit_chained_samples = true;
    let splits = limited.whole();
    assert_eq!(chains(&splits.train), [vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
    assert_eq!(rows(&splits.train), [3, 7]);
    // Without the parent column every row stands alone.
    let mut alone = Fixture::new("csv", &chained(&parents));
    alone.config.dataset.parent_id_column = "None".into();
    assert!(chains(&alone.whole().train).iter().all(|chain| chain.len() == 1));
}

#[test]
fn gv_11_2_connected_rows_stay_on_one_side() {
    // Groups by row: 0 | 1, 2, 3 (a fork) | 4, 5, 6 | 7 | 8, 9.
    let parents = [None, None, Some(2), Some(2), None, Some(5), Some(6), None, None, Some(9)];
    let mut fixture = Fixture::new("csv", &chained(&parents));
    fixture.config.dataset.validation_size = 0.4;
    let splits = fixture.load();
    let groups = [0, 1, 1, 1, 2, 2, 2, 3, 4, 4];
    let sides = |conversations: &[Conversation]| -> HashSet<usize> {
        chains(conversations).concat().into_iter().map(|row| groups[row]).collect()
    };
    let (train, validation) = (sides(&splits.train), sides(&splits.validation));
    assert!(train.is_disjoint(&validation));
    // NumPy's permutation of 5 with seed 1337 starts with 3 and 2.
    assert_eq!(validation, HashSet::from([2, 3]));
    assert_eq!(splits.train.len() + splits.validation.len(), 10);
    // Rows keep their ascending order.
    assert!(rows(&splits.train).is_sorted() && rows(&splits.validation).is_sorted());
}

#[test]
fn sampling_takes_whole_conversations_by_any_column_names() {
    let text = "prompt,answer,me,before\na,b,x,\nc,d,y,x\ne,f,z,\ng,h,w,z\ni,j,v,\nk,l,u,v\n";
    let mut fixture = Fixture::new("csv", text);
    fixture.config.dataset.id_column = "me".into();
    fixture.config.dataset.parent_id_column = "before".into();
    fixture.config.dataset.data_sample = 0.7;
    fixture.config.dataset.data_sample_choice = vec![DataPart::Train];
    let splits = fixture.whole();
    // Two of three conversations, each with both rows.
    assert_eq!(splits.train.len(), 4);
    assert_eq!(chains(&splits.train).iter().filter(|chain| chain.len() == 2).count(), 2);
}

#[test]
fn prompt_columns_are_joined_and_missing_cells_empty() {
    let text = "instruction,input,output,system\ndo,this,done,be brief\nsay,,NA,\n1,2.5,None,\n";
    let mut fixture = Fixture::new("csv", text);
    fixture.config = ExperimentConfig {
        dataset: tunesmith_config::Dataset {
            train_dataframe: fixture.config.dataset.train_dataframe.clone(),
            ..Default::default()
        },
        ..Default::default()
    };
    let splits = fixture.whole();
    assert_eq!(prompts(&splits.train), ["do\n\nthis", "say", "1\n\n2.5"]);
    let first = &splits.train[0].rounds[0];
    assert_eq!((first.system.as_str(), first.answer.as_str()), ("be brief", "done"));
    assert_eq!(splits.train[1].rounds[0].answer, "");
    assert!(has_note(&splits, "2 cells of the column output hold a word such as None"));
    assert!(has_note(&splits, "2 of 3 rows have an empty answer"));
}

#[test]
fn no_prompt_column_means_no_prompt() {
    let mut fixture = Fixture::new("jsonl", "{\"text\": \"once\"}\n{\"text\": \"upon\"}\n");
    fixture.config.dataset.prompt_column.clear();
    fixture.config.dataset.answer_column = "text".into();
    assert_eq!(prompts(&fixture.whole().train), ["", ""]);
}

#[test]
fn missing_columns_are_named_with_what_there_is() {
    let fixture = Fixture::new("csv", "question,answer\nq,a\n");
    let error = fixture.error();
    let text = error.to_string();
    assert!(text.contains("no column \"prompt\" (set by dataset.prompt_column)"), "{text}");
    assert!(text.ends_with("the columns are question, answer"), "{text}");
    assert!(error.hint().unwrap().contains("did you mean \"question\"?"), "{:?}", error.hint());

    let mut fixture = Fixture::new("csv", &pairs(3));
    fixture.config.dataset.answer_column = "anwser".into();
    assert!(fixture.error().hint().unwrap().contains("did you mean \"answer\"?"));

    let mut fixture = Fixture::new("csv", &pairs(3));
    fixture.config.dataset.system_column = "persona".into();
    assert!(fixture.error().to_string().contains("set by dataset.system_column"));

    let mut fixture = Fixture::new("csv", "prompt,answer,id,parent_id\np,a,1,\n");
    fixture.config.dataset.id_column = "key".into();
    assert!(fixture.error().to_string().contains("set by dataset.id_column"));
}

#[test]
fn a_validation_table_may_lack_system_texts_and_chains() {
    let train = "prompt,answer,persona,id,parent_id\np,a,s,1,\nq,b,,2,1\n";
    let mut fixture = Fixture::new("csv", train).validation("csv", "prompt,answer\nr,c\n");
    fixture.config.dataset.system_column = "persona".into();
    let splits = fixture.load();
    assert_eq!(splits.train[1].system(), "s");
    assert_eq!(splits.validation[0].system(), "");
    assert!(has_note(&splits, "no column persona"));
}

#[test]
fn broken_chains_are_refused() {
    let error = Fixture::new("csv", &chained(&[Some(2), Some(3), Some(1)])).error().to_string();
    assert!(error.contains("Did not find any conversation chain."), "{error}");
    let error = Fixture::new("csv", &chained(&[Some(1), None])).error().to_string();
    assert!(error.contains("Parent id column: parent_id is the same as id column for some rows"), "{error}");
    let twice = "prompt,answer,id,parent_id\np,a,1,\nq,b,1,\nr,c,2,1\n";
    let error = Fixture::new("csv", twice).error().to_string();
    assert!(error.ends_with("train.csv:3: the id 1 occurs a second time (first:2)"), "{error}");
}

#[test]
fn only_the_first_rows_count_when_asked() {
    let mut fixture = Fixture::new("csv", &pairs(100));
    fixture.config.dataset.max_rows = 4;
    let splits = fixture.load();
    assert_eq!(rows(&splits.train).into_iter().chain(rows(&splits.validation)).max(), Some(3));
}

#[test]
fn a_split_that_leaves_nothing_to_train_is_refused() {
    let error = Fixture::new("csv", &pairs(1)).error();
    assert!(
        error.to_string().starts_with("dataset.validation_size: validation takes all of the data"),
        "{error}"
    );
}

#[test]
fn gv_11_2_names_are_personalised_in_prompts_and_answers_only() {
    let text = "prompt,answer,system\nHi Open Assistant,I am by LAION,You are Open Assistant\n";
    let mut fixture = Fixture::new("csv", text);
    fixture.config.dataset.personalize = true;
    fixture.config.dataset.chatbot_name = "Bob".to_owned();
    fixture.config.dataset.chatbot_author = "ACME".to_owned();
    let round = fixture.whole().train[0].rounds[0].clone();
    assert_eq!((round.prompt.as_str(), round.answer.as_str()), ("Hi Bob", "I am by ACME"));
    assert_eq!(round.system, "You are Open Assistant");
    let round = Fixture::new("csv", text).whole().train[0].rounds[0].clone();
    assert_eq!(round.answer, "I am by LAION");
}

#[test]
fn message_lists_are_found_by_their_columns() {
    let openai = r#"{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]}"#;
    let sharegpt = r#"{"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "p"}, {"from": "gpt", "value": "a"}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "b"}]}"#;
    for (line, layout) in [(openai, "messages"), (sharegpt, "sharegpt")] {
        let fixture = Fixture::new("jsonl", &format!("{line}\n{line}\n"));
        let splits = fixture.whole();
        assert!(has_note(&splits, &format!("layout {layout} (found by its columns)")), "{:?}", splits.notes);
        assert_eq!(splits.train.len(), 2);
        let conversation = &splits.train[1];
        assert_eq!((conversation.row, conversation.rounds.len(), conversation.system()), (1, 2, "s"));
        assert_eq!(conversation.rounds[1].answer, "b");
    }
}

#[test]
fn message_lists_in_parquet_and_csv_are_read() {
    let parquet = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tables/nested.parquet");
    let mut fixture = Fixture::new(
        "csv",
        "messages\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"p\"\"}, {\"\"role\"\": \"\"assistant\"\", \"\"content\"\": \"\"a\"\"}]\"\n",
    );
    assert_eq!(prompts(&fixture.whole().train), ["p"]);
    fixture.config.dataset.train_dataframe = parquet.to_str().unwrap().to_owned();
    fixture.config.dataset.max_rows = 2;
    let splits = fixture.whole();
    // The second list is empty.
    assert_eq!(prompts(&splits.train), ["hi"]);
    assert!(has_note(&splits, "1 conversations have no answer at all"));
}

#[test]
fn a_row_that_is_no_conversation_is_named() {
    let good = r#"{"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}]}"#;
    let bad = r#"{"messages": [{"role": "user", "content": "p"}, {"role": "robot", "content": "a"}]}"#;
    let mut fixture = Fixture::new("jsonl", &format!("{good}\n\n{bad}\n"));
    fixture.config.dataset.on_bad_row = tunesmith_config::OnBadRow::Error;
    let error = fixture.error().to_string();
    let expected = "train.jsonl:3: message 2: the role \"robot\" is none of system, user, assistant, tool";
    assert!(error.ends_with(expected), "{error}");
    let unanswered = r#"{"messages": [{"role": "user", "content": "p"}]}"#;
    let error = Fixture::new("jsonl", unanswered).error().to_string();
    assert!(error.contains("no row has an answer"), "{error}");
}

#[test]
fn alpaca_rows_join_the_input_only_if_there_is_one() {
    let text = r#"[{"instruction": "do", "input": "this", "output": "done"}, {"instruction": "say", "input": "", "output": "hi"}, {"instruction": "go", "output": "ok"}]"#;
    let mut fixture = Fixture::new("json", text);
    let splits = fixture.whole();
    assert!(has_note(&splits, "layout alpaca (found by its columns)"), "{:?}", splits.notes);
    assert_eq!(prompts(&splits.train), ["do\n\nthis", "say", "go"]);
    fixture.config.dataset.layout = TableLayout::Messages;
    assert!(fixture.error().to_string().contains("set by dataset.layout: messages"));
    fixture.config.dataset.layout = TableLayout::Tree;
    assert!(fixture.error().to_string().starts_with("dataset.layout: tree needs"));
}

/// Two trees: in the first, a prompt with two answers, one of which goes on; in the second, an unanswered prompt.
const NESTED: &str = r#"{"prompt": {"text": "p", "role": "prompter", "replies": [{"text": "a1", "role": "assistant", "replies": [{"text": "q", "role": "prompter", "replies": [{"text": "b", "role": "assistant", "replies": []}]}]}, {"text": "a2", "role": "assistant", "replies": []}, {"text": "a3", "role": "assistant", "deleted": true}]}}
{"prompt": {"text": "r", "replies": [{"text": "c", "replies": [{"text": "s"}]}]}}
"#;

/// The same trees, one message a row.
const FLAT: &str = r#"{"message_id": "1", "parent_id": null, "role": "prompter", "text": "p"}
{"message_id": "2", "parent_id": "1", "role": "assistant", "text": "a1"}
{"message_id": "3", "parent_id": "2", "role": "prompter", "text": "q"}
{"message_id": "4", "parent_id": "3", "role": "assistant", "text": "b"}
{"message_id": "5", "parent_id": "1", "role": "assistant", "text": "a2"}
{"message_id": "6", "parent_id": "1", "role": "assistant", "text": "a3", "deleted": true}
{"message_id": "7", "parent_id": null, "role": "prompter", "text": "r"}
{"message_id": "8", "parent_id": "7", "role": "assistant", "text": "c"}
{"message_id": "9", "parent_id": "8", "role": "prompter", "text": "s"}
"#;

#[test]
fn every_path_through_a_tree_is_a_conversation() {
    for text in [NESTED, FLAT] {
        let mut fixture = Fixture::new("jsonl", text);
        let splits = fixture.whole();
        assert!(has_note(&splits, "layout tree (found by its columns)"), "{:?}", splits.notes);
        assert!(has_note(&splits, "1 answers were left out because a message before them is deleted"));
        assert!(has_note(&splits, "1 prompts that nobody answers"));
        let shown: Vec<String> = splits
            .train
            .iter()
            .map(|c| {
                c.rounds.iter().map(|r| format!("{}>{}", r.prompt, r.answer)).collect::<Vec<_>>().join(" ")
            })
            .collect();
        assert_eq!(shown, ["p>a1", "p>a1 q>b", "p>a2", "r>c"]);
        assert_eq!(rows(&splits.train), [1, 3, 4, 7]);

        fixture.config.dataset.limit_chained_samples = true;
        assert_eq!(rows(&fixture.whole().train), [3, 4, 7]);

        // One tree on each side.
        fixture.config.dataset.validation_size = 0.5;
        let splits = fixture.load();
        // NumPy's permutation of 2 with seed 1337 is 0, 1.
        assert_eq!((rows(&splits.train), rows(&splits.validation)), (vec![7], vec![3, 4]));
    }
}

#[test]
fn broken_trees_are_refused() {
    let error = |text: &str| Fixture::new("jsonl", text).error().to_string();
    assert!(
        error(r#"{"prompt": {"text": "p", "replies": [{"replies": []}]}}"#)
            .contains(":1: a message of the tree has no text")
    );
    assert!(error(r#"{"prompt": {"text": "p", "replies": 5}}"#).contains("expected a list of replies"));
    let circle = FLAT.replacen("\"parent_id\": null", "\"parent_id\": \"4\"", 1);
    assert!(error(&circle).contains("their own ancestors"));
    assert!(error(&FLAT.replace("\"9\"", "\"8\"")).contains("occurs a second time"));
    assert!(error(&FLAT.replace("prompter", "narrator")).contains("the role \"narrator\""));
}

#[test]
fn a_hundred_thousand_rows_are_loaded_and_chained() {
    // Conversations of five rows; the time this takes is for whoever reads the test report.
    const N_ROWS: usize = 100_000;
    let mut text = "prompt,answer,id,parent_id\n".to_owned();
    for i in 0..N_ROWS {
        let parent = if i % 5 == 0 { String::new() } else { format!("m{}", i - 1) };
        text.push_str(&format!("p{i},a{i},m{i},{parent}\n"));
    }
    let splits = Fixture::new("csv", &text).load();
    assert_eq!(splits.train.len() + splits.validation.len(), N_ROWS);
    assert_eq!(splits.validation.len(), N_ROWS / 100);
    let n_rounds: usize = splits.train.iter().chain(&splits.validation).map(|c| c.rounds.len()).sum();
    assert_eq!(n_rounds, N_ROWS / 5 * (1 + 2 + 3 + 4 + 5));
}

/// Data sets beside the repository; a test that needs them says so and ends when they are not there.
fn shared(path: &str) -> Option<String> {
    let folder = std::env::var_os("TUNESMITH_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    let path = folder.join("data").join(path);
    if !path.exists() {
        println!("skipped: {} is missing", path.display());
        return None;
    }
    Some(path.to_str().unwrap().to_owned())
}

fn config_for(path: String) -> ExperimentConfig {
    let mut config = ExperimentConfig::default();
    config.dataset.train_dataframe = path;
    config
}

#[test]
fn assistant_trees_are_the_same_nested_and_flat() {
    let (Some(nested), Some(flat)) =
        (shared("oasst-en-100/en_100_tree.jsonl"), shared("oasst-en-100/messages.jsonl"))
    else {
        return;
    };
    for (limit, size) in [(false, 0.05), (true, 0.2), (false, 0.5)] {
        let load = |path: &String| {
            let mut config = config_for(path.clone());
            config.dataset.limit_chained_samples = limit;
            config.dataset.validation_size = size;
            load_splits(&config).unwrap()
        };
        let (nested, flat) = (load(&nested), load(&flat));
        assert_eq!(nested.train, flat.train);
        assert_eq!(nested.validation, flat.validation);
        // No first prompt on both sides, and about the share that was asked for.
        let roots = |side: &[Conversation]| -> HashSet<String> {
            side.iter().map(|c| c.rounds[0].prompt.clone()).collect()
        };
        let (train, validation) = (roots(&flat.train), roots(&flat.validation));
        assert!(train.is_disjoint(&validation));
        assert_eq!(validation.len(), (size * 100.0) as usize);
    }
}

#[test]
fn real_instructions_and_questions_load() {
    if let Some(path) = shared("self-instruct/instructions.jsonl") {
        let splits = load_splits(&config_for(path)).unwrap();
        assert_eq!((splits.train.len(), splits.validation.len()), (422, 5));
        assert!(has_note(&splits, "layout columns"));
    }
    if let Some(path) = shared("gsm8k/train.jsonl") {
        let mut config = config_for(path);
        let error = load_splits(&config).unwrap_err();
        assert!(error.hint().unwrap().contains("question"), "{:?}", error.hint());
        config.dataset.prompt_column = vec!["question".to_owned()];
        config.dataset.answer_column = "answer".into();
        let splits = load_splits(&config).unwrap();
        assert_eq!((splits.train.len(), splits.validation.len()), (7398, 75));
        assert!(splits.train.iter().all(|c| c.rounds[0].answer.contains("####")));
    }
}

#[test]
fn real_tables_have_the_documented_rows() {
    let n_rows = |path: &str| {
        shared(path).map(|path| tunesmith_data::read_table(path.as_ref(), None).unwrap().n_rows())
    };
    let expected = [
        ("emobank/emobank.csv", 10_062),
        ("gsm8k/test.jsonl", 1319),
        ("gsm8k-pairs/pairs.jsonl", 1163),
        ("self-instruct/seed_tasks.jsonl", 175),
        // Its first line is taken for a header, as the file has none.
        ("sms-spam/sms.tsv", 5573),
    ];
    for (path, n_expected) in expected {
        if let Some(n_rows) = n_rows(path) {
            assert_eq!(n_rows, n_expected, "{path}");
        }
    }
}
