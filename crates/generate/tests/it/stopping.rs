//! The ways in which an answer ends, and the requests that are refused.

use std::ops::ControlFlow;

use tunesmith_generate::{FinishReason, GenerateError, GenerationSettings, generate};

use crate::support::*;

fn settings(max_new_tokens: usize) -> GenerationSettings {
    GenerationSettings { max_new_tokens, ..Default::default() }
}

#[test]
fn every_end_id_ends_the_text_but_not_before_the_minimum() {
    let model = load_golden("gpt2");
    let tokenizer = any_tokenizer();
    let prompts = prompts(&[9]);
    let free = run(&model, &tokenizer, &prompts, &settings(10)).remove(0).ids;
    let stop = free[4];
    let first = free.iter().position(|id| *id == stop).unwrap();
    let with_stop = GenerationSettings { stop_ids: vec![stop], ..settings(10) };
    let stopped = run(&model, &tokenizer, &prompts, &with_stop).remove(0);
    assert_eq!(stopped.ids, free[..=first]);
    assert_eq!(stopped.finish, FinishReason::EndOfText);
    let at_least = GenerationSettings { min_new_tokens: 8, ..with_stop };
    let longer = run(&model, &tokenizer, &prompts, &at_least).remove(0).ids;
    assert!(longer.len() >= 8 && !longer[..8].contains(&stop), "{longer:?} has {stop}");
}

#[test]
fn a_stop_text_ends_its_own_sequence_only() {
    let (model, tokenizer) = load_gguf("llama-tiny.gguf");
    let prompts = [tokenizer.encode("Hello").unwrap(), tokenizer.encode("A rather different text").unwrap()];
    let free = run(&model, &tokenizer, &prompts, &settings(24));
    // A piece from the middle of the first answer that the second does not have.
    let text: Vec<char> = free[0].text.chars().collect();
    let piece = text
        .windows(3)
        .skip(text.len() / 2)
        .map(|w| w.iter().collect::<String>())
        .find(|piece| !piece.trim().is_empty() && !free[1].text.contains(piece.as_str()));
    let stop = piece.unwrap();
    let with_stop = GenerationSettings { stop_texts: vec![String::new(), stop.clone()], ..settings(24) };
    let stopped = run(&model, &tokenizer, &prompts, &with_stop);
    assert_eq!(stopped[0].finish, FinishReason::StopText);
    assert_eq!(stopped[0].text, free[0].text.split(&stop).next().unwrap().trim());
    assert!(stopped[0].ids.len() < free[0].ids.len());
    assert_eq!(free[0].ids[..stopped[0].ids.len()], stopped[0].ids);
    assert_eq!((&stopped[1].ids, stopped[1].finish), (&free[1].ids, free[1].finish));
}

#[test]
fn a_stop_text_is_found_by_its_tokens() {
    let (model, tokenizer) = load_gguf("llama-tiny.gguf");
    let prompts = [tokenizer.encode("Hello").unwrap()];
    let free = run(&model, &tokenizer, &prompts, &settings(24)).remove(0).ids;
    // The text of two generated tokens, if the tokenizer writes it with the same two.
    let stop = (0..22).find_map(|at| {
        let text = tokenizer.decode(&free[at..at + 2], false).unwrap();
        (tokenizer.encode(&text).unwrap() == free[at..at + 2]).then_some((at, text))
    });
    if let Some((at, text)) = stop {
        let with_stop = GenerationSettings { stop_texts: vec![text], ..settings(24) };
        let stopped = run(&model, &tokenizer, &prompts, &with_stop).remove(0);
        assert_eq!(stopped.finish, FinishReason::StopText);
        assert!(stopped.ids.len() <= at + 2);
    }
}

#[test]
fn a_full_context_ends_the_answer() {
    let model = load_golden("gpt2");
    let tokenizer = any_tokenizer();
    let found = run(&model, &tokenizer, &prompts(&[60, 64]), &settings(20));
    // The token after the last place of the context is still known.
    assert_eq!(found.iter().map(|g| g.ids.len()).collect::<Vec<_>>(), [5, 1]);
    assert!(found.iter().all(|g| g.finish == FinishReason::ContextFull));
}

#[test]
fn time_and_callback_break_off_all() {
    let model = load_golden("gpt2");
    let tokenizer = any_tokenizer();
    let prompts = prompts(&[5, 7]);
    let no_time = GenerationSettings { max_time_secs: 1e-9, ..settings(20) };
    let found = run(&model, &tokenizer, &prompts, &no_time);
    assert!(found.iter().all(|g| g.finish == FinishReason::MaxTime && g.ids.len() == 1));

    let mut n_seen = 0;
    let found = generate(&model, &tokenizer, &prompts, &settings(20), &mut |_, _| {
        n_seen += 1;
        if n_seen == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let found = found.unwrap();
    assert!(found.iter().all(|g| g.finish == FinishReason::Cancelled));
    assert_eq!(found[0].ids.len(), 3);
}

#[test]
fn impossible_requests_are_refused() {
    let model = load_golden("gpt2");
    let tokenizer = any_tokenizer();
    let refusal = |prompts: &[Vec<u32>], settings: &GenerationSettings| {
        generate(&model, &tokenizer, prompts, settings, &mut |_, _| ControlFlow::Continue(())).unwrap_err()
    };
    let error = refusal(&prompts(&[3, 65]), &settings(5));
    assert_eq!(error.to_string(), "prompt of 65 tokens is longer than the context of 64");
    assert!(matches!(error, GenerateError::PromptTooLong { prompt_idx: 1, .. }));
    assert!(error.hint().is_some());
    assert_eq!(refusal(&[vec![]], &settings(5)).to_string(), "prompt 0 has no tokens");
    assert!(refusal(&[vec![96]], &settings(5)).to_string().contains("token id 96"));

    let one = prompts(&[3]);
    let setting = |change: &dyn Fn(&mut GenerationSettings)| {
        let mut settings = settings(5);
        settings.do_sample = true;
        change(&mut settings);
        refusal(&one, &settings).to_string()
    };
    assert_eq!(setting(&|s| s.temperature = 0.0), "temperature: must be above 0 when sampling, is 0");
    assert_eq!(setting(&|s| s.top_p = 0.0), "top_p: must be above 0 and at most 1, is 0");
    assert_eq!(setting(&|s| s.repetition_penalty = 0.0), "repetition_penalty: must be above 0, is 0");
    assert_eq!(setting(&|s| s.max_new_tokens = 0), "max_new_tokens: must be at least 1, is 0");
    assert_eq!(setting(&|s| s.max_time_secs = -1.0), "max_time_secs: must be at least 0, is -1");
}

#[test]
fn no_prompts_give_no_answers() {
    assert!(run(&load_golden("gpt2"), &any_tokenizer(), &[], &settings(5)).is_empty());
}
