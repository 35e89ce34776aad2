//! Each answer in the context in which it will be generated, and what gives way where there is no room.

use tunesmith_formats::chat_template::ChatTemplate;

use super::tests::{chat_config, labels, trained_texts};
use super::*;
use crate::test_support::{bare_config, config, conversation, golden_tokenizer, number_tokenizer};

/// A sample of a template with thoughts, round by round: each answer in the context in which it will be generated.
#[test]
fn every_answer_is_learned_where_the_template_drops_thoughts() {
    let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think>\n\n\
                  </think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}\
                  {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let tokenizer =
        golden_tokenizer("bpe-smollm").with_chat_template(Some(ChatTemplate::new(source.to_owned())));
    let rounds = conversation(&[("", "a", "b"), ("", "c", "d"), ("", "e", "f")]);
    let assembler = Assembler::new(&chat_config(&[]), &tokenizer).unwrap();
    let samples = assembler.samples(&rounds).unwrap();
    let trained: Vec<_> = samples.iter().flat_map(|(sample, _)| trained_texts(sample, &tokenizer)).collect();
    let lead = "<think>\n\n</think>\n\n";
    assert_eq!(trained, ["b", "d", "f"].map(|answer| format!("{lead}{answer}<|im_end|>\n")));
    for (n_rounds, (sample, _)) in (1..).zip(&samples) {
        let mut shorter = rounds.clone();
        shorter.rounds.truncate(n_rounds);
        let prompt = assembler.prompt_ids(&shorter).unwrap();
        assert_eq!(sample.ids[..prompt.len()], prompt);
    }
    // Metrics see what is said, not what the template writes in front of it.
    assert_eq!(assembler.spoken("<think>\n\n</think>\n\nb", "b"), "b");
    assert_eq!(assembler.spoken("<think>\nlet me see\n</think>\n\nb", "b"), "b");
    let thought = "<think>\nlet me see\n</think>\n\nb";
    assert_eq!(assembler.spoken(thought, thought), thought);
    let last = Assembler::new(&chat_config(&[("dataset.turns", "last")]), &tokenizer).unwrap();
    assert_eq!(last.samples(&rounds).unwrap().len(), 1);
}

#[test]
fn a_call_is_expected_in_the_form_of_the_template() {
    let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}<call>\
                  {{ c.function | tojson }}</call>{% endfor %}<|im_end|>\n{% endfor %}\
                  {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let tokenizer =
        golden_tokenizer("bpe-smollm").with_chat_template(Some(ChatTemplate::new(source.to_owned())));
    let assembler = Assembler::new(&chat_config(&[]), &tokenizer).unwrap();
    let mut rounds = conversation(&[("", "now?", "look")]);
    assert_eq!(assembler.expected_call(&rounds), None);
    let call = serde_json::json!([{"type": "function", "function": {"name": "look", "arguments": {}}}]);
    let mut details = crate::conversation::RoundDetails {
        before: vec![serde_json::json!({"role": "user", "content": "now?"})],
        answer_content: Some("".into()),
        ..Default::default()
    };
    details.answer_keys.insert("tool_calls".to_owned(), call);
    rounds.rounds[0].details = Some(Box::new(details));
    let expected = r#"<call>{"name": "look", "arguments": {}}</call>"#;
    assert_eq!(assembler.expected_call(&rounds).as_deref(), Some(expected));
}

#[test]
fn each_answer_can_be_a_sample_of_its_own() {
    let rounds = conversation(&[("", "1 2", "3 4"), ("", "5", "6 7")]);
    let assembler = Assembler::new(&bare_config(&[("dataset.turns", "all")]), &number_tokenizer()).unwrap();
    let samples = assembler.samples(&rounds).unwrap();
    let all: Vec<String> = samples.iter().map(|(sample, _)| labels(sample)).collect();
    assert_eq!(all, ["- - 3 4", "- - - - - 6 7"]);
    assert!(samples.iter().all(|(sample, notes)| sample.row == 1 && notes.is_one_of_several));
}

#[test]
fn answers_that_are_context_are_not_learned() {
    let mut rounds = conversation(&[("", "1 2", "3 4"), ("", "5", "6 7")]);
    let details = crate::conversation::RoundDetails { is_context: true, ..Default::default() };
    rounds.rounds[0].details = Some(Box::new(details));
    let assembler = Assembler::new(&bare_config(&[]), &number_tokenizer()).unwrap();
    assert_eq!(labels(&assembler.sample(&rounds).unwrap()), "- - - - - 6 7");
}

#[test]
fn long_samples_keep_their_beginning_and_both_sides() {
    let assembler = |max_length: &str, truncate: &str| {
        let changes = [
            ("tokenizer.max_length", max_length),
            ("dataset.truncate", truncate),
            ("dataset.text_system_start", "20 "),
            ("dataset.text_prompt_start", "21 "),
            ("dataset.text_answer_separator", " 22"),
        ];
        Assembler::new(&bare_config(&changes), &number_tokenizer()).unwrap()
    };
    let labels_of = |assembler: &Assembler, rounds: &Conversation| labels(&assembler.sample(rounds).unwrap());
    let one = conversation(&[("9", "1 2 3 4 5 6", "7 8 10 11")]);
    // Room for all, then the prompt's text gives way, then the answer's end; system text and marker stay.
    for (max_length, truncate, expected) in [
        ("14", "prompt_left", "- - - - - - - - - - 7 8 10 11"),
        ("12", "prompt_left", "- - - - - - - - 7 8 10 11"),
        ("8", "prompt_left", "- - - - 7 8 10 11"),
        ("6", "prompt_left", "- - - 7 8 10"),
        ("12", "response_right", "- - - - - - - - 7 8 10 11"),
        ("6", "response_right", "- - - 7 8 10"),
    ] {
        assert_eq!(labels_of(&assembler(max_length, truncate), &one), expected, "{max_length} {truncate}");
    }
    let talkative = conversation(&[("9", "1 2 3", "7 8 10 11 12 13 14 15")]);
    assert_eq!(labels_of(&assembler("12", "prompt_left"), &talkative), "- - - - - - 7 8 10 11 12 13");
    assert_eq!(labels_of(&assembler("13", "response_right"), &talkative), "- - - - - - - 7 8 10 11 12 13");
    assert_eq!(labels_of(&assembler("13", "prompt_left"), &talkative), "- - - - - - 7 8 10 11 12 13 14");
    let kept = assembler("12", "prompt_left").sample(&one).unwrap();
    assert_eq!((kept.ids[..4].to_vec(), kept.ids[7], kept.n_cut), (vec![20, 9, 21, 3], 22, 2));
    // Where prompts are learned, what is left of one is, too.
    let mut all = bare_config(&[("tokenizer.max_length", "5"), ("dataset.mask_prompt_labels", "false")]);
    all.dataset.truncate = tunesmith_config::Truncate::PromptLeft;
    let all = Assembler::new(&all, &number_tokenizer()).unwrap();
    assert_eq!(labels_of(&all, &conversation(&[("", "1 2 3 4 5 6", "7")])), "3 4 5 6 7");
    // Those that do not fit are left out, and said to be.
    let (dropped, notes) = assembler("12", "drop").sample_with_notes(&one).unwrap();
    assert!(dropped.ids.is_empty() && notes.is_too_long && !dropped.teaches());
    assert!(assembler("14", "drop").sample(&one).unwrap().teaches());
    // The oldest rounds go first, the system text stays.
    let chain = conversation(&[("9", "1", "2"), ("", "3", "4"), ("", "5", "6")]);
    let (sample, notes) = assembler("11", "prompt_left").sample_with_notes(&chain).unwrap();
    assert_eq!(sample.ids, [20, 9, 21, 3, 22, 4, 21, 5, 22, 6]);
    assert_eq!((labels(&sample).as_str(), notes.n_rounds_cut), ("- - - - - 4 - - - 6", 1));
    assert_eq!(assembler("6", "prompt_left").prompt_ids(&chain).unwrap(), [20, 9, 21, 5, 22]);
    assert_eq!(assembler("11", "prompt_left").prompt_ids(&chain).unwrap(), [20, 9, 21, 3, 22, 4, 21, 5, 22]);
}

#[test]
fn compared_answers_keep_the_same_prompt() {
    let mut rounds = conversation(&[("", "1 2 3 4 5 6", "7")]);
    rounds.rounds[0].target =
        Target::Preference { rejected_prompt: None, rejected_answer: "8 9 10 11 12".to_owned() };
    let short = Assembler::new(
        &bare_config(&[("tokenizer.max_length", "8"), ("dataset.truncate", "prompt_left")]),
        &number_tokenizer(),
    )
    .unwrap();
    let sample = short.sample(&rounds).unwrap();
    assert_eq!(sample.ids, [3, 4, 5, 6, 7, 3, 4, 5, 6, 8, 9, 10, 11]);
    assert_eq!((labels(&sample).as_str(), sample.n_contrast), ("- - - - 7 - - - - 8 9 10 11", 8));
}

/// What the tokenizer's own rules put in front of a text is put there once, in both formats.
#[test]
fn the_beginning_of_text_is_there_once() {
    let tokenizer = golden_tokenizer("spm-llama");
    let Some(start) = tokenizer.start_id() else {
        panic!("the tokenizer of this test has a beginning of text")
    };
    let rounds = conversation(&[("", "a", "b"), ("", "c", "d")]);
    let count = |changes: &[(&str, &str)], tokenizer: &Tokenizer| {
        let sample = Assembler::new(&config(changes), tokenizer).unwrap().sample(&rounds).unwrap();
        (sample.ids.first() == Some(&start), sample.ids.iter().filter(|id| **id == start).count())
    };
    let chat = ("dataset.text_format", "chat_template");
    assert_eq!(count(&[], &tokenizer), (true, 1));
    assert_eq!(count(&[chat], &tokenizer), (true, 1));
    let bare = "{% for m in messages %}{{ m.content }};{% endfor %}";
    let without = tokenizer.clone().with_chat_template(Some(ChatTemplate::new(bare.to_owned())));
    assert_eq!(count(&[chat], &without), (true, 1));
    assert_eq!(count(&[("tokenizer.add_bos_token", "false")], &tokenizer), (false, 0));
    assert_eq!(count(&[chat, ("tokenizer.add_bos_token", "false")], &without), (false, 0));
}
