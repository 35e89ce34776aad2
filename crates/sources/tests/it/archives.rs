//! Archives: several tables in one, and those that mean harm.

use std::fs;

use tunesmith_sources::Source;

use crate::harness::{Place, ROWS, archive};

fn local(bytes: &[u8]) -> (tempfile::TempDir, Source) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tables.zip");
    fs::write(&path, bytes).unwrap();
    (folder, Source::Local(path))
}

#[test]
fn all_tables_come_out_and_nothing_else() {
    let rows = ROWS.as_bytes();
    let (_folder, source) = local(&archive(&[
        ("train.csv", rows),
        ("more/train.csv", rows),
        ("more/deep/valid.JSONL", b"{\"a\": 1}\n"),
        ("README.md", b"words"),
        ("__MACOSX/._train.csv", b"junk"),
        ("more/.DS_Store", b"junk"),
        (".hidden/test.csv", rows),
    ]));
    let place = Place::new();
    let names: Vec<String> = place.tables(&source).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["train.csv", "train_1.csv", "valid.JSONL"]);
    assert_eq!(place.files(), names);
}

#[test]
fn texts_that_belong_together_become_one_table() {
    let (_folder, source) =
        local(&archive(&[("b.txt", b"second"), ("a/1.md", b"\xef\xbb\xbffirst\r\nline"), ("c.txt", b" \n")]));
    let tables = Place::new().tables(&source);
    let expected =
        "{\"text\":\"second\",\"file\":\"b.txt\"}\n{\"text\":\"first\\nline\",\"file\":\"1.md\"}\n";
    assert_eq!(tables, [("texts.jsonl".to_owned(), expected.to_owned())]);
    // Parts for training and validation stay what they are.
    let (_folder, source) = local(&archive(&[("wiki.train.txt", b"one"), ("wiki.valid.txt", b"two")]));
    let names: Vec<String> = Place::new().tables(&source).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["wiki.train.txt", "wiki.valid.txt"]);
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let rows = ROWS.as_bytes();
    let zeros = vec![b'0'; 80 << 20];
    let many: Vec<String> = (0..10_001).map(|idx| format!("{idx}.txt")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (&**name, &b""[..])).collect();
    for (bytes, expected) in [
        (archive(&[("train.csv", rows), ("../out.csv", rows)]), "outside itself"),
        (archive(&[("train.csv", rows), ("/etc/out.csv", rows)]), "outside itself"),
        (archive(&[("train.csv", rows), ("..\\out.csv", rows)]), "outside itself"),
        (archive(&[("train.csv", rows), ("bomb.csv", &zeros)]), "far larger"),
        (archive(&many), "10001 files"),
        (archive(&[("picture.png", b"words")]), "no table in it"),
        (b"PK, but no archive".to_vec(), "cannot be used"),
    ] {
        let (folder, source) = local(&bytes);
        let place = Place::new();
        let said = place.complaint(&source);
        assert!(said.contains(expected), "{said}");
        let tables: Vec<String> = place.files().into_iter().filter(|name| name.ends_with(".csv")).collect();
        assert_eq!(tables, [""; 0], "{expected}");
        assert!(!folder.path().parent().unwrap().join("out.csv").exists());
    }
}

#[test]
fn a_link_in_an_archive_is_refused() {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.add_symlink("train.csv", "/etc/passwd", zip::write::SimpleFileOptions::default()).unwrap();
    let (_folder, source) = local(&zip.finish().unwrap().into_inner());
    assert!(Place::new().complaint(&source).contains("is a link"));
}

#[test]
fn the_limit_counts_what_was_unpacked() {
    let (_folder, source) = local(&archive(&[("train.csv", &vec![b'1'; 100_000])]));
    let mut place = Place::new();
    place.max_bytes = 99_999;
    assert!(place.complaint(&source).contains("far larger"));
    place.max_bytes = 100_000;
    place.fetch(&source).unwrap();
}
