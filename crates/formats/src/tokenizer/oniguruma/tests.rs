//! The words that the Python package cuts, and how patterns are written.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

use super::*;

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/patterns.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn splitter(pattern: &str, behavior: &str) -> PreTokenizerWrapper {
    let written = translate(pattern).unwrap_or_else(|reason| panic!("{pattern}: {reason}"));
    assert_eq!(translate(&written).as_deref(), Ok(written.as_str()), "{pattern} is written anew every time");
    let rules =
        json!({"type": "Split", "pattern": {"Regex": written}, "behavior": behavior, "invert": false});
    serde_json::from_value(rules).unwrap_or_else(|error| panic!("{pattern}: {error}"))
}

fn words<'t>(splitter: &PreTokenizerWrapper, text: &'t str) -> Vec<&'t str> {
    let mut words = PreTokenizedString::from(text);
    splitter.pre_tokenize(&mut words).unwrap();
    let splits = words.get_splits(OffsetReferential::Original, OffsetType::Byte);
    splits.into_iter().map(|(_, (start, end), _)| &text[start..end]).collect()
}

fn hash(lines: &[String]) -> String {
    Sha256::digest(lines.join("\n")).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// As in tests/golden/make_patterns.py.
fn texts(golden: &Value) -> Vec<String> {
    let parts: Vec<&str> =
        golden["parts"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
    let mut state = 1u64;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let n_texts = golden["n_texts"].as_u64().unwrap();
    (0..n_texts)
        .map(|_| {
            // The generator of the golden script counts the parts first.
            let n_parts = 1 + below(16);
            (0..n_parts).map(|_| parts[below(parts.len())]).collect()
        })
        .collect()
}

#[test]
fn patterns_cut_texts_as_in_the_python_package() {
    let golden = golden();
    let texts = texts(&golden);
    let mut failures = Vec::new();
    for entry in golden["patterns"].as_array().unwrap() {
        let pattern = entry["pattern"].as_str().unwrap();
        let splitter = splitter(pattern, "Isolated");
        let lines: Vec<String> = texts
            .iter()
            .map(|text| {
                let lengths: Vec<String> =
                    words(&splitter, text).iter().map(|word| word.len().to_string()).collect();
                lengths.join(" ")
            })
            .collect();
        for ((text, line), expected) in texts.iter().zip(&lines).zip(entry["words"].as_array().unwrap()) {
            let expected: Vec<String> =
                expected.as_array().unwrap().iter().map(|length| length.to_string()).collect();
            if *line != expected.join(" ") {
                failures.push(format!("{pattern} on {text:?}: {line} instead of {}", expected.join(" ")));
            }
        }
        if hash(&lines) != entry["hash"].as_str().unwrap() {
            failures.push(format!("{pattern} on one of all texts"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn sets_of_characters_are_those_of_the_python_package() {
    // The other planes are empty or for private use.
    let everything: String = ('\0'..'\u{33500}').chain('\u{e0000}'..'\u{e0200}').collect();
    let mut failures = Vec::new();
    for entry in golden()["classes"].as_array().unwrap() {
        let pattern = entry["pattern"].as_str().unwrap();
        let splitter = splitter(&format!("(?:{pattern})+"), "Removed");
        let others: HashSet<char> = words(&splitter, &everything).into_iter().flat_map(str::chars).collect();
        let members: Vec<String> =
            everything.chars().filter(|c| !others.contains(c)).map(|c| u32::from(c).to_string()).collect();
        if hash(&members) != entry["hash"].as_str().unwrap() {
            failures.push(format!("{pattern}: {} characters instead of {}", members.len(), entry["n"]));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn what_is_read_alike_stays_as_it_is() {
    for entry in golden()["patterns"].as_array().unwrap() {
        let name = entry["of"].as_str().unwrap_or_default();
        let pattern = entry["pattern"].as_str().unwrap();
        let is_other = ["cl100k of tiktoken", "deepseek llm", "tiny aya"].contains(&name);
        if !name.is_empty() {
            assert_eq!(translate(pattern).unwrap() == pattern, !is_other, "{name}");
        }
    }
    assert_eq!(translate(r"\p{N}{1,3}+").unwrap(), r"(?:\p{N}{1,3})+");
    assert_eq!(translate(r"\s+$").unwrap(), r"\s+(?=\n|\z)");
    assert_eq!(translate(r"a\<").unwrap(), "a<");
    assert_eq!(translate("a(?i)b|c").unwrap(), "a(?i:b|c)");
}

#[test]
fn what_may_mean_something_else_is_refused() {
    for pattern in golden()["refused"].as_array().unwrap() {
        let pattern = pattern.as_str().unwrap();
        assert!(translate(pattern).is_err(), "{pattern} is {:?}", translate(pattern));
    }
    for (pattern, reason) in [
        ("(?i:ss)", "\"ss\" regardless of case"),
        ("(", "not closed"),
        ("a)", "closing parenthesis"),
        ("[a", "ends too early"),
        ("*a", "quantifier after nothing"),
        ("^*", "after an anchor"),
        (r"\p{Emoji}", "the property \"Emoji\""),
        (&"(".repeat(100_000), "in one another"),
        (&"[".repeat(100_000), "in one another"),
        ("[z-a]", "a range"),
        ("\\", "ends too early"),
    ] {
        let found = translate(pattern).unwrap_err();
        assert!(found.contains(reason), "{pattern:.20}: {found}");
    }
}

proptest::proptest! {
    /// Whatever stands in a file: written or refused, and what is written can be written again.
    #[test]
    fn any_text_is_written_or_refused(pattern in "[\\[\\]\\\\(){}?*+|^$a-c:&~,0-9iPpL<=!.\\-é]{0,12}") {
        if let Ok(written) = translate(&pattern) {
            proptest::prop_assert_eq!(translate(&written), Ok(written.clone()));
        }
    }
}

/// The engine gives up on a match that takes too many steps, and the rest of the text would be one word without notice.
#[test]
fn long_runs_do_not_end_the_cutting() {
    const N_BYTES: usize = 200_000;
    let mut failures = Vec::new();
    for entry in golden()["patterns"].as_array().unwrap() {
        let (Some(name), pattern) = (entry["of"].as_str(), entry["pattern"].as_str().unwrap()) else {
            continue;
        };
        // They look from each digit or group of spaces to the end of the run.
        let is_square =
            |run| run == "1" && ["superbpe", "tiny aya"].contains(&name) || run == " " && name == "jais 2";
        let splitter = splitter(pattern, "Isolated");
        for run in ["a", " ", "1", "\n", "A", "é", "-", "한"].into_iter().filter(|run| !is_square(*run)) {
            let tail = |n: usize| {
                let text = format!("{}x 1234567, hello  World\n\nI'll", run.repeat(n));
                let all = words(&splitter, &text);
                all.iter().rev().take(4).map(|word| word.len()).collect::<Vec<_>>()
            };
            // The first of the words may have a part of the run.
            let (long, short) = (tail(N_BYTES / run.len()), tail(300));
            if short.len() == 4 && (long.len() != 4 || long[..3] != short[..3]) {
                failures.push(format!("{name} after many {run:?}"));
            }
        }
    }
    // That one is for what is left when the digits have been cut off.
    assert_eq!(failures, ["deepseek v3 after many \"1\""]);
}
