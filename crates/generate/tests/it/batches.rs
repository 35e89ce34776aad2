//! What is beside a prompt in a batch does not matter.

use std::ops::ControlFlow;

use tunesmith_generate::{GenerationSettings, generate};

use crate::support::*;

#[track_caller]
fn check_alone_and_together(settings: &GenerationSettings, lengths: &[usize]) {
    let model = load_golden("llama3-rope");
    let tokenizer = any_tokenizer();
    let prompts = prompts(lengths);
    let together = run(&model, &tokenizer, &prompts, settings);
    for (prompt, together) in prompts.iter().zip(&together) {
        let alone = &run(&model, &tokenizer, std::slice::from_ref(prompt), settings)[0];
        assert_eq!((&alone.ids, alone.finish), (&together.ids, together.finish));
    }
    let mut reversed = prompts.clone();
    reversed.reverse();
    let mut together_reversed = run(&model, &tokenizer, &reversed, settings);
    together_reversed.reverse();
    for (a, b) in together.iter().zip(&together_reversed) {
        assert_eq!(a.ids, b.ids);
    }
}

#[test]
fn greedy_answers_are_those_of_each_prompt_alone() {
    let settings = GenerationSettings { max_new_tokens: 12, ..Default::default() };
    check_alone_and_together(&settings, &[1, 17, 5, 60, 2, 33]);
}

#[test]
fn drawn_answers_are_those_of_each_prompt_alone() {
    let settings = GenerationSettings {
        max_new_tokens: 12,
        do_sample: true,
        temperature: 0.8,
        top_k: 40,
        top_p: 0.9,
        seed: 5,
        ..Default::default()
    };
    check_alone_and_together(&settings, &[3, 20, 1, 8]);
}

#[test]
fn prompts_larger_than_a_pass_are_fed_in_pieces() {
    // 25 prompts of up to 150 tokens are more than the 2048 tokens of one pass.
    let lengths: Vec<usize> = (0..25).map(|i| 40 + (i * 47) % 131).collect();
    assert!(lengths.iter().sum::<usize>() > 2048);
    let settings = GenerationSettings { max_new_tokens: 3, ..Default::default() };
    check_alone_and_together(&settings, &lengths);
}

#[test]
fn equal_prompts_are_drawn_differently_and_seeds_count() {
    let model = load_golden("llama3-rope");
    let tokenizer = any_tokenizer();
    let prompt = prompts(&[6]).remove(0);
    let drawn = |seed| {
        let settings = GenerationSettings {
            max_new_tokens: 12,
            do_sample: true,
            temperature: 3.0,
            seed,
            ..Default::default()
        };
        let prompts = [prompt.clone(), prompt.clone()];
        run(&model, &tokenizer, &prompts, &settings).into_iter().map(|g| g.ids).collect::<Vec<_>>()
    };
    let first = drawn(1);
    assert_ne!(first[0], first[1]);
    assert_eq!(first, drawn(1));
    assert_ne!(first, drawn(2));
}

#[test]
fn the_callback_sees_every_token_of_every_prompt() {
    let model = load_golden("mistral-window");
    let prompts = prompts(&[4, 9]);
    let settings = GenerationSettings { max_new_tokens: 7, ..Default::default() };
    let mut seen = vec![vec![], vec![]];
    let generated = generate(&model, &any_tokenizer(), &prompts, &settings, &mut |prompt_idx, id| {
        seen[prompt_idx].push(id);
        ControlFlow::Continue(())
    });
    assert_eq!(generated.unwrap().into_iter().map(|g| g.ids).collect::<Vec<_>>(), seen);
}
