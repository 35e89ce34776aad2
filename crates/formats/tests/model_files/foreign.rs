//! Folders and files as people really have them: split GGUF files, pointers in place of weights, other programs' formats.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_formats::{FormatError, ModelSource};

use crate::golden_path;

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 538090408\n";
const PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n";
const PARTS: [&str; 3] =
    ["gpt2-tiny-00001-of-00003.gguf", "gpt2-tiny-00002-of-00003.gguf", "gpt2-tiny-00003-of-00003.gguf"];

/// A copy of the golden folder `name` without its golden files.
fn copy_of(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden_path(name)).unwrap() {
        let path = entry.unwrap().path();
        let file_name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !file_name.starts_with("golden") {
            fs::copy(&path, copy.path().join(file_name)).unwrap();
        }
    }
    copy
}

fn refusal(path: &Path) -> FormatError {
    ModelSource::open(path).map(|source| source.path().to_owned()).unwrap_err()
}

fn set_config(folder: &Path, key: &str, value: Value) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn a_split_gguf_model_is_the_same_as_the_whole_one() {
    let whole = ModelSource::open(&golden_path("gguf/gpt2-tiny.gguf")).unwrap();
    let folder = golden_path("gguf/split");
    let ways: Vec<PathBuf> = PARTS.iter().map(|part| folder.join(part)).chain([folder.clone()]).collect();
    for path in ways {
        let split = ModelSource::open(&path).unwrap();
        assert_eq!(split.tensors(), whole.tensors(), "{}", path.display());
        assert_eq!(split.config().raw, whole.config().raw);
        for tensor in whole.tensors() {
            assert_eq!(split.read_f32(&tensor.name).unwrap(), whole.read_f32(&tensor.name).unwrap());
        }
        assert_eq!(split.fingerprint().unwrap(), whole.fingerprint().unwrap());
        assert_eq!(split.tokenizer().unwrap().fingerprint(), whole.tokenizer().unwrap().fingerprint());
    }
}

#[test]
fn a_part_that_is_missing_or_of_another_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, from: &str| {
        fs::copy(golden_path("gguf/split").join(from), folder.path().join(name)).unwrap();
        folder.path().join(name)
    };
    for part in &PARTS[1..] {
        put(part, part);
    }
    // Neither a later part nor the folder can do without the first one.
    for path in [folder.path().join(PARTS[2]), folder.path().to_owned()] {
        let error = refusal(&path);
        let text = error.to_string();
        assert!(text.contains(PARTS[0]) && text.contains("part 1 of 3"), "{text}");
        assert!(error.hint().unwrap().contains("one folder"));
    }
    // The first part under the name of another one.
    put(PARTS[0], PARTS[0]);
    fs::remove_file(folder.path().join(PARTS[2])).unwrap();
    put(PARTS[2], PARTS[1]);
    let text = refusal(&folder.path().join(PARTS[0])).to_string();
    assert!(text.contains(PARTS[2]) && text.contains("should be part 3 of 3"), "{text}");
    let text = refusal(&put("first.gguf", PARTS[0])).to_string();
    assert!(text.contains("part 1 of 3") && text.contains("model-00001-of-00003.gguf"), "{text}");
    // Two models in one folder.
    assert!(refusal(folder.path()).to_string().contains("several .gguf files"));
}

#[test]
fn pointers_and_pages_in_a_files_place_are_told() {
    for (content, what) in [(POINTER, "Git LFS pointer"), (PAGE, "HTML page")] {
        for name in ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "m.gguf"]
        {
            let folder = copy_of("llama-mha");
            for file in ["tokenizer.json", "tokenizer_config.json"] {
                fs::copy(golden_path("tokenizers/spm-llama").join(file), folder.path().join(file)).unwrap();
            }
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            let error = match name.starts_with("tokenizer") {
                true => Tokenizer::from_folder(folder.path()).unwrap_err(),
                false if name == "m.gguf" => refusal(&path),
                false => refusal(folder.path()),
            };
            let text = error.to_string();
            assert!(matches!(error, FormatError::Impostor { .. }), "{name}: {text}");
            assert!(text.contains(name) && text.contains(what), "{text}");
            assert_eq!(error.hint().unwrap().contains("git lfs pull"), content == POINTER, "{name}");
        }
    }
    let folder = copy_of("llama-sharded");
    let shard = |no: &str| {
        let mut shards: Vec<PathBuf> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        shards.retain(|path| path.to_string_lossy().contains(&format!("-0000{no}-of")));
        shards.pop().unwrap()
    };
    let path = shard("2");
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    fs::write(&path, POINTER).unwrap();
    let text = refusal(folder.path()).to_string();
    assert!(text.contains(&name) && text.contains("Git LFS pointer"), "{text}");
    fs::remove_file(&path).unwrap();
    let text = refusal(folder.path()).to_string();
    assert!(
        text.contains(&name) && text.contains("which model.safetensors.index.json names, is missing"),
        "{text}"
    );
    fs::write(folder.path().join("model.safetensors.index.json"), POINTER).unwrap();
    let text = refusal(folder.path()).to_string();
    assert!(text.contains("index.json") && text.contains("Git LFS pointer"), "{text}");
}

/// Folders and a file that stand for what people got from hubs and clones.
#[test]
fn pointers_of_the_shared_cases_are_told() {
    let shared = std::env::var_os("TUNESMITH_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let cases = shared.join("cases/16-lfs-pointers");
    if !cases.is_dir() {
        eprintln!("skipped: there is no {}", cases.display());
        return;
    }
    for (name, file) in
        [("weights", "model.safetensors"), ("html", "model.safetensors"), ("model.gguf", "model.gguf")]
    {
        let error = refusal(&cases.join(name));
        assert!(matches!(error, FormatError::Impostor { .. }), "{error}");
        assert!(error.to_string().contains(file), "{error}");
    }
    let error = Tokenizer::from_folder(&cases.join("tokenizer")).unwrap_err();
    assert!(error.to_string().contains("tokenizer.json: this is a Git LFS pointer"), "{error}");
    let text = refusal(&cases.join("shard")).to_string();
    assert!(text.contains("model-00002-of-00002.safetensors: this shard"), "{text}");
}

#[test]
fn weights_of_other_programs_are_named_with_what_to_do() {
    for (name, format) in [
        ("pytorch_model.bin", "pickled"),
        ("pytorch_model-00001-of-00002.bin", "pickled"),
        ("consolidated.00.pth", "pickled"),
        ("model.ckpt", "pickled"),
        ("tf_model.h5", "TensorFlow"),
        ("flax_model.msgpack", "Flax"),
        ("model.onnx", "ONNX"),
    ] {
        let folder = copy_of("llama-mha");
        fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        fs::write(folder.path().join(name), b"").unwrap();
        let text = refusal(folder.path()).to_string();
        assert!(text.contains(name) && text.contains(format), "{text}");
        let command = format!("M.from_pretrained('{0}').save_pretrained('{0}')\"", folder.path().display());
        assert!(text.contains(&command), "{text}");
    }
}

#[test]
fn quantised_checkpoints_are_named_with_what_to_take_instead() {
    for quantization in [
        json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4"}),
        json!({"quant_method": "bitsandbytes", "load_in_8bit": true}),
        json!({"quant_method": "gptq", "bits": 4, "group_size": 128}),
        json!({"quant_method": "awq", "bits": 4}),
        json!({"quant_method": "fp8", "weight_block_size": [128, 128]}),
        json!({"quant_method": "compressed-tensors"}),
        json!({"quant_method": "mxfp4"}),
    ] {
        let folder = copy_of("llama-mha");
        let method = quantization["quant_method"].as_str().unwrap().to_owned();
        set_config(folder.path(), "quantization_config", quantization);
        let error = refusal(folder.path());
        let text = error.to_string();
        assert!(text.contains("config.json: quantization_config") && text.contains(&method), "{text}");
        let hint = error.hint().unwrap();
        assert!(hint.contains("NAME-bnb-4bit") && hint.contains("architecture.backbone_dtype nf4"), "{hint}");
    }
}

#[test]
fn vocabularies_of_other_programs_are_named_with_what_to_do() {
    for name in [
        "tokenizer.model",
        "spiece.model",
        "sentencepiece.bpe.model",
        "vocab.txt",
        "tekken.json",
        "vocab.json",
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), b"{}").unwrap();
        let text = Tokenizer::from_folder(folder.path()).unwrap_err().to_string();
        assert!(text.contains(&format!("has {name} but no tokenizer.json")), "{text}");
        let command = format!("T.from_pretrained('{0}').save_pretrained('{0}')\"", folder.path().display());
        assert!(text.contains(&command), "{text}");
    }
}
