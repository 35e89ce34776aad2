//! Beam search against transformers, and what stops it.

use std::ops::ControlFlow;

use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_generate::{ChatLayout, ChatMarkers, ChatSession, FinishReason, GenerationSettings, generate};
use tunesmith_models::CausalLm;

use crate::support::*;

#[test]
fn texts_are_those_of_the_reference() {
    let golden = read_json(&golden_dir().join("generation.json"));
    let tokenizer = any_tokenizer();
    let mut n_ended = 0;
    for case in golden["beams"].as_array().unwrap() {
        let model = load_golden(case["model"].as_str().unwrap());
        let settings = GenerationSettings {
            stop_ids: ids(&case["end_ids"]),
            ..serde_json::from_value(case["settings"].clone()).unwrap()
        };
        let found = run(&model, &tokenizer, &[ids(&case["prompt"])], &settings).remove(0);
        let expected = ids(&case["new_ids"]);
        assert_eq!(found.ids, expected, "{case}");
        let is_ended = settings.stop_ids.contains(expected.last().unwrap());
        let finish = if is_ended { FinishReason::EndOfText } else { FinishReason::MaxNewTokens };
        assert_eq!(found.finish, finish, "{case}");
        n_ended += usize::from(is_ended);
    }
    assert!(n_ended > 5, "only {n_ended} of the texts end before their limit");
}

fn settings(num_beams: usize) -> GenerationSettings {
    GenerationSettings { max_new_tokens: 10, num_beams, ..Default::default() }
}

fn model() -> (CausalLm, Tokenizer) {
    (load_golden("llama3-rope"), any_tokenizer())
}

#[test]
fn prompts_are_searched_each_for_itself_and_told_token_by_token() {
    let (model, tokenizer) = model();
    let prompts = prompts(&[4, 11, 1]);
    let mut told = vec![Vec::new(); 3];
    let together = generate(&model, &tokenizer, &prompts, &settings(3), &mut |idx, id| {
        told[idx].push(id);
        ControlFlow::Continue(())
    })
    .unwrap();
    for ((prompt, together), told) in prompts.iter().zip(&together).zip(&told) {
        assert_eq!(
            &run(&model, &tokenizer, std::slice::from_ref(prompt), &settings(3))[0].ids,
            &together.ids
        );
        assert_eq!(&together.ids, told);
    }
}

#[test]
fn the_caller_the_clock_and_the_context_end_a_search() {
    let (model, tokenizer) = model();
    let prompts = prompts(&[4, 7]);
    let mut n_told = 0;
    let found = generate(&model, &tokenizer, &prompts, &settings(2), &mut |_, _| {
        n_told += 1;
        ControlFlow::Break(())
    })
    .unwrap();
    assert_eq!(n_told, 1);
    assert_eq!((found[1].finish, found[1].ids.len()), (FinishReason::Cancelled, 0));

    let hurried = GenerationSettings { max_time_secs: 1e-9, ..settings(2) };
    let found = run(&model, &tokenizer, &prompts[..1], &hurried).remove(0);
    assert_eq!((found.finish, found.ids.len()), (FinishReason::MaxTime, 1));

    let long = prompts_of(model.context_length() - 2);
    let found =
        run(&model, &tokenizer, &[long], &GenerationSettings { max_new_tokens: 50, ..settings(2) }).remove(0);
    assert_eq!((found.finish, found.ids.len()), (FinishReason::ContextFull, 3));
}

fn prompts_of(length: usize) -> Vec<u32> {
    prompts(&[length]).remove(0)
}

#[test]
fn a_stop_text_ends_a_beam() {
    let (model, tokenizer) = load_gguf("llama-tiny.gguf");
    let prompt = tokenizer.encode("a b c").unwrap();
    let plain = run(&model, &tokenizer, std::slice::from_ref(&prompt), &settings(2)).remove(0);
    let stop = tokenizer.decode(&plain.ids[2..3], true).unwrap();
    let stopping = GenerationSettings { stop_texts: vec![stop.clone()], ..settings(2) };
    let found = run(&model, &tokenizer, &[prompt], &stopping).remove(0);
    println!("{:?} is cut at {stop:?} to {:?}", plain.text, found.text);
    assert!(!found.text.contains(&stop), "{:?}", found.text);
    if found.finish == FinishReason::StopText {
        assert!(tokenizer.decode(&found.ids, true).unwrap().contains(&stop));
    }
}

#[test]
fn a_conversation_goes_on_after_a_search() {
    let (model, tokenizer) = load_gguf("llama-tiny.gguf");
    let layout = || ChatLayout::Markers(ChatMarkers { prompt_start: "Q:".into(), ..ChatMarkers::default() });
    let mut session = ChatSession::new(&model, &tokenizer, layout(), settings(3)).unwrap();
    let mut say = |text: &str| session.say(text, &mut |_| ControlFlow::Continue(())).unwrap();
    let first = say("one");
    let second = say("two");
    assert!(second.n_reused >= first.n_prompt - 1, "{} of {}", second.n_reused, first.n_prompt);
    // Said again without anything known, the answer is the same.
    let mut fresh = ChatSession::new(&model, &tokenizer, layout(), settings(3)).unwrap();
    fresh.restore(&session.messages()[..2]);
    let again = fresh.say("two", &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((again.ids, again.n_reused), (second.ids, 0));
}

#[test]
fn drawing_and_beams_do_not_go_together() {
    let settings = GenerationSettings { do_sample: true, ..settings(2) };
    let error = settings.check().unwrap_err();
    assert!(error.to_string().contains("num_beams") && error.hint().is_some(), "{error}");
}
