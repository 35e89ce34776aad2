//! Output heads that a configuration calls tied, and what the weights say; and tensors read piece by piece.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tunesmith_formats::safetensors_io::{SafetensorsFile, read_safetensors_f32, write_safetensors};
use tunesmith_formats::{FormatError, ModelSource, NamedTensor, StoreDtype};

use crate::golden_path;

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// `llama-mha`, which has a head of its own, with another word on it and changed tensors.
fn model(is_tied: bool, change: impl FnOnce(&mut Vec<NamedTensor>)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read(golden_path("llama-mha").join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    config["tie_word_embeddings"] = is_tied.into();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let mut tensors = read_safetensors_f32(&golden_path("llama-mha").join("model.safetensors")).unwrap();
    change(&mut tensors);
    write_safetensors(&folder.path().join("model.safetensors"), &tensors, &[], StoreDtype::F32).unwrap();
    folder
}

fn named<'a>(tensors: &'a mut [NamedTensor], name: &str) -> &'a mut NamedTensor {
    tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
}

fn tie(tensors: &mut [NamedTensor]) {
    let data = named(tensors, EMBEDDING).data.clone();
    named(tensors, HEAD).data = data;
}

#[test]
fn a_stored_head_that_differs_counts_and_is_told() {
    for prefix in ["model.", ""] {
        let folder = model(true, |tensors| {
            tensors.iter_mut().for_each(|tensor| tensor.name = tensor.name.replacen("model.", prefix, 1));
        });
        let source = ModelSource::open(folder.path()).unwrap();
        assert!(!source.config().tie_word_embeddings && source.contains(HEAD) && source.contains(EMBEDDING));
        let [note] = source.notes() else { panic!("{:?}", source.notes()) };
        assert!(note.contains("tie_word_embeddings") && note.contains(HEAD), "{note}");
        assert_eq!(source.config().to_json(StoreDtype::F32)["tie_word_embeddings"], false);
    }
}

#[test]
fn a_stored_copy_of_the_embedding_is_tied_without_a_word() {
    let source = |folder: &TempDir| ModelSource::open(folder.path()).unwrap();
    let folder = model(true, |tensors| tie(tensors));
    let copied = source(&folder);
    assert!(copied.config().tie_word_embeddings && !copied.contains(HEAD) && copied.notes().is_empty());
    let bare = model(true, |tensors| {
        tie(tensors);
        tensors.iter_mut().for_each(|tensor| tensor.name = tensor.name.replacen("model.", "", 1));
    });
    assert!(source(&bare).config().tie_word_embeddings && !source(&bare).contains(HEAD));
    // Untied by name with two matrices that happen to be equal: both are there and may be trained apart.
    let untied = model(false, |tensors| tie(tensors));
    assert!(!source(&untied).config().tie_word_embeddings && source(&untied).contains(HEAD));
}

/// The same numbers in two formats are the same matrix; others are not.
#[test]
fn heads_of_another_format_are_compared_by_value() {
    for (value, is_copy) in [(0.5f32, true), (0.1, false)] {
        let folder = model(true, |tensors| {
            tensors.retain(|tensor| tensor.name != HEAD);
            named(tensors, EMBEDDING).data.fill(value);
        });
        let main = folder.path().join("model.safetensors");
        let head = NamedTensor { name: HEAD.into(), shape: vec![96, 32], data: vec![value; 96 * 32] };
        let shard = |name: &str| folder.path().join(name);
        std::fs::rename(&main, shard("a.safetensors")).unwrap();
        write_safetensors(&shard("b.safetensors"), &[head], &[], StoreDtype::BF16).unwrap();
        let names = |file: &str| -> Vec<String> {
            SafetensorsFile::open(&shard(file)).unwrap().tensors().map(|info| info.name.clone()).collect()
        };
        let places = ["a.safetensors", "b.safetensors"]
            .into_iter()
            .flat_map(|file| names(file).into_iter().map(move |name| (name, Value::from(file))));
        let index = serde_json::json!({ "weight_map": Value::Object(places.collect()) });
        std::fs::write(shard("model.safetensors.index.json"), index.to_string()).unwrap();
        let source = ModelSource::open(folder.path()).unwrap();
        assert_eq!(source.config().tie_word_embeddings, is_copy, "{value}");
    }
}

#[test]
fn a_head_that_is_neither_stored_nor_tied_is_named() {
    let folder = model(false, |tensors| tensors.retain(|tensor| tensor.name != HEAD));
    let error = ModelSource::open(folder.path()).unwrap_err();
    assert!(matches!(error, FormatError::NotAModel { .. }), "{error}");
    assert!(error.to_string().contains(HEAD) && error.to_string().contains("tie_word_embeddings"), "{error}");
}

#[test]
fn pieces_of_a_tensor_are_its_rows_in_order() {
    let golden = |name: &str| ModelSource::open(&golden_path(name)).unwrap();
    for source in [
        golden("llama-mha"),
        golden("gpt2"),
        golden("gguf/llama-blocks.gguf"),
        golden("gguf/llama3-tiny.gguf"),
    ] {
        for info in source.tensors() {
            let (_, whole) = source.read_f32(&info.name).unwrap();
            let width = info.shape.iter().skip(1).product::<usize>();
            for max_values in [1, 3 * width, 1 << 20] {
                let mut pieces: Vec<Vec<f32>> = Vec::new();
                source
                    .read_pieces(&info.name, max_values, |piece| {
                        pieces.push(piece.to_vec());
                        Ok::<(), FormatError>(())
                    })
                    .unwrap();
                assert_eq!(pieces.concat(), whole, "{} {max_values}", info.name);
                let (_, all_but_last) = pieces.split_last().unwrap();
                assert!(all_but_last.iter().all(|piece| piece.len().is_multiple_of(2 * width)));
                assert!(all_but_last.iter().all(|piece| piece.len() <= max_values.max(2 * width) + width));
            }
        }
    }
    let stop = golden("gpt2").read_pieces("transformer.wte.weight", 64, |_| {
        Err(FormatError::Missing { path: Path::new("x").to_owned(), what: "room".into() })
    });
    assert!(matches!(stop, Err(FormatError::Missing { .. })));
}
