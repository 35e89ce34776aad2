//! Labels as people write them: texts, numbers, truth values, lists; what is found, what is refused, what is told.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use tempfile::TempDir;
use tunesmith_config::{ExperimentConfig, LabelForm, ProblemType};
use tunesmith_data::{DataError, Splits, load_splits};

const SOFTMAX: (&str, &str) = ("training.loss_function", "CrossEntropyLoss");

/// A table by its name and content.
type File<'a> = (&'a str, &'a str);

/// What a training table becomes, with a table of validation rows or all of it as validation rows.
fn load_both(
    train: File<'_>,
    validation: Option<File<'_>>,
    changes: &[(&str, &str)],
) -> Result<Splits, DataError> {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let write = |(name, text): File<'_>| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let train = write(train);
    let validation = validation.map_or_else(|| train.clone(), write);
    let mut config = ExperimentConfig::for_problem_type(ProblemType::CausalClassificationModeling);
    let settings = [
        ("dataset.prompt_column", "text"),
        ("dataset.train_dataframe", &train),
        ("dataset.validation_strategy", "custom"),
        ("dataset.validation_dataframe", &validation),
    ];
    for (field, value) in settings.iter().chain(changes) {
        config.set(field, value).unwrap();
    }
    load_splits(&config)
}

fn csv(text: &str, changes: &[(&str, &str)]) -> Result<Splits, DataError> {
    load_both(("train.csv", text), None, changes)
}

fn jsonl(text: &str, changes: &[(&str, &str)]) -> Result<Splits, DataError> {
    load_both(("train.jsonl", text), None, changes)
}

fn values(splits: &Splits) -> Vec<Vec<f32>> {
    splits.train.iter().map(|conversation| conversation.values().to_vec()).collect()
}

fn answers(splits: &Splits) -> Vec<&str> {
    splits.train.iter().map(|conversation| conversation.rounds[0].answer.as_str()).collect()
}

fn names(splits: &Splits) -> (Vec<&str>, usize) {
    let labels = splits.labels.as_ref().unwrap();
    (labels.class_names.iter().map(String::as_str).collect(), labels.num_classes)
}

#[track_caller]
fn assert_noted(splits: &Splits, expected: &str) {
    assert!(splits.notes.iter().any(|note| note.contains(expected)), "{:#?}", splits.notes);
}

#[track_caller]
fn assert_refused(result: Result<Splits, DataError>, expected: &str) -> String {
    let error = result.unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    error.hint().unwrap_or_default()
}

/// In the manner of banking77: intents in words, more than two.
const INTENTS: &str = "text,category\nwhere is my card?,card_arrival\nis there a fee,exchange_charge\n\
                       still no card,card_arrival\nwhat do you charge,exchange_charge\nmy pin,change_pin\n";

#[test]
fn texts_are_classes_in_sorted_order() {
    let splits = csv(INTENTS, &[SOFTMAX, ("dataset.answer_column", "category")]).unwrap();
    assert_eq!(names(&splits), (vec!["card_arrival", "change_pin", "exchange_charge"], 3));
    assert_eq!(values(&splits), [[0.0], [2.0], [0.0], [2.0], [1.0]]);
    assert_eq!(answers(&splits)[..2], ["card_arrival", "exchange_charge"]);
    assert_noted(
        &splits,
        "the column category has 3 labels: 0 = card_arrival (2 rows), 1 = change_pin (1 row), 2 = exchange_charge (2 rows)",
    );
    // The configuration that has them says the same again.
    let mut config = ExperimentConfig::for_problem_type(ProblemType::CausalClassificationModeling);
    config.set(SOFTMAX.0, SOFTMAX.1).unwrap();
    splits.labels.as_ref().unwrap().set_in(&mut config);
    assert!(
        config.check().iter().all(|finding| !finding.field.starts_with("dataset.")),
        "{:?}",
        config.check()
    );
    assert_eq!(config.class_labels(), ["card_arrival", "change_pin", "exchange_charge"]);
    assert_eq!(config.label_form(), Some(LabelForm::SingleLabel));
    let (again, _) = ExperimentConfig::from_yaml(&config.to_yaml(), "cfg.yaml").unwrap();
    assert_eq!(again.dataset, config.dataset);
}

#[test]
fn two_texts_are_no_and_yes_for_the_binary_loss() {
    let splits = csv("text,label\na,spam\nb,ham\nc, ham \n", &[]).unwrap();
    assert_eq!(names(&splits), (vec!["ham", "spam"], 1));
    assert_eq!(
        (values(&splits), answers(&splits)),
        (vec![vec![1.0], vec![0.0], vec![0.0]], vec!["spam", "ham", "ham"])
    );
    assert_noted(&splits, "white space around labels of the column label does not count (1 cell)");
    let hint = assert_refused(
        csv(INTENTS, &[("dataset.answer_column", "category")]),
        "column category: it has 3 labels (card_arrival, change_pin, exchange_charge), and BinaryCrossEntropyLoss tells two apart",
    );
    assert!(hint.contains("training.loss_function to CrossEntropyLoss"), "{hint}");
    let hint = assert_refused(csv("text,label\na,spam\nb,spam\n", &[]), "all 2 rows have the label \"spam\"");
    assert!(hint.contains("two labels"), "{hint}");
}

#[test]
fn class_indices_stay_as_they_are() {
    let splits = csv("text,label\na,0\nb,1\n", &[]).unwrap();
    assert_eq!((names(&splits), values(&splits)), ((vec![], 1), vec![vec![0.0], vec![1.0]]));
    // A gap elsewhere made the column one of decimal numbers; they are whole still.
    let splits = csv("text,label\na,2.0\nb,0\n", &[SOFTMAX, ("dataset.num_classes", "4")]).unwrap();
    assert_eq!((names(&splits), values(&splits)), ((vec![], 4), vec![vec![2.0], vec![0.0]]));
    assert_eq!(answers(&splits), ["2", "0"]);
    assert_noted(&splits, "no row of the column label has the classes 1, 3 of 4");
    let splits = csv("text,label\na,2\nb,0\nc,1\n", &[SOFTMAX]).unwrap();
    assert_eq!((names(&splits), values(&splits)), ((vec![], 3), vec![vec![2.0], vec![0.0], vec![1.0]]));
    assert_noted(&splits, "the column label holds the classes 0 to 2, so dataset.num_classes is 3");
    let splits = csv("text,label\na,1\nb,1\n", &[]).unwrap();
    assert_eq!(values(&splits), [[1.0], [1.0]]);
    assert_noted(&splits, "no row of the column label has the class 0 of 2");
}

#[test]
fn numbers_that_are_no_indices_are_names() {
    let stars = "text,stars\nbad,1\nmeh,3\ngood,5\nfine,4\npoor,2\n";
    let changes = [SOFTMAX, ("dataset.answer_column", "stars"), ("dataset.num_classes", "5")];
    for changes in [&changes[..2], &changes] {
        let splits = csv(stars, changes).unwrap();
        assert_eq!(names(&splits), (vec!["1", "2", "3", "4", "5"], 5));
        assert_eq!(values(&splits), [[0.0], [2.0], [4.0], [3.0], [1.0]]);
        assert_eq!(answers(&splits), ["1", "3", "5", "4", "2"]);
        assert_noted(
            &splits,
            "whole numbers that are not 0, 1, 2, … and so count as names: 0 = 1 (1 row), 1 = 2 (1 row)",
        );
    }
    // With room for them they are indices, as they always were.
    let splits =
        csv(stars, &[SOFTMAX, ("dataset.answer_column", "stars"), ("dataset.num_classes", "6")]).unwrap();
    assert_eq!((names(&splits), values(&splits)[0][0]), ((vec![], 6), 1.0));
    let splits = csv("text,label\na,-1\nb,1\nc,-1\n", &[]).unwrap();
    assert_eq!(
        (names(&splits), values(&splits)),
        ((vec!["-1", "1"], 1), vec![vec![0.0], vec![1.0], vec![0.0]])
    );
    let splits = csv("text,label\na,10\nb,9\nc,30\n", &[SOFTMAX]).unwrap();
    assert_eq!(names(&splits).0, ["9", "10", "30"]);
    // Codes are texts.
    let splits =
        jsonl("{\"text\":\"a\",\"label\":\"01\"}\n{\"text\":\"b\",\"label\":\"1\"}\n", &[SOFTMAX]).unwrap();
    assert_eq!(names(&splits).0, ["01", "1"]);
}

#[test]
fn truth_values_are_false_and_true() {
    for text in ["text,label\na,True\nb,False\n", "text,label\na,true\nb,false\n"] {
        let splits = csv(text, &[]).unwrap();
        assert_eq!(values(&splits), [[1.0], [0.0]], "{text}");
    }
    let rows = "{\"text\": \"a\", \"label\": true}\n{\"text\": \"b\", \"label\": true}\n";
    let splits = jsonl(rows, &[]).unwrap();
    assert_eq!((names(&splits), values(&splits)), ((vec!["False", "True"], 1), vec![vec![1.0], vec![1.0]]));
    assert_noted(&splits, "no row of the column label has the label False of 2");
    // Beside numbers they are 0 and 1.
    let rows = "{\"text\": \"a\", \"label\": false}\n{\"text\": \"b\", \"label\": 1}\n";
    assert_eq!(values(&jsonl(rows, &[]).unwrap()), [[0.0], [1.0]]);
    let splits = jsonl(rows, &[SOFTMAX]).unwrap();
    assert_eq!((names(&splits), values(&splits)), ((vec![], 2), vec![vec![0.0], vec![1.0]]));
}

#[test]
fn what_is_no_label_is_refused_with_its_line() {
    let text = "text,label\na,ham\nb,1\nc,\nd,-1\ne,0.5\nf,NA\ng,spam\n";
    let message = "column label: 2 of 7 cells are not a label (a text, a whole number, true or false): nothing in line 4, \
                   nothing in line 7 (2 of them hold a word such as None, NA or null, which counts as nothing)";
    let result = csv(text, &[SOFTMAX]);
    // How many words there are is the table's to count.
    let error = result.unwrap_err();
    assert!(error.to_string().contains(&message[..message.len() - 78]), "{error}");
    assert!(error.hint().unwrap().contains("leave them out"), "{error}");
    let hint = assert_refused(
        csv("text,label\na,1\nb,\nc,1\nd,0\ne,NaN\n", &[]),
        "column label: 2 of 5 cells are not a label: nothing in line 3, nothing in line 6",
    );
    assert!(hint.contains("leave them out"), "{hint}");
    let outside = "text,label\na,1\nb,2\nc,-1\nd,0.5\n";
    let hint = assert_refused(
        csv(outside, &[]),
        "column label: 3 of 4 cells are not 0 or 1: \"2.0\" in line 3, \"-1.0\" in line 4, \"0.5\" in line 5",
    );
    assert!(hint.contains("dataset.num_classes"), "{hint}");
    assert_refused(
        csv(outside, &[SOFTMAX]),
        "1 of 4 cells are not a label (a text, a whole number, true or false): \"0.5\"",
    );
    assert_refused(
        csv("text,label\na,1\nb,7\nc,5\nd,0\n", &[SOFTMAX, ("dataset.num_classes", "3")]),
        "2 of 4 cells are not a class from 0 to 2: \"7\" in line 3, \"5\" in line 4",
    );
    assert_refused(
        jsonl("{\"text\":\"a\",\"label\":{\"x\":1}}\n", &[SOFTMAX]),
        "1 of 1 cells are not a label",
    );
    let hint = assert_refused(csv(INTENTS, &[SOFTMAX, ("dataset.answer_column", "categories")]), "no column");
    assert!(hint.contains("\"category\""), "{hint}");
}

#[test]
fn another_number_of_classes_is_named() {
    let changes =
        |n: &'static str| [SOFTMAX, ("dataset.answer_column", "category"), ("dataset.num_classes", n)];
    for n in ["2", "4"] {
        assert_refused(
            csv(INTENTS, &changes(n)),
            &format!(
                "dataset.num_classes: is {n}, but the column category has 3 labels (card_arrival, change_pin, exchange_charge); \
                 set it to 3"
            ),
        );
    }
    assert_eq!(names(&csv(INTENTS, &changes("3")).unwrap()).1, 3);
    assert_refused(
        csv("text,label\na,0\nb,1\n", &[("dataset.num_classes", "2")]),
        "dataset.num_classes: is 2, but BinaryCrossEntropyLoss tells two labels apart",
    );
}

#[test]
fn given_names_are_the_classes_in_their_order() {
    let given = ("dataset.class_names", "[exchange_charge, lost_card, change_pin, card_arrival]");
    let column = ("dataset.answer_column", "category");
    let splits = csv(INTENTS, &[SOFTMAX, column, given]).unwrap();
    assert_eq!(values(&splits), [[3.0], [0.0], [3.0], [0.0], [2.0]]);
    assert_eq!(names(&splits).1, 4);
    assert_noted(&splits, "no row of the column category has the label lost_card of 4");
    let hint = assert_refused(
        csv(INTENTS, &[SOFTMAX, column, ("dataset.class_names", "[card_arrival, lost_card]")]),
        "column category: it has labels that dataset.class_names lacks: \"exchange_charge\" (2 rows, first in line 3), \"change_pin\" in line 6",
    );
    assert!(hint.contains("the labels are card_arrival, lost_card"), "{hint}");
    // Whole numbers are the places of names.
    let splits = csv("text,label\na,1\nb,0\n", &[("dataset.class_names", "[ham, spam]")]).unwrap();
    assert_eq!((values(&splits), answers(&splits)), (vec![vec![1.0], vec![0.0]], vec!["spam", "ham"]));
    assert_noted(&splits, "the numbers in the column label are the places of dataset.class_names");
    // Unless the names are numbers themselves.
    let splits = csv("text,label\na,1\nb,0\n", &[("dataset.class_names", "[1, 0]")]).unwrap();
    assert_eq!((values(&splits), answers(&splits)), (vec![vec![0.0], vec![1.0]], vec!["1", "0"]));
    assert_refused(
        csv("text,label\na,ham\nb,spam\n", &[("dataset.class_names", "[ham, spam, eggs]")]),
        "dataset.class_names: has 3 names, but BinaryCrossEntropyLoss tells two labels apart",
    );
}

#[test]
fn labels_that_training_never_saw_are_refused() {
    let train = ("train.csv", "text,label\na,ham\nb,spam\n");
    let validation = ("validation.csv", "text,label\nx,ham\ny,eggs\nz,eggs\n");
    assert_refused(
        load_both(train, Some(validation), &[]),
        "validation.csv: column label: it has a label that no training row has: \"eggs\" (2 rows, first in line 3)",
    );
    // Numbers are not the places of names that were found.
    assert_refused(
        load_both(train, Some(("validation.csv", "text,label\nx,0\ny,1\n")), &[]),
        "it has labels that no training row has: \"0\" in line 2, \"1\" in line 3",
    );
    let splits = load_both(
        train,
        Some(("validation.csv", "text,label\nx,eggs\ny,ham\n")),
        &[SOFTMAX, ("dataset.class_names", "[ham, spam, eggs]")],
    );
    assert_noted(&splits.unwrap(), "labels that no training row has, in 1 validation row: eggs");
    assert_refused(
        load_both(("train.csv", "text,label\na,0\nb,1\n"), Some(("v.csv", "text,label\nx,2\n")), &[SOFTMAX]),
        "v.csv: column label: 1 of 1 cells are not 0 or 1: \"2\" in line 2",
    );
    let rows: String = (0..20).map(|row| format!("t{row},{}\n", ["a", "b"][row % 2])).collect();
    let automatic =
        [("dataset.validation_strategy", "automatic"), ("dataset.validation_size", "0.5"), SOFTMAX];
    let splits = csv(&format!("text,label\n{rows}rare,c\nrarer,d\n"), &automatic).unwrap();
    let seen: Vec<f32> = splits.train.iter().map(|one| one.values()[0]).collect();
    let unseen = splits.validation.iter().filter(|one| !seen.contains(&one.values()[0])).count();
    assert_eq!(unseen > 0, splits.notes.iter().any(|note| note.contains("labels that no training row has")));
}

#[test]
fn lists_hold_any_number_of_labels() {
    let lists = "{\"text\":\"x\",\"tags\":[\"b\",\"a\"]}\n{\"text\":\"y\",\"tags\":[]}\n{\"text\":\"z\",\"tags\":[\"c\",\"c\"]}\n";
    let column = ("dataset.answer_column", "tags");
    let splits = jsonl(lists, &[column]).unwrap();
    assert_eq!(names(&splits), (vec!["a", "b", "c"], 3));
    assert_eq!(values(&splits), [[1.0, 1.0, 0.0], [0.0; 3], [0.0, 0.0, 1.0]]);
    assert_eq!(answers(&splits), ["[\"a\",\"b\"]", "[]", "[\"c\"]"]);
    assert_noted(
        &splits,
        "the column tags holds any number of 3 labels as lists: 0 = a (1 row), 1 = b (1 row), 2 = c (1 row)",
    );
    assert_noted(&splits, "1 of 3 rows of the column tags have no label");
    assert_noted(&splits, "1 cell of the column tags with a label twice: it counts once");
    // As text of a csv, the way Python prints them.
    let text = "text,tags\nx,\"['b', 'a']\"\ny,[]\nz,\"['c']\"\n";
    let again = csv(text, &[column]).unwrap();
    assert_eq!((values(&again), names(&again)), (values(&splits), names(&splits)));
    let hint = assert_refused(jsonl(lists, &[column, SOFTMAX]), "it holds lists of labels (first in line 1)");
    assert!(hint.contains("BinaryCrossEntropyLoss"), "{hint}");
    assert_refused(
        jsonl("{\"text\":\"x\",\"tags\":[0,1,1]}\n{\"text\":\"y\",\"tags\":[1,0,0]}\n", &[column]),
        "each of its lists holds 3 times 0 or 1",
    );
    // Indices of labels keep their number.
    let numbers = "{\"text\":\"x\",\"tags\":[27]}\n{\"text\":\"y\",\"tags\":[2, 14]}\n";
    let splits = jsonl(numbers, &[column, ("dataset.num_classes", "28")]).unwrap();
    assert_eq!(
        (names(&splits).1, values(&splits)[0][27], values(&splits)[1].iter().sum::<f32>()),
        (28, 1.0, 2.0)
    );
    assert_eq!(names(&jsonl(numbers, &[column]).unwrap()).0, ["2", "14", "27"]);
    assert_refused(
        jsonl(numbers, &[column, ("dataset.num_classes", "4")]),
        "dataset.num_classes: is 4, but the column tags has 3",
    );
    let validation = ("v.jsonl", "{\"text\":\"x\",\"tags\":[\"d\"]}\n");
    assert_refused(load_both(("t.jsonl", lists), Some(validation), &[column]), "no training row has: \"d\"");
}

#[test]
fn separated_labels_are_found_and_told() {
    for (separator, shown) in [("|", "|"), (";", ";"), (",", ","), (", ", ",")] {
        let rows = format!("text\tlabel\nx\tb{separator}a\ny\ta\nz\tc{separator}b\n");
        let splits = load_both(("train.tsv", &rows), None, &[]).unwrap();
        assert_eq!(names(&splits), (vec!["a", "b", "c"], 3), "{separator}");
        assert_eq!(values(&splits), [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], "{separator}");
        assert_eq!(answers(&splits)[0], format!("a{shown}b"));
        assert_noted(&splits, &format!("holds any number of 3 labels with {shown:?} between them"));
        assert_eq!(splits.labels.unwrap().label_separator, shown);
    }
    // With the softmax a comma is a comma.
    let rows = "text\tlabel\nx\tlost, stolen\ny\tlost\nz\tlost, found\n";
    let splits = load_both(("train.tsv", rows), None, &[SOFTMAX]).unwrap();
    assert_eq!(names(&splits).0, ["lost", "lost, found", "lost, stolen"]);
    // Two cells may be two labels, or three.
    let rows = "text\tlabel\nx\tcards, lost\ny\tcards, stolen\n";
    let two = |changes: &[(&str, &str)]| load_both(("train.tsv", rows), None, changes);
    assert_refused(
        two(&[]),
        "dataset.label_separator: the column label holds \"cards, lost\" and \"cards, stolen\" only",
    );
    assert_eq!(
        names(&two(&[("dataset.label_separator", "none")]).unwrap()),
        (vec!["cards, lost", "cards, stolen"], 1)
    );
    assert_eq!(
        names(&two(&[("dataset.label_separator", ",")]).unwrap()),
        (vec!["cards", "lost", "stolen"], 3)
    );
    assert_refused(
        load_both(("train.tsv", "text\tlabel\nx\ta|b, c\ny\ta\nz\tc, d\nw\tb, c\n"), None, &[]),
        "dataset.label_separator: the cells of the column label hold | and ,",
    );
    // Parts that never come back are no labels.
    assert_eq!(
        names(&csv("text,label\nx,\"yes, of course\"\ny,no\n", &[]).unwrap()).0,
        ["no", "yes, of course"]
    );
    let splits = load_both(
        ("train.tsv", "text\tlabel\nx\ta b\ny\tb\nz\ta c\n"),
        None,
        &[("dataset.label_separator", " ")],
    );
    assert_eq!(names(&splits.unwrap()), (vec!["a", "b", "c"], 3));
    let hint = assert_refused(csv("text,label\nx,a;b\ny,c;d\nz,e\n", &[]), "it has 3 labels (a;b, c;d, e)");
    assert!(hint.contains("if \";\" stands between the labels of a cell"), "{hint}");
}

#[test]
fn labels_that_differ_in_case_are_told() {
    let splits = csv("text,label\na,Ham\nb,ham\nc,spam\n", &[SOFTMAX]).unwrap();
    assert_eq!(names(&splits).0, ["Ham", "ham", "spam"]);
    assert_noted(
        &splits,
        "labels of the column label differ by upper and lower case only, and are labels each: Ham and ham",
    );
}

#[test]
fn a_validation_without_some_label_has_no_curve() {
    let train = ("train.csv", "text,label\na,x\nb,y\nc,z\n");
    let validate = |rows: &'static str, metric: &'static str| {
        load_both(train, Some(("v.csv", rows)), &[SOFTMAX, ("prediction.metric", metric)]).unwrap()
    };
    assert_noted(&validate("text,label\na,x\n", "AUC"), "all have them: x, y, z");
    let two = validate("text,label\na,x\nb,y\n", "AUC");
    assert_noted(&two, "all have them: z; more validation rows");
    for (rows, metric) in [("text,label\na,x\n", "LogLoss"), (train.1, "AUC")] {
        assert!(
            validate(rows, metric).notes.iter().all(|text| !text.contains("AUC has no value")),
            "{metric}"
        );
    }
}
