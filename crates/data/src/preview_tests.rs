//! What the user reads.

use super::*;
use crate::preview_render::RenderOptions;
use crate::test_support::{bare_config, config, conversation, golden_tokenizer, number_tokenizer};

fn chat_preview(rounds: &[(&str, &str, &str)], max_length: &str) -> Preview {
    let config = config(&[("dataset.text_format", "chat_template"), ("tokenizer.max_length", max_length)]);
    let options = PreviewOptions { n_samples: 1, ..PreviewOptions::default() };
    Preview::build(&config, &golden_tokenizer("bpe-smollm"), &[conversation(rounds)], &options).unwrap()
}

#[test]
fn plain_text_marks_what_is_learned() {
    let preview = chat_preview(&[("", "Hi\tyou", "line one\n日 two")], "512");
    let expected = "\
legend: context  ⟦learned⟧  ‹special token›  ⏎ line end

━━ sample 1 of 1 · row 0 · 35 tokens, 15 learned (43 %) ━━━━
‹<|im_start|>›user⏎
Hi⇥you‹<|im_end|>›⏎
‹<|im_start|>›assistant⏎
⟦line one⏎⟧
⟦日 two‹<|im_end|>›⏎⟧

━━ all samples ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
1 sample from 1 conversation · 35 tokens, 15 learned (43 %)
packing samples: 1 micro-batch an epoch, up to 2 samples; 35 tokens each

tokens of a sample: shortest 35, median 35, 90 % up to 35, 99 % up to 35, longest 35
  35 █████████████████████████████████████████ 1

";
    assert_eq!(preview.render(&RenderOptions { width: 60, ..RenderOptions::default() }), expected);
}

#[test]
fn colours_stop_at_line_ends_and_nothing_is_lost() {
    let preview = chat_preview(&[("", "Hi\tyou", "line one\n日 two")], "512");
    let coloured = preview.render(&RenderOptions { colour: true, width: 60, ..RenderOptions::default() });
    for line in coloured.lines() {
        let last_escape = line.rfind("\u{1b}[").map(|at| &line[at..]);
        assert!(
            last_escape.is_none_or(|escape| escape.starts_with("\u{1b}[0m")),
            "{line:?} leaves a colour on"
        );
    }
    assert!(coloured.contains("\u{1b}[1;38;5;231;48;5;22mline one"), "{coloured}");
    // Without the colours it is the plain text without its brackets.
    let mut bare = String::new();
    let mut chars = coloured.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            let _ = chars.by_ref().find(|c| *c == 'm');
        } else {
            bare.push(c);
        }
    }
    let plain = preview.render(&RenderOptions { width: 60, ..RenderOptions::default() });
    assert_eq!(bare, plain.replace(['⟦', '⟧', '‹', '›'], ""));
}

#[test]
fn data_cannot_play_tricks_on_the_terminal() {
    let preview = chat_preview(&[("", "\u{1b}[2J\u{7}\u{9b}1m\r\u{202e}x", "ok")], "512");
    let text = preview.render(&RenderOptions::default());
    assert!(text.contains("␛[2J␇<U+009B>1m␍<U+202E>x"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
}

#[test]
fn boundaries_and_long_samples() {
    let preview = chat_preview(&[("", "Hi", "日 the")], "512");
    let text = preview.render(&RenderOptions { show_boundaries: true, ..RenderOptions::default() });
    // A character of several tokens falls apart into its bytes.
    assert!(text.contains("⟦<0xE6>│<0x97>│<0xA5>│ the│‹<|im_end|>›│⏎⟧\n"), "{text}");
    let text = preview.render(&RenderOptions { max_tokens: 9, ..RenderOptions::default() });
    let n_hidden = preview.samples[0].tokens.len() - 9;
    assert!(text.contains(&format!("\n⋯ {n_hidden} tokens not shown, 0 of them learned ⋯\n")), "{text}");
    assert!(text.contains("⟦日 the‹<|im_end|>›⏎⟧\n"), "{text}");
}

#[test]
fn cuts_and_empty_labels_are_told_where_they_are() {
    let conversations = [
        conversation(&[("", "1 2 3 4 5 6 7 8", "9")]),
        conversation(&[("", "1", "2 3 4 5 6 7")]),
        conversation(&[("", "1", "2"), ("", "3 4 5 6 7", "")]),
        conversation(&[("", "1 2", "")]),
    ];
    let config = bare_config(&[("tokenizer.max_length", "5")]);
    let options = PreviewOptions { n_samples: 9, ..PreviewOptions::default() };
    let preview = Preview::build(&config, &number_tokenizer(), &conversations, &options).unwrap();
    let warnings: Vec<&[String]> = preview.samples.iter().map(|sample| sample.warnings.as_slice()).collect();
    let end = "the answer does not end with a special token";
    assert_eq!(warnings[0], ["the prompt lost 4 tokens to the cut", end]);
    assert_eq!(warnings[1], ["an answer lost 1 token to the cut", "the prompt lost 1 token to the cut", end]);
    let emptied = "labels empty after cutting to 5 tokens: left out";
    assert_eq!(
        warnings[2],
        [emptied, "an answer lost 1 token to the cut", "the prompt lost 1 token to the cut", end]
    );
    assert_eq!(warnings[3], ["nothing in it is learned: left out", end]);
    let statistics = &preview.statistics;
    assert_eq!((statistics.n_samples, statistics.n_cut, statistics.n_cut_tokens), (2, 2, 6));
    assert_eq!((statistics.shortest, statistics.median, statistics.longest), (7, 7, 9));
    let bin = |from, n_samples| HistogramBin { from, to: from, n_samples, n_cut: n_samples };
    assert_eq!(statistics.histogram, [bin(7, 1), bin(8, 0), bin(9, 1)]);
    assert!(
        preview.warnings[0].contains("no answer ends with an end-of-text token"),
        "{:?}",
        preview.warnings
    );
    let text = preview.render(&RenderOptions::default());
    assert!(text.contains("· row 0 · 5 tokens, 1 learned (20 %) · ✂ 4 cut ━"), "{text}");
    assert!(text.contains(" 1 ✂ 1 cut\n"), "{text}");
    assert!(text.contains("! labels empty after cutting to 5 tokens: left out\n"), "{text}");
}

#[test]
fn rows_can_be_chosen_and_missing_ones_are_named() {
    let mut conversations: Vec<Conversation> = (0..4).map(|_| conversation(&[("", "1", "2")])).collect();
    for (row, conversation) in conversations.iter_mut().enumerate() {
        conversation.row = row;
    }
    let build = |rows: &[usize]| {
        let options = PreviewOptions { rows: rows.to_vec(), ..PreviewOptions::default() };
        Preview::build(&bare_config(&[]), &number_tokenizer(), &conversations, &options)
    };
    let rows: Vec<usize> = build(&[3, 1]).unwrap().samples.iter().map(|sample| sample.row).collect();
    assert_eq!(rows, [3, 1]);
    assert_eq!(
        build(&[4]).unwrap_err().to_string(),
        "row: no sample ends with row 4 (rows are counted from 0)"
    );
}

#[test]
fn nothing_to_train_on_is_said() {
    let options = PreviewOptions { n_samples: 1, ..PreviewOptions::default() };
    let preview = Preview::build(&bare_config(&[]), &number_tokenizer(), &[], &options).unwrap();
    assert_eq!(preview.warnings, ["there is nothing to train on: no sample has a token to learn"]);
    assert!(preview.render(&RenderOptions::default()).contains("0 samples from 0 conversations"));
}

#[test]
fn histograms_have_few_bins_of_equal_width() {
    let bins = |lengths: &[usize]| {
        let lengths: Vec<(usize, bool)> = lengths.iter().map(|length| (*length, *length > 100)).collect();
        histogram(&lengths)
    };
    assert!(bins(&[]).is_empty());
    let wide = bins(&[3, 40, 100, 101, 511]);
    assert!(wide.len() <= 16);
    assert_eq!((wide[0].from, wide[0].to, wide[0].n_samples), (0, 31, 1));
    assert_eq!(wide.iter().map(|bin| bin.n_samples).sum::<usize>(), 5);
    assert_eq!(wide.iter().map(|bin| bin.n_cut).sum::<usize>(), 2);
}

#[test]
fn json_has_every_token() {
    let preview = chat_preview(&[("", "Hi", "é")], "512");
    let json: serde_json::Value = serde_json::from_str(&preview.to_json()).unwrap();
    let tokens = json["samples"][0]["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), preview.samples[0].tokens.len());
    assert_eq!(tokens[0]["text"], "<|im_start|>");
    assert_eq!((&tokens[0]["special"], &tokens[0]["trained"]), (&true.into(), &false.into()));
    assert_eq!(json["statistics"]["n_samples"], 1);
    assert_eq!(json["packing"]["packing"], "samples");
    assert_eq!(json["packing"]["filled"], serde_json::Value::Null);
}

#[test]
fn packing_says_how_full_rows_are() {
    let conversations: Vec<Conversation> = (0..5).map(|_| conversation(&[("", "1 2", "3 4")])).collect();
    let summary = |packing: &str| {
        let config = bare_config(&[
            ("tokenizer.max_length", "8"),
            ("training.packing", packing),
            ("training.drop_last_batch", "false"),
        ]);
        let preview =
            Preview::build(&config, &number_tokenizer(), &conversations, &PreviewOptions::default()).unwrap();
        let text = preview.render(&RenderOptions::default());
        text.lines().find(|line| line.starts_with("packing")).unwrap().to_owned()
    };
    assert_eq!(
        summary("samples"),
        "packing samples: 3 micro-batches an epoch, up to 2 samples; 4 to 8 tokens each"
    );
    assert_eq!(
        summary("rows"),
        "packing rows: 2 micro-batches an epoch, up to 2 rows of 8 tokens, 83.3 % filled; 4 to 16 tokens each"
    );
    assert_eq!(
        summary("wrapped"),
        "packing wrapped: 2 micro-batches an epoch, up to 2 rows of 8 tokens, 83.3 % filled; 4 to 16 tokens each"
    );
}

#[test]
fn what_is_predicted_is_shown_with_the_sample() {
    let valued = |answer: &str, values: Vec<f32>| {
        let mut one = conversation(&[("", "1 2", answer)]);
        one.rounds[0].target = Target::Values(values);
        one
    };
    let shown = |changes: &[(&str, &str)], one: Conversation| {
        let mut config = bare_config(&[("problem_type", "text_causal_classification_modeling")]);
        changes.iter().for_each(|(field, value)| config.set(field, value).unwrap());
        let options = PreviewOptions { n_samples: 1, ..PreviewOptions::default() };
        let preview = Preview::build(&config, &number_tokenizer(), &[one], &options).unwrap();
        let text = preview.render(&RenderOptions { width: 40, ..RenderOptions::default() });
        assert!(text.contains("· row 0 · 2 tokens ━") && !text.contains("learned ("), "{text}");
        assert!(preview.warnings.is_empty() && preview.samples[0].warnings.is_empty(), "{preview:?}");
        text.lines().find(|line| line.starts_with("target")).unwrap().to_owned()
    };
    let softmax = ("training.loss_function", "CrossEntropyLoss");
    assert_eq!(shown(&[softmax], valued("sp\u{1b}am\nx", vec![1.0])), "target: ⟦sp␛am⏎x⟧ (class 1)");
    assert_eq!(shown(&[softmax], valued("1", vec![1.0])), "target: ⟦1⟧");
    let lists = [("dataset.class_names", "[a, b]"), ("dataset.num_classes", "2")];
    assert_eq!(shown(&lists, valued("[\"b\"]", vec![0.0, 1.0])), "target: ⟦[\"b\"]⟧");
    let columns = [("dataset.answer_column", "x,y"), ("problem_type", "text_causal_regression_modeling")];
    assert_eq!(shown(&columns, valued("0.5,-3", vec![0.5, -3.0])), "target: ⟦x: 0.5, y: -3⟧");
}
