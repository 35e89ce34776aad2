//! Files as they come: encodings, compressions, endings, folders, and what is not the file it is named after.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says why it was skipped"
)]

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use tempfile::TempDir;
use tunesmith_config::{ExperimentConfig, ProblemType, TableLayout, TextEncoding, ValidationStrategy};
use tunesmith_data::{
    Cell, DataError, Table, TableOptions, Target, load_splits, read_table, read_table_with,
};

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
    folder
}

fn read_as(name: &str, bytes: &[u8], encoding: TextEncoding) -> Result<Table, DataError> {
    let folder = folder(&[(name, bytes)]);
    read_table_with(&folder.path().join(name), &TableOptions { encoding, ..TableOptions::default() })
}

fn read(name: &str, bytes: &[u8]) -> Result<Table, DataError> {
    read_as(name, bytes, TextEncoding::Auto)
}

fn texts(table: &Table) -> Vec<Vec<String>> {
    table.rows.iter().map(|row| row.iter().map(Cell::text).collect()).collect()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables").join(name)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn utf16(text: &str) -> Vec<u8> {
    format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
}

const CSV: &str = "prompt,answer\nnaïve?,oui\n";
const TSV: &str = "prompt\tanswer\nnaïve?\toui\n";
const JSONL: &str = "{\"prompt\": \"naïve?\", \"answer\": \"oui\"}\n";
const JSON: &str = "[{\"prompt\": \"naïve?\", \"answer\": \"oui\"}]";

#[test]
fn compressed_texts_are_read_as_they_are() {
    for (name, text) in
        [("t.csv", CSV), ("t.TSV", TSV), ("t.jsonl", JSONL), ("t.ndjson", JSONL), ("t.json", JSON)]
    {
        for (ending, bytes) in [("gz", gzip(text.as_bytes())), ("zst", zstd(text.as_bytes()))] {
            let table = read(&format!("{name}.{ending}"), &bytes).unwrap();
            assert_eq!(texts(&table), [["naïve?", "oui"]], "{name}.{ending}");
            assert_eq!(table.columns, ["prompt", "answer"]);
            assert!(table.notes.is_empty(), "{:?}", table.notes);
        }
    }
    // Several members and frames, one after the other, as `cat a.gz b.gz` makes them.
    let rows = (0..3).map(|i| format!("{{\"a\": {i}}}\n").into_bytes());
    let members: Vec<u8> = rows.clone().flat_map(|row| gzip(&row)).collect();
    assert_eq!(read("t.jsonl.gz", &members).unwrap().n_rows(), 3);
    let frames: Vec<u8> = rows.flat_map(|row| zstd(&row)).collect();
    assert_eq!(read("t.jsonl.zst", &frames).unwrap().n_rows(), 3);
    assert_eq!(read("t.txt.gz", &gzip(b"one text")).unwrap().cell(0, 0).text(), "one text");
}

#[test]
fn the_first_bytes_say_what_is_compressed() {
    let table = read("t.jsonl", &gzip(JSONL.as_bytes())).unwrap();
    assert!(table.notes[0].contains("is compressed, though its name does not say so"), "{:?}", table.notes);
    let table = read("t.jsonl.gz", JSONL.as_bytes()).unwrap();
    assert!(table.notes[0].contains("is not compressed, though its name says so"), "{:?}", table.notes);
    // Cut off in the middle: an error, not a shorter table.
    let whole = gzip(JSONL.repeat(500).as_bytes());
    let error = read("t.jsonl.gz", &whole[..whole.len() - 9]).unwrap_err();
    assert!(matches!(error, DataError::Io { action: "read", .. }), "{error}");
    let whole = zstd(JSONL.repeat(500).as_bytes());
    assert!(read("t.jsonl.zst", &whole[..whole.len() - 9]).is_err());
    // Only what is wanted is unpacked.
    let folder = folder(&[("t.jsonl.gz", &gzip(format!("{}broken", JSONL.repeat(5000)).as_bytes()))]);
    assert_eq!(read_table(&folder.path().join("t.jsonl.gz"), Some(3)).unwrap().n_rows(), 3);
}

#[test]
fn utf_16_is_read_by_its_mark_in_every_format() {
    for (name, text) in [("t.csv", CSV), ("t.tsv", TSV), ("t.jsonl", JSONL), ("t.json", JSON)] {
        let table = read(name, &utf16(text)).unwrap();
        assert_eq!(texts(&table), [["naïve?", "oui"]], "{name}");
        assert_eq!(table.columns, ["prompt", "answer"], "{name}");
        assert!(
            table.notes[0].contains("read as utf-16le, as its byte order mark says"),
            "{:?}",
            table.notes
        );
        let marked = read(name, format!("\u{feff}{text}").as_bytes()).unwrap();
        assert_eq!((texts(&marked), marked.columns), (texts(&table), table.columns), "{name}");
    }
    let unmarked = &utf16(CSV)[2..];
    let error = read("t.csv", unmarked).unwrap_err().to_string();
    assert!(error.contains("the text is not UTF-8; it looks like utf-16le"), "{error}");
    assert_eq!(texts(&read_as("t.csv", unmarked, TextEncoding::Utf16Le).unwrap()), [["naïve?", "oui"]]);
}

#[test]
fn eight_bit_encodings_are_named_and_read_when_chosen() {
    let latin = |text: &str| text.chars().map(|c| c as u8).collect::<Vec<u8>>();
    for (name, text) in
        [("t.csv", CSV), ("t.tsv", TSV), ("t.jsonl", JSONL), ("t.json", JSON), ("t.txt", "naïve?")]
    {
        let error = read(name, &latin(text)).unwrap_err();
        assert!(error.to_string().contains("the text is not UTF-8; it may be windows-1252"), "{error}");
        assert!(error.hint().unwrap().contains("set dataset.encoding"));
        for encoding in [TextEncoding::Latin1, TextEncoding::Windows1252, TextEncoding::Iso8859_15] {
            let table = read_as(name, &latin(text), encoding).unwrap();
            assert_eq!(table.cell(0, 0).text(), "naïve?", "{name} as {encoding}");
        }
        assert!(read_as(name, &latin(text), TextEncoding::Utf8).is_err());
    }
    // The experiment's setting reaches the file.
    let folder = folder(&[("t.csv", &latin("prompt,answer\nnaïve?,oui\ngarçon?,non\n"))]);
    let mut config = ExperimentConfig::default();
    config.dataset.train_dataframe = folder.path().join("t.csv").display().to_string();
    config.dataset.prompt_column = vec!["prompt".to_owned()];
    config.dataset.answer_column = "answer".into();
    config.dataset.validation_size = 0.5;
    assert!(load_splits(&config).unwrap_err().to_string().contains("t.csv:2"));
    config.set("dataset.encoding", "latin-1").unwrap();
    let splits = load_splits(&config).unwrap();
    let mut prompts = [&splits.train[0].rounds[0].prompt[..], &splits.validation[0].rounds[0].prompt];
    prompts.sort_unstable();
    assert_eq!(prompts, ["garçon?", "naïve?"]);
}

#[test]
fn what_is_not_the_file_is_told() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 269060552\n";
    let page = b"\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>";
    for ending in
        ["csv", "tsv", "json", "jsonl", "jsonl.gz", "csv.zst", "parquet", "pq", "arrow", "feather", "txt"]
    {
        let error = read(&format!("t.{ending}"), pointer).unwrap_err();
        assert!(matches!(error, DataError::Impostor { .. }), "{ending}: {error}");
        assert!(
            error.to_string().contains("this is a Git LFS pointer, not the file itself (269060552 bytes)")
        );
        assert!(error.hint().unwrap().contains("git lfs pull"));
        if ending != "txt" {
            let error = read(&format!("t.{ending}"), page).unwrap_err().to_string();
            assert!(error.contains("this is an HTML page, not the file itself"), "{ending}: {error}");
        }
    }
    let text = read("t.txt", page).unwrap();
    assert!(text.notes[0].contains("begins as an HTML"), "{:?}", text.notes);
    let parquet = std::fs::read(fixture("kinds.parquet")).unwrap();
    assert!(read("t.csv", &parquet).unwrap_err().to_string().contains("let its name end in .parquet"));
    let arrow = std::fs::read(fixture("kinds.arrow")).unwrap();
    assert!(read("t.jsonl", &arrow).unwrap_err().to_string().contains("let its name end in .arrow"));
    assert!(
        read("t.csv", b"PK\x03\x04rest").unwrap_err().to_string().contains("zip archive or a spreadsheet")
    );
    assert!(read("t.feather", b"FEA1rest").unwrap_err().to_string().contains("Feather version 1"));
}

#[test]
fn arrow_that_is_cut_off_or_lies_about_sizes_is_an_error() {
    let arrow = |name: &str| std::fs::read(fixture(name)).unwrap();
    for name in ["types.zstd.arrow", "types.lz4.arrow", "types.stream.arrow", "kinds.arrow"] {
        let whole = arrow(name);
        assert!(read("t.arrow", &whole).unwrap().n_rows() > 1);
        for end in (8..whole.len() - 16).step_by(97) {
            assert!(read("t.arrow", &whole[..end]).is_err(), "{name} up to {end}");
        }
    }
    // A stream may end after any message, and its end mark is no part of it: what is there is read, with a note.
    let stream = arrow("types.stream.arrow");
    let table = read("t.arrow", &stream[..stream.len() - 8]).unwrap();
    assert!(table.n_rows() == 3 && table.notes[0].contains("it may be cut off"), "{:?}", table.notes);
    // Each compressed buffer begins with the size it unpacks to.
    let mut huge = arrow("types.zstd.arrow");
    let frame = huge.windows(4).position(|window| window == [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
    huge[frame - 8..frame].copy_from_slice(&(1_i64 << 47).to_le_bytes());
    let error = read("t.arrow", &huge).unwrap_err().to_string();
    assert!(error.contains("unpacks to more than 200 times the size of the file"), "{error}");
}

#[test]
fn empty_files_are_named() {
    for ending in ["csv", "tsv", "json", "parquet", "arrow", "csv.gz"] {
        let name = format!("t.{ending}");
        let error = read(&name, b"").unwrap_err().to_string();
        assert!(error.contains(&name) && error.ends_with(": the file is empty"), "{error}");
    }
    for (name, bytes) in [("t.jsonl", &b""[..]), ("t.jsonl.gz", &gzip(b"\n")), ("t.json", b"[]")] {
        let error = read(name, bytes).unwrap_err().to_string();
        assert!(error.ends_with(&format!("{name}: the table has no rows")), "{error}");
    }
}

#[test]
fn shards_of_all_kinds_are_one_table() {
    let row = |n: usize| format!("{{\"prompt\": \"p{n}\", \"answer\": \"a{n}\"}}\n");
    let folder = folder(&[
        ("1.CSV", b"prompt,answer\np1,a1\n"),
        ("2.Jsonl", row(2).as_bytes()),
        ("3.ndjson", b"\n"),
        ("4.jsonl.gz", &gzip(row(4).as_bytes())),
        ("5.tsv.zst", &zstd(b"answer\tprompt\na5\tp5\n")),
        ("dataset_info.json", b"{\"description\": \"what this is\", \"splits\": {}}"),
        ("state.json", b"{\"_data_files\": []}"),
        ("README.md", b"# rows"),
    ]);
    let table = read_table(folder.path(), None).unwrap();
    assert_eq!(texts(&table), [["p1", "a1"], ["p2", "a2"], ["p4", "a4"], ["p5", "a5"]]);
    assert!(
        table.notes.iter().any(|note| note.contains("3.ndjson: there is no row in it")),
        "{:?}",
        table.notes
    );
    assert!(table.file_of(2).ends_with("4.jsonl.gz"));
    assert_eq!(read_table(folder.path(), Some(3)).unwrap().n_rows(), 3);
}

/// A file of the shared cases; `None`, with a reason, where they are not there.
fn shared_case(name: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("TUNESMITH_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let path = shared.join("cases").join(name);
    if !path.exists() {
        println!("skipped: there is no {}", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn small_files_of_other_peoples_reports_are_read() {
    let cells = |name: &str| {
        let table = read_table(&shared_case(name)?, None).unwrap_or_else(|error| panic!("{error}"));
        Some(texts(&table).into_iter().map(|mut row| row.swap_remove(1)).collect::<Vec<String>>())
    };
    for (name, expected) in [
        ("01-csv-big-integers/sums.csv", &["100000000000000000000", "123456789012345678902"][..]),
        ("01-csv-big-integers/sums.jsonl", &["100000000000000000000", "123456789012345678902"]),
        ("01-csv-big-integers/uint64.csv", &["18446744073709551615", "9223372036854775807"]),
        ("02-csv-mixed-line-ends/rows.csv", &["red", "cod", "oak"]),
        ("02-csv-mixed-line-ends/back.csv", &["red", "cod", "oak"]),
        ("02-csv-mixed-line-ends/labels.csv", &["1", "0", "1", "0"]),
        ("05-jsonl-odd-texts/separators.jsonl", &["a\u{2028}b\u{85}c", "a\0b", "\u{1f600}"]),
        ("05-jsonl-odd-texts/surrogate.jsonl", &["fine", "cut here \u{fffd}"]),
        ("05-jsonl-odd-texts/nan.jsonl", &["a1", "a2"]),
        ("05-jsonl-odd-texts/nul.csv", &["a\0b", "c"]),
    ] {
        if let Some(found) = cells(name) {
            assert_eq!(found, expected, "{name}");
        }
    }
    for name in ["16-lfs-pointers/rows.parquet", "16-lfs-pointers/rows.jsonl"] {
        let Some(path) = shared_case(name) else { continue };
        assert!(matches!(read_table(&path, None), Err(DataError::Impostor { .. })), "{name}");
    }
    let labels =
        |name: &str| {
            let path = shared_case(&format!("30-labels/{name}"))?.display().to_string();
            let mut config = ExperimentConfig::for_problem_type(ProblemType::CausalClassificationModeling);
            config.dataset.train_dataframe = path.clone();
            config.dataset.validation_strategy = ValidationStrategy::Custom;
            config.dataset.validation_dataframe = path.into();
            config.dataset.prompt_column = vec!["text".to_owned()];
            config.dataset.answer_column = "label".into();
            let splits = load_splits(&config).map_err(|error| error.to_string());
            Some(splits.map(|splits| {
                splits.train.iter().map(|one| one.rounds[0].target.clone()).collect::<Vec<_>>()
            }))
        };
    for name in ["floats.csv", "truth.csv"] {
        let Some(found) = labels(name) else { continue };
        let known = [Target::Values(vec![0.0]), Target::Values(vec![1.0])];
        assert!(found.unwrap().iter().all(|target| known.contains(target)), "{name}");
    }
    if let Some(missing) = labels("missing.csv") {
        let told = missing.unwrap_err();
        assert!(told.contains("nothing in line 3, nothing in line 6"), "{told}");
    }
}

#[test]
fn a_column_that_nobody_uses_may_hold_anything() {
    for file in ["kinds.parquet", "kinds.arrow"] {
        let mut config = ExperimentConfig::default();
        config.dataset.train_dataframe = fixture(file).display().to_string();
        config.dataset.validation_size = 0.5;
        config.dataset.prompt_column = vec!["hash".to_owned()];
        config.dataset.answer_column = "wide".into();
        let splits = load_splits(&config).unwrap();
        assert_eq!(splits.train.len() + splits.validation.len(), 2);
        let note = "the column image is not read";
        assert!(splits.notes.iter().any(|told| told.contains(note)), "{:?}", splits.notes);
        config.dataset.answer_column = "image".into();
        let error = load_splits(&config).unwrap_err();
        let told = "the column image (set by dataset.answer_column) cannot be used: row 1 holds bytes that are no text";
        assert!(error.to_string().contains(told), "{error}");
        assert!(matches!(error, DataError::UnreadColumn { .. }));
        config.dataset.answer_column = "images".into();
        config.dataset.layout = TableLayout::Columns;
        let error = load_splits(&config).unwrap_err().to_string();
        assert!(error.contains("image (not read: row 1 holds bytes that are no text)"), "{error}");
    }
    // In a folder, a column that one of the files cannot give is none of the table's.
    let [kinds, texts] = ["kinds.parquet", "kinds.arrow"].map(|name| std::fs::read(fixture(name)).unwrap());
    let folder = folder(&[("1.parquet", &kinds[..]), ("2.arrow", &texts)]);
    let table = read_table(folder.path(), None).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((table.n_rows(), table.column_idx("image"), table.unread.len()), (4, None, 2));
}
