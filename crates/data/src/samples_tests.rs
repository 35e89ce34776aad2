//! Sets of samples, their report and their cache.

use super::*;
use crate::test_support::{bare_config, config, conversation, golden_tokenizer, number_tokenizer};

fn many(n: usize) -> Vec<Conversation> {
    (0..n)
        .map(|row| {
            let mut made = conversation(&[("", &format!("prompt {row}"), &format!("answer {}", row * row))]);
            made.row = row;
            made
        })
        .collect()
}

#[test]
fn order_does_not_depend_on_threads() {
    let tokenizer = golden_tokenizer("bpe-smollm");
    let conversations = many(400);
    let set = |threads: &str| {
        let config = config(&[("environment.threads", threads)]);
        tokenize(&config, &tokenizer, &conversations, None).unwrap()
    };
    let one = set("1");
    assert_eq!(
        one.0.samples.iter().map(|sample| sample.row).collect::<Vec<_>>(),
        (0..400).collect::<Vec<_>>()
    );
    assert_eq!(one, set("3"));
    assert_eq!(one, set("0"));
    assert!(!one.1.from_cache && one.1.warnings.is_empty(), "{:?}", one.1);
    assert_eq!(one.1.n_tokens, one.0.samples.iter().map(|sample| sample.ids.len()).sum::<usize>());
}

#[test]
fn the_first_bad_conversation_decides_the_error() {
    let source = "{% for m in messages %}{% if '13' in m.content %}{{ raise_exception('unlucky ' + m.content) }}{% endif %}\
                  {{ m.content }}{% endfor %}";
    let template = tunesmith_formats::chat_template::ChatTemplate::new(source.into());
    let tokenizer = golden_tokenizer("bpe-smollm").with_chat_template(Some(template));
    let changes = [
        ("dataset.text_format", "chat_template"),
        ("environment.threads", "3"),
        ("dataset.on_bad_row", "error"),
    ];
    let error = tokenize(&config(&changes), &tokenizer, &many(300), None).unwrap_err().to_string();
    assert!(error.starts_with("row 13:") && error.ends_with("unlucky prompt 13"), "{error}");

    // Otherwise they are left out, counted and named; without any other the first decides all the same.
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let (set, report) =
            tokenize(&config(&changes[..2]), &tokenizer, &many(20), Some(dir.path())).unwrap();
        assert_eq!((set.samples.len(), report.n_refused), (19, 1));
        let warning = &report.warnings[0];
        assert!(
            warning.contains("1 conversation left out (row 13)") && warning.contains("unlucky"),
            "{warning}"
        );
    }
    let error = tokenize(&config(&changes[..2]), &tokenizer, &many(14)[13..], None).unwrap_err();
    assert!(error.to_string().ends_with("unlucky prompt 13"), "{error}");
}

#[test]
fn the_report_counts_what_went_wrong() {
    let conversations = [
        conversation(&[("", "1 2", "3 4")]),
        conversation(&[("", "1 2 3 4 5 6", "7")]),
        conversation(&[("", "1", "2 3 4 5 6 7")]),
        conversation(&[("", "1", "2"), ("", "3 4 5 6 7", "")]),
        conversation(&[("", "1 2", "")]),
        conversation(&[("", "1", "hello</s>")]),
    ];
    let config = bare_config(&[("tokenizer.max_length", "5")]);
    let (set, report) = tokenize(&config, &number_tokenizer(), &conversations, None).unwrap();
    assert_eq!(set.samples.len(), 4);
    assert_eq!(
        report,
        TokenizeReport {
            from_cache: false,
            n_conversations: 6,
            n_tokens: 4 + 5 + 5 + 3,
            n_trained_tokens: 2 + 1 + 5 + 2,
            n_cut: 2,
            n_cut_tokens: 2 + 2,
            n_answers_cut: 1,
            n_fully_masked: 2,
            n_masked_by_cutting: 1,
            n_without_end: 3,
            n_doubled_bos: 0,
            n_unknown: 1,
            lengths: vec![(4, 0), (7, 2), (7, 2), (3, 0)],
            warnings: report.warnings.clone(),
            ..TokenizeReport::default()
        }
    );
    let text = report.warnings.join("\n");
    for part in [
        "2 of 6 samples left out because nothing in them is learned, 1 of them: labels empty after cutting to 5 tokens",
        "2 of 4 samples longer than tokenizer.max_length (5) and cut, 4 tokens in all",
        "1 of 4 samples lost part of an answer",
        "3 of 4 samples do not end with a special token",
        "1 token stands for something the vocabulary lacks",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

/// Wrapped rows are cut out of the stream of whole samples, and what is only context is kept.
#[test]
fn wrapped_samples_come_whole_or_in_pieces() {
    let conversations = [
        conversation(&[("", "1 2 3 4 5 6", "7 8 9 10 11 12 13")]),
        conversation(&[("", "14 15", "")]),
        conversation(&[("", "", "")]),
    ];
    let config = bare_config(&[("tokenizer.max_length", "5"), ("training.packing", "wrapped")]);
    let (set, report) = tokenize(&config, &number_tokenizer(), &conversations, None).unwrap();
    let ids: Vec<&[u32]> = set.samples.iter().map(|sample| sample.ids.as_slice()).collect();
    assert_eq!(ids, [&[1, 2, 3, 4, 5][..], &[6, 7, 8, 9, 10], &[11, 12, 13], &[14, 15]]);
    assert_eq!(set.samples[1].trained, [false, true, true, true, true]);
    assert!(set.samples.iter().all(|sample| sample.row == 0 && sample.n_cut == 0));
    assert_eq!(
        (report.n_cut, report.n_fully_masked, report.n_tokens, report.n_trained_tokens),
        (0, 1, 15, 7)
    );
    // Prompts for generation are cut all the same.
    let assembler = Assembler::new(&config, &number_tokenizer()).unwrap();
    assert_eq!(assembler.prompt_ids(&conversations[0]).unwrap(), [2, 3, 4, 5, 6]);
}

#[test]
fn the_second_run_takes_the_tokens_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = golden_tokenizer("bpe-smollm");
    let config = config(&[]);
    let conversations = many(5);
    let run = || tokenize(&config, &tokenizer, &conversations, Some(dir.path())).unwrap();
    let (first, report) = run();
    assert!(!report.from_cache);
    let (second, again) = run();
    assert!(again.from_cache);
    assert_eq!((&second, &again), (&first, &TokenizeReport { from_cache: true, ..report }));

    // Proof that nothing is encoded again: what stands in the file is what comes out.
    let assembler = Assembler::new(&config, &tokenizer).unwrap();
    let key = sample_cache::key(&assembler, &conversations);
    let mut stored = sample_cache::read(dir.path(), &key, 5).unwrap();
    let sample = &mut stored[2].as_mut().unwrap()[0].0;
    sample.ids = vec![1, 2, 3];
    sample.trained = vec![false, true, true];
    sample_cache::write(dir.path(), &key, &stored).unwrap();
    assert_eq!(run().0.samples[2].ids, [1, 2, 3]);
    assert_eq!(sample_cache::read(dir.path(), &key, 4), None);
}

#[test]
fn a_damaged_cache_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = golden_tokenizer("bpe-smollm");
    let config = config(&[]);
    let conversations = many(3);
    let run = || tokenize(&config, &tokenizer, &conversations, Some(dir.path())).unwrap();
    let (expected, _) = run();
    let path = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&flipped[..], &whole[..whole.len() - 1], &whole[..10], b""] {
        std::fs::write(&path, damaged).unwrap();
        let (set, report) = run();
        assert!(!report.from_cache);
        assert_eq!(set, expected);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no leftovers");
    // A place that cannot hold a cache is no reason to stop.
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let (set, report) = tokenize(&config, &tokenizer, &conversations, Some(&file)).unwrap();
    assert_eq!(set, expected);
    assert!(report.warnings.iter().any(|text| text.contains("token cache")), "{:?}", report.warnings);
}

#[test]
fn everything_that_decides_tokens_is_in_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = golden_tokenizer("bpe-smollm");
    let conversations = many(3);
    let is_cached = |changes: &[(&str, &str)], tokenizer: &Tokenizer, conversations: &[Conversation]| {
        tokenize(&config(changes), tokenizer, conversations, Some(dir.path())).unwrap().1.from_cache
    };
    assert!(!is_cached(&[], &tokenizer, &conversations));
    for change in [
        ("dataset.text_system_start", "S"),
        ("dataset.text_prompt_start", "P"),
        ("dataset.text_answer_separator", "A"),
        ("dataset.add_eos_token_to_system", "false"),
        ("dataset.add_eos_token_to_prompt", "false"),
        ("dataset.add_eos_token_to_answer", "false"),
        ("dataset.mask_prompt_labels", "false"),
        ("dataset.only_last_answer", "true"),
        ("dataset.text_format", "chat_template"),
        ("tokenizer.max_length", "64"),
        ("tokenizer.tokenizer_kwargs", r#"{"add_prefix_space": true}"#),
        ("training.packing", "wrapped"),
    ] {
        assert!(!is_cached(&[change], &tokenizer, &conversations), "{change:?}");
        assert!(is_cached(&[change], &tokenizer, &conversations), "{change:?}");
    }
    for change in
        [("training.learning_rate", "0.5"), ("training.batch_size", "7"), ("training.packing", "rows")]
    {
        assert!(is_cached(&[change], &tokenizer, &conversations), "{change:?}");
    }
    assert!(!is_cached(&[], &golden_tokenizer("bpe-llama3"), &conversations));
    let template = tunesmith_formats::chat_template::ChatTemplate::new("x".into());
    assert!(!is_cached(&[], &tokenizer.clone().with_chat_template(Some(template)), &conversations));
    type Change = fn(&mut Vec<Conversation>);
    let changes: [Change; 6] = [
        |all| all[1].rounds[0].prompt.push('!'),
        |all| all[1].rounds[0].answer.push('!'),
        |all| all[1].rounds[0].system.push('!'),
        |all| all[1].row = 77,
        |all| all.swap(0, 1),
        |all| {
            all.pop();
        },
    ];
    for change in changes {
        let mut changed = conversations.clone();
        change(&mut changed);
        assert!(!is_cached(&[], &tokenizer, &changed));
    }
    assert!(is_cached(&[], &tokenizer, &conversations));
}
