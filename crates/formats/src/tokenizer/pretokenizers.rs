//! How byte-level tokenizers cut a text into words before merging: the rules behind the names that GGUF files
//! give in `tokenizer.ggml.pre`.
//!
//! The patterns are those of the models' own `tokenizer.json`, which llama.cpp imitates. llama.cpp knows more names; a
//! name belongs here once its rules are known exactly. Left out are those whose rules are a function of llama.cpp
//! (kimi-k2, afmoe), whose pieces are no bytes (gemma4, sarvam-moe), and models that only embed texts.

use serde_json::{Value, json};

/// Rules of one name.
#[derive(Debug)]
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

/// Names that share their rules.
struct Kind {
    names: &'static [&'static str],
    steps: &'static [Step],
    /// Letters and their marks are joined first (NFC).
    is_nfc: bool,
    /// See [`PreTokenizer::ignore_merges`]: vocabularies made from tiktoken's, whose own program takes whole words first.
    ignore_merges: bool,
    /// See [`PreTokenizer::adds_bos`].
    adds_bos: bool,
}

/// One way of cutting, applied to the words that the earlier ones left.
enum Step {
    /// Each match is a word, and so is what stands between two of them.
    Pattern(&'static str),
    /// Each digit is a word.
    Digits,
    /// Punctuation is cut off, runs of it stay together.
    Punctuation,
    /// GPT-2's own pattern, which is built into the byte-level step.
    Gpt2,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const SEED_CODER: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const EXAONE_MOE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
const JAIS2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}";
const MINICPM5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const DEEPSEEK_LLM_LETTERS: &str = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
const CJK: &str = "[一-龥ࠀ-一가-\u{d7ff}]+";
const HAN_AND_KANA: &str = "[一-龥぀-ゟ゠-ヿ]+";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

const PLAIN: Kind = Kind { names: &[], steps: &[], is_nfc: false, ignore_merges: false, adds_bos: false };

use Step::{Digits, Gpt2, Pattern, Punctuation};

const KINDS: &[Kind] = &[
    Kind {
        names: &[
            "gpt-2",
            "phi-2",
            "jais",
            "trillion",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "exaone4",
            "granite-docling",
        ],
        steps: &[Gpt2],
        ..PLAIN
    },
    // Both are the tokenizer of GPT-NeoX with other special tokens.
    Kind { names: &["mpt", "olmo"], steps: &[Gpt2], is_nfc: true, ..PLAIN },
    Kind {
        names: &["smollm", "starcoder", "refact", "codeshell", "minerva-7b", "exaone", "mellum2"],
        steps: &[Digits, Gpt2],
        ..PLAIN
    },
    Kind { names: &["command-r"], steps: &[Digits, Gpt2], is_nfc: true, ..PLAIN },
    Kind {
        names: &["llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        steps: &[Pattern(LLAMA3)],
        ignore_merges: true,
        adds_bos: true,
        ..PLAIN
    },
    Kind {
        names: &["smaug-bpe", "dbrx", "chatglm-bpe", "glm4", "glm5"],
        steps: &[Pattern(LLAMA3)],
        ignore_merges: true,
        ..PLAIN
    },
    Kind {
        names: &["minicpm5"],
        steps: &[Pattern(r"\p{N}{1,3}"), Pattern(MINICPM5)],
        ignore_merges: true,
        ..PLAIN
    },
    Kind { names: &["jais-2"], steps: &[Pattern(JAIS2)], ..PLAIN },
    Kind {
        names: &["qwen2", "deepseek-r1-qwen", "megrez", "kormo", "stablelm2"],
        steps: &[Pattern(QWEN2)],
        is_nfc: true,
        ..PLAIN
    },
    Kind { names: &["hunyuan", "solar-open", "grok-2"], steps: &[Pattern(QWEN2)], ..PLAIN },
    Kind { names: &["qwen35"], steps: &[Pattern(QWEN35)], is_nfc: true, ..PLAIN },
    Kind { names: &["bailingmoe", "bailingmoe2", "llada-moe"], steps: &[Pattern(BAILING)], ..PLAIN },
    Kind { names: &["seed-coder"], steps: &[Pattern(SEED_CODER)], ..PLAIN },
    Kind { names: &["exaone-moe"], steps: &[Pattern(EXAONE_MOE)], ..PLAIN },
    Kind { names: &["tekken"], steps: &[Pattern(TEKKEN)], ignore_merges: true, adds_bos: true, ..PLAIN },
    Kind {
        names: &["gpt-4o", "llama4", "kanana2", "minimax-m2"],
        steps: &[Pattern(GPT4O)],
        ignore_merges: true,
        ..PLAIN
    },
    Kind {
        names: &["deepseek-llm"],
        steps: &[
            Pattern(r"[\r\n]"),
            Pattern(DEEPSEEK_LLM_LETTERS),
            Pattern(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"),
            Pattern(r"\s+$"),
            Pattern(CJK),
            Pattern(r"\p{N}+"),
        ],
        ..PLAIN
    },
    Kind {
        names: &["deepseek-coder"],
        steps: &[Pattern(r"[\r\n]"), Pattern(r"\s?\p{L}+"), Pattern(r"\s?\p{P}+"), Pattern(CJK), Digits],
        ..PLAIN
    },
    Kind {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        steps: &[Pattern(r"\p{N}{1,3}"), Pattern(HAN_AND_KANA), Pattern(DEEPSEEK_V3)],
        ..PLAIN
    },
    Kind { names: &["falcon"], steps: &[Punctuation, Gpt2, Pattern("[0-9][0-9][0-9]")], ..PLAIN },
    Kind { names: &["bloom", "poro-chat", "gpt3-finnish"], steps: &[Pattern(BLOOM)], ..PLAIN },
    Kind { names: &["viking"], steps: &[Pattern(BLOOM), Digits], ..PLAIN },
    Kind { names: &["superbpe"], steps: &[Pattern(r"\p{N}+"), Pattern(r"(?=(\d{3})+(?!\d))")], ..PLAIN },
];

/// Names understood, for error messages.
pub(super) fn known() -> String {
    let names: Vec<&str> = KINDS.iter().flat_map(|kind| kind.names).copied().collect();
    names.join(", ")
}

/// The rules of `name`; `None` for a name that is not known.
pub(super) fn by_name(name: &str) -> Option<PreTokenizer> {
    let kind = KINDS.iter().find(|kind| kind.names.contains(&name))?;
    Some(PreTokenizer {
        normalizer: if kind.is_nfc { json!({"type": "NFC"}) } else { Value::Null },
        rules: rules(kind.steps),
        ignore_merges: kind.ignore_merges,
        adds_bos: kind.adds_bos,
    })
}

/// The steps, and where none of them writes the words as bytes, that at the end.
fn rules(steps: &[Step]) -> Value {
    let has_bytes = steps.iter().any(|step| matches!(step, Gpt2));
    let mut parts: Vec<Value> = steps.iter().map(Step::to_json).collect();
    if !has_bytes {
        parts.push(byte_level(false));
    }
    match parts.as_slice() {
        [only] => only.clone(),
        _ => json!({"type": "Sequence", "pretokenizers": parts}),
    }
}

impl Step {
    fn to_json(&self) -> Value {
        match self {
            Pattern(pattern) => {
                json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
            }
            Digits => json!({"type": "Digits", "individual_digits": true}),
            Punctuation => json!({"type": "Punctuation", "behavior": "Contiguous"}),
            Gpt2 => byte_level(true),
        }
    }
}

fn byte_level(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tokenizers::pre_tokenizers::PreTokenizerWrapper;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

    use super::*;

    /// Names that llama.cpp has and this module leaves out: encoders, and vocabularies of other kinds.
    const LEFT_OUT: &[&str] = &[
        "jina-es",
        "jina-de",
        "jina-v2-es",
        "jina-v2-de",
        "jina-v1-en",
        "jina-v2-code",
        "jina-v5-nano",
        "modern-bert",
        "roberta-bpe",
        "f2llmv2",
        "spark2_5",
        "youtu",
        "tiny_aya",
        "cohere2moe",
        "ufakzeka",
        "laguna",
        "hy_v4",
        "talkie",
    ];

    fn n_bytes_of_words(rules: &PreTokenizerWrapper, text: &str) -> Vec<usize> {
        let mut words = PreTokenizedString::from(text);
        rules.pre_tokenize(&mut words).unwrap();
        words
            .get_splits(OffsetReferential::Original, OffsetType::Byte)
            .into_iter()
            .map(|(_, (start, end), _)| end - start)
            .collect()
    }

    /// The words that llama.cpp's own code and, where that only comes near them, the models' patterns make.
    #[test]
    fn every_name_cuts_texts_as_llama_cpp_does() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/pretokenizers.json");
        let golden: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let texts: Vec<&str> =
            golden["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        assert!(texts.len() > 60);
        let mut checked = Vec::new();
        for kind in golden["kinds"].as_array().unwrap() {
            for name in kind["names"].as_array().unwrap() {
                let name = name.as_str().unwrap();
                let Some(found) = by_name(name) else {
                    assert!(LEFT_OUT.contains(&name), "{name} is neither known nor left out");
                    continue;
                };
                assert!(!LEFT_OUT.contains(&name), "{name}");
                checked.push(name);
                let rules: PreTokenizerWrapper = serde_json::from_value(found.rules).unwrap();
                for (text, words) in texts.iter().zip(kind["words"].as_array().unwrap()) {
                    let words: Vec<usize> =
                        words.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
                    assert_eq!(n_bytes_of_words(&rules, text), words, "{name}: {text:?}");
                }
            }
        }
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/model-families.md");
        let page = fs::read_to_string(page).unwrap();
        for name in known().split(", ") {
            assert!(checked.contains(&name), "{name} has no golden words");
            assert!(page.contains(&format!("`{name}`")), "docs/model-families.md does not have {name}");
        }
        assert!(by_name("no-such-name").is_none() && by_name("default").is_none());
    }
}
