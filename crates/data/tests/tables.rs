//! Tables of every file type: texts as pandas gives them, awkward files, errors with their places.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tunesmith_config::LeadingZeros;
use tunesmith_data::{Cell, DataError, Place, Table, TableOptions, read_table, read_table_with};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables").join(name)
}

/// Reads bytes as a file of that name.
fn read(name: &str, bytes: &[u8]) -> Result<Table, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    read_table(&path, None)
}

fn texts(table: &Table) -> Vec<Vec<String>> {
    table.rows.iter().map(|row| row.iter().map(Cell::text).collect()).collect()
}

/// The error without its folder.
fn message(name: &str, bytes: &[u8]) -> String {
    let error = read(name, bytes).unwrap_err().to_string();
    error.get(error.find(name).unwrap()..).unwrap().to_owned()
}

fn assert_as_pandas(file: &str, expected: &str) {
    let all: Json = serde_json::from_str(&std::fs::read_to_string(fixture("texts.json")).unwrap()).unwrap();
    let options = TableOptions { leading_zeros: LeadingZeros::Drop, ..TableOptions::default() };
    let table = read_table_with(&fixture(file), &options).unwrap();
    assert_eq!(json!(table.columns), all[expected]["columns"], "{file}");
    assert_eq!(json!(texts(&table)), all[expected]["rows"], "{file}");
}

#[test]
fn gv_3_2_csv_cells_have_pandas_types_and_texts() {
    for file in ["types.csv", "missing.csv", "quoted.csv", "names.csv"] {
        assert_as_pandas(file, file);
    }
    // Unless it is told to drop them, this program keeps leading zeros; all else is the same.
    let kept = read_table(&fixture("types.csv"), None).unwrap();
    let dropped = TableOptions { leading_zeros: LeadingZeros::Drop, ..TableOptions::default() };
    let dropped = read_table_with(&fixture("types.csv"), &dropped).unwrap();
    for (kept, dropped) in kept.rows.iter().zip(&dropped.rows) {
        assert_eq!(kept[1..], dropped[1..]);
    }
    assert_eq!(kept.rows.iter().map(|row| row[0].text()).collect::<Vec<_>>(), ["1", "2", "007"]);
}

#[test]
fn parquet_cells_have_pandas_texts_under_every_codec() {
    for codec in ["snappy", "zstd", "gzip", "lz4", "none"] {
        assert_as_pandas(&format!("types.{codec}.parquet"), "types.parquet");
    }
}

#[test]
fn arrow_files_and_streams_have_the_cells_of_parquet() {
    for codec in ["zstd", "lz4", "uncompressed", "stream"] {
        assert_as_pandas(&format!("types.{codec}.arrow"), "types.parquet");
    }
    assert_eq!(read_table(&fixture("types.stream.arrow"), Some(2)).unwrap().n_rows(), 2);
}

#[test]
fn columns_of_every_kind_are_read_or_named() {
    let expected = json!({
        "messages": [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}], []],
        "tags": [["a", "b"], null],
        "matrix": [[[1, 2], []], [[3]]],
        "pair": [[0.5, 0.25], [1.0, 2.0]],
        "hash": ["abcd", "efgh"],
        "uint64": ["18446744073709551615", "9223372036854775808"],
        "wide": ["123.45", "-0.01"],
        "clock": ["13:05:07.000001", null],
        "stamps": [["2024-02-29 13:05:07.000001"], []],
        "zoned": ["2024-02-29 13:05:07.000001", null],
        "nothing": [null, null],
        "nested": [{"a": {"b": [1]}}, {"a": null}],
        "map": [{"k": ["v"]}, {}],
    });
    for file in ["kinds.parquet", "kinds.arrow"] {
        let table = read_table(&fixture(file), None).unwrap();
        for (name, expected) in expected.as_object().unwrap() {
            let column =
                table.column_idx(name).unwrap_or_else(|| panic!("{file}: {name}: {:?}", table.notes));
            let cells: Vec<Json> = (0..2)
                .map(|row| match table.cell(row, column) {
                    Cell::Missing => Json::Null,
                    Cell::Json(value) => value.clone(),
                    other => Json::from(other.text()),
                })
                .collect();
            assert_eq!(json!(cells), *expected, "{file}: {name}");
        }
        // Images and other bytes are left out with a reason, and the rest of the table is there.
        let unread: Vec<_> =
            table.unread.iter().map(|column| (&column.name[..], &column.reason[..])).collect();
        assert_eq!(
            unread,
            [("image", "row 1 holds bytes that are no text"), ("blob", "row 2 holds bytes that are no text")]
        );
        let note = "the column image is not read: row 1 holds bytes that are no text";
        assert!(table.notes.iter().any(|told| told.contains(note)), "{:?}", table.notes);
    }
    // What Spark and old pandas write for time stamps has milliseconds here.
    assert_eq!(texts(&read_table(&fixture("int96.parquet"), None).unwrap())[0], ["2024-02-29 13:05:07"]);
}

#[test]
fn nested_parquet_columns_become_json() {
    let table = read_table(&fixture("nested.parquet"), None).unwrap();
    let first: Vec<Json> =
        table.rows[0].iter().map(|cell| serde_json::from_str(&cell.text()).unwrap()).collect();
    assert_eq!(
        first[0],
        json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}])
    );
    assert_eq!(first[1], json!({"a": 1.5, "b": null}));
    assert_eq!(first[2], json!({"k": 1}));
    assert_eq!(table.rows[1][0], Cell::Json(json!([])));
    assert_eq!(table.rows[2], [Cell::Missing, Cell::Missing, Cell::Missing]);
}

#[test]
fn gv_11_2_endings_in_any_case_are_known_and_others_refused() {
    let rows = b"prompt,answer,id\na,b,1\nc,d,2\ne,f,3\n";
    for name in ["t.csv", "t.CSV", "t.Csv"] {
        let table = read(name, rows).unwrap();
        assert_eq!((table.n_rows(), table.columns.len()), (3, 3), "{name}");
    }
    let parquet = std::fs::read(fixture("types.snappy.parquet")).unwrap();
    for name in ["t.pq", "t.PQ", "t.parquet", "t.PARQUET", "t.Parquet"] {
        assert_eq!(read(name, &parquet).unwrap().n_rows(), 3, "{name}");
    }
    for name in ["t.xlsx", "t.doc", "t"] {
        let error = read(name, rows).unwrap_err();
        assert!(error.to_string().contains("could not determine type of file"), "{error}");
        assert!(error.hint().unwrap().contains("jsonl"));
    }
    assert!(matches!(read_table(Path::new("no/such/file.csv"), None), Err(DataError::Io { .. })));
}

#[test]
fn gv_11_2_only_the_first_rows_are_kept_on_request() {
    let csv: String =
        std::iter::once("a".to_owned()).chain((0..100).map(|i| i.to_string())).collect::<Vec<_>>().join("\n");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    std::fs::write(&path, csv).unwrap();
    let table = read_table(&path, Some(10)).unwrap();
    assert_eq!(texts(&table), (0..10).map(|i| vec![i.to_string()]).collect::<Vec<_>>());
    assert_eq!(read_table(&fixture("types.snappy.parquet"), Some(2)).unwrap().n_rows(), 2);
}

#[test]
fn gv_3_2_windows_line_ends_are_recognised() {
    let table = read("t.csv", b"a,b\r\n1,x\r\n\r\n2,\"y\r\nz\"\r\n").unwrap();
    assert_eq!(table.columns, ["a", "b"]);
    assert_eq!(texts(&table), [["1", "x"], ["2", "y\r\nz"]]);
    assert!(table.notes[0].contains("Windows"), "{:?}", table.notes);
    assert_eq!(table.place(1), Place::Line(4));
    // A carriage return inside a cell is kept, as it does not end a line here.
    assert_eq!(texts(&read("t.csv", b"a,b\n1,x\ry\n").unwrap()), [["1", "x\ry"]]);
    assert_eq!(texts(&read("t.csv", b"a,b\r1,x\r2,y").unwrap()), [["1", "x"], ["2", "y"]]);
}

#[test]
fn byte_order_marks_are_not_part_of_a_name() {
    assert_eq!(read("t.csv", b"\xef\xbb\xbfa,b\n1,2\n").unwrap().columns, ["a", "b"]);
    assert_eq!(read("t.jsonl", b"\xef\xbb\xbf{\"a\": 1}\n").unwrap().columns, ["a"]);
    assert_eq!(read("t.json", b"\xef\xbb\xbf[{\"a\": 1}]").unwrap().columns, ["a"]);
}

#[test]
fn missing_words_are_counted() {
    let table = read("t.csv", b"a,b\nNone,x\n,y\nnull,NA\n").unwrap();
    assert_eq!(table.n_missing_words, [2, 1]);
}

#[test]
fn damaged_csv_is_named_with_its_line() {
    assert_eq!(
        message("t.csv", b"a,b\n1,2\n3,\xff\n"),
        "t.csv:3: the text is not UTF-8; it may be windows-1252"
    );
    assert_eq!(
        message("t.csv", b"a,b\n1,2\n1,2,3\n"),
        "t.csv:3: 3 cells, but the header names 2 columns; a cell that contains the separator must be quoted"
    );
    assert_eq!(
        message("t.csv", b"a,b\n\"1\n2\",x\ny,\"open\n1,2\n"),
        "t.csv:4: a quoted cell starts here and is never closed"
    );
    assert_eq!(message("t.csv", b""), "t.csv: the file is empty");
    assert_eq!(message("t.csv", b"a,b\n"), "t.csv: the table has no rows");
}

#[test]
fn tabs_separate_and_stray_quotes_are_text() {
    let table = read("t.tsv", b"a\tb\n\"one\ttwo\"\t1\n").unwrap();
    assert_eq!(texts(&table), [["one\ttwo", "1"]]);
    let table = read("t.tsv", b"a\tb\n\"one\" said\ttwo\n\"three\"\tfour\n").unwrap();
    assert_eq!(texts(&table), [["\"one\" said", "two"], ["\"three\"", "four"]]);
    assert!(table.notes[0].contains("quotes"));
}

#[test]
fn json_files_of_all_shapes_have_the_same_rows() {
    let expected = json!([["x", "1"], ["y", ""]]);
    let shapes = [
        ("t.json", r#"[{"a": "x", "b": 1}, {"a": "y"}]"#),
        ("t.json", r#"{"data": [{"a": "x", "b": 1}, {"a": "y", "b": null}], "version": 2}"#),
        ("t.json", r#"{"rows": [{"a": "x", "b": 1}, {"a": "y"}]}"#),
        ("t.json", "{\"a\": \"x\", \"b\": 1}\n{\"a\": \"y\"}\n"),
        ("t.jsonl", "{\"a\": \"x\", \"b\": 1}\n\n{\"a\": \"y\"}"),
        ("t.JSONL", "{\"a\": \"x\", \"b\": 1}\r\n{\"a\": \"y\"}\r\n"),
    ];
    for (name, text) in shapes {
        let table = read(name, text.as_bytes()).unwrap();
        assert_eq!(json!(texts(&table)), expected, "{text}");
        assert_eq!(table.columns, ["a", "b"]);
    }
}

#[test]
fn json_cells_keep_their_types() {
    let table = read(
        "t.jsonl",
        br#"{"a": null, "b": true, "c": 1.0, "d": [1], "e": "NA", "f": 18446744073709551615}"#,
    );
    let cells = [
        Cell::Missing,
        Cell::Bool(true),
        Cell::Float(1.0),
        Cell::Json(json!([1])),
        Cell::Text("NA".to_owned()),
        Cell::Text(u64::MAX.to_string()),
    ];
    assert_eq!(table.unwrap().rows[0], cells);
}

#[test]
fn damaged_json_is_named_with_its_line() {
    assert!(
        message("t.jsonl", b"{\"a\": 1}\n{\"a\": \n")
            .starts_with("t.jsonl:2: not valid JSON: EOF inside a value")
    );
    assert!(message("t.jsonl", b"{\"a\": 1}\n[1]\n").starts_with("t.jsonl:2: each row is an object"));
    assert!(message("t.jsonl", b"{\"a\": 1}\n\xff\n").starts_with("t.jsonl:2: the text is not UTF-8"));
    assert!(message("t.json", b"[{\"a\": 1},\n{\"a\": ]").starts_with("t.json:2: not valid JSON"));
    assert!(message("t.json", b"[{\"a\": 1}, 5]").starts_with("t.json, row 2: each row is an object"));
    assert!(message("t.json", b"5").contains("expected a list of objects"));
    assert!(message("t.json", b"{\"a\": [1], \"b\": [2]}").contains("expected a list of objects"));
    assert!(message("t.json", b" \n").contains("the file is empty"));
    assert!(message("t.json", b"[]").contains("the table has no rows"));
    assert!(message("t.json", &b"[".repeat(100_000)).contains("not valid JSON: recursion limit"));
}

#[test]
fn gv_11_2_damaged_parquet_is_an_error() {
    assert!(message("t.pq", &[0, 1, 2, 3]).contains("not a readable parquet file"));
    assert!(message("t.parquet", b"").contains("not a readable parquet file"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn flipped_bytes_never_end_the_program(
        file in prop::sample::select(vec![
            "types.snappy.parquet", "kinds.parquet", "nested.parquet", "types.csv", "quoted.csv", "kinds.arrow",
            "types.zstd.arrow", "types.lz4.arrow", "types.stream.arrow",
        ]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = std::fs::read(fixture(file)).unwrap();
        for (place, value) in flips {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let (_, ending) = file.rsplit_once('.').unwrap();
        let _ = read(&format!("t.{ending}"), &bytes);
    }

    #[test]
    fn any_text_survives_csv(cells in prop::collection::vec("[a-z \",\n\r\té]{0,6}", 1..12)) {
        // One text column beside a marker, quoted as every CSV writer does.
        let mut csv = "marker,cell\n".to_owned();
        for cell in &cells {
            csv.push_str(&format!("x,\"{}\"\n", cell.replace('"', "\"\"")));
        }
        let table = read("t.csv", csv.as_bytes()).unwrap();
        let read_back: Vec<String> = table.rows.iter().map(|row| row[1].text()).collect();
        // A few words are missing values by pandas' rules, which is empty text here.
        let expected: Vec<String> = cells
            .iter()
            .map(|cell| if ["null", "nan"].contains(&cell.as_str()) { String::new() } else { cell.clone() })
            .collect();
        prop_assert_eq!(read_back, expected);
    }
}
