//! Texts of a decoder behind an encoder, as transformers makes them; batches, drawing, and questions one at a time.

use std::ops::ControlFlow;

use tunesmith_generate::{ChatLayout, ChatMarkers, ChatSession, FinishReason, GenerationSettings, generate};

use crate::support::*;

/// The end of T5's texts.
const END: u32 = 1;

#[test]
fn greedy_texts_are_those_of_the_reference() {
    let tokenizer = any_tokenizer();
    for name in ["t5", "t5-gated"] {
        let (model, golden) = (load_golden(name), golden_json(name));
        for penalty in [1.0, 1.3] {
            let cases = golden["generations"].as_array().unwrap().iter();
            let cases = cases.filter(|case| case["repetition_penalty"] == penalty);
            let (sources, expected): (Vec<_>, Vec<_>) =
                cases.map(|case| (ids(&case["prompt"]), ids(&case["new_ids"]))).unzip();
            assert_eq!(sources.len(), 3);
            let settings = GenerationSettings {
                repetition_penalty: penalty as f32,
                max_new_tokens: 20,
                ..Default::default()
            };
            // Sources of different lengths, as one batch and each alone.
            let together = run(&model, &tokenizer, &sources, &settings);
            for ((source, mut expected), found) in sources.iter().zip(expected).zip(&together) {
                // The reference went on after the end.
                let end = expected.iter().position(|id| *id == END);
                expected.truncate(end.map_or(20, |at| at + 1));
                assert_eq!(found.ids, expected, "{name}");
                assert_eq!(found.n_prompt, source.len());
                let finish = if end.is_some() { FinishReason::EndOfText } else { FinishReason::MaxNewTokens };
                assert_eq!(found.finish, finish);
                assert_eq!(
                    run(&model, &tokenizer, std::slice::from_ref(source), &settings)[0].ids,
                    found.ids
                );
            }
        }
    }
}

#[test]
fn beams_are_those_of_the_reference() {
    let tokenizer = any_tokenizer();
    let mut n_ended = 0;
    for name in ["t5", "t5-gated"] {
        let (model, golden) = (load_golden(name), golden_json(name));
        let cases = golden["beams"].as_array().unwrap();
        for case in cases {
            let settings = GenerationSettings {
                stop_ids: ids(&case["end_ids"]),
                ..serde_json::from_value(case["settings"].clone()).unwrap()
            };
            let expected = ids(&case["new_ids"]);
            let found = run(&model, &tokenizer, &[ids(&case["prompt"])], &settings).remove(0);
            assert_eq!(found.ids, expected, "{name}: {case}");
            n_ended += usize::from(found.finish == FinishReason::EndOfText);
        }
        // Several at once are searched one after the other.
        let settings = GenerationSettings { num_beams: 3, max_new_tokens: 8, ..Default::default() };
        let sources: Vec<_> = cases.iter().map(|case| ids(&case["prompt"])).collect();
        for (source, found) in sources.iter().zip(run(&model, &tokenizer, &sources, &settings)) {
            assert_eq!(run(&model, &tokenizer, std::slice::from_ref(source), &settings)[0].ids, found.ids);
        }
    }
    assert!(n_ended > 3, "only {n_ended} of the texts end before their limit");
}

#[test]
fn what_is_drawn_depends_on_source_and_seed_alone() {
    let (model, tokenizer) = (load_golden("t5"), any_tokenizer());
    let sources = prompts(&[4, 9, 30]);
    let settings = |seed| GenerationSettings {
        do_sample: true,
        temperature: 1.5,
        max_new_tokens: 12,
        seed,
        ..Default::default()
    };
    let together = run(&model, &tokenizer, &sources, &settings(1));
    for (source, found) in sources.iter().zip(&together) {
        assert_eq!(run(&model, &tokenizer, std::slice::from_ref(source), &settings(1))[0].ids, found.ids);
    }
    assert_ne!(together[0].ids, run(&model, &tokenizer, &sources, &settings(2))[0].ids);
    // The same question asked twice in one call is answered twice.
    let twice = run(&model, &tokenizer, &[sources[0].clone(), sources[0].clone()], &settings(1));
    assert_ne!(twice[0].ids, twice[1].ids);
}

#[test]
fn a_session_reads_every_question_anew() {
    let (model, tokenizer) = (load_golden("t5-gated"), any_tokenizer());
    let settings = GenerationSettings { max_new_tokens: 6, ..Default::default() };
    // Bytes of this tokenizer are ids below 256, of which this model has the first 96.
    let markers = ChatMarkers { prompt_start: "!".to_owned(), ..ChatMarkers::default() };
    let mut chat =
        ChatSession::new(&model, &tokenizer, ChatLayout::Markers(markers), settings.clone()).unwrap();
    chat.set_history_rounds(Some(0));
    let mut answers = Vec::new();
    for question in ["\"#$", "%&", "\"#$"] {
        let reply = chat.say(question, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(reply.n_reused, 0);
        assert_eq!(reply.n_prompt, prompt_length(question));
        answers.push(reply.ids);
    }
    assert_eq!(answers[0], answers[2]);
    let source = tokenizer.encode("!\"#$").unwrap();
    assert_eq!(run(&model, &tokenizer, &[source], &settings)[0].ids, answers[0]);
    let mut n_told = 0;
    let cut = generate(&model, &tokenizer, &prompts(&[3]), &settings, &mut |_, _| {
        n_told += 1;
        ControlFlow::Break(())
    });
    assert_eq!((n_told, cut.unwrap()[0].finish), (1, FinishReason::Cancelled));
}

/// How many tokens the session above makes of a question.
fn prompt_length(question: &str) -> usize {
    any_tokenizer().encode(&format!("!{question}")).unwrap().len()
}
