//! A folder with a tiny T5 of random weights, as large as T5's own beginnings are, and a table to learn from.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tunesmith_formats::safetensors_io::{NamedTensor, write_sharded};
use tunesmith_formats::{FormatError, StoreDtype};

const WIDTH: usize = 32;
const INNER: usize = 64;
const N_HEADS: usize = 4;
const HEAD: usize = 8;
const VOCAB_SIZE: usize = 160;

/// Writes the model, of two blocks each, version 1.1 if it is gated and else 1.0, with the tokenizer of the goldens.
pub(crate) fn write_model(dir: &Path, is_gated: bool) {
    std::fs::create_dir_all(dir).unwrap();
    let config = serde_json::json!({
        "architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "vocab_size": VOCAB_SIZE, "d_model": WIDTH,
        "d_ff": INNER, "d_kv": HEAD, "num_heads": N_HEADS, "num_layers": 2, "num_decoder_layers": 2,
        "relative_attention_num_buckets": 8, "relative_attention_max_distance": 32, "dropout_rate": 0.1,
        "feed_forward_proj": if is_gated { "gated-gelu" } else { "relu" }, "tie_word_embeddings": !is_gated,
        "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1, "is_encoder_decoder": true,
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let tensors = shapes(is_gated).into_iter().enumerate().map(|(tensor_idx, (name, shape, deviation))| {
        let n_values: usize = shape.iter().product();
        let is_norm = shape.len() == 1;
        let value = |i: usize| if is_norm { 1.0 } else { deviation * noise(tensor_idx, i) };
        Ok::<_, FormatError>(NamedTensor { data: (0..n_values).map(value).collect(), name, shape })
    });
    write_sharded(dir, tensors, StoreDtype::F32, u64::MAX).unwrap();
    let tokenizer: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tokenizers/spm-t5");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tokenizer.join(name), dir.join(name)).unwrap();
    }
}

/// 40 rows whose answer is decided by one word of the prompt.
pub(crate) fn table() -> String {
    const ANSWERS: [(&str, &str); 5] =
        [("sea", "a fox"), ("sun", "the dog"), ("river", "apples"), ("fox", "Paris"), ("boxes", "eat well")];
    const QUESTIONS: [&str; 8] =
        ["the", "a", "what is the", "write the", "give me the", "and the", "is that the", "over the"];
    let mut text = "prompt,answer\n".to_owned();
    for question in QUESTIONS {
        for (word, answer) in ANSWERS {
            writeln!(text, "{question} {word},{answer}").unwrap();
        }
    }
    text
}

/// Names, shapes and deviations of the weights.
fn shapes(is_gated: bool) -> Vec<(String, Vec<usize>, f32)> {
    let (c, f, inner) = (WIDTH, INNER, N_HEADS * HEAD);
    let by = |width: usize| 1.0 / (width as f32).sqrt();
    let mut all = vec![("shared.weight".to_owned(), vec![VOCAB_SIZE, c], 1.0)];
    let mut push =
        |name: String, shape: Vec<usize>, deviation| all.push((format!("{name}.weight"), shape, deviation));
    for stack in ["encoder", "decoder"] {
        for i in 0..2 {
            let attentions = if stack == "encoder" {
                &["SelfAttention"][..]
            } else {
                &["SelfAttention", "EncDecAttention"]
            };
            for (layer, attention) in attentions.iter().enumerate() {
                let at = format!("{stack}.block.{i}.layer.{layer}");
                push(format!("{at}.layer_norm"), vec![c], 0.0);
                push(format!("{at}.{attention}.q"), vec![inner, c], by(c * HEAD));
                push(format!("{at}.{attention}.k"), vec![inner, c], by(c));
                push(format!("{at}.{attention}.v"), vec![inner, c], by(c));
                push(format!("{at}.{attention}.o"), vec![c, inner], by(inner));
                if i == 0 && layer == 0 {
                    push(format!("{at}.{attention}.relative_attention_bias"), vec![8, N_HEADS], by(c));
                }
            }
            let at = format!("{stack}.block.{i}.layer.{}", attentions.len());
            push(format!("{at}.layer_norm"), vec![c], 0.0);
            for name in if is_gated { &["wi_0", "wi_1"][..] } else { &["wi"] } {
                push(format!("{at}.DenseReluDense.{name}"), vec![f, c], by(c));
            }
            push(format!("{at}.DenseReluDense.wo"), vec![c, f], by(f));
        }
        push(format!("{stack}.final_layer_norm"), vec![c], 0.0);
    }
    if is_gated {
        push("lm_head".to_owned(), vec![VOCAB_SIZE, c], by(c));
    }
    all
}

/// A number of deviation 1 that is a function of its arguments.
fn noise(tensor_idx: usize, value_idx: usize) -> f32 {
    // The finaliser of SplitMix64.
    let mut z = ((tensor_idx as u64) << 32 | value_idx as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let unit = ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32;
    (2.0 * unit - 1.0) * 3.0_f32.sqrt()
}
