//! What holds of models of encoder and decoder whatever the numbers are: batches, caches, dropout, memory, files.

use tunesmith_formats::StoreDtype;
use tunesmith_formats::safetensors_io::{NamedTensor, write_sharded};
use tunesmith_models::{
    CausalLm, LoraSpec, ModelError, Recompute, ScoreHeadKind, ScoreHeadSpec, StepOptions, TokenBatch,
    read_back,
};
use tunesmith_ops::Segments;

use crate::golden::step;
use crate::support::*;

fn packed(name: &str) -> Packed {
    Packed::of_golden(&golden_json(name))
}

/// The golden model with another probability of dropout.
fn with_dropout(name: &str, rate: f64) -> CausalLm {
    let folder = tempfile::tempdir().unwrap();
    let from = golden_dir().join(name);
    let mut config = read_json(&from.join("config.json"));
    config["dropout_rate"] = rate.into();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::copy(from.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    load_path(folder.path())
}

#[test]
fn a_batch_gives_what_each_pair_gives_alone() {
    for name in ENCODER_DECODERS {
        let (model, golden) = (load(name), golden_json(name));
        let together = logits_of_texts(&model, &Packed::of_golden(&golden));
        let alone: Vec<f32> = sequences(&golden)
            .chunks(2)
            .flat_map(|pair| logits_of_texts(&model, &Packed::new(pair)))
            .collect();
        let difference = worst_difference(&together, &alone);
        assert!(difference < 1e-5, "{name}: {difference}");
    }
}

/// The scores of all texts, decoded over encoded sources in portions of so many tokens.
fn decoded(model: &CausalLm, golden: &serde_json::Value, portion: usize) -> Vec<f32> {
    let pairs = sequences(golden);
    let (sources, texts): (Vec<_>, Vec<_>) =
        pairs.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).unzip();
    let mut cache = model.encode(&Packed::new(&sources).batch()).unwrap();
    let vocab_size = model.config().vocab_size;
    let mut rows: Vec<Vec<f32>> = vec![vec![]; texts.len()];
    while rows.iter().zip(&texts).any(|(row, (ids, _))| row.len() < ids.len() * vocab_size) {
        let known = cache.lengths();
        let parts: Vec<&[u32]> =
            texts.iter().zip(&known).map(|((ids, _), &n)| &ids[n..(n + portion).min(ids.len())]).collect();
        let positions: Vec<u32> =
            parts.iter().zip(&known).flat_map(|(part, &n)| n as u32..(n + part.len()) as u32).collect();
        let segments = Segments::new(&parts.iter().map(|part| part.len()).collect::<Vec<_>>());
        let ids = parts.concat();
        let tokens = TokenBatch { ids: &ids, positions: &positions, segments: &segments };
        let hidden = model.hidden_cached(&tokens, &mut cache).unwrap();
        let values = read_back(model.logits(hidden), "").unwrap();
        let mut values = values.chunks(vocab_size);
        for (row, part) in rows.iter_mut().zip(&parts) {
            part.iter().for_each(|_| row.extend(values.next().unwrap()));
        }
    }
    rows.concat()
}

#[test]
fn decoding_token_by_token_gives_the_scores_of_the_whole_text() {
    for name in ["t5", "t5-gated", "t5-lora"] {
        let (model, golden) = (load(name), golden_json(name));
        let whole = logits_of_texts(&model, &Packed::of_golden(&golden));
        for portion in [1, 5] {
            let difference = worst_difference(&decoded(&model, &golden, portion), &whole);
            assert!(difference < 2e-5, "{name}: {difference}");
        }
    }
}

#[test]
fn running_blocks_again_gives_the_same_bits_with_dropout() {
    let (model, packed) = (with_dropout("t5-gated", 0.2), packed("t5-gated"));
    let stored = StepOptions { dropout_key: 7, ..StepOptions::default() };
    let once = step(&model, &packed, stored);
    let again = step(&model, &packed, StepOptions { recompute: Recompute::EveryBlock, ..stored });
    assert_eq!(once.loss, again.loss);
    for ((_, a), (_, b)) in once.gradients.into_iter().zip(again.gradients) {
        assert_eq!(read_back(a, "").unwrap(), read_back(b, "").unwrap());
    }
}

#[test]
fn dropout_is_of_training_alone_and_right_on_average() {
    let (model, packed) = (with_dropout("t5", 0.1), packed("t5"));
    let weights = packed.token_average();
    let plain = model.losses(&packed.batch(), &packed.labels, &weights).unwrap().loss;
    assert_eq!(plain, load("t5").losses(&packed.batch(), &packed.labels, &weights).unwrap().loss);
    let losses: Vec<f64> = (0..20)
        .map(|dropout_key| step(&model, &packed, StepOptions { dropout_key, ..StepOptions::default() }).loss)
        .collect();
    let different: std::collections::BTreeSet<u64> =
        losses.iter().chain([&plain]).map(|loss| loss.to_bits()).collect();
    assert_eq!(different.len(), 21);
    let mean = losses.iter().sum::<f64>() / 20.0;
    assert!((mean - plain).abs() < 0.1, "{mean} without dropout {plain}");
}

#[test]
fn only_what_is_trained_has_gradients_and_the_first_blocks_get_theirs() {
    let (mut model, packed) = (load("t5-gated"), packed("t5-gated"));
    let all = step(&model, &packed, StepOptions::default()).gradients;
    let names: Vec<String> = model.parameters().iter().map(|p| p.name.clone()).collect();
    for wanted in
        ["encoder.block.0.layer.0.SelfAttention.q.weight", "decoder.block.1.layer.1.EncDecAttention.k.weight"]
    {
        model.set_trainable(|name| name == wanted);
        let found = step(&model, &packed, StepOptions::default()).gradients;
        let [(parameter_idx, gradient)] = <[_; 1]>::try_from(found).unwrap();
        assert_eq!(names[parameter_idx], wanted);
        let (_, expected) = all.iter().find(|(idx, _)| *idx == parameter_idx).unwrap();
        let difference =
            relative_difference(&read_back(gradient, "").unwrap(), &read_back(expected.clone(), "").unwrap());
        assert!(difference < 1e-6, "{wanted}: {difference}");
    }
}

#[test]
fn adapters_go_on_every_linear_layer_and_say_what_they_are_for() {
    let mut model = load("t5-gated");
    let attached = model.attach_lora(&LoraSpec::default()).unwrap();
    // Four in each attention, three in each feed-forward part; two blocks of one attention, two of two.
    assert_eq!(attached.modules.len(), 2 * (4 + 3) + 2 * (8 + 3));
    let config = model.adapter_config().unwrap();
    assert_eq!(config.task_type.as_deref(), Some("SEQ_2_SEQ_LM"));
    let names = LoraSpec { target_modules: vec!["q".to_owned(), "v".to_owned()], ..LoraSpec::default() };
    assert_eq!(load("t5").attach_lora(&names).unwrap().modules.len(), 2 * 2 + 4);
}

#[test]
fn merged_weights_give_the_adapters_scores() {
    for name in ["t5-lora", "t5-gated-lora"] {
        let (model, packed) = (load(name), packed(name));
        let folder = tempfile::tempdir().unwrap();
        model.config().save(folder.path(), StoreDtype::F32).unwrap();
        write_sharded(folder.path(), model.merged_tensors(), StoreDtype::F32, 1 << 30).unwrap();
        let merged = load_path(folder.path());
        let difference =
            worst_difference(&logits_of_texts(&merged, &packed), &logits_of_texts(&model, &packed));
        assert!(difference < 2e-5, "{name}: {difference}");
    }
}

#[test]
fn embeddings_that_are_stored_again_are_passed_over_unless_they_differ() {
    let base = tensors(&golden_dir().join("t5").join("model.safetensors"));
    let open = |name: &str, change: f32| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(golden_dir().join("t5").join("config.json"), folder.path().join("config.json"))
            .unwrap();
        let mut again = NamedTensor { name: name.to_owned(), ..base["shared.weight"].clone() };
        again.data[3] += change;
        let all = base.values().cloned().chain([again]).map(Ok::<_, tunesmith_formats::FormatError>);
        write_sharded(folder.path(), all, StoreDtype::F32, 1 << 30).unwrap();
        tunesmith_formats::ModelSource::open(folder.path())
    };
    for name in ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"] {
        let source = open(name, 0.0).unwrap();
        assert!(source.config().tie_word_embeddings && !source.contains(name));
    }
    // As transformers 5 writes a head of its own, whatever the configuration says.
    let untied = open("lm_head.weight", 1.0).unwrap();
    assert!(!untied.config().tie_word_embeddings && untied.contains("lm_head.weight"));
    let error = open("encoder.embed_tokens.weight", 1.0).unwrap_err().to_string();
    assert!(error.contains("encoder.embed_tokens.weight is not shared.weight"), "{error}");
}

#[test]
fn batches_that_are_no_pairs_are_refused() {
    let model = load("t5");
    let refusal = |ids: &[u32], lengths: &[usize]| {
        let positions: Vec<u32> = lengths.iter().flat_map(|n| 0..*n as u32).collect();
        let segments = Segments::new(lengths);
        let tokens = TokenBatch { ids, positions: &positions, segments: &segments };
        model.hidden(&tokens, None).unwrap_err().to_string()
    };
    assert!(refusal(&[5, 6], &[2]).contains("1 segments are no pairs"));
    assert!(refusal(&[0, 6], &[0, 2]).contains("segment 0, a source or a text, has no tokens"));
    assert!(refusal(&[5, 6, 7], &[1, 2]).contains("begins with token 6, not with the decoder's 0"));
    let packed = Packed::new(&[(vec![5], vec![-100])]);
    assert!(matches!(load("gpt2").encode(&packed.batch()), Err(ModelError::EncoderAbsent)));
    let spec = ScoreHeadSpec { kind: ScoreHeadKind::OnHidden, n_outputs: 2, seed: 1 };
    assert!(matches!(load("t5").attach_score_head(&spec), Err(ModelError::ScoreHead { .. })));
}
