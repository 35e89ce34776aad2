//! A real model, SmolLM2-135M-Instruct from a quantised GGUF, against transformers on the same values.
//!
//! Skipped, saying why, where the model or its reference numbers are not on the machine.

use std::path::PathBuf;
use std::sync::LazyLock;

use burn::tensor::{Int, Tensor};
use tunesmith_formats::chat_template::ChatMessage;
use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_generate::{FinishReason, GenerationSettings};
use tunesmith_models::{CausalLm, TokenBatch, read_back};
use tunesmith_ops::{Device, Segments};

use crate::on_device::on_each_device;
use crate::support::*;

struct Real {
    model: CausalLm,
    tokenizer: Tokenizer,
    golden: serde_json::Value,
}

static REAL: LazyLock<Option<Real>> = LazyLock::new(|| real_on(&cpu()));

fn real_on(device: &Device) -> Option<Real> {
    let path = |variable: &str, default: PathBuf| std::env::var_os(variable).map_or(default, PathBuf::from);
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let cache = path("TUNESMITH_CACHE", home.join(".cache/tunesmith"));
    let shared = path("TUNESMITH_SHARED", golden_dir().join("../../../shared"));
    let model = cache.join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let golden = shared.join("data/smollm2-golden/golden.json");
    for file in [&model, &golden] {
        if !file.exists() {
            println!("skipped: {} is not there", file.display());
            return None;
        }
    }
    let source = ModelSource::open(&model).unwrap();
    let model = CausalLm::load(&source, device).unwrap();
    Some(Real { model, tokenizer: source.tokenizer().unwrap(), golden: read_json(&golden) })
}

fn positions(ids: &[u32]) -> Vec<u32> {
    (0..ids.len() as u32).collect()
}

#[test]
fn scores_are_those_of_the_reference() {
    let Some(real) = REAL.as_ref() else { return };
    check_scores(real);
}

on_each_device!(scores_of_a_device_are_those_of_the_reference);

fn scores_of_a_device_are_those_of_the_reference(_: &str, device: &Device) {
    let Some(real) = real_on(device) else { return };
    check_scores(&real);
    check_losses(&real);
}

fn check_scores(real: &Real) {
    let (mut worst, mut worst_sum) = (0.0f64, 0.0f64);
    for case in real.golden["logits"].as_array().unwrap() {
        let ids = ids(&case["ids"]);
        assert_eq!(real.tokenizer.encode(case["prompt"].as_str().unwrap()).unwrap(), ids);
        let (positions, segments) = (positions(&ids), Segments::new(&[ids.len()]));
        let tokens = TokenBatch { ids: &ids, positions: &positions, segments: &segments };
        let hidden = real.model.hidden(&tokens, None).unwrap();
        let last = Tensor::<1, Int>::from_ints([ids.len() as i32 - 1], &hidden.device());
        let logits = read_back(real.model.logits(hidden.select(0, last)), "logits").unwrap();
        let number = |key: &str| case[key].as_f64().unwrap();
        for (found, expected) in logits.iter().zip(case["first8"].as_array().unwrap()) {
            worst = worst.max((f64::from(*found) - expected.as_f64().unwrap()).abs());
        }
        let (argmax, max) = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
        assert_eq!(argmax as u64, case["argmax"].as_u64().unwrap());
        worst = worst.max((f64::from(*max) - number("max")).abs());
        worst_sum = worst_sum.max((logits.iter().map(|l| f64::from(*l)).sum::<f64>() - number("sum")).abs());
        let l2 = logits.iter().map(|l| f64::from(*l).powi(2)).sum::<f64>().sqrt();
        assert!((l2 - number("l2")).abs() < 1e-2, "L2 norm {l2}");
    }
    println!("worst difference of a score {worst:.1e}, of the sum over the vocabulary {worst_sum:.2}");
    assert!(worst < 2e-3, "{worst}");
    assert!(worst_sum < 2.0, "{worst_sum}");
}

#[test]
fn losses_over_answers_are_those_of_the_reference() {
    let Some(real) = REAL.as_ref() else { return };
    check_losses(real);
}

fn check_losses(real: &Real) {
    let mut worst = 0.0f64;
    for case in real.golden["losses"].as_array().unwrap() {
        let ids = ids(&case["ids"]);
        let n_prompt = case["prompt_len"].as_u64().unwrap() as usize;
        let label =
            |t: usize| if t + 1 >= n_prompt && t + 1 < ids.len() { i64::from(ids[t + 1]) } else { -100 };
        let labels: Vec<i64> = (0..ids.len()).map(label).collect();
        let weights = vec![1.0 / (ids.len() - n_prompt) as f32; ids.len()];
        let (positions, segments) = (positions(&ids), Segments::new(&[ids.len()]));
        let tokens = TokenBatch { ids: &ids, positions: &positions, segments: &segments };
        let loss = real.model.losses(&tokens, &labels, &weights).unwrap().loss;
        worst = worst.max((loss - case["loss"].as_f64().unwrap()).abs());
    }
    println!("worst difference of a loss {worst:.1e}");
    assert!(worst < 1e-4, "{worst}");
}

#[test]
fn greedy_answers_are_those_of_the_reference() {
    let Some(real) = REAL.as_ref() else { return };
    let cases = real.golden["generations"].as_array().unwrap();
    let template = real.tokenizer.chat_template().unwrap();
    let mut prompts = Vec::new();
    for case in cases {
        let message = ChatMessage { role: "user".into(), content: case["user"].as_str().unwrap().to_owned() };
        let bos = real.tokenizer.bos_token().unwrap_or_default();
        let text = template.render(&[message], true, bos, real.tokenizer.eos_token()).unwrap();
        assert_eq!(text, case["prompt"].as_str().unwrap());
        let prompt = real.tokenizer.encode(&text).unwrap();
        assert_eq!(prompt, ids(&case["prompt_ids"]));
        prompts.push(prompt);
    }
    let settings = GenerationSettings { max_new_tokens: 64, ..Default::default() };
    let answers = run(&real.model, &real.tokenizer, &prompts, &settings);
    for (case, answer) in cases.iter().zip(&answers) {
        assert_eq!(answer.ids, ids(&case["new_ids"]));
        assert_eq!(answer.text, case["text"].as_str().unwrap().trim());
        let has_ended = answer.ids.last() == Some(&real.tokenizer.eos_id());
        assert_eq!(answer.finish == FinishReason::EndOfText, has_ended);
    }
    let n_tokens: usize = answers.iter().map(|a| a.ids.len()).sum();
    let secs = answers.iter().map(|a| a.secs).fold(0.0, f64::max);
    println!("{} answers together: {:.1} tokens/s", answers.len(), n_tokens as f64 / secs);
}
