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

/// The ids of the `tokenizer.json`, where one token takes white space along, and those of llama.cpp for a Phi 3.
#[test]
fn a_phi3_file_gives_the_ids_of_the_folder_and_of_llama_cpp() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gguf/phi3-tiny.gguf");
    let tokenizer = Tokenizer::from_gguf(GgufFile::open(&path).unwrap().metadata()).unwrap();
    let golden = golden("spm-llama/golden.json");
    for case in golden["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), ids(&case["ids"]), "{text:?}");
    }
    for (text, expected) in [
        ("<|user|> \n\t x", &[420, 358, 397][..]),
        ("</s>\nhi", &[2, 358, 364, 366]),
        ("<s>\nhi", &[1, 358, 13, 364, 366]),
        ("<unk> hi", &[0, 266, 364, 366]),
    ] {
        assert_eq!(tokenizer.encode(text).unwrap(), expected, "{text:?}");
    }
}

/// Files of SmolLM3, Phi 4, OLMo 2 and GLM 4 cut texts as Llama 3's do, and start them with nothing.
#[test]
fn names_of_the_same_rules_give_the_same_ids() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tokenizers/bpe-llama3/tokenizer.gguf");
    let file = GgufFile::open(&path).unwrap();
    let golden = golden("bpe-llama3/golden.json");
    for name in ["llama-bpe", "smaug-bpe", "dbrx", "glm4", "chatglm-bpe"] {
        let mut fields: BTreeMap<String, Field> =
            file.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        fields.insert("tokenizer.ggml.pre".into(), Field::String(name.into()));
        fields.remove("tokenizer.ggml.add_bos_token");
        let tokenizer = Tokenizer::from_gguf(&Metadata::new(Path::new("m.gguf"), fields)).unwrap();
        assert_eq!(tokenizer.start_id().is_some(), name == "llama-bpe");
        for case in golden["gguf_cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text).unwrap(), ids(&case["ids"]), "{name}: {text:?}");
        }
    }
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

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tokenizers").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

#[test]
fn what_stands_around_a_text_is_that_of_transformers() {
    let golden = golden("post_processors.json");
    let mut found = Vec::new();
    for case in golden["cases"].as_array().unwrap() {
        let mut rules = golden["tokenizer"].clone();
        rules["post_processor"] = case["rules"].clone();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tokenizer.json"), rules.to_string()).unwrap();
        for flags in ["", r#", "add_bos_token": true, "add_eos_token": true"#, r#", "add_bos_token": false"#]
        {
            let config = format!(r#"{{"bos_token": "<s>", "eos_token": "</s>"{flags}}}"#);
            fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
            let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
            let (before, after) = tokenizer.around();
            let text = tokenizer.encode("ab").unwrap();
            assert_eq!([&before[..], &text, &after].concat(), ids(&case["ids"]), "{}", case["of"]);
            assert_eq!(tokenizer.start_id(), before.first().copied().filter(|id| *id == 2), "{}", case["of"]);
            assert_eq!(tokenizer.end_id(), after.last().copied(), "{}", case["of"]);
            if flags.is_empty() {
                found.push((before, after));
            }
        }
    }
    let expected: [(&[u32], &[u32]); 9] = [
        (&[], &[]),
        (&[], &[]),
        (&[2], &[]),
        (&[2], &[]),
        (&[], &[3]),
        (&[2], &[3]),
        (&[2, 4], &[]),
        (&[4], &[]),
        (&[2], &[3]),
    ];
    let expected: Vec<_> =
        expected.into_iter().map(|(before, after)| (before.to_vec(), after.to_vec())).collect();
    assert_eq!(found, expected);
    // A vocabulary without letters has the same around its texts.
    let words = serde_json::json!({"<s>": 2, "</s>": 3});
    for (rules_idx, expected) in [(2, (Some(2), None)), (4, (None, Some(3))), (5, (Some(2), Some(3)))] {
        let mut rules = golden["tokenizer"].clone();
        rules["model"] = serde_json::json!({"type": "BPE", "vocab": words, "merges": []});
        rules["added_tokens"].as_array_mut().unwrap().truncate(2);
        rules["post_processor"] = golden["cases"][rules_idx]["rules"].clone();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tokenizer.json"), rules.to_string()).unwrap();
        fs::write(dir.path().join("tokenizer_config.json"), r#"{"bos_token": "<s>", "eos_token": "</s>"}"#)
            .unwrap();
        let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
        assert_eq!((tokenizer.start_id(), tokenizer.end_id()), expected);
    }
    // One token for both roles, put after texts only, starts none.
    let mut rules = golden["tokenizer"].clone();
    rules["post_processor"] = golden["cases"][4]["rules"].clone();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tokenizer.json"), rules.to_string()).unwrap();
    fs::write(dir.path().join("tokenizer_config.json"), r#"{"bos_token": "</s>", "eos_token": "</s>"}"#)
        .unwrap();
    let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
    assert_eq!((tokenizer.start_id(), tokenizer.end_id()), (None, Some(3)));
}

#[test]
fn a_text_that_a_pattern_gives_up_on_is_refused() {
    let with = |pattern: &str| {
        let mut rules = golden("post_processors.json")["tokenizer"].clone();
        rules["pre_tokenizer"] = serde_json::json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tokenizer.json"), rules.to_string()).unwrap();
        fs::write(dir.path().join("tokenizer_config.json"), r#"{"eos_token": "</s>"}"#).unwrap();
        Tokenizer::from_folder(dir.path()).unwrap()
    };
    // Looks from each digit to the end of the number.
    let tokenizer = with(r"\d{1,3}(?=(?:\d{3})*\b)");
    assert!(tokenizer.encode(&"1".repeat(300)).is_ok());
    let text = tokenizer.encode(&format!("{}x", "1".repeat(4000))).unwrap_err().to_string();
    assert!(text.contains("takes too many steps") && text.contains("cannot encode \"1111"), "{text}");
    assert!(with(r"\p{N}{1,3}|\s+(?!\S)|\s+").encode(&"1 a".repeat(4000)).is_ok());
    assert!(with(r"\p{N}{1,3}|\s+(?!\S)|\s+").encode(&" ".repeat(400_000)).is_ok());
}

#[test]
fn two_files_of_gpt2_and_qwen2_make_a_tokenizer() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tokenizers/bpe-gpt2");
    let golden = golden("bpe-gpt2/golden.json");
    for (class, cases) in golden["cases"].as_object().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["vocab.json", "merges.txt", "added_tokens.json"] {
            fs::copy(source.join(name), dir.path().join(name)).unwrap();
        }
        let config = dir.path().join("tokenizer_config.json");
        fs::write(&config, format!(r#"{{"tokenizer_class": "{class}"}}"#)).unwrap();
        let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
        let saved = tempfile::tempdir().unwrap();
        tokenizer.save(saved.path()).unwrap();
        for tokenizer in [tokenizer, Tokenizer::from_folder(saved.path()).unwrap()] {
            assert_eq!(tokenizer.eos_token(), "<|endoftext|>");
            for case in cases.as_array().unwrap() {
                let text = case["text"].as_str().unwrap();
                assert_eq!(tokenizer.encode(text).unwrap(), ids(&case["ids"]), "{class}: {text:?}");
                assert_eq!(
                    tokenizer.encode(&tokenizer.decode(&ids(&case["ids"]), false).unwrap()).unwrap(),
                    ids(&case["ids"])
                );
            }
        }
        // Another class cuts texts otherwise; nobody knows how.
        for other in [
            r#"{"tokenizer_class": "CodeGenTokenizer"}"#.to_owned(),
            format!(r#"{{"tokenizer_class": "{class}", "add_prefix_space": true}}"#),
        ] {
            fs::write(&config, other).unwrap();
            let text = Tokenizer::from_folder(dir.path()).unwrap_err().to_string();
            assert!(text.contains("has vocab.json but no tokenizer.json"), "{text}");
        }
        fs::write(&config, format!(r#"{{"tokenizer_class": "{class}"}}"#)).unwrap();
        fs::write(dir.path().join("merges.txt"), "#version: 0.2\na b c\n").unwrap();
        let text = Tokenizer::from_folder(dir.path()).unwrap_err().to_string();
        assert!(text.contains("merges.txt") && text.contains("line 2 is not a pair"), "{text}");
    }
}

#[test]
fn named_templates_survive_saving_and_line_ends_are_plain() {
    let golden = golden("post_processors.json");
    let folder = |config: &str| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tokenizer.json"), golden["tokenizer"].to_string()).unwrap();
        fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
        dir
    };
    let sources = |tokenizer: &Tokenizer| {
        let of = |template: Option<&ChatTemplate>| template.map(|template| template.source().to_owned());
        let named: Vec<_> = tokenizer
            .chat_template_names()
            .map(|name| (name.to_owned(), of(tokenizer.named_chat_template(name)).unwrap()))
            .collect();
        assert_eq!(tokenizer.named_chat_template("default"), tokenizer.chat_template());
        (of(tokenizer.chat_template()), named)
    };
    let list = r#"{"eos_token": "</s>", "chat_template": [{"name": "default", "template": "d\r\ne"},
        {"name": "tool_use", "template": "t\rs"}, {"name": "rag", "template": "r"}]}"#;
    let pair = |name: &str, source: &str| (name.to_owned(), source.to_owned());
    let from_list = (Some("d\ne".to_owned()), vec![pair("rag", "r"), pair("tool_use", "t\ns")]);

    let in_config = folder(list);
    // Files of their own win over the configuration, as a whole.
    let in_files = folder(list);
    fs::write(in_files.path().join("chat_template.jinja"), "file\r\n").unwrap();
    fs::create_dir(in_files.path().join("additional_chat_templates")).unwrap();
    fs::write(in_files.path().join("additional_chat_templates/tool_use.jinja"), "tools\r\n").unwrap();
    let from_files = (Some("file\n".to_owned()), vec![pair("tool_use", "tools\n")]);
    let without_default = folder(
        r#"{"eos_token": "</s>", "chat_template": [{"name": "a", "template": "1"}, {"name": "b", "template": "2"}]}"#,
    );
    let neither = (None, vec![pair("a", "1"), pair("b", "2")]);
    for (dir, expected) in [(in_config, from_list), (in_files, from_files), (without_default, neither)] {
        let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
        assert_eq!(sources(&tokenizer), expected);
        let saved = tempfile::tempdir().unwrap();
        tokenizer.save(saved.path()).unwrap();
        let again = Tokenizer::from_folder(saved.path()).unwrap();
        assert_eq!(sources(&again), expected);
        assert_eq!(again.fingerprint(), tokenizer.fingerprint());
        let replaced = tokenizer.clone().with_chat_template(Some(ChatTemplate::new("x".into())));
        assert_eq!(sources(&replaced), (Some("x".into()), expected.1));
        assert_ne!(replaced.fingerprint(), tokenizer.fingerprint());
    }
    let mut fields = phi3_fields("phi3", "");
    for (key, source) in [("", "d\r\n"), (".tool_use", "t")] {
        fields.insert(format!("tokenizer.chat_template{key}"), Field::String(source.into()));
    }
    fields.insert("tokenizer.chat_templates".into(), strings(&["tool_use"]));
    let tokenizer = Tokenizer::from_gguf(&Metadata::new(Path::new("m.gguf"), fields)).unwrap();
    assert_eq!(sources(&tokenizer), (Some("d\n".into()), vec![pair("tool_use", "t")]));
}
