//! Tokenizers of files as other programs write them.

use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::gguf::GgufFile;
use crate::gguf_metadata::{Array, Value as Field};

fn strings(texts: &[&str]) -> Field {
    Field::Array(Array::String(texts.iter().map(|text| (*text).into()).collect()))
}

/// A SentencePiece vocabulary with the tokens of Phi 3, as llama.cpp's converter writes it.
fn phi3_fields(architecture: &str, name: &str) -> BTreeMap<String, Field> {
    let texts = [
        "<unk>",
        "<s>",
        "</s>",
        "<0x0A>",
        "▁",
        "h",
        "i",
        "▁h",
        "▁hi",
        "<|endoftext|>",
        "<|user|>",
        "<|end|>",
    ];
    let types = [2, 3, 3, 6, 1, 1, 1, 1, 1, 3, 3, 3];
    let scores = [0.0, 0.0, 0.0, 0.0, -3.0, -3.0, -3.0, -2.0, -1.0, -1000.0, -1000.0, -1000.0];
    BTreeMap::from([
        ("general.architecture".to_owned(), Field::String(architecture.into())),
        ("general.name".to_owned(), Field::String(name.into())),
        ("tokenizer.ggml.model".to_owned(), Field::String("llama".into())),
        ("tokenizer.ggml.pre".to_owned(), Field::String("default".into())),
        ("tokenizer.ggml.tokens".to_owned(), strings(&texts)),
        ("tokenizer.ggml.scores".to_owned(), Field::Array(Array::F32(scores.to_vec()))),
        ("tokenizer.ggml.token_type".to_owned(), Field::Array(Array::I32(types.to_vec()))),
        ("tokenizer.ggml.add_space_prefix".to_owned(), Field::Bool(false)),
    ])
}

#[test]
fn tokens_of_phi3_take_the_white_space_after_them_along() {
    let ids = |architecture: &str, name: &str, text: &str| {
        let fields = phi3_fields(architecture, name);
        Tokenizer::from_gguf(&Metadata::new(Path::new("m.gguf"), fields)).unwrap().encode(text).unwrap()
    };
    for (architecture, name) in
        [("phi3", "Microsoft"), ("llama", "Phi3"), ("llama", "Phi 3 Mini 4k Instruct")]
    {
        assert_eq!(ids(architecture, name, "<|user|>\nhi<|end|> \n<|user|>"), [10, 5, 6, 11, 10], "{name}");
        // Those around a text do not.
        assert_eq!(ids(architecture, name, "<s> hi<|endoftext|>\n"), [1, 8, 9, 3], "{name}");
        assert_eq!(ids(architecture, name, "</s>\n"), [2], "{name}");
    }
    assert_eq!(ids("llama", "other", "<|user|>\nhi"), [10, 3, 5, 6]);
}

#[test]
fn a_gguf_file_without_a_pre_tokenizer_is_not_guessed_at() {
    let build = |architecture: &str, pre: Option<&str>| {
        let mut fields = BTreeMap::from([
            ("general.architecture".to_owned(), Field::String(architecture.into())),
            ("tokenizer.ggml.model".to_owned(), Field::String("gpt2".into())),
            ("tokenizer.ggml.tokens".to_owned(), strings(&["a", "b", "ab", "</s>"])),
            ("tokenizer.ggml.merges".to_owned(), strings(&["a b"])),
            ("tokenizer.ggml.eos_token_id".to_owned(), Field::Int(3)),
        ]);
        fields.extend(pre.map(|pre| ("tokenizer.ggml.pre".to_owned(), Field::String(pre.into()))));
        Tokenizer::from_gguf(&Metadata::new(Path::new("m.gguf"), fields))
    };
    for pre in [None, Some("default"), Some("")] {
        assert_eq!(build("gpt2", pre).unwrap().encode("ab").unwrap(), [2]);
        let refusal = build("llama", pre).unwrap_err().to_string();
        assert!(refusal.contains("tokenizer.ggml.pre") && refusal.contains("smaug-bpe"), "{refusal}");
    }
    assert!(build("llama", Some("smaug-bpe")).is_ok());
}

/// The vocabularies of real models with texts and ids of transformers, which come with the sources of llama.cpp.
#[test]
fn real_vocabularies_give_the_ids_of_transformers() {
    let Some(root) = std::env::var_os("TUNESMITH_LLAMA_CPP").map(PathBuf::from) else {
        eprintln!("skipped: TUNESMITH_LLAMA_CPP does not name a folder with the sources of llama.cpp");
        return;
    };
    const SEPARATOR: &str = "\n__ggml_vocab_test__\n";
    let mut failures = Vec::new();
    for name in [
        "command-r",
        "deepseek-coder",
        "deepseek-llm",
        "falcon",
        "gpt-2",
        "llama-bpe",
        "llama-spm",
        "mpt",
        "phi-3",
        "qwen2",
        "refact",
        "starcoder",
    ] {
        let path = root.join("models").join(format!("ggml-vocab-{name}.gguf"));
        let tokenizer = Tokenizer::from_gguf(GgufFile::open(&path).unwrap().metadata()).unwrap();
        let read = |end: &str| fs::read_to_string(format!("{}.{end}", path.display()));
        let (Ok(texts), Ok(ids)) = (read("inp"), read("out")) else {
            eprintln!("{name} has no texts");
            continue;
        };
        let mut n_checked = 0;
        for (text, line) in texts.split(SEPARATOR).zip(ids.lines()) {
            let ids: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            let found = tokenizer.encode(text).unwrap();
            if found != ids {
                failures.push(format!("{name}: {text:?}: {found:?} instead of {ids:?}"));
            }
            n_checked += 1;
        }
        assert!(n_checked > 30, "{name}: {n_checked}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
