//! Greedy continuations as transformers makes them, with and without a repetition penalty.

use tunesmith_generate::{FinishReason, GenerationSettings};
use tunesmith_models::CausalLm;
use tunesmith_ops::Device;

use crate::on_device::on_each_device;
use crate::support::*;

/// Prompts and their continuations.
type Cases = Vec<(Vec<u32>, Vec<u32>)>;

#[track_caller]
fn check(name: &str) {
    check_model(name, &load_golden(name));
}

on_each_device!(continuations_are_those_of_the_reference);

fn continuations_are_those_of_the_reference(_: &str, device: &Device) {
    for name in ["llama3-rope", "gpt2"] {
        check_model(name, &load_golden_on(name, device));
    }
}

#[track_caller]
fn check_model(name: &str, model: &CausalLm) {
    let tokenizer = any_tokenizer();
    let golden = golden_json(name);
    let mut by_penalty: Vec<(GenerationSettings, Cases)> = Vec::new();
    for case in golden["generations"].as_array().unwrap() {
        let settings = GenerationSettings {
            repetition_penalty: case["repetition_penalty"].as_f64().unwrap() as f32,
            max_new_tokens: 20,
            ..Default::default()
        };
        let prompt = ids(&case["prompt"]);
        // The reference went on after the end of text, id 2.
        let mut expected = ids(&case["new_ids"]);
        let end = expected.iter().position(|id| *id == 2);
        expected.truncate(end.map_or(20, |at| at + 1));
        let found = run(model, &tokenizer, std::slice::from_ref(&prompt), &settings);
        assert_eq!(found[0].ids, expected, "{name}: {case}");
        let finish = if end.is_some() { FinishReason::EndOfText } else { FinishReason::MaxNewTokens };
        assert_eq!(found[0].finish, finish, "{name}: {case}");
        assert_eq!(found[0].n_prompt, prompt.len());
        match by_penalty.iter_mut().find(|(s, _)| *s == settings) {
            Some((_, cases)) => cases.push((prompt, expected)),
            None => by_penalty.push((settings, vec![(prompt, expected)])),
        }
    }
    // The same prompts, of different lengths, as one batch.
    assert_eq!(by_penalty.len(), 2);
    for (settings, cases) in by_penalty {
        let (prompts, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
        let found = run(model, &tokenizer, &prompts, &settings);
        assert_eq!(found.into_iter().map(|g| g.ids).collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn llama_with_llama3_rotary_scaling() {
    check("llama3-rope");
}

#[test]
fn mistral_with_a_window() {
    check("mistral-window");
}

#[test]
fn gpt2() {
    check("gpt2");
}
