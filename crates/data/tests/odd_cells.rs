//! Cells that lose something in other readers: digits of long numbers, leading zeros, halves of characters, line ends.
//!
//! The expected texts are those of Python's `json` and of pandas 3.1 where nothing else is said.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tunesmith_config::{ExperimentConfig, LeadingZeros, ProblemType};
use tunesmith_data::{Cell, DataError, Place, Table, TableOptions, Target, load_splits, read_table_with};

fn read_as(name: &str, bytes: &[u8], options: &TableOptions) -> Result<Table, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    read_table_with(&path, options)
}

fn read(name: &str, text: &str) -> Table {
    read_as(name, text.as_bytes(), &TableOptions::default()).unwrap()
}

/// The error without its folder.
fn message(name: &str, text: &str) -> String {
    let error = read_as(name, text.as_bytes(), &TableOptions::default()).unwrap_err().to_string();
    error.get(error.find(name).unwrap()..).unwrap().to_owned()
}

fn texts(table: &Table) -> Vec<Vec<String>> {
    table.rows.iter().map(|row| row.iter().map(Cell::text).collect()).collect()
}

fn column(name: &str, text: &str) -> Vec<String> {
    texts(&read(name, text)).into_iter().flatten().collect()
}

fn has_note(table: &Table, part: &str) -> bool {
    table.notes.iter().any(|note| note.contains(part))
}

#[test]
fn whole_numbers_of_any_size_keep_their_digits_in_csv() {
    let large = ["100000000000000000000", "123456789012345678902", "-100000000000000000000"];
    assert_eq!(column("t.csv", &format!("n\n{}\n", large.join("\n"))), large);
    let unsigned = ["18446744073709551615", "9223372036854775807", "-1"];
    assert_eq!(column("t.csv", &format!("n\n{}\n", unsigned.join("\n"))), unsigned);
    assert_eq!(column("t.tsv", "n\n+100000000000000000000\n"), ["100000000000000000000"]);
    // Between numbers with a point, too, where pandas has 1e+20 and 9007199254740992.0.
    let mixed = "n\n1.5\n100000000000000000000\n9007199254740993\n2\n-0\n";
    assert_eq!(column("t.csv", mixed), ["1.5", "100000000000000000000", "9007199254740993", "2.0", "-0.0"]);
    // Beside gaps neighbours stay apart.
    let gaps = "a,n\nx,18446744073709551615\ny,\nz,18446744073709551614\n";
    let read: Vec<String> = texts(&read("t.csv", gaps)).into_iter().map(|row| row[1].clone()).collect();
    assert_eq!(read, ["18446744073709551615", "", "18446744073709551614"]);
}

#[test]
fn whole_numbers_of_any_size_keep_their_digits_in_json() {
    let row = r#"{"a": 100000000000000000000, "b": -9223372036854775809, "c": 18446744073709551615, "d": -0,
        "e": [123456789012345678901, 18446744073709551615, 1], "f": {"g": 100000000000000000000}}"#;
    for (name, text) in [("t.jsonl", row.replace('\n', " ")), ("t.json", format!("[{row}]"))] {
        let table = read(name, &text);
        assert_eq!(
            texts(&table)[0],
            [
                "100000000000000000000",
                "-9223372036854775809",
                "18446744073709551615",
                "0",
                "[\"123456789012345678901\",18446744073709551615,1]",
                "{\"g\":\"100000000000000000000\"}",
            ]
        );
        assert!(has_note(&table, "4 whole numbers beyond 64 bits are read as texts of their digits"));
    }
}

#[test]
fn long_ids_are_distinct_and_referred_to() {
    let folder = tempfile::tempdir().unwrap();
    let csv = "id,parent_id,prompt,answer\n11898508762506083281,,q1,a1\n11898508762506083282,11898508762506083281,q2,a2\n\
               11898508762506083283,11898508762506083282,q3,a3\n";
    let jsonl: String = [("81", "null"), ("82", "11898508762506083281"), ("83", "11898508762506083282")]
        .iter()
        .enumerate()
        .map(|(i, (id, parent))| {
            let n = i + 1;
            format!(
                "{{\"id\": 118985087625060832{id}, \"parent_id\": {parent}, \"prompt\": \"q{n}\", \"answer\": \"a{n}\"}}\n"
            )
        })
        .collect();
    let padded = "id,parent_id,prompt,answer\n08,,q1,a1\n09,8,q2,a2\n10,9,q3,a3\n";
    for (name, text) in [("t.csv", csv), ("t.jsonl", &jsonl[..]), ("padded.csv", padded)] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let mut config = ExperimentConfig::default();
        config.dataset.train_dataframe = path.display().to_string();
        config.dataset.validation_strategy = tunesmith_config::ValidationStrategy::Custom;
        config.dataset.validation_dataframe = path.display().to_string().into();
        config.dataset.prompt_column = vec!["prompt".to_owned()];
        config.dataset.answer_column = "answer".into();
        let splits = load_splits(&config).unwrap();
        let rounds: Vec<usize> = splits.train.iter().map(|chain| chain.rounds.len()).collect();
        assert_eq!(rounds, [1, 2, 3], "{name}");
        assert_eq!(splits.train[2].rounds[0].answer, "a1", "{name}");
    }
}

#[test]
fn leading_zeros_are_kept_or_dropped_as_the_setting_says() {
    let csv = "zip,n,w\n00501,1,x\n10001,2.50,01\n,-007.5,y\n";
    let kept = read("t.csv", csv);
    assert_eq!(texts(&kept), [["00501", "1", "x"], ["10001", "2.50", "01"], ["", "-007.5", "y"]]);
    assert!(has_note(
        &kept,
        "1 cells of the column zip have leading zeros, so that the column is read as texts"
    ));
    assert!(has_note(&kept, "1 cells of the column n have") && !has_note(&kept, "column w"));
    let options = TableOptions { leading_zeros: LeadingZeros::Drop, ..TableOptions::default() };
    let dropped = read_as("t.csv", csv.as_bytes(), &options).unwrap();
    assert_eq!(texts(&dropped), [["501.0", "1.0", "x"], ["10001.0", "2.5", "01"], ["", "-7.5", "y"]]);
    assert!(has_note(&dropped, "column zip have leading zeros, which are dropped"));
    // A zero alone, or before a point, is a number.
    let plain = read("t.csv", "a,b\n0,0.5\n-0,00\n");
    assert_eq!(texts(&plain), [["0", "0.5"], ["0", "00"]]);
    let long = "n\n00100000000000000000000\n";
    assert_eq!(column("t.csv", long), ["00100000000000000000000"]);
    assert_eq!(texts(&read_as("t.csv", long.as_bytes(), &options).unwrap()), [["100000000000000000000"]]);
}

#[test]
fn numbers_with_leading_zeros_are_still_classes_and_targets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    std::fs::write(&path, "text,label\na,01\nb,00\nc,01\nd,00\n").unwrap();
    for problem_type in [ProblemType::CausalClassificationModeling, ProblemType::CausalRegressionModeling] {
        let mut config = ExperimentConfig::for_problem_type(problem_type);
        config.dataset.train_dataframe = path.display().to_string();
        config.dataset.validation_strategy = tunesmith_config::ValidationStrategy::Custom;
        config.dataset.validation_dataframe = path.display().to_string().into();
        config.dataset.prompt_column = vec!["text".to_owned()];
        config.dataset.answer_column = "label".into();
        let splits = load_splits(&config).unwrap();
        let targets: Vec<&Target> = splits.train.iter().map(|one| &one.rounds[0].target).collect();
        let expected = [[1.0], [0.0], [1.0], [0.0]].map(|values| Target::Values(values.to_vec()));
        assert_eq!(targets, expected.iter().collect::<Vec<_>>(), "{problem_type}");
    }
}

#[test]
fn numbers_that_are_spelled_otherwise_than_in_the_file_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    std::fs::write(&path, "prompt,answer,label\n1,1.50,1\n2,2.25,0\n3,1e3,1\n4,4.0,0\n").unwrap();
    let notes = |problem_type, answer: &str| {
        let mut config = ExperimentConfig::for_problem_type(problem_type);
        config.dataset.train_dataframe = path.display().to_string();
        config.dataset.validation_size = 0.5;
        config.dataset.prompt_column = vec!["prompt".to_owned()];
        config.dataset.answer_column = answer.into();
        load_splits(&config).unwrap().notes
    };
    let told = notes(ProblemType::CausalLanguageModeling, "answer");
    let note = "2 cells of the column answer are numbers or truth values and spelled as pandas does, such as 1.50 as 1.5";
    assert!(told.contains(&note.to_owned()), "{told:?}");
    for (problem_type, answer) in
        [(ProblemType::CausalLanguageModeling, "label"), (ProblemType::CausalRegressionModeling, "answer")]
    {
        assert!(!notes(problem_type, answer).iter().any(|note| note.contains("spelled")), "{problem_type}");
    }
}

#[test]
fn line_ends_are_found_line_by_line() {
    for csv in [
        "p,a\nx,red\r\ny,cod\r\nz,oak\r\n",
        "p,a\r\nx,red\ny,cod\r\nz,oak",
        "p,a\rx,red\ry,cod\rz,oak\r",
        "p,a\rx,red\ny,cod\r\nz,oak\r",
        "p,a\n\r\nx,red\r\n\ny,\"cod\"\r\nz,oak\r",
    ] {
        let table = read("t.csv", csv);
        assert_eq!(table.columns, ["p", "a"], "{csv:?}");
        assert_eq!(texts(&table), [["x", "red"], ["y", "cod"], ["z", "oak"]], "{csv:?}");
        let tsv = read("t.tsv", &csv.replace(',', "\t"));
        assert_eq!(texts(&tsv), texts(&table), "{csv:?}");
    }
    let labels = read("t.csv", "text,label\ngood,1\r\nbad,0\r\n");
    assert_eq!([labels.cell(0, 1), labels.cell(1, 1)], [&Cell::Int(1), &Cell::Int(0)]);
    // Inside quotes a carriage return is a character, also at the end.
    assert_eq!(texts(&read("t.csv", "p,a\r\n1,x\n2,\"y\r\"\n"))[1], ["2", "y\r"]);
    let kept = read("t.csv", "p,a\n1,x\ry\n2,z\n");
    assert_eq!(texts(&kept), [["1", "x\ry"], ["2", "z"]]);
    assert!(has_note(&kept, "1 carriage returns inside cells are kept"));
    assert_eq!(read("t.csv", "p,a\rx,1\ry,2\r").place(1), Place::Line(3));
    assert_eq!(texts(&read("t.csv", "p,a\nzero,a\0b\nplain,c\n")), [["zero", "a\0b"], ["plain", "c"]]);
}

#[test]
fn what_python_writes_as_json_is_read() {
    let table = read(
        "t.jsonl",
        "{\"a\": NaN, \"b\": Infinity, \"c\": -Infinity, \"d\": [NaN, 1], \"e\": 1e400, \"f\": 31.245270191439438}\n",
    );
    assert_eq!(texts(&table)[0], ["", "inf", "-inf", "[null,1]", "inf", "31.245270191439438"]);
    assert!(table.cell(0, 0).is_missing());
    // U+2028, U+0085, NUL and VT are no line ends of JSON Lines.
    let row = "{\"a\": \"a\u{2028}b\u{85}c\", \"b\": \"x\\u0000y\\u000bz\", \"c\": \"\\ud83d\\ude00\"}";
    let table = read("t.jsonl", &format!("{row}\r\n\r\n{row}"));
    assert_eq!(texts(&table), vec![["a\u{2028}b\u{85}c", "x\0y\u{b}z", "\u{1f600}"]; 2]);
    assert!(table.notes.is_empty(), "{:?}", table.notes);
}

#[test]
fn halves_of_surrogate_pairs_become_one_sign_and_are_counted() {
    let text = "{\"a\": \"ok\"}\n{\"a\": \"cut \\ud83d\", \"b\": \"\\ude00 x \\ud83d\\u0041 \\ud83d\\ud83d\\ude00\"}\n";
    let table = read("t.jsonl", text);
    assert_eq!(texts(&table)[1], ["cut \u{fffd}", "\u{fffd} x \u{fffd}A \u{fffd}\u{1f600}"]);
    assert!(has_note(&table, "t.jsonl: 4 halves of surrogate pairs (such as \\ud83d) are read as U+FFFD"));
}

#[test]
fn repeated_names_keep_the_last_value_and_are_counted() {
    let table = read("t.jsonl", "{\"a\": 1, \"b\": {\"x\": 1, \"x\": 2}, \"a\": 3}\n");
    assert_eq!(texts(&table), [["3", "{\"x\":2}"]]);
    assert!(has_note(&table, "2 names stand twice in one object; the last value counts"));
}

#[test]
fn broken_json_is_named_with_its_place() {
    for (text, expected) in [
        (
            "{\"a\": 1,}",
            "t.jsonl:1: not valid JSON: there is a comma before the end of the object (column 9)",
        ),
        (
            "{\"a\": [1,]}",
            "t.jsonl:1: not valid JSON: there is a comma before the end of the list (column 10)",
        ),
        ("{\"a\": 1}\n{\"a\": 1} x", "t.jsonl:2: not valid JSON: there is more after the value (column 10)"),
        ("{'a': 1}", "t.jsonl:1: not valid JSON: a name in quotes must stand here (column 2)"),
        ("{\"é\": nan}", "t.jsonl:1: not valid JSON: this is no value (column 7)"),
        ("{\"a\": 01}", "a number must begin with a digit, and with 0 only before a point"),
        ("{\"a\": +1}", "this is no value"),
        ("{\"a\": 1.}", "digits must follow the point"),
        ("{\"a\": 1e}", "digits must follow the e"),
        ("{\"a\": -}", "a number must begin with a digit"),
        ("{\"a\" 1}", "a colon must stand between"),
        ("{\"a\": 1 \"b\": 2}", "a comma or the end of the object must stand here"),
        ("{\"a\": \"x\ty\"}", "control character in a text must be escaped"),
        ("{\"a\": \"\\x41\"}", "no such escape"),
        ("{\"a\": \"\\u+123\"}", "four hexadecimal digits"),
        ("{\"a\": \"x", "EOF inside a text in quotes"),
        ("{\"a\": \"x\\", "EOF inside a text in quotes"),
        ("{\"a\": [1, 2", "EOF inside a list"),
        ("{\"a\": truely}", "this is no value"),
    ] {
        let told = message("t.jsonl", text);
        assert!(told.contains(expected), "{text}: {told}");
    }
    let several = message("t.json", "[\n{\"a\": 1},\n{\"a\": 2},\n]");
    assert_eq!(several, "t.json:4: not valid JSON: there is a comma before the end of the list (column 1)");
    assert!(message("t.json", "[{\"a\": 1}] x").contains("more after the value"));
}

#[test]
fn objects_follow_each_other_in_any_number_of_lines() {
    let pretty = "{\n \"a\": 1\n}\n{\n \"a\": 2\n}\n";
    let table = read("t.json", pretty);
    assert_eq!(texts(&table), [["1"], ["2"]]);
    assert_eq!((table.place(0), table.place(1)), (Place::Line(1), Place::Line(4)));
    // A list of objects under the other name.
    let table = read("t.jsonl", "\n[{\"a\": 1},\n {\"a\": 2}]\n");
    assert_eq!(texts(&table), [["1"], ["2"]]);
    assert!(has_note(&table, "read as one list of objects"));
    let options = TableOptions { max_rows: Some(1), ..TableOptions::default() };
    assert_eq!(read_as("t.json", b"[{\"a\": 1}, broken", &options).unwrap().n_rows(), 1);
}

/// Any JSON of ordinary numbers and texts.
fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        any::<String>().prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
            prop::collection::hash_map(any::<String>(), inner, 0..5)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn json_is_read_as_serde_writes_it(value in any_json(), is_pretty in any::<bool>()) {
        let row = json!({"in": [value]});
        let text = if is_pretty { serde_json::to_string_pretty(&[&row]) } else { serde_json::to_string(&[&row]) };
        let table = read("t.json", &text.unwrap());
        prop_assert_eq!(table.cell(0, 0), &Cell::Json(row["in"].clone()));
    }

    #[test]
    fn any_bytes_are_json_or_an_error(text in "[\\[\\]{}:,\"\\\\ud8e0-9.+-Naif tr]{0,40}") {
        let _ = read_as("t.jsonl", text.as_bytes(), &TableOptions::default());
        let _ = read_as("t.json", text.as_bytes(), &TableOptions::default());
        // What is JSON to a strict reader is JSON here.
        if let Ok(Json::Object(object)) = serde_json::from_str(&text) {
            let table = read_as("t.jsonl", text.as_bytes(), &TableOptions::default()).unwrap_or_else(|_| {
                unreachable!("{text}")
            });
            prop_assert_eq!(table.columns.len(), object.len());
        }
    }

    #[test]
    fn whole_numbers_come_back_digit_by_digit(numbers in prop::collection::vec(any::<i128>(), 1..8)) {
        let expected: Vec<String> = numbers.iter().map(i128::to_string).collect();
        prop_assert_eq!(column("t.csv", &format!("n\n{}\n", expected.join("\n"))), expected.clone());
        let rows: String = expected.iter().map(|number| format!("{{\"n\": {number}}}\n")).collect();
        prop_assert_eq!(column("t.jsonl", &rows), expected);
    }
}
