//! The same thing computed in two ways.

use burn::tensor::Tensor;
use tunesmith_models::counter::{mix, unit};
use tunesmith_models::{CausalLm, LoraSpec, StepOptions, StepResult, read_back};

use crate::golden::step;
use crate::support::*;

const MODELS: [&str; 6] =
    ["llama-mha", "llama3-rope", "llama-linear-rope", "llama-bias", "mistral-window", "gpt2"];

fn gradients(result: StepResult) -> Vec<(usize, Vec<f32>)> {
    result.gradients.into_iter().map(|(i, g)| (i, read_back(g, "gradient").unwrap())).collect()
}

fn with_lora(name: &str, dropout: f32) -> CausalLm {
    let mut model = load(name);
    let spec = LoraSpec { r: 3, alpha: 8.0, dropout, use_rslora: false, target_modules: vec![], seed: 11 };
    model.attach_lora(&spec).unwrap();
    // B starts at zero, where the gradient of A vanishes and dropout has no effect.
    let store = model.parameters_mut();
    for parameter_idx in 0..store.len() {
        let parameter = store.get(parameter_idx).unwrap();
        if parameter.name.ends_with("lora_B.weight") {
            let noise =
                (0..parameter.n_values() as u64).map(|i| unit(mix(parameter_idx as u64, i)) as f32 - 0.5);
            let noise = Tensor::from_data(noise.collect::<Vec<f32>>().as_slice(), &device());
            store.set_value(parameter_idx, noise).unwrap();
        }
    }
    model
}

#[test]
fn packed_sequences_give_what_each_gives_alone() {
    for name in MODELS {
        let model = load(name);
        let sequences = sequences(&golden_json(name));
        let packed = logits(&model, &Packed::new(&sequences));
        let alone: Vec<f32> =
            sequences.iter().flat_map(|s| logits(&model, &Packed::new(std::slice::from_ref(s)))).collect();
        let difference = worst_difference(&packed, &alone);
        println!("{name}: packed and alone differ by {difference:.1e}");
        assert!(difference < 1e-5, "{name}: {difference}");
    }
}

#[test]
fn gradients_of_a_packed_batch_are_the_sum_over_its_sequences() {
    let model = load("llama3-rope");
    let sequences = sequences(&golden_json("llama3-rope"));
    let all = Packed::new(&sequences);
    let weight = all.token_average().into_iter().find(|w| *w > 0.0).unwrap();
    let whole = gradients(step(&model, &all, StepOptions::default()));
    let mut sums: Vec<Vec<f32>> = whole.iter().map(|(_, g)| vec![0.0; g.len()]).collect();
    for sequence in &sequences {
        let one = Packed::new(std::slice::from_ref(sequence));
        let weights = vec![weight; one.ids.len()];
        let result =
            model.loss_and_gradients(&one.batch(), &one.labels, &weights, &StepOptions::default()).unwrap();
        for (sum, (_, gradient)) in sums.iter_mut().zip(gradients(result)) {
            sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
        }
    }
    for ((parameter_idx, whole), sum) in whole.iter().zip(&sums) {
        let difference = relative_difference(sum, whole);
        assert!(difference < 1e-5, "parameter {parameter_idx}: {difference}");
    }
}

#[track_caller]
fn check_recompute(what: &str, model: &CausalLm, packed: &Packed) {
    let run = |recompute| step(model, packed, StepOptions { recompute, dropout_key: 5 });
    let (stored, recomputed) = (run(false), run(true));
    let mut worst = (stored.loss - recomputed.loss).abs();
    let per_token = worst_difference(&stored.per_token, &recomputed.per_token);
    let (stored, recomputed) = (gradients(stored), gradients(recomputed));
    assert_eq!(stored.len(), recomputed.len(), "{what}");
    for ((i, a), (j, b)) in stored.iter().zip(&recomputed) {
        assert_eq!(i, j, "{what}");
        assert!(a.iter().any(|v| *v != 0.0), "{what}: parameter {i} has no gradient");
        worst = worst.max(relative_difference(a, b));
    }
    println!("{what}: recomputed gradients differ by {worst:.1e}, losses by {per_token:.1e}");
    assert_eq!((worst, per_token), (0.0, 0.0), "{what}");
}

#[test]
fn recomputed_blocks_give_the_same_bits() {
    for name in MODELS {
        let packed = Packed::of_golden(&golden_json(name));
        check_recompute(name, &load(name), &packed);
        check_recompute(&format!("{name} with LoRA"), &with_lora(name, 0.0), &packed);
        check_recompute(&format!("{name} with LoRA and dropout"), &with_lora(name, 0.3), &packed);
    }
}

#[test]
fn recompute_works_with_any_part_trained() {
    let packed = Packed::of_golden(&golden_json("llama-mha"));
    for part in ["embed_tokens", "layers.0.", "layers.1.self_attn", "model.norm", "lm_head", "layernorm"] {
        let mut model = load("llama-mha");
        model.set_trainable(|name| name.contains(part));
        let n_trained = model.parameters().iter().filter(|p| p.trainable).count();
        assert!(n_trained > 0, "{part}");
        assert_eq!(step(&model, &packed, StepOptions::default()).gradients.len(), n_trained);
        check_recompute(part, &model, &packed);
    }
}

#[test]
fn dropout_changes_with_its_key_and_is_off_without_one() {
    let model = with_lora("llama-mha", 0.3);
    let packed = Packed::of_golden(&golden_json("llama-mha"));
    let hidden = |key| read_back(model.hidden(&packed.batch(), key).unwrap(), "hidden").unwrap();
    assert_eq!(hidden(Some(1)), hidden(Some(1)));
    assert_ne!(hidden(Some(1)), hidden(Some(2)));
    assert_ne!(hidden(Some(1)), hidden(None));
    let without = with_lora("llama-mha", 0.0);
    let without = read_back(without.hidden(&packed.batch(), Some(1)).unwrap(), "hidden").unwrap();
    assert_eq!(hidden(None), without);
}

#[test]
fn decoding_with_a_cache_gives_the_scores_of_the_whole() {
    for name in MODELS {
        let model = load(name);
        let packed = Packed::of_golden(&golden_json(name));
        let whole = logits(&model, &packed);
        let n_tokens: Vec<usize> = packed.segments.ranges().map(|r| r.len()).collect();
        // All at once; one by one; prompts in pieces of different sizes, the shorter sequences waiting at the end.
        let at_once = vec![n_tokens.clone()];
        let longest = *n_tokens.iter().max().unwrap();
        let one_by_one: Vec<Vec<usize>> =
            (0..longest).map(|t| n_tokens.iter().map(|&n| usize::from(t < n)).collect()).collect();
        let pieces = vec![vec![2, 0, 11], vec![3, 12, 1], vec![0, 1, 20], vec![0, 0, 8]];
        for (what, portions) in [("at once", at_once), ("one by one", one_by_one), ("pieces", pieces)] {
            let difference = worst_difference(&logits_cached(&model, &packed, &portions), &whole);
            println!("{name}: cached ({what}) and whole differ by {difference:.1e}");
            assert!(difference < 1e-5, "{name} {what}: {difference}");
        }
    }
}

#[test]
fn a_truncated_cache_can_be_continued_otherwise() {
    let model = load("mistral-window");
    let (ids, _) = sequences(&golden_json("mistral-window")).pop().unwrap();
    let packed = |ids: &[u32]| Packed::new(&[(ids.to_vec(), vec![-100; ids.len()])]);
    let other: Vec<u32> = ids[..15].iter().copied().chain(ids[20..].iter().map(|id| (id + 1) % 96)).collect();

    let mut cache = tunesmith_ops::KvCache::new(model.n_layers(), 1);
    model.hidden_cached(&packed(&ids).batch(), &mut cache).unwrap();
    cache.truncate(0, 15);
    let rest = packed(&other);
    let segments = tunesmith_ops::Segments::new(&[other.len() - 15]);
    let tokens = tunesmith_models::TokenBatch {
        ids: &rest.ids[15..],
        positions: &rest.positions[15..],
        segments: &segments,
    };
    let hidden = model.hidden_cached(&tokens, &mut cache).unwrap();
    let continued = read_back(model.logits(hidden), "logits").unwrap();
    let whole = logits(&model, &packed(&other));
    let difference = worst_difference(&continued, &whole[15 * 96..]);
    assert!(difference < 1e-5, "{difference}");
}

#[test]
fn a_batch_without_labels_has_zero_loss_and_gradients() {
    for recompute in [false, true] {
        let model = load("llama3-rope");
        let mut packed = Packed::of_golden(&golden_json("llama3-rope"));
        packed.labels.fill(-100);
        let weights = vec![0.0; packed.ids.len()];
        let options = StepOptions { recompute, dropout_key: 0 };
        let result = model.loss_and_gradients(&packed.batch(), &packed.labels, &weights, &options).unwrap();
        assert_eq!(result.loss, 0.0);
        assert_eq!(result.gradients.len(), model.parameters().len());
        for (_, gradient) in gradients(result) {
            assert!(gradient.iter().all(|v| *v == 0.0));
        }
    }
}
