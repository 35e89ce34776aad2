//! How byte-level tokenizers cut a text into words before merging: the rules behind the names that GGUF files
//! give in `tokenizer.ggml.pre`.
//!
//! The patterns are those of the models' own `tokenizer.json`. llama.cpp knows more names; a name belongs here
//! once its rules are known exactly.

use serde_json::{Value, json};

/// Rules of one name.
pub(super) struct PreTokenizer {
    /// `normalizer` of `tokenizer.json`.
    pub(super) normalizer: Value,
    /// `pre_tokenizer` of `tokenizer.json`.
    pub(super) rules: Value,
    /// Whether a word that is a token is taken whole even when no merges make it.
    pub(super) ignore_merges: bool,
    /// Whether the family's tokenizers start a text with the beginning-of-text token.
    pub(super) adds_bos: bool,
}

/// Names understood, for error messages.
pub(super) const KNOWN: &str = "default, gpt-2, phi-2, smollm, starcoder, refact, codeshell, minerva-7b, llama3, \
    llama-v3, llama-bpe, falcon3, qwen2, tekken, deepseek-coder, deepseek-v3";

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// The rules of `name`; `None` for a name that is not known.
pub(super) fn by_name(name: &str) -> Option<PreTokenizer> {
    let plain =
        |rules| PreTokenizer { normalizer: Value::Null, rules, ignore_merges: false, adds_bos: false };
    let llama3_like = |rules| PreTokenizer { ignore_merges: true, adds_bos: true, ..plain(rules) };
    Some(match name {
        // GPT-2's own pattern is built into the byte-level step.
        "default" | "gpt-2" | "phi-2" => plain(byte_level(true)),
        "smollm" | "starcoder" | "refact" | "codeshell" | "minerva-7b" => {
            plain(sequence(vec![digits(), byte_level(true)]))
        }
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" => llama3_like(splits(&[LLAMA3])),
        "tekken" => llama3_like(splits(&[TEKKEN])),
        "qwen2" => PreTokenizer { normalizer: json!({"type": "NFC"}), ..plain(splits(&[QWEN2])) },
        "deepseek-coder" => {
            let patterns = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\u{d7ff}]+"];
            let mut steps: Vec<Value> = patterns.iter().map(|pattern| split(pattern)).collect();
            steps.extend([digits(), byte_level(false)]);
            plain(sequence(steps))
        }
        "deepseek-v3" => plain(splits(&[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK_V3])),
        _ => return None,
    })
}

fn splits(patterns: &[&str]) -> Value {
    let mut steps: Vec<Value> = patterns.iter().map(|pattern| split(pattern)).collect();
    steps.push(byte_level(false));
    sequence(steps)
}

fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

fn digits() -> Value {
    json!({"type": "Digits", "individual_digits": true})
}

fn byte_level(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

fn sequence(steps: Vec<Value>) -> Value {
    json!({"type": "Sequence", "pretokenizers": steps})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_has_rules_that_compile() {
        for name in KNOWN.split(", ") {
            let rules = by_name(name).unwrap_or_else(|| panic!("{name} is listed but not known")).rules;
            serde_json::from_value::<tokenizers::PreTokenizerWrapper>(rules)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert!(by_name("no-such-name").is_none());
    }
}
