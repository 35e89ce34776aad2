//! Ids and texts against the goldens of the Python libraries, for every way a tokenizer can be read.

use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::gguf::GgufFile;

const GOLDEN: [&str; 3] = ["bpe-smollm", "bpe-llama3", "spm-llama"];

fn golden_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tokenizers").join(name)
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

fn from_gguf(path: &Path) -> Tokenizer {
    Tokenizer::from_gguf(GgufFile::open(path).unwrap().metadata()).unwrap()
}

fn check_encoding(tokenizer: &Tokenizer, cases: &Value, what: &str) {
    let cases = cases.as_array().unwrap();
    assert!(cases.len() > 30);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), ids(&case["ids"]), "{what}: {text:?}");
    }
}

fn check_decoding(tokenizer: &Tokenizer, cases: &Value, what: &str) {
    for case in cases.as_array().unwrap() {
        let ids = ids(&case["ids"]);
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), case["decoded"], "{what}: {ids:?}");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), case["decoded_skip_special"], "{what}: {ids:?}");
    }
}

/// Pushing ids one by one gives, at every moment, what decoding all of them gives, up to half characters.
fn check_streaming(tokenizer: &Tokenizer, golden: &Value, what: &str) {
    let prefixes = &golden["prefixes"];
    let mut stream = tokenizer.stream_with_special();
    let mut given = String::new();
    let mut whole = String::new();
    for (id, decoded) in
        ids(&prefixes["ids"]).into_iter().zip(prefixes["decoded"].as_array().unwrap().iter().skip(1))
    {
        given.push_str(&stream.push(id).unwrap_or_default());
        let decoded = decoded.as_str().unwrap();
        if !decoded.ends_with(char::REPLACEMENT_CHARACTER) {
            whole = decoded.to_owned();
        }
        assert_eq!(given, whole, "{what}: after id {id}");
    }
    assert_eq!(stream.flush(), None);
    assert_eq!(given, prefixes["text"].as_str().unwrap());

    for case in golden["cases"].as_array().unwrap() {
        let mut stream = tokenizer.stream();
        let mut text: String = ids(&case["ids"]).into_iter().filter_map(|id| stream.push(id)).collect();
        text.push_str(&stream.flush().unwrap_or_default());
        assert_eq!(text, case["decoded_skip_special"], "{what}");
    }
}

/// The bytes of the tokens, one after the other, are the text (and SentencePiece's first space).
fn check_bytes(tokenizer: &Tokenizer, cases: &Value, what: &str) {
    for case in cases.as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        if text.contains('▁') || text.contains("<|user|>") {
            continue;
        }
        let bytes: Vec<u8> = ids(&case["ids"]).into_iter().flat_map(|id| tokenizer.token_bytes(id)).collect();
        let got = String::from_utf8(bytes).unwrap();
        if tokenizer.prefix_space == PrefixSpace::Never {
            assert_eq!(got, text, "{what}");
        } else if !text.contains("<s>") && !text.contains("</s>") && !text.contains("<unk>") {
            assert_eq!(got.strip_prefix(' ').unwrap_or(&got), text, "{what}");
        }
    }
}

#[test]
fn folders_give_the_ids_of_the_python_libraries() {
    for name in GOLDEN {
        let golden = read(&golden_dir(name).join("golden.json"));
        let tokenizer = Tokenizer::from_folder(&golden_dir(name)).unwrap();
        assert_eq!(tokenizer.vocab_size(), usize::try_from(golden["vocab_size"].as_u64().unwrap()).unwrap());
        check_encoding(&tokenizer, &golden["cases"], name);
        check_decoding(&tokenizer, &golden["cases"], name);
        check_streaming(&tokenizer, &golden, name);
        check_bytes(&tokenizer, &golden["cases"], name);
    }
}

#[test]
fn t5_tokenizers_give_the_ids_of_the_python_libraries() {
    let golden = read(&golden_dir("spm-t5").join("golden.json"));
    let tokenizer = Tokenizer::from_folder(&golden_dir("spm-t5")).unwrap();
    assert_eq!(tokenizer.vocab_size(), usize::try_from(golden["vocab_size"].as_u64().unwrap()).unwrap());
    assert_eq!((tokenizer.pad_id(), tokenizer.eos_id(), tokenizer.unk_id()), (0, 1, Some(2)));
    check_encoding(&tokenizer, &golden["cases"], "spm-t5");
    check_decoding(&tokenizer, &golden["cases"], "spm-t5");
    check_streaming(&tokenizer, &golden, "spm-t5");
    let saved = tempfile::tempdir().unwrap();
    tokenizer.save(saved.path()).unwrap();
    check_encoding(&Tokenizer::from_folder(saved.path()).unwrap(), &golden["cases"], "saved");
}

#[test]
fn words_of_t5_keep_their_spaces_when_the_first_is_switched_off() {
    let tokenizer = Tokenizer::from_folder(&golden_dir("spm-t5")).unwrap();
    let off = tokenizer.clone().with_prefix_space(false).unwrap();
    let text_of = |tokenizer: &Tokenizer, text: &str| -> String {
        tokenizer.encode(text).unwrap().into_iter().map(|id| tokenizer.token_text(id)).collect()
    };
    let text = "  the river\tand\n\nthe sea ";
    assert_eq!(text_of(&tokenizer, text), " the river and the sea");
    assert_eq!(text_of(&off, text), "the river and the sea");
    let ids = off.encode("the river").unwrap();
    assert_eq!(off.decode(&ids, true).unwrap(), "the river");
    // A part that continues a text is the same with either.
    assert_eq!(
        tokenizer.encode_continuation("the river", Some(10)).unwrap(),
        off.encode_continuation("the river", Some(10)).unwrap()
    );
    let on = off.with_prefix_space(true).unwrap();
    assert_eq!(text_of(&on, text), " the river and the sea");
}

#[test]
fn gguf_files_give_the_ids_of_the_python_libraries() {
    for name in GOLDEN {
        let golden = read(&golden_dir(name).join("golden.json"));
        let tokenizer = from_gguf(&golden_dir(name).join("tokenizer.gguf"));
        assert_eq!(tokenizer.vocab_size(), usize::try_from(golden["vocab_size"].as_u64().unwrap()).unwrap());
        check_encoding(&tokenizer, &golden["gguf_cases"], name);
        check_decoding(&tokenizer, &golden["cases"], name);
        check_streaming(&tokenizer, &golden, name);
    }
}

#[test]
fn folder_and_gguf_agree_on_special_tokens_and_template() {
    for name in GOLDEN {
        let folder = Tokenizer::from_folder(&golden_dir(name)).unwrap();
        let gguf = from_gguf(&golden_dir(name).join("tokenizer.gguf"));
        assert_eq!(folder.eos_id(), gguf.eos_id());
        assert_eq!(folder.bos_token(), gguf.bos_token());
        assert_eq!(folder.special_ids, gguf.special_ids, "{name}");
        assert_eq!(folder.chat_template(), gguf.chat_template());
        assert!(folder.chat_template().is_some(), "{name}");
        assert_ne!(folder.fingerprint(), "");
    }
}

#[test]
fn saved_tokenizers_are_the_same_again() {
    for name in GOLDEN {
        let golden = read(&golden_dir(name).join("golden.json"));
        let dir = tempfile::tempdir().unwrap();
        for (tokenizer, cases) in [
            (Tokenizer::from_folder(&golden_dir(name)).unwrap(), &golden["cases"]),
            (from_gguf(&golden_dir(name).join("tokenizer.gguf")), &golden["gguf_cases"]),
        ] {
            tokenizer.save(dir.path()).unwrap();
            let again = Tokenizer::from_folder(dir.path()).unwrap();
            check_encoding(&again, cases, name);
            assert_eq!(again.fingerprint(), tokenizer.fingerprint(), "{name}");
            assert_eq!(again.special, tokenizer.special);
            assert_eq!(again.special_ids, tokenizer.special_ids);
            assert_eq!(again.chat_template(), tokenizer.chat_template());
        }
    }
}

#[test]
fn a_first_word_has_no_space_inside_a_text() {
    let tokenizer = Tokenizer::from_folder(&golden_dir("spm-llama")).unwrap();
    let whole = tokenizer.encode("the sea and</s>the sun</s>").unwrap();
    let mut parts = tokenizer.encode("the sea").unwrap();
    parts.extend(tokenizer.encode_continuation(" and</s>", parts.last().copied()).unwrap());
    parts.extend(tokenizer.encode_continuation("the sun</s>", parts.last().copied()).unwrap());
    assert_eq!(parts, whole);
    // A special token inside the part: only what stands before it continues the text.
    let mut parts = tokenizer.encode("the sea").unwrap();
    parts.extend(tokenizer.encode_continuation(" and</s>the sun</s>", parts.last().copied()).unwrap());
    assert_eq!(parts, whole);
    assert!(tokenizer.encode_continuation("", Some(9)).unwrap().is_empty());
    // Byte-level tokenizers have no such space.
    let tokenizer = Tokenizer::from_folder(&golden_dir("bpe-smollm")).unwrap();
    assert_eq!(tokenizer.encode_continuation("Hello", Some(9)).unwrap(), tokenizer.encode("Hello").unwrap());
}

#[test]
fn the_space_before_a_text_can_be_switched() {
    let tokenizer = Tokenizer::from_folder(&golden_dir("spm-llama")).unwrap();
    let with = tokenizer.encode("the sea").unwrap();
    let without = tokenizer.encode_continuation("the sea", Some(300)).unwrap();
    assert_ne!(with, without);
    let off = tokenizer.clone().with_prefix_space(false).unwrap();
    assert_eq!(off.encode("the sea").unwrap(), without);
    assert_eq!(off.encode("</s>the sea").unwrap()[1..], without);
    assert_eq!(off.decode(&without, false).unwrap(), "the sea");
    assert_eq!(off.decode(&with, false).unwrap(), " the sea");
    assert_ne!(off.fingerprint(), tokenizer.fingerprint());
    let on = off.clone().with_prefix_space(true).unwrap();
    assert_eq!(on.encode("the sea").unwrap(), with);
    assert_eq!(on.decode(&with, false).unwrap(), "the sea");
    let dir = tempfile::tempdir().unwrap();
    off.save(dir.path()).unwrap();
    assert_eq!(Tokenizer::from_folder(dir.path()).unwrap().encode("the sea").unwrap(), without);
    // Byte-level: GPT-2 style, a space before a word that has none.
    let tokenizer = Tokenizer::from_folder(&golden_dir("bpe-smollm")).unwrap();
    let on = tokenizer.clone().with_prefix_space(true).unwrap();
    assert_eq!(on.encode("Hello").unwrap(), tokenizer.encode(" Hello").unwrap());
    assert_eq!(on.encode_continuation("Hello", Some(9)).unwrap(), tokenizer.encode("Hello").unwrap());
}

#[test]
fn added_markers_become_single_tokens() {
    let mut tokenizer = Tokenizer::from_folder(&golden_dir("bpe-smollm")).unwrap();
    let before = tokenizer.fingerprint();
    assert_eq!(
        tokenizer.add_tokens(&["<|prompt|>".into(), "<|answer|>".into(), "<tool>".into()]).unwrap(),
        2
    );
    assert_eq!(tokenizer.vocab_size(), 404);
    let ids = tokenizer.encode("<|prompt|>a<|answer|>").unwrap();
    assert_eq!((ids[0], ids[2]), (402, 403));
    assert!(!tokenizer.is_special(402));
    assert_eq!(tokenizer.token_text(403), "<|answer|>");
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "<|prompt|>a<|answer|>");
    assert_ne!(tokenizer.fingerprint(), before);
    assert_eq!(tokenizer.add_tokens(&["<|prompt|>".into()]).unwrap(), 0);
}

#[test]
fn single_tokens_are_readable() {
    let tokenizer = Tokenizer::from_folder(&golden_dir("bpe-smollm")).unwrap();
    let ids = tokenizer.encode("日<|im_end|> the").unwrap();
    let texts: Vec<String> = ids.iter().map(|id| tokenizer.token_text(*id)).collect();
    assert_eq!(texts, ["<0xE6>", "<0x97>", "<0xA5>", "<|im_end|>", " the"]);
    assert_eq!(tokenizer.token_text(9999), "<id 9999>");
    assert_eq!(tokenizer.token_bytes(9999), b"");
    assert_eq!(tokenizer.token_id("Ġthe"), ids.last().copied());
}

/// A folder with a tiny word-level tokenizer and this configuration.
fn folder_with(config: Value, map: Value, words: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let vocab: Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).into(), json!(id))).collect();
    let rules = json!({
        "version": "1.0", "truncation": {"max_length": 2, "stride": 0, "strategy": "LongestFirst", "direction": "Right"},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": null, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "a"},
        "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null,
        "decoder": null, "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "a"},
    });
    fs::write(dir.path().join("tokenizer.json"), rules.to_string()).unwrap();
    fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    fs::write(dir.path().join("special_tokens_map.json"), map.to_string()).unwrap();
    dir
}

#[test]
fn special_tokens_fall_back() {
    let words = ["a", "b", "</s>", "<unk>", "<|endoftext|>", "[PAD]"];
    let load = |config, map| {
        let dir = folder_with(config, map, &words);
        Tokenizer::from_folder(dir.path()).unwrap()
    };
    // Nothing named: end of text is </s>, padding falls back to it, and nothing is inserted or cut.
    let tokenizer = load(json!({}), json!({}));
    assert_eq!((tokenizer.eos_token(), tokenizer.eos_id(), tokenizer.pad_id()), ("</s>", 2, 2));
    assert_eq!((tokenizer.bos_token(), tokenizer.unk_token(), tokenizer.bos_or_eos_id()), (None, None, 2));
    assert!(tokenizer.is_special(2));
    assert_eq!(tokenizer.encode("a</s>").unwrap(), [0, 2]);
    assert_eq!(tokenizer.encode("a b a b").unwrap(), [0, 1, 0, 1]);
    // Padding falls back to the unknown token first.
    let tokenizer = load(json!({"unk_token": "<unk>"}), json!({}));
    assert_eq!((tokenizer.pad_id(), tokenizer.pad_token(), tokenizer.unk_id()), (3, "<unk>", Some(3)));
    // As text or object, in either file; the map wins over configurations without added_tokens_decoder.
    let tokenizer = load(
        json!({"eos_token": {"content": "b", "lstrip": false}, "pad_token": null}),
        json!({"eos_token": "<|endoftext|>", "pad_token": {"content": "[PAD]"}}),
    );
    assert_eq!((tokenizer.eos_id(), tokenizer.pad_id()), (4, 5));
    let tokenizer = load(json!({"eos_token": "b", "added_tokens_decoder": {}}), json!({"eos_token": "</s>"}));
    assert_eq!(tokenizer.eos_id(), 1);
    // GPT-2's files name nothing at all.
    let tokenizer = load(json!({"tokenizer_class": "GPT2Tokenizer"}), json!({}));
    assert_eq!((tokenizer.eos_id(), tokenizer.bos_id(), tokenizer.unk_id()), (4, Some(4), Some(4)));
    // Further special tokens, as a list or with names.
    let tokenizer = load(json!({"additional_special_tokens": ["a"]}), json!({}));
    assert!(tokenizer.is_special(0) && !tokenizer.is_special(1));
    let tokenizer = load(json!({"extra_special_tokens": {"image_token": "b"}}), json!({}));
    assert!(tokenizer.is_special(1) && !tokenizer.is_special(0));
    // A named token that the vocabulary lacks is appended.
    let tokenizer = load(json!({"pad_token": "<new>"}), json!({}));
    assert_eq!((tokenizer.pad_id(), tokenizer.vocab_size()), (6, 7));
}

#[test]
fn templates_are_found_wherever_they_are() {
    let words = ["a", "</s>"];
    let source = |config: Value| {
        let dir = folder_with(config, json!({}), &words);
        let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
        tokenizer.chat_template().map(|template| template.source().to_owned())
    };
    assert_eq!(source(json!({})), None);
    assert_eq!(source(json!({"chat_template": "x"})).as_deref(), Some("x"));
    let named = json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
    assert_eq!(source(json!({"chat_template": named})).as_deref(), Some("d"));
    assert_eq!(source(json!({"chat_template": [{"name": "only", "template": "o"}]})).as_deref(), Some("o"));

    let dir = folder_with(json!({"chat_template": "config"}), json!({}), &words);
    fs::write(dir.path().join("chat_template.json"), r#"{"chat_template": "json"}"#).unwrap();
    assert_eq!(Tokenizer::from_folder(dir.path()).unwrap().chat_template().unwrap().source(), "json");
    fs::write(dir.path().join("chat_template.jinja"), "file").unwrap();
    assert_eq!(Tokenizer::from_folder(dir.path()).unwrap().chat_template().unwrap().source(), "file");
}

#[test]
fn what_is_no_tokenizer_is_refused_with_a_reason() {
    let reason = |dir: &Path| Tokenizer::from_folder(dir).unwrap_err().to_string();
    let dir = tempfile::tempdir().unwrap();
    assert!(reason(dir.path()).contains("tokenizer.json is missing"));
    fs::write(dir.path().join("tokenizer.model"), b"").unwrap();
    assert!(reason(dir.path()).contains("has tokenizer.model but no tokenizer.json"));
    fs::write(dir.path().join("tokenizer.json"), b"{").unwrap();
    assert!(reason(dir.path()).contains("invalid JSON"));
    fs::write(dir.path().join("tokenizer.json"), b"{}").unwrap();
    assert!(reason(dir.path()).contains("tokenizer"));
    let dir = folder_with(json!({}), json!({}), &["a", "b"]);
    assert!(reason(dir.path()).contains("no end-of-text token"));
    fs::write(dir.path().join("tokenizer_config.json"), b"[]").unwrap();
    assert!(reason(dir.path()).contains("expected an object"));
}

#[test]
fn merges_are_checked_before_the_library_indexes_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let reason = |merges: Value, prefix: Value| {
        let rules = json!({
            "version": "1.0", "added_tokens": [],
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "</s>": 2, "é": 3}, "merges": merges,
                      "continuing_subword_prefix": prefix},
        });
        fs::write(dir.path().join("tokenizer.json"), rules.to_string()).unwrap();
        Tokenizer::from_folder(dir.path()).map_or_else(|error| error.to_string(), |_| "fine".into())
    };
    assert_eq!(reason(json!([]), Value::Null), "fine");
    assert!(reason(json!(["a </s>"]), Value::Null).contains("needs the piece \"a</s>\""));
    assert!(reason(json!([["a", "b", "c"]]), Value::Null).contains("merge 0 is not a pair"));
    assert!(reason(json!(["a b"]), json!("###")).contains("shorter than the prefix"));
    assert!(reason(json!(["a é"]), json!("#")).contains("shorter than the prefix"));
}

#[test]
fn damaged_gguf_vocabularies_are_refused() {
    use crate::gguf_metadata::{Array, Value};
    let strings =
        |texts: &[&str]| Value::Array(Array::String(texts.iter().map(|text| (*text).into()).collect()));
    let base = || {
        std::collections::BTreeMap::from([
            ("tokenizer.ggml.model".to_owned(), Value::String("gpt2".into())),
            ("tokenizer.ggml.pre".to_owned(), Value::String("gpt-2".into())),
            ("tokenizer.ggml.tokens".to_owned(), strings(&["a", "b", "ab", "", "</s>", "b"])),
            ("tokenizer.ggml.merges".to_owned(), strings(&["a b"])),
            ("tokenizer.ggml.eos_token_id".to_owned(), Value::Int(4)),
        ])
    };
    let build = |key: &str, value: Option<Value>| {
        let mut pairs = base();
        match value {
            Some(value) => pairs.insert(key.to_owned(), value),
            None => pairs.remove(key),
        };
        Tokenizer::from_gguf(&Metadata::new(Path::new("m.gguf"), pairs))
    };
    // Empty and repeated tokens keep their ids.
    let tokenizer = build("", Some(Value::Bool(true))).unwrap();
    assert_eq!(tokenizer.vocab_size(), 6);
    assert_eq!(tokenizer.encode("abb").unwrap(), [2, 5]);
    let reason = |key: &str, value: Option<Value>| build(key, value).unwrap_err().to_string();
    let unknown = reason("tokenizer.ggml.pre", Some(Value::String("brand-new".into())));
    assert!(unknown.contains("\"brand-new\" is not supported") && unknown.contains("llama-bpe"), "{unknown}");
    assert!(reason("tokenizer.ggml.model", Some(Value::String("rwkv".into()))).contains("\"rwkv\""));
    assert!(reason("tokenizer.ggml.model", None).contains("no tokenizer"));
    assert!(reason("tokenizer.ggml.tokens", None).contains("empty"));
    assert!(reason("tokenizer.ggml.merges", None).contains("no merges"));
    assert!(reason("tokenizer.ggml.merges", Some(strings(&["a c"]))).contains("needs the piece"));
    assert!(reason("tokenizer.ggml.merges", Some(strings(&["ab"]))).contains("not a pair"));
    assert!(reason("tokenizer.ggml.eos_token_id", Some(Value::Int(6))).contains("has 6 tokens"));
    let types = Value::Array(Array::I32(vec![1]));
    assert!(reason("tokenizer.ggml.token_type", Some(types)).contains("1 entries for 6"));
    assert!(reason("tokenizer.ggml.model", Some(Value::String("llama".into()))).contains("no scores"));
}

/// The ids that transformers gives for a real model, from its GGUF file and from a Hugging Face folder.
#[test]
fn smollm2_ids_are_those_of_transformers() {
    let shared = std::env::var_os("TUNESMITH_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let golden = shared.join("data/smollm2-golden/golden.json");
    let cache = std::env::var_os("TUNESMITH_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/tunesmith")));
    let models = cache.unwrap_or_default().join("models");
    let mut tokenizers = Vec::new();
    let gguf = models.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    if gguf.exists() {
        tokenizers.push(("GGUF", from_gguf(&gguf)));
    }
    let folder = models.join("smollm2-135m");
    if folder.exists() {
        tokenizers.push(("folder", Tokenizer::from_folder(&folder).unwrap()));
    }
    if tokenizers.is_empty() || !golden.exists() {
        eprintln!("skipped: needs {} and {} or {}", golden.display(), gguf.display(), folder.display());
        return;
    }
    let golden = read(&golden);
    for (what, tokenizer) in tokenizers {
        for case in golden["generations"].as_array().unwrap() {
            let message = crate::chat_template::ChatMessage::new("user", case["user"].as_str().unwrap());
            let template = tokenizer.chat_template().unwrap();
            let bos = tokenizer.bos_token().unwrap();
            let prompt = template.render(&[message], true, bos, tokenizer.eos_token()).unwrap();
            assert_eq!(prompt, case["prompt"].as_str().unwrap(), "{what}");
            assert_eq!(tokenizer.encode(&prompt).unwrap(), ids(&case["prompt_ids"]), "{what}");
            let new = ids(&case["new_ids"]);
            assert_eq!(
                tokenizer.decode(&new, true).unwrap().trim(),
                case["text"].as_str().unwrap(),
                "{what}"
            );
        }
        for case in golden["logits"].as_array().unwrap() {
            assert_eq!(
                tokenizer.encode(case["prompt"].as_str().unwrap()).unwrap(),
                ids(&case["ids"]),
                "{what}"
            );
        }
        for case in golden["losses"].as_array().unwrap() {
            let turn =
                |role, key: &str| crate::chat_template::ChatMessage::new(role, case[key].as_str().unwrap());
            let turns = [turn("user", "user"), turn("assistant", "answer")];
            let text =
                tokenizer.chat_template().unwrap().render(&turns, false, "", tokenizer.eos_token()).unwrap();
            assert_eq!(tokenizer.encode(&text).unwrap(), ids(&case["ids"]), "{what}");
        }
        assert_eq!(tokenizer.vocab_size(), 49152);
        assert_eq!(
            (tokenizer.eos_id(), tokenizer.bos_id(), tokenizer.unk_id(), tokenizer.pad_id()),
            (2, Some(1), Some(0), 2)
        );
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

    /// Bytes changed, cut off or doubled anywhere give a tokenizer or an error, never a crash.
    #[test]
    fn damaged_files_never_crash(
        edits in proptest::collection::vec((0.0..1.0f64, 0u8..=255), 1..4),
        cut in 0.5..1.5f64,
        name in proptest::sample::select(&GOLDEN[..]),
    ) {
        let mut bytes = fs::read(golden_dir(name).join("tokenizer.json")).unwrap();
        let length = bytes.len();
        for (place, byte) in edits {
            bytes[(place * length as f64) as usize] = byte;
        }
        if cut < 1.0 {
            bytes.truncate((cut * length as f64) as usize);
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tokenizer.json"), bytes).unwrap();
        fs::copy(golden_dir(name).join("tokenizer_config.json"), dir.path().join("tokenizer_config.json")).unwrap();
        if let Ok(tokenizer) = Tokenizer::from_folder(dir.path()) {
            let ids = tokenizer.encode("Hello wörld, 日本 123<|im_end|></s>").unwrap_or_default();
            let _ = tokenizer.decode(&ids, false);
            let _ = tokenizer.encode_continuation("and on", ids.last().copied());
        }
    }
}
