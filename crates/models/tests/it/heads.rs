//! Score heads: what transformers, peft and H2O LLM Studio's layout compute, other ways to the same numbers, exchange.

use burn::tensor::Tensor;
use tunesmith_formats::StoreDtype;
use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::peft::{read_adapter, write_adapter};
use tunesmith_formats::safetensors_io::{NamedTensor, write_safetensors};
use tunesmith_formats::sequence_classifier::{ScoreProblem, SequenceClassifier};
use tunesmith_models::{
    CausalLm, GradientSums, LoadOptions, LossPass, ModelError, Recompute, SLICE_TOKENS, ScoreHeadKind,
    ScoreHeadSpec, ScoreLoss, StepOptions, TokenBatch, read_back,
};
use tunesmith_ops::{Device, Format, Segments};

use crate::digest::digest;
use crate::invariances::{several_slices, with_lora};
use crate::on_device::on_each_device;
use crate::support::*;

const KINDS: [ScoreHeadKind; 3] =
    [ScoreHeadKind::OnHidden, ScoreHeadKind::ClassificationOnLogits, ScoreHeadKind::RegressionOnLogits];

fn spec(kind: ScoreHeadKind, n_outputs: usize) -> ScoreHeadSpec {
    ScoreHeadSpec { kind, n_outputs, seed: 4 }
}

/// The head that `make_heads.py` puts on every model.
fn attach_golden_head(model: &mut CausalLm, kind: ScoreHeadKind, n_outputs: usize) {
    let width = if kind.is_on_logits() { model.config().vocab_size } else { model.config().hidden_size };
    let value = |place: usize| (0.3 * (1.7 * place as f64 + 0.5).sin()) as f32;
    let data = (0..n_outputs * width).map(value).collect();
    let name = kind.weight_name().to_owned();
    model.load_score_head(NamedTensor { name, shape: vec![n_outputs, width], data }).unwrap();
}

fn scores(model: &CausalLm, packed: &Packed) -> Vec<f32> {
    read_back(model.scores(&packed.batch()).unwrap(), "scores").unwrap()
}

fn heads_json() -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(golden_dir().join("heads.json")).unwrap()).unwrap()
}

fn numbers(value: &serde_json::Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn check_case(case: &serde_json::Value, packed: &Packed, device: &Device, tolerance: f64) -> f64 {
    let name = case["model"].as_str().unwrap();
    let kind = KINDS.into_iter().find(|kind| format!("{kind:?}") == case["kind"].as_str().unwrap()).unwrap();
    let losses = [ScoreLoss::CrossEntropy, ScoreLoss::BinaryCrossEntropy, ScoreLoss::Mse, ScoreLoss::Mae];
    let loss =
        losses.into_iter().find(|l| format!("{l:?}") == case["loss_function"].as_str().unwrap()).unwrap();
    let n_outputs = case["n_outputs"].as_u64().unwrap() as usize;
    let what = format!("{name} {kind:?} {loss:?} {n_outputs}");

    let mut model = load_on(name, device);
    attach_golden_head(&mut model, kind, n_outputs);
    let targets = numbers(&case["targets"]);
    let weights = vec![1.0 / 3.0; 3];
    let options = StepOptions::default();
    let step = model.score_loss_and_gradients(&packed.batch(), &targets, &weights, loss, &options).unwrap();

    let expected_scores = numbers(&case["scores"]);
    let largest = expected_scores.iter().fold(1.0f32, |largest, score| largest.max(score.abs()));
    let of_scores = f64::from(worst_difference(&step.losses.scores, &expected_scores) / largest);
    let of_evaluation = f64::from(worst_difference(&scores(&model, packed), &expected_scores) / largest);
    let expected_loss = case["loss"].as_f64().unwrap();
    let of_loss = (step.losses.loss / expected_loss - 1.0).abs();
    let per_sequence = numbers(&case["per_sequence"]);
    let largest_loss = per_sequence.iter().fold(1.0f32, |largest, loss| largest.max(*loss));
    let of_each = f64::from(worst_difference(&step.losses.per_sequence, &per_sequence) / largest_loss);
    let evaluated = model.score_losses(&packed.batch(), &targets, &weights, loss).unwrap();
    assert!((evaluated.loss - step.losses.loss).abs() < 1e-6, "{what}");

    let gradients = case["gradients"].as_object().unwrap();
    assert_eq!(step.gradients.len(), gradients.len(), "{what}");
    let mut of_gradients = 0.0f64;
    for (parameter_idx, gradient) in step.gradients {
        let parameter = model.parameters().get(parameter_idx).unwrap();
        let found = read_back(gradient, "gradient").unwrap();
        let expected: Vec<f64> =
            gradients[&parameter.name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        // Those of biases of keys are rounding noise, and a projection grows with the root of the number of values.
        let scale = expected[0].max(1e-6) * (found.len() as f64).sqrt().min(8.0);
        let worst =
            digest(&found).iter().zip(&expected).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f64::max);
        of_gradients = of_gradients.max(worst);
        assert!(worst < tolerance, "{what}: gradient of {} differs by {worst}", parameter.name);
    }
    let worst = [of_scores, of_evaluation, of_loss, of_each].into_iter().fold(0.0, f64::max);
    assert!(worst < tolerance, "{what}: {of_scores}, {of_evaluation}, {of_loss}, {of_each}");
    worst.max(of_gradients)
}

#[test]
fn scores_losses_and_gradients_are_those_of_the_reference() {
    let golden = heads_json();
    let packed = Packed::of_golden(&golden);
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2 * 2 * 5 * 2);
    let worst = cases.iter().map(|case| check_case(case, &packed, &device(), 2e-5)).fold(0.0, f64::max);
    println!("heads: worst relative difference {worst:.1e}");
}

on_each_device!(heads_are_those_of_the_reference);

/// A few of them: shaders are slow to compile.
fn heads_are_those_of_the_reference(_: &str, device: &Device) {
    let golden = heads_json();
    let packed = Packed::of_golden(&golden);
    for case in golden["cases"].as_array().unwrap().iter().step_by(7) {
        check_case(case, &packed, device, 2e-4);
    }
}

#[test]
fn classifiers_and_their_adapters_are_read_as_transformers_and_peft_write_them() {
    let golden = heads_json();
    let packed = Packed::of_golden(&golden);
    let expected = |name: &str| {
        let cases = golden["cases"].as_array().unwrap();
        let case = cases.iter().find(|c| c["model"] == name && c["kind"] == "OnHidden").unwrap();
        numbers(&case["scores"])
    };
    let whole = load("llama-score");
    assert_eq!(whole.score_head().unwrap().n_outputs, 4);
    let difference = worst_difference(&scores(&whole, &packed), &expected("llama-mha"));
    assert!(difference < 1e-5, "{difference}");
    // It has no head over the vocabulary.
    let refused = whole.losses(&packed.batch(), &packed.labels, &packed.token_average()).unwrap_err();
    assert!(matches!(refused, ModelError::LanguageHeadAbsent), "{refused}");
    let mut whole = whole;
    let refused = whole.attach_score_head(&spec(ScoreHeadKind::OnHidden, 4)).unwrap_err();
    assert!(matches!(refused, ModelError::ScoreHeadPresent), "{refused}");

    let (config, stored) = read_adapter(&golden_dir().join("llama-score-lora")).unwrap();
    let mut adapted = load("llama-mha");
    adapted.load_adapter(&config, stored.clone()).unwrap();
    let difference = worst_difference(&scores(&adapted, &packed), &expected("llama-mha-lora"));
    assert!(difference < 1e-5, "{difference}");

    let written = adapted.adapter_config().unwrap();
    assert_eq!(written.task_type, config.task_type);
    assert_eq!(written.modules_to_save, Some(vec!["score".to_owned()]));
    let sorted = |mut tensors: Vec<NamedTensor>| {
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tensors
    };
    assert_eq!(sorted(adapted.adapter_tensors().unwrap()), sorted(stored));
}

#[test]
fn a_stored_head_stays_in_float32_over_frozen_weights_of_fewer_bits() {
    let source = ModelSource::open(&golden_dir().join("llama-score")).unwrap();
    let options = LoadOptions { frozen: Format::Q8_0, is_trained: &|_| false, ..LoadOptions::default() };
    let mut model = CausalLm::load_with(&source, &device(), &options).unwrap();
    model.set_trainable(|_| false);
    let head = model.parameters().by_name("score.weight").unwrap();
    assert!(head.trainable && head.stored().is_none());
    assert!(model.parameters().by_name("model.layers.0.mlp.up_proj.weight").unwrap().stored().is_some());

    let packed = Packed::of_golden(&heads_json());
    let options = StepOptions::default();
    let step = model
        .score_loss_and_gradients(
            &packed.batch(),
            &[2.0, 0.0, 3.0],
            &[1.0; 3],
            ScoreLoss::CrossEntropy,
            &options,
        )
        .unwrap();
    let exact = scores(&load("llama-score"), &packed);
    let difference = worst_difference(&step.losses.scores, &exact);
    assert!(0.0 < difference && difference < 0.1, "{difference}");
    assert_eq!(step.gradients.len(), 1);
}

/// What an exporter does with a model, and what is read again.
fn exported_and_reloaded(model: &CausalLm) -> CausalLm {
    let folder = tempfile::tempdir().unwrap();
    let tensors: Vec<NamedTensor> = model.merged_tensors().collect::<Result<_, _>>().unwrap();
    write_safetensors(&folder.path().join("model.safetensors"), &tensors, &[], StoreDtype::F32).unwrap();
    let head = model.score_head().unwrap();
    if head.kind.is_on_logits() {
        model.config().save(folder.path(), StoreDtype::F32).unwrap();
        let mut loaded = load_path(folder.path());
        loaded.load_score_head(model.score_head_tensor().unwrap()).unwrap();
        return loaded;
    }
    let classifier = SequenceClassifier::new(head.n_outputs, ScoreProblem::Regression, Some(0));
    classifier.save(model.config(), folder.path(), StoreDtype::F32).unwrap();
    load_path(folder.path())
}

#[test]
fn merged_models_and_adapters_give_the_scores_again() {
    for name in ["llama-mha", "gpt2"] {
        let packed = Packed::of_golden(&golden_json(name));
        for kind in KINDS {
            let mut model = with_lora(name, 0.0);
            model.attach_score_head(&spec(kind, 3)).unwrap();
            let expected = scores(&model, &packed);
            let merged = exported_and_reloaded(&model);
            let difference = worst_difference(&scores(&merged, &packed), &expected);
            assert!(difference < 3e-5, "{name} {kind:?}: {difference}");
            // A second time, from what was loaded.
            assert_eq!(scores(&exported_and_reloaded(&merged), &packed), scores(&merged, &packed), "{name}");

            let folder = tempfile::tempdir().unwrap();
            write_adapter(folder.path(), &model.adapter_config().unwrap(), &model.adapter_tensors().unwrap())
                .unwrap();
            let (config, tensors) = read_adapter(folder.path()).unwrap();
            let mut loaded = load(name);
            loaded.load_adapter(&config, tensors).unwrap();
            if kind.is_on_logits() {
                assert_eq!(config.task_type.as_deref(), Some("CAUSAL_LM"));
                loaded.load_score_head(model.score_head_tensor().unwrap()).unwrap();
            }
            assert_eq!(scores(&loaded, &packed), expected, "{name} {kind:?}");
        }
    }
}

#[test]
fn a_head_is_a_parameter_that_is_always_trained() {
    for kind in KINDS {
        let mut model = load("llama-mha");
        model.attach_score_head(&spec(kind, 2)).unwrap();
        let lora =
            tunesmith_models::LoraSpec { r: 2, alpha: 4.0, seed: 1, ..tunesmith_models::LoraSpec::default() };
        model.attach_lora(&lora).unwrap();
        let trained = |model: &CausalLm| model.parameters().by_name(kind.weight_name()).unwrap().trainable;
        assert!(trained(&model));
        model.set_trainable(|_| false);
        assert!(trained(&model) && model.parameters().iter().filter(|p| p.trainable).count() == 1);
    }
}

#[test]
fn initial_values_have_the_right_spread_and_depend_on_the_seed() {
    let values = |kind, seed| {
        let mut model = load("gpt2");
        model.attach_score_head(&ScoreHeadSpec { kind, n_outputs: 40, seed }).unwrap();
        model.score_head_tensor().unwrap().data
    };
    let deviation = |values: &[f32]| {
        (values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    };
    let normal = values(ScoreHeadKind::OnHidden, 1);
    assert_eq!(normal.len(), 40 * 32);
    // Of 1280 values the deviation strays by 2 %.
    assert!((deviation(&normal) / 0.02 - 1.0).abs() < 0.08, "{}", deviation(&normal));
    let uniform = values(ScoreHeadKind::ClassificationOnLogits, 1);
    let bound = 1.0 / 96f32.sqrt();
    assert_eq!(uniform.len(), 40 * 96);
    assert!(uniform.iter().all(|v| v.abs() <= bound) && uniform.iter().any(|v| v.abs() > 0.98 * bound));
    assert!((deviation(&uniform) / (f64::from(bound) / 3f64.sqrt()) - 1.0).abs() < 0.04);
    for kind in KINDS {
        assert_eq!(values(kind, 1), values(kind, 1));
        assert_ne!(values(kind, 1), values(kind, 2));
    }
}

/// Loss, scores and gradients of many sequences.
fn step(
    model: &CausalLm,
    packed: &Packed,
    options: &StepOptions,
) -> (tunesmith_models::ScoreLosses, Vec<Vec<f32>>) {
    let n = packed.segments.len();
    let targets: Vec<f32> = (0..2 * n).map(|i| (i as f32 * 0.37).sin()).collect();
    let weights: Vec<f32> = (0..n).map(|i| (1 + i % 3) as f32 / n as f32).collect();
    let step =
        model.score_loss_and_gradients(&packed.batch(), &targets, &weights, ScoreLoss::Mse, options).unwrap();
    (step.losses, step.gradients.into_iter().map(|(_, g)| read_back(g, "").unwrap()).collect())
}

#[test]
fn slices_and_recomputation_change_nothing() {
    for (name, kind) in
        [("llama3-rope", ScoreHeadKind::OnHidden), ("gpt2", ScoreHeadKind::RegressionOnLogits)]
    {
        let mut model = with_lora(name, 0.3);
        model.attach_score_head(&spec(kind, 2)).unwrap();
        let packed = several_slices(name);
        assert!(packed.ids.len() > 2 * SLICE_TOKENS);
        let options =
            |recompute, dropout_key| StepOptions { recompute, dropout_key, ..StepOptions::default() };
        let stored = step(&model, &packed, &options(Recompute::Off, 7));
        assert!(stored == step(&model, &packed, &options(Recompute::EveryBlock, 7)), "{name}");
        assert_ne!(stored.0.scores, step(&model, &packed, &options(Recompute::Off, 8)).0.scores, "{name}");

        // One sequence after the other.
        let mut model = load(name);
        model.attach_score_head(&spec(kind, 2)).unwrap();
        let (losses, gradients) = step(&model, &packed, &StepOptions::default());
        let n = packed.segments.len();
        let (mut sums, mut loss, mut alone) = (GradientSums::default(), 0.0, Vec::new());
        for (i, range) in packed.segments.ranges().enumerate() {
            let segments = Segments::new(&[range.len()]);
            let tokens = TokenBatch {
                ids: &packed.ids[range.clone()],
                positions: &packed.positions[range],
                segments: &segments,
            };
            let targets = [2 * i, 2 * i + 1].map(|place| (place as f32 * 0.37).sin());
            let weights = [(1 + i % 3) as f32 / n as f32];
            let one = model
                .add_score_gradients(
                    &tokens,
                    &targets,
                    &weights,
                    ScoreLoss::Mse,
                    &StepOptions::default(),
                    &mut sums,
                )
                .unwrap();
            loss += one.loss;
            alone.extend(one.scores);
        }
        assert!(worst_difference(&losses.scores, &alone) < 1e-5, "{name}");
        assert!((losses.loss / loss - 1.0).abs() < 1e-6, "{name}: {} {loss}", losses.loss);
        for (found, (_, expected)) in gradients.iter().zip(sums.into_gradients(model.parameters())) {
            let difference = relative_difference(found, &read_back(expected, "").unwrap());
            assert!(difference < 1e-5, "{name}: {difference}");
        }
    }
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let mut model = load("llama-mha");
    let packed = Packed::of_golden(&golden_json("llama-mha"));
    assert!(matches!(model.scores(&packed.batch()), Err(ModelError::ScoreHeadAbsent)));
    let none = model.attach_score_head(&spec(ScoreHeadKind::OnHidden, 0)).unwrap_err();
    assert!(none.to_string().contains("no output"), "{none}");
    let stored = |name: &str, shape: [usize; 2]| NamedTensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        data: vec![0.0; shape[0] * shape[1]],
    };
    let wrong = model.load_score_head(stored("score.weight", [2, 96])).unwrap_err().to_string();
    assert!(wrong.contains("score.weight has shape [2, 96], this model needs [outputs, 32]"), "{wrong}");
    let unknown = model.load_score_head(stored("lm_head.weight", [96, 32])).unwrap_err().to_string();
    assert!(unknown.contains("classification_head.weight"), "{unknown}");
    model.load_score_head(stored("regression_head.weight", [2, 96])).unwrap();
    let other = model.load_score_head(stored("regression_head.weight", [3, 96])).unwrap_err();
    assert!(matches!(other, ModelError::ScoreHeadPresent), "{other}");

    let refusal = |targets: &[f32], loss| {
        model.score_losses(&packed.batch(), targets, &[1.0; 3], loss).unwrap_err().to_string()
    };
    assert!(refusal(&[0.0; 3], ScoreLoss::Mse).contains("3 sequences of 2 targets each, 3 targets"));
    assert!(refusal(&[0.0, 2.0, 1.0], ScoreLoss::CrossEntropy).contains("target 2 at place 1"));
    let empty = Packed { segments: Segments::new(&[5, 0, 13, 40]), ..packed.clone() };
    assert!(model.scores(&empty.batch()).unwrap_err().to_string().contains("segment 1 has no token"));
}

#[test]
fn a_policy_is_evaluated_with_the_masks_of_its_step() {
    for name in ["llama-mha", "gpt2"] {
        let model = with_lora(name, 0.3);
        let packed = several_slices(name);
        let weights = packed.token_average();
        let losses = |model: &CausalLm, which| {
            model.losses_in(&packed.batch(), &packed.labels, &weights, which).unwrap()
        };
        for recompute in [Recompute::Off, Recompute::EveryBlock] {
            let options = StepOptions { recompute, dropout_key: 21, ..StepOptions::default() };
            let step = model.loss_and_gradients(&packed.batch(), &packed.labels, &weights, &options).unwrap();
            let seen =
                losses(&model, LossPass::Training(StepOptions { dropout_key: 21, ..StepOptions::default() }));
            assert!((seen.loss, &seen.per_token) == (step.loss, &step.per_token), "{name}: {recompute:?}");
            assert_ne!(
                seen,
                losses(&model, LossPass::Training(StepOptions { dropout_key: 22, ..StepOptions::default() })),
                "{name}"
            );
        }
    }
}

#[test]
fn a_head_on_logits_computes_those_of_last_tokens_alone() {
    // Scores from all logits, which are then thrown away but for the last of each sequence.
    let mut model = load("gpt2");
    let packed = Packed::of_golden(&golden_json("gpt2"));
    attach_golden_head(&mut model, ScoreHeadKind::ClassificationOnLogits, 3);
    let all = logits(&model, &packed);
    let last: Vec<f32> =
        packed.segments.ranges().flat_map(|r| all[(r.end - 1) * 96..r.end * 96].to_vec()).collect();
    let weight = model.score_head_tensor().unwrap();
    let matrix =
        |values: Vec<f32>, n: usize| Tensor::<1>::from_data(values.as_slice(), &device()).reshape([n, 96]);
    let expected = matrix(last, 3).matmul(matrix(weight.data, 3).transpose());
    let difference = worst_difference(&scores(&model, &packed), &read_back(expected, "scores").unwrap());
    assert!(difference < 1e-5, "{difference}");
}
