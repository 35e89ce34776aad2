//! The same thing computed in two ways.

use burn::tensor::Tensor;
use tunesmith_models::counter::{mix, unit};
use tunesmith_models::{
    CausalLm, EmbeddingNoise, GradientSums, LoraSpec, LossPass, Recompute, SLICE_TOKENS, StepOptions,
    StepResult, read_back, slice_activation_bytes,
};

use crate::golden::step;
use crate::support::*;

fn gradients(result: StepResult) -> Vec<(usize, Vec<f32>)> {
    result.gradients.into_iter().map(|(i, g)| (i, read_back(g, "gradient").unwrap())).collect()
}

pub(crate) fn with_lora(name: &str, dropout: f32) -> CausalLm {
    let mut model = load(name);
    let spec = LoraSpec { r: 3, alpha: 8.0, dropout, seed: 11, ..LoraSpec::default() };
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
    for name in FAMILIES {
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

/// Golden sequences with other tokens each time, until they fill several slices.
pub(crate) fn several_slices(name: &str) -> Packed {
    let sequences = sequences(&golden_json(name));
    let mut many: Vec<(Vec<u32>, Vec<i64>)> = Vec::new();
    while many.iter().map(|(ids, _)| ids.len()).sum::<usize>() < 2 * SLICE_TOKENS + 100 {
        let turn = many.len() as u32;
        many.extend(sequences.iter().map(|(ids, labels)| {
            let ids: Vec<u32> = ids.iter().map(|id| (id + turn) % 96).collect();
            let labels =
                ids.iter().zip(labels).map(|(id, label)| if *label < 0 { -100 } else { i64::from(*id) });
            (ids.clone(), labels.collect())
        }));
    }
    Packed::new(&many)
}

#[test]
fn a_sliced_batch_gives_what_its_sequences_give() {
    for (name, model) in [
        ("llama3-rope", load("llama3-rope")),
        ("gpt2", load("gpt2")),
        ("llama3-rope", with_lora("llama3-rope", 0.0)),
    ] {
        let whole = several_slices(name);
        let weights = whole.token_average();
        let sliced = step(&model, &whole, StepOptions::default());
        assert_eq!(sliced.per_token.len(), whole.ids.len());

        // Every sequence for itself, which is one slice.
        let (mut sums, mut loss, mut per_token) = (GradientSums::default(), 0.0, vec![]);
        for range in whole.segments.ranges() {
            let segments = tunesmith_ops::Segments::new(&[range.len()]);
            let tokens = tunesmith_models::TokenBatch {
                ids: &whole.ids[range.clone()],
                positions: &whole.positions[range.clone()],
                segments: &segments,
            };
            let (labels, weights) = (&whole.labels[range.clone()], &weights[range]);
            let one =
                model.add_gradients(&tokens, labels, weights, &StepOptions::default(), &mut sums).unwrap();
            loss += one.loss;
            per_token.extend(one.per_token);
        }
        let losses = worst_difference(&sliced.per_token, &per_token);
        let evaluated = model.losses(&whole.batch(), &whole.labels, &weights).unwrap();
        let evaluated = worst_difference(&evaluated.per_token, &sliced.per_token);
        let loss = (sliced.loss - loss).abs();
        let mut worst = 0.0f64;
        for ((i, a), (j, b)) in gradients(sliced).iter().zip(sums.into_gradients(model.parameters())) {
            assert_eq!(*i, j);
            worst = worst.max(relative_difference(a, &read_back(b, "").unwrap()));
        }
        println!("{name}: sliced losses differ by {losses:.1e}, gradients by {worst:.1e}");
        assert!(losses < 1e-5 && evaluated < 1e-5 && loss < 1e-6 && worst < 1e-5, "{name}: {loss}, {worst}");
    }
}

#[test]
fn slices_have_dropout_masks_of_their_own_that_a_step_key_fixes() {
    let model = with_lora("llama-mha", 0.3);
    let (ids, labels) = sequences(&golden_json("llama-mha")).pop().unwrap();
    // The same sequence in every slice: equal masks would give equal losses.
    let n_each = SLICE_TOKENS / ids.len();
    let packed = Packed::new(&vec![(ids.clone(), labels); 2 * n_each]);
    check_recompute("dropout in several slices", &model, &packed);
    let per_token =
        |dropout_key| step(&model, &packed, StepOptions { dropout_key, ..StepOptions::default() }).per_token;
    let losses = per_token(5);
    assert_eq!(losses, per_token(5));
    assert_ne!(losses, per_token(6));
    let (first, second) = losses.split_at(n_each * ids.len());
    assert_ne!(first, second);
    // `hidden` with the key of a step sees the masks of that step.
    let hidden = model.hidden(&packed.batch(), Some(5)).unwrap();
    let scores = read_back(model.logits(hidden), "logits").unwrap();
    let place = packed.labels.iter().rposition(|label| *label >= 0).unwrap();
    let scores = &scores[place * 96..(place + 1) * 96];
    let sum: f64 = scores.iter().map(|score| f64::from(*score).exp()).sum();
    let loss = sum.ln() - f64::from(scores[packed.labels[place] as usize]);
    assert!((loss - f64::from(losses[place])).abs() < 1e-5, "{loss}, {}", losses[place]);
}

#[test]
fn a_sequence_longer_than_a_slice_is_computed_whole() {
    // The golden model with rotary positions up to a longer context.
    let folder = tempfile::tempdir().unwrap();
    let golden = golden_dir().join("llama-mha");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden.join("config.json")).unwrap()).unwrap();
    config["max_position_embeddings"] = (4 * SLICE_TOKENS).into();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::copy(golden.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let model = load_path(folder.path());

    let ids: Vec<u32> = (0..SLICE_TOKENS as u64 + 88).map(|t| (mix(3, t) % 96) as u32).collect();
    let labels = ids.iter().map(|id| i64::from(*id)).collect();
    let packed = Packed::new(&[(ids, labels)]);
    check_recompute("a long sequence", &model, &packed);
    let losses = step(&model, &packed, StepOptions::default()).per_token;
    let scores = logits_cached(&model, &packed, &[vec![500], vec![100]]);
    for (t, label) in packed.labels.iter().enumerate().filter(|(_, label)| **label >= 0) {
        let scores = &scores[t * 96..(t + 1) * 96];
        let sum: f64 = scores.iter().map(|score| f64::from(*score).exp()).sum();
        let loss = sum.ln() - f64::from(scores[*label as usize]);
        assert!((loss - f64::from(losses[t])).abs() < 1e-4, "{t}: {loss}, {}", losses[t]);
    }
}

#[track_caller]
fn check_recompute(what: &str, model: &CausalLm, packed: &Packed) {
    let run =
        |recompute| step(model, packed, StepOptions { recompute, dropout_key: 5, ..StepOptions::default() });
    let stored = run(Recompute::Off);
    let (loss, per_token) = (stored.loss, stored.per_token.clone());
    let stored = gradients(stored);
    // One of the two blocks fits into the budget.
    let config = model.config();
    let to_fit =
        Recompute::ToFit { activation_bytes: slice_activation_bytes(config, packed.ids.len(), 40, 1) };
    assert_eq!(to_fit.n_blocks(config, packed.ids.len(), 40), 1);
    for recompute in [Recompute::EveryBlock, to_fit] {
        let recomputed = run(recompute);
        assert_eq!((loss, &per_token), (recomputed.loss, &recomputed.per_token), "{what}: {recompute:?}");
        let recomputed = gradients(recomputed);
        assert_eq!(stored.len(), recomputed.len(), "{what}");
        for ((i, a), (j, b)) in stored.iter().zip(&recomputed) {
            assert_eq!(i, j, "{what}");
            assert!(a.iter().any(|v| *v != 0.0), "{what}: parameter {i} has no gradient");
            assert!(a == b, "{what}: {recompute:?} changes the gradient of parameter {i}");
        }
    }
}

#[test]
fn recomputed_blocks_give_the_same_bits() {
    for name in FAMILIES {
        let packed = Packed::of_golden(&golden_json(name));
        check_recompute(name, &load(name), &packed);
        check_recompute(&format!("{name} with LoRA"), &with_lora(name, 0.0), &packed);
        check_recompute(&format!("{name} with LoRA and dropout"), &with_lora(name, 0.3), &packed);
    }
}

#[test]
fn what_else_is_trained_does_not_change_a_gradient() {
    let packed = Packed::of_golden(&golden_json("llama-mha"));
    let of_all = gradients(step(&load("llama-mha"), &packed, StepOptions::default()));
    for part in ["embed_tokens", "layers.0.", "layers.1.self_attn", "model.norm", "lm_head", "layernorm"] {
        let mut model = load("llama-mha");
        model.set_trainable(|name| name.contains(part));
        let n_trained = model.parameters().iter().filter(|p| p.trainable).count();
        assert!(n_trained > 0, "{part}");
        let step = step(&model, &packed, StepOptions::default());
        assert_eq!(step.gradients.len(), n_trained);
        for (parameter_idx, gradient) in gradients(step) {
            let name = &model.parameters().get(parameter_idx).unwrap().name;
            let all = &of_all.iter().find(|(idx, _)| *idx == parameter_idx).unwrap().1;
            let difference = relative_difference(&gradient, all);
            assert!(difference < 1e-6, "{name}: {difference} when {part} is trained alone");
        }
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
    for name in FAMILIES {
        let model = load(name);
        let packed = Packed::of_golden(&golden_json(name));
        let whole = logits(&model, &packed);
        let largest = whole.iter().fold(0.0f32, |largest, score| largest.max(score.abs()));
        let n_tokens: Vec<usize> = packed.segments.ranges().map(|r| r.len()).collect();
        // All at once; one by one; prompts in pieces of different sizes, the shorter sequences waiting at the end.
        let at_once = vec![n_tokens.clone()];
        let longest = *n_tokens.iter().max().unwrap();
        let one_by_one: Vec<Vec<usize>> =
            (0..longest).map(|t| n_tokens.iter().map(|&n| usize::from(t < n)).collect()).collect();
        let pieces = vec![vec![2, 0, 11], vec![3, 12, 1], vec![0, 1, 20], vec![0, 0, 8]];
        for (what, portions) in [("at once", at_once), ("one by one", one_by_one), ("pieces", pieces)] {
            let difference = worst_difference(&logits_cached(&model, &packed, &portions), &whole);
            println!("{name}: cached ({what}) and whole differ by {difference:.1e} of {largest:.0}");
            assert!(difference < 3e-6 * largest, "{name} {what}: {difference}");
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
    for recompute in [Recompute::Off, Recompute::EveryBlock] {
        let model = load("llama3-rope");
        let mut packed = Packed::of_golden(&golden_json("llama3-rope"));
        packed.labels.fill(-100);
        let weights = vec![0.0; packed.ids.len()];
        let options = StepOptions { recompute, dropout_key: 0, ..StepOptions::default() };
        let result = model.loss_and_gradients(&packed.batch(), &packed.labels, &weights, &options).unwrap();
        assert_eq!(result.loss, 0.0);
        assert_eq!(result.gradients.len(), model.parameters().len());
        for (_, gradient) in gradients(result) {
            assert!(gradient.iter().all(|v| *v == 0.0));
        }
    }
}

#[test]
fn gv_11_2_noise_on_embeddings_belongs_to_the_sequence_and_to_training() {
    for name in ["llama-mha", "gpt2"] {
        let model = load(name);
        // Enough sequences for several slices.
        let sequences: Vec<_> = std::iter::repeat_n(sequences(&golden_json(name)), 10).flatten().collect();
        let packed = Packed::new(&sequences);
        assert!(packed.ids.len() > SLICE_TOKENS);
        let keys: Vec<u64> = (0..sequences.len() as u64).map(|i| mix(17, i)).collect();
        let noisy = |keys, recompute| StepOptions {
            recompute,
            noise: Some(EmbeddingNoise { alpha: 5.0, keys }),
            ..StepOptions::default()
        };
        let together = step(&model, &packed, noisy(&keys, Recompute::Off));
        let alone = sequences.iter().zip(keys.chunks(1)).flat_map(|(sequence, key)| {
            let one = Packed::new(std::slice::from_ref(sequence));
            step(&model, &one, noisy(key, Recompute::Off)).per_token
        });
        let difference = worst_difference(&together.per_token, &alone.collect::<Vec<_>>());
        println!("{name}: losses with noise, packed and alone, differ by {difference:.1e}");
        assert!(difference < 1e-5, "{name}: {difference}");

        let weights = packed.token_average();
        let losses =
            |which| model.losses_in(&packed.batch(), &packed.labels, &weights, which).unwrap().per_token;
        let training = LossPass::Training(noisy(&keys, Recompute::Off));
        assert_eq!(losses(training), together.per_token, "{name}");
        assert_ne!(losses(LossPass::Evaluation), together.per_token, "{name}");
        assert_eq!(losses(LossPass::Evaluation), step(&model, &packed, StepOptions::default()).per_token);

        let again = step(&model, &packed, noisy(&keys, Recompute::EveryBlock));
        assert_eq!(again.per_token, together.per_token, "{name}");
        assert_eq!(gradients(again), gradients(together), "{name}");
    }
}
