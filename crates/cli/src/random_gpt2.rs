//! A model of the shape of GPT-2 with random weights and a tokenizer of bytes, for a test without the network.

use std::path::Path;

use serde_json::{Map, Value, json};
use tunesmith_formats::FormatError;
use tunesmith_formats::StoreDtype;
use tunesmith_formats::safetensors_io::{NamedTensor, write_sharded};

use crate::failure::Failure;

const WIDTH: usize = 768;
const N_LAYERS: usize = 12;
const N_HEADS: usize = 12;
const N_POSITIONS: usize = 1024;
const VOCAB_SIZE: usize = 50_257;
const END_OF_TEXT: &str = "<|endoftext|>";
/// Standard deviation of GPT-2's weights before training.
const DEVIATION: f32 = 0.02;

/// Writes the model's folder: 124 million weights as bfloat16, 250 MB.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(dir: &Path) -> Result<(), Failure> {
    write_json(dir, "config.json", &config())?;
    write_json(dir, "tokenizer.json", &tokenizer())?;
    let special =
        json!({"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "model_max_length": N_POSITIONS});
    write_json(dir, "tokenizer_config.json", &special)?;
    let tensors = shapes().into_iter().enumerate().map(|(tensor_idx, (name, shape))| {
        let n_values = shape.iter().product();
        let data = if name.ends_with("bias") {
            vec![0.0; n_values]
        } else if name.contains("ln_") {
            vec![1.0; n_values]
        } else {
            noise(tensor_idx as u64 + 1, n_values)
        };
        Ok::<_, FormatError>(NamedTensor { name, shape, data })
    });
    write_sharded(dir, tensors, StoreDtype::BF16, u64::MAX)?;
    Ok(())
}

fn write_json(dir: &Path, name: &str, value: &Value) -> Result<(), Failure> {
    let path = dir.join(name);
    std::fs::write(&path, value.to_string()).map_err(|error| Failure::cannot_write(&path, &error))
}

fn config() -> Value {
    json!({
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": VOCAB_SIZE, "n_embd": WIDTH,
        "n_layer": N_LAYERS, "n_head": N_HEADS, "n_positions": N_POSITIONS, "layer_norm_epsilon": 1e-5,
        "activation_function": "gelu_new", "tie_word_embeddings": true, "bos_token_id": VOCAB_SIZE - 1,
        "eos_token_id": VOCAB_SIZE - 1,
    })
}

/// A token for each byte, and one for the end of a text.
fn tokenizer() -> Value {
    let mut vocabulary: Map<String, Value> =
        (0..=u8::MAX).map(|byte| (byte_character(byte).to_string(), Value::from(byte))).collect();
    vocabulary.insert(END_OF_TEXT.to_owned(), Value::from(VOCAB_SIZE - 1));
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [{
            "id": VOCAB_SIZE - 1, "content": END_OF_TEXT, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": [],
        },
    })
}

/// The printable character that stands for a byte in GPT-2's vocabulary: itself if it is one, else the next free one from
/// 256 on.
fn byte_character(byte: u8) -> char {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if is_printable(byte) {
        return char::from(byte);
    }
    let n_before = (0..byte).filter(|before| !is_printable(*before)).count() as u32;
    char::from_u32(256 + n_before).unwrap_or(' ')
}

fn shapes() -> Vec<(String, Vec<usize>)> {
    let named = |name: &str, shape: &[usize]| (format!("transformer.{name}"), shape.to_vec());
    let mut shapes = vec![
        named("wte.weight", &[VOCAB_SIZE, WIDTH]),
        named("wpe.weight", &[N_POSITIONS, WIDTH]),
        named("ln_f.weight", &[WIDTH]),
        named("ln_f.bias", &[WIDTH]),
    ];
    for layer_idx in 0..N_LAYERS {
        for (module, shape) in [
            ("ln_1", vec![WIDTH]),
            ("ln_2", vec![WIDTH]),
            ("attn.c_attn", vec![WIDTH, 3 * WIDTH]),
            ("attn.c_proj", vec![WIDTH, WIDTH]),
            ("mlp.c_fc", vec![WIDTH, 4 * WIDTH]),
            ("mlp.c_proj", vec![4 * WIDTH, WIDTH]),
        ] {
            let bias = shape[shape.len() - 1];
            shapes.push(named(&format!("h.{layer_idx}.{module}.weight"), &shape));
            shapes.push(named(&format!("h.{layer_idx}.{module}.bias"), &[bias]));
        }
    }
    shapes
}

/// Evenly spread values of the right deviation: what a test of machines needs of random numbers.
fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let reach = DEVIATION * 3.0_f32.sqrt();
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        reach * ((state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0)
    };
    (0..n).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_shape_is_that_of_gpt2() {
        let n_weights: usize = shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert_eq!(n_weights, 124_439_808);
    }

    #[test]
    fn every_byte_has_its_own_character() {
        let characters: BTreeSet<char> = (0..=u8::MAX).map(byte_character).collect();
        assert_eq!(characters.len(), 256);
        assert_eq!((byte_character(b'a'), byte_character(b' '), byte_character(b'\n')), ('a', 'Ġ', 'Ċ'));
    }

    #[test]
    fn weights_have_the_deviation_of_gpt2() {
        let values = noise(3, 100_000);
        let mean_square =
            values.iter().map(|value| f64::from(value * value)).sum::<f64>() / values.len() as f64;
        assert!((mean_square.sqrt() - 0.02).abs() < 1e-4);
    }
}
