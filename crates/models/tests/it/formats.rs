//! Golden models in every storage and compute format.

use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::peft::read_adapter;
use tunesmith_models::{CausalLm, LoadOptions, Recompute, StepOptions, read_back};
use tunesmith_ops::{Compute, Format};

use crate::golden::step;
use crate::support::*;

const FORMATS: [Format; 6] =
    [Format::Bf16, Format::F16, Format::Q8_0, Format::Q4_0, Format::Q4_1, Format::Nf4];

/// The golden base model with frozen matrices in a format of their own, and its golden adapter.
fn load_in(name: &str, frozen: Format, compute: Compute) -> CausalLm {
    let source = ModelSource::open(&golden_dir().join(name.strip_suffix("-lora").unwrap())).unwrap();
    let options = LoadOptions { compute, frozen, is_trained: &|_| false };
    let mut model = CausalLm::load_with(&source, &device(), &options).unwrap();
    let (config, tensors) = read_adapter(&golden_dir().join(name)).unwrap();
    model.load_adapter(&config, tensors).unwrap();
    model
}

/// The same values in float32.
fn unpacked(model: &CausalLm, name: &str) -> CausalLm {
    let mut plain = load(name);
    for parameter_idx in 0..plain.parameters().len() {
        let values = model.parameters().get(parameter_idx).unwrap().tensor();
        plain.parameters_mut().set_value(parameter_idx, values).unwrap();
    }
    plain.compute_in(model.parameters().compute());
    plain
}

fn gradients(model: &CausalLm, packed: &Packed, recompute: Recompute) -> Vec<Vec<f32>> {
    let options = StepOptions { recompute, ..StepOptions::default() };
    step(model, packed, options).gradients.into_iter().map(|(_, g)| read_back(g, "").unwrap()).collect()
}

#[test]
fn a_compact_model_computes_what_its_values_say_to_the_bit() {
    for name in ["llama3-rope-lora", "llama-mha-lora", "gpt2-lora"] {
        let packed = Packed::of_golden(&golden_json(name));
        for format in FORMATS {
            for compute in [Compute::F32, Compute::Bf16] {
                let model = load_in(name, format, compute);
                let n_stored = model.parameters().iter().filter(|p| p.stored().is_some()).count();
                assert!(n_stored > 4, "{name}: {n_stored} matrices are kept in {format:?}");
                let plain = unpacked(&model, name);
                assert_eq!(logits(&model, &packed), logits(&plain, &packed), "{name} {format:?} {compute:?}");
                let of = |model| gradients(model, &packed, Recompute::Off);
                assert_eq!(of(&model), of(&plain), "{name} {format:?} {compute:?}");
                let again = gradients(&model, &packed, Recompute::EveryBlock);
                assert_eq!(of(&model), again, "{name} {format:?} {compute:?}: recomputed");
            }
        }
    }
}

/// The bounds are about twice what was seen, which is printed.
#[test]
fn formats_stay_near_the_golden_logits() {
    let bounds = [
        (Format::F32, Compute::Bf16, 0.04),
        (Format::Bf16, Compute::F32, 0.02),
        (Format::Bf16, Compute::Bf16, 0.04),
        (Format::F16, Compute::F32, 0.003),
        (Format::Q8_0, Compute::F32, 0.07),
        (Format::Q4_1, Compute::F32, 0.9),
        (Format::Nf4, Compute::F32, 1.2),
    ];
    for name in ["llama3-rope-lora", "llama-mha-lora", "gpt2-lora"] {
        let expected = tensors(&golden_dir().join(name).join("golden.safetensors"));
        let expected: Vec<f32> = (0..3).flat_map(|i| expected[&format!("logits.{i}")].data.clone()).collect();
        let packed = Packed::of_golden(&golden_json(name));
        for (format, compute, bound) in bounds {
            let got = logits(&load_in(name, format, compute), &packed);
            let difference = relative_difference(&got, &expected);
            println!("{name} in {format:?}, products in {compute:?}: logits {difference:.1e}");
            assert!(difference < bound, "{name} {format:?} {compute:?}: {difference}");
        }
    }
}

/// A GGUF file's own blocks are used as they are, whichever of the block formats is asked for: the model computes with the
/// values that the file holds, and gives the logits that transformers gives with these.
#[test]
fn blocks_of_a_file_are_not_rounded_again() {
    let name = "gguf/llama-blocks";
    let source = ModelSource::open(&golden_dir().join(format!("{name}.gguf"))).unwrap();
    let expected = &tensors(&golden_dir().join(format!("{name}.safetensors")))["logits"].data;
    let golden = read_json(&golden_dir().join(format!("{name}.json")));
    let ids: Vec<u32> = serde_json::from_value(golden["ids"].clone()).unwrap();
    let packed = Packed::new(&[(ids.clone(), vec![-100; ids.len()])]);
    for wanted in [Format::Q8_0, Format::Q4_0, Format::Q4_1, Format::Nf4] {
        let options = LoadOptions { compute: Compute::F32, frozen: wanted, is_trained: &|_| false };
        let model = CausalLm::load_with(&source, &device(), &options).unwrap();
        let mut formats = Vec::new();
        for parameter in model.parameters().iter() {
            let Some(stored) = parameter.stored() else { continue };
            let (layout, _) = source.read_blocks(&parameter.name).unwrap().unwrap();
            assert_eq!(format!("{:?}", stored.format()), layout.name(), "{}", parameter.name);
            let (_, values) = source.read_f32(&parameter.name).unwrap();
            assert_eq!(parameter.to_vec().unwrap(), values, "{}", parameter.name);
            formats.push(layout.name());
        }
        formats.sort_unstable();
        formats.dedup();
        assert_eq!(formats, ["Q4_0", "Q4_1", "Q8_0"]);
        let difference = worst_difference(&logits(&model, &packed), expected);
        println!("{name}, {wanted:?} asked for: logits {difference:.1e}");
        assert!(difference < 2e-5, "{wanted:?}: {difference}");
    }
}

/// A matrix that is trained after all leaves its compact form.
#[test]
fn trained_matrices_are_float32() {
    let mut model = load_in("llama3-rope-lora", Format::Q8_0, Compute::F32);
    let is_stored =
        |model: &CausalLm, name: &str| model.parameters().by_name(name).unwrap().stored().is_some();
    let name = "model.layers.0.self_attn.q_proj.weight";
    let before = model.parameters().by_name(name).unwrap().to_vec().unwrap();
    assert!(is_stored(&model, name));
    model.set_trainable(|other| other == name);
    assert!(!is_stored(&model, name));
    assert_eq!(model.parameters().by_name(name).unwrap().to_vec().unwrap(), before);
}

/// Where 8 or 4 bits are asked for, only the matrices of the blocks take them.
#[test]
fn embedding_and_head_keep_16_bits() {
    for (name, outside) in [
        ("llama-mha", vec!["model.embed_tokens.weight", "lm_head.weight"]),
        ("llama3-rope", vec!["model.embed_tokens.weight"]),
        ("gpt2", vec!["transformer.wte.weight", "transformer.wpe.weight"]),
        ("gpt-neox", vec!["gpt_neox.embed_in.weight", "embed_out.weight"]),
        ("t5-gated", vec!["shared.weight", "lm_head.weight"]),
    ] {
        let source = ModelSource::open(&golden_dir().join(name)).unwrap();
        for frozen in FORMATS {
            let options = LoadOptions { compute: Compute::F32, frozen, is_trained: &|_| false };
            let model = CausalLm::load_with(&source, &device(), &options).unwrap();
            let format_of = |name: &str| model.parameters().by_name(name).unwrap().stored().unwrap().format();
            let kept = if frozen.block_values() > 1 { Format::Bf16 } else { frozen };
            for name in &outside {
                assert_eq!(format_of(name), kept, "{name} {frozen:?}");
            }
            let matrices = model.parameters().iter().filter(|parameter| {
                parameter.shape.len() == 2
                    && parameter.shape[1].is_multiple_of(32)
                    && parameter.name.contains(".0.")
            });
            let is_in_format = matrices
                .filter(|parameter| parameter.stored().is_some_and(|stored| stored.format() == frozen));
            assert!(is_in_format.count() > 1, "{name} {frozen:?}");
        }
    }
}

/// The blocks of a file are exact, so they stay as they are in embedding and head, too; others become 16 bits there.
#[test]
fn a_head_in_blocks_that_are_computed_with_stays_in_them() {
    use tunesmith_formats::StoredDtype;
    use tunesmith_formats::gguf_quants::BlockLayout;
    use tunesmith_models::kept_format;
    let of = |name: &str, stored, frozen| kept_format(name, &[64, 32], stored, frozen, false);
    let (head, matrix) = ("lm_head.weight", "model.layers.0.mlp.up_proj.weight");
    let quantized = StoredDtype::Quantised;
    for (name, stored, frozen, expected) in [
        (head, quantized(BlockLayout::Q8_0), Format::Q4_1, Format::Q8_0),
        (head, quantized(BlockLayout::Q6_K), Format::Q4_1, Format::Bf16),
        (head, StoredDtype::F16, Format::Nf4, Format::F16),
        (head, StoredDtype::F32, Format::Q8_0, Format::Bf16),
        (head, StoredDtype::BF16, Format::F16, Format::F16),
        (matrix, quantized(BlockLayout::Q6_K), Format::Q4_1, Format::Q4_1),
        (matrix, quantized(BlockLayout::Q4_0), Format::Q8_0, Format::Q4_0),
        (matrix, StoredDtype::BF16, Format::Nf4, Format::Nf4),
        (
            "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            StoredDtype::F32,
            Format::Q4_1,
            Format::Bf16,
        ),
        ("model.layers.0.mlp.gate.weight", StoredDtype::F32, Format::Q4_1, Format::F32),
    ] {
        assert_eq!(of(name, stored, frozen), expected, "{name} {stored} {frozen:?}");
    }
    assert_eq!(kept_format(matrix, &[64, 32], StoredDtype::F32, Format::Q4_1, true), Format::F32);
    assert_eq!(kept_format(matrix, &[64, 24], StoredDtype::F32, Format::Q4_1, false), Format::Bf16);
}
