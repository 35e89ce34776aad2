//! One prompt in several ways: choices, log-probabilities, penalties, grammars, and what is used again between requests.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde_json::{Value, json};
use tunesmith_generate::{
    Completer, Completion, CompletionOptions, FinishReason, GenerateError, GenerationSettings, Grammar,
    LogitBias, TokenLogprobs,
};

use crate::support::*;

/// Texts and log-probabilities of the choices, from the pieces, and the completion.
fn complete(
    completer: &mut Completer<'_>,
    prompt: &[u32],
    options: &CompletionOptions,
) -> (Vec<String>, Vec<Vec<TokenLogprobs>>, Completion) {
    let n_choices = options.n_choices.max(1);
    let (mut texts, mut logprobs) = (vec![String::new(); n_choices], vec![Vec::new(); n_choices]);
    let done = completer.complete(prompt, options, &mut |piece| {
        texts[piece.choice_idx].push_str(piece.text);
        logprobs[piece.choice_idx].extend_from_slice(piece.logprobs);
        ControlFlow::Continue(())
    });
    (texts, logprobs, done.unwrap())
}

fn drawn(seed: u64) -> GenerationSettings {
    GenerationSettings { max_new_tokens: 10, do_sample: true, temperature: 1.5, seed, ..Default::default() }
}

#[test]
fn choices_are_what_equal_prompts_of_a_batch_give() {
    let (model, tokenizer) = load_gguf("llama-tiny.gguf");
    let prompt = tokenizer.encode("Hello there").unwrap();
    let mut completer = Completer::new(&model, &tokenizer);
    let options = CompletionOptions { settings: drawn(5), n_choices: 3, ..Default::default() };
    let (texts, _, done) = complete(&mut completer, &prompt, &options);
    let expected = run(&model, &tokenizer, &vec![prompt.clone(); 3], &drawn(5));
    for ((choice, text), expected) in done.choices.iter().zip(&texts).zip(&expected) {
        assert_eq!((&choice.ids, choice.finish), (&expected.ids, expected.finish));
        assert_eq!(text.is_empty(), expected.text.is_empty());
    }
    assert_ne!(done.choices[0].ids, done.choices[1].ids);
    // A single one is the first, whatever the cache knows from before.
    let single = CompletionOptions { n_choices: 1, ..options.clone() };
    let (_, _, again) = complete(&mut completer, &prompt, &single);
    assert_eq!(
        (again.choices[0].ids.as_slice(), again.n_reused),
        (done.choices[0].ids.as_slice(), prompt.len() - 1)
    );
    let longer = [prompt.as_slice(), &again.choices[0].ids, &prompt].concat();
    let (_, _, next) = complete(&mut completer, &longer, &options);
    assert!(next.n_reused >= prompt.len() + again.choices[0].ids.len() - 1);
    let expected = run(&model, &tokenizer, &vec![longer; 3], &drawn(5));
    assert_eq!(next.choices[2].ids, expected[2].ids);
}

#[test]
fn log_probabilities_are_those_of_the_text_read_again() {
    let (model, tokenizer) = load_gguf("llama-tiny.gguf");
    let prompt = tokenizer.encode("A rather different text").unwrap();
    let mut completer = Completer::new(&model, &tokenizer);
    let settings = GenerationSettings { repetition_penalty: 1.3, ..drawn(2) };
    let options = CompletionOptions { settings, n_choices: 2, top_logprobs: Some(4), ..Default::default() };
    let (_, logprobs, done) = complete(&mut completer, &prompt, &options);
    for (choice, found) in done.choices.iter().zip(&logprobs) {
        let is_ended = choice.finish == FinishReason::EndOfText;
        assert_eq!(found.len(), choice.ids.len() - usize::from(is_ended));
        let all = [prompt.as_slice(), &choice.ids].concat();
        let again = completer.prompt_logprobs(&all, 4).unwrap();
        assert_eq!(again.len(), all.len() - 1);
        for (found, expected) in found.iter().zip(&again[prompt.len() - 1..]) {
            assert_eq!(found.token.id, expected.token.id);
            assert!((found.token.logprob - expected.token.logprob).abs() < 1e-4);
            let sum: f32 = expected.top.iter().map(|top| top.logprob.exp()).sum();
            assert!(found.top.len() == 4 && sum < 1.0 + 1e-4);
            assert!(found.top.windows(2).all(|pair| pair[0].logprob >= pair[1].logprob));
        }
    }
    // The likeliest beside a token that was taken as the likeliest is that token.
    let greedy = GenerationSettings { max_new_tokens: 6, ..Default::default() };
    let options = CompletionOptions { settings: greedy, top_logprobs: Some(1), ..Default::default() };
    let (_, logprobs, _) = complete(&mut completer, &prompt, &options);
    assert!(!logprobs[0].is_empty() && logprobs[0].iter().all(|token| token.token == token.top[0]));
    // A prompt of many chunks gives the same numbers as a short one does.
    let long: Vec<u32> = prompt.iter().cycle().take(150).copied().collect();
    let whole = completer.prompt_logprobs(&long, 0).unwrap();
    let part = completer.prompt_logprobs(&long[..20], 0).unwrap();
    for (a, b) in whole.iter().zip(&part) {
        assert!((a.token.logprob - b.token.logprob).abs() < 1e-4);
    }
}

#[test]
fn biases_and_penalties_change_what_comes() {
    let (model, tokenizer) = load_gguf("llama-tiny.gguf");
    let prompt = tokenizer.encode("Hello").unwrap();
    let mut completer = Completer::new(&model, &tokenizer);
    let mut ids = |bias: LogitBias| {
        let settings = GenerationSettings { max_new_tokens: 12, ..Default::default() };
        let options = CompletionOptions { settings, bias, ..Default::default() };
        complete(&mut completer, &prompt, &options).2.choices.remove(0).ids
    };
    let free = ids(LogitBias::default());
    let banned = ids(LogitBias { by_token: BTreeMap::from([(free[0], -100.0)]), ..Default::default() });
    assert!(!banned.contains(&free[0]));
    let forced = ids(LogitBias { by_token: BTreeMap::from([(free[0], 100.0)]), ..Default::default() });
    assert_eq!(forced, vec![free[0]; 12]);
    // So large a penalty lets no token come twice.
    let mut once = ids(LogitBias { frequency_penalty: 1000.0, ..Default::default() });
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), 12);
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "kind": {"enum": ["a", "b", "ünï"]},
            "count": {"type": "integer", "minimum": -5, "maximum": 99},
            "list": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
            "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/point"}]},
        },
        "required": ["name", "kind", "count", "list", "next"],
        "additionalProperties": false,
        "$defs": {"point": {"type": "object", "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 9}},
            "required": ["x"], "additionalProperties": false}},
    })
}

fn check_valid(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap();
    let object = value.as_object().unwrap();
    assert_eq!(object.keys().collect::<Vec<_>>(), ["name", "kind", "count", "list", "next"], "{text}");
    assert!(value["name"].as_str().unwrap().chars().count() <= 8, "{text}");
    assert!(["a", "b", "ünï"].contains(&value["kind"].as_str().unwrap()), "{text}");
    assert!((-5..=99).contains(&value["count"].as_i64().unwrap()), "{text}");
    let list = value["list"].as_array().unwrap();
    assert!((1..=3).contains(&list.len()) && list.iter().all(Value::is_boolean), "{text}");
    assert!(value["next"].is_null() || (0..=9).contains(&value["next"]["x"].as_i64().unwrap()), "{text}");
}

/// A model with random weights knows nothing of JSON: what is valid here is valid by the grammar alone.
#[test]
fn an_answer_with_a_schema_is_valid_whatever_the_model() {
    let (model, tokenizer) = load_gguf("llama-tiny.gguf");
    let prompt = tokenizer.encode("Give me JSON").unwrap();
    let mut completer = Completer::new(&model, &tokenizer);
    for seed in 0..8 {
        // Its context is 256 tokens, and white space may take some.
        let settings = GenerationSettings {
            max_new_tokens: 240,
            do_sample: seed > 0,
            temperature: 1.0 + seed as f32 / 4.0,
            min_new_tokens: 3,
            seed,
            ..Default::default()
        };
        let grammar = Some(Grammar::JsonSchema(schema()));
        // A random model would fill its context with white space.
        let is_blank = |id: &u32| tokenizer.token_bytes(*id).iter().all(u8::is_ascii_whitespace);
        let blank = (0..tokenizer.vocab_size() as u32).filter(is_blank).map(|id| (id, -100.0)).collect();
        let bias = LogitBias { by_token: blank, ..Default::default() };
        let options = CompletionOptions { settings, n_choices: 2, grammar, bias, ..Default::default() };
        let (texts, _, done) = complete(&mut completer, &prompt, &options);
        for (text, choice) in texts.iter().zip(&done.choices) {
            assert_eq!(choice.finish, FinishReason::EndOfText, "{text}");
            check_valid(text);
        }
    }
}

#[test]
fn a_grammar_may_wait_for_a_text() {
    let (model, tokenizer) = load_gguf("llama-tiny.gguf");
    let prompt = tokenizer.encode("Hello").unwrap();
    let mut completer = Completer::new(&model, &tokenizer);
    let free = run(
        &model,
        &tokenizer,
        std::slice::from_ref(&prompt),
        &GenerationSettings { max_new_tokens: 4, ..Default::default() },
    );
    let marker: String = free[0].text.chars().take(1).collect();
    let options = CompletionOptions {
        settings: GenerationSettings { max_new_tokens: 40, ..Default::default() },
        grammar: Some(Grammar::Lark("start: \"abc\"".to_owned())),
        grammar_after: Some(marker.clone()),
        ..Default::default()
    };
    let (texts, _, done) = complete(&mut completer, &prompt, &options);
    assert!(texts[0].contains(&marker) && texts[0].ends_with("abc"), "{texts:?}");
    assert_eq!(done.choices[0].finish, FinishReason::EndOfText);
}

#[test]
fn a_limit_cuts_no_character_in_two() {
    let (model, tokenizer) = load_gguf("llama-tiny.gguf");
    let prompt = tokenizer.encode("Hello").unwrap();
    let mut completer = Completer::new(&model, &tokenizer);
    let said = "né日本語😀x";
    let mut n_shorter = 0;
    for max_new_tokens in 1..30 {
        let options = CompletionOptions {
            settings: GenerationSettings { max_new_tokens, ..Default::default() },
            grammar: Some(Grammar::Lark(format!("start: \"{said}\""))),
            ..Default::default()
        };
        let (texts, _, done) = complete(&mut completer, &prompt, &options);
        assert!(said.starts_with(&texts[0]), "{max_new_tokens}: {:?}", texts[0]);
        n_shorter += usize::from(done.choices[0].finish == FinishReason::MaxNewTokens);
    }
    assert!(n_shorter > 8, "{n_shorter}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_said() {
    let (model, tokenizer) = load_gguf("llama-tiny.gguf");
    let prompt = tokenizer.encode("Hello").unwrap();
    let mut completer = Completer::new(&model, &tokenizer);
    let mut refusal = |options: CompletionOptions| {
        completer.complete(&prompt, &options, &mut |_| panic!("nothing may be said")).unwrap_err()
    };
    for (schema, word) in [
        (json!({"type": "frog"}), "frog"),
        (json!({"type": "object", "if": {}}), "if"),
        (json!({"$ref": "#/nowhere"}), "nowhere"),
        (json!({"$ref": "https://example.com/schema"}), "example.com"),
    ] {
        let grammar = Some(Grammar::JsonSchema(schema));
        let error = refusal(CompletionOptions { grammar, ..Default::default() });
        assert!(
            matches!(error, GenerateError::Grammar { .. }) && error.to_string().contains(word),
            "{error}"
        );
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    let settings = GenerationSettings { num_beams: 2, ..Default::default() };
    let error = refusal(CompletionOptions { settings, top_logprobs: Some(0), ..Default::default() });
    assert!(error.to_string().starts_with("num_beams: must be 1 where the logits"), "{error}");
}
