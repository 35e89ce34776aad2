//! Damaged and malicious files: whatever the bytes, the readers return, and never ask for much memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use tunesmith_formats::gguf::GgufFile;
use tunesmith_formats::safetensors_io::{SafetensorsFile, write_safetensors};
use tunesmith_formats::{FormatError, ModelSource, NamedTensor, StoreDtype};

use crate::golden_path;

/// Far more than reading any of the small files below needs, far less than a lying length asks for.
const MAX_ALLOCATION_BYTES: usize = 1 << 24;

/// Remembers the largest request of the current thread.
struct Watching;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "the only way to see allocations is to be the allocator")]
// SAFETY: every call goes to the system's allocator unchanged; the counter is a plain thread-local number
// that needs no allocation and no destructor.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static WATCHING: Watching = Watching;

/// Runs `read` and fails if it asked for too much memory at once.
fn without_large_allocations<T>(read: impl FnOnce() -> T) -> T {
    LARGEST.set(0);
    let result = read();
    let largest = LARGEST.get();
    assert!(largest <= MAX_ALLOCATION_BYTES, "{largest} bytes were asked for at once");
    result
}

fn read_everything_safetensors(path: &Path) -> Result<(), FormatError> {
    let file = SafetensorsFile::open(path)?;
    for info in file.tensors() {
        // Wrong names and types are fine here; a panic is not.
        file.read_f32(&info.name).ok();
    }
    Ok(())
}

fn read_everything_gguf(path: &Path) -> Result<(), FormatError> {
    let file = GgufFile::open(path)?;
    for tensor in file.tensors() {
        file.read_f32(&tensor.name).ok();
    }
    let model = ModelSource::open(path)?;
    for info in model.tensors() {
        model.read_f32(&info.name).ok();
    }
    model.fingerprint()?;
    Ok(())
}

/// A change to a file's bytes.
#[derive(Debug, Clone)]
enum Damage {
    Set {
        at: usize,
        byte: u8,
    },
    /// Eight bytes of a number that matters to readers: huge, negative, or off by one.
    Number {
        at: usize,
        number: u64,
    },
    Cut {
        n_left: usize,
    },
    Insert {
        at: usize,
        bytes: Vec<u8>,
    },
}

fn damage(n_bytes: usize) -> impl Strategy<Value = Damage> {
    // Most of what can go wrong is in the first part of a file.
    let at = prop_oneof![0..n_bytes.min(64), 0..n_bytes];
    let number = prop_oneof![
        Just(u64::MAX),
        Just(u64::MAX / 2),
        Just(1 << 32),
        Just(1 << 40),
        Just(0),
        (0u64..1 << 20),
        any::<u64>(),
    ];
    prop_oneof![
        4 => (at.clone(), any::<u8>()).prop_map(|(at, byte)| Damage::Set { at, byte }),
        4 => (at.clone(), number).prop_map(|(at, number)| Damage::Number { at, number }),
        1 => at.clone().prop_map(|n_left| Damage::Cut { n_left }),
        1 => (at, prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    match damage {
        Damage::Set { at, byte } => {
            if let Some(target) = bytes.get_mut(*at) {
                *target = *byte;
            }
        }
        Damage::Number { at, number } => {
            for (offset, byte) in number.to_le_bytes().into_iter().enumerate() {
                if let Some(target) = bytes.get_mut(at + offset) {
                    *target = byte;
                }
            }
        }
        Damage::Cut { n_left } => bytes.truncate(*n_left),
        Damage::Insert { at, bytes: inserted } => {
            let at = (*at).min(bytes.len());
            bytes.splice(at..at, inserted.iter().copied());
        }
    }
}

/// Made once: writing flushes to the disk.
fn small_safetensors() -> &'static [u8] {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(make_small_safetensors);
    &BYTES
}

fn make_small_safetensors() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let tensor = |name: &str, shape: &[usize]| NamedTensor {
        name: name.into(),
        shape: shape.to_vec(),
        data: vec![1.5; shape.iter().product()],
    };
    write_safetensors(
        &path,
        &[tensor("a", &[2, 3]), tensor("b", &[]), tensor("c", &[5])],
        &[("k", "v")],
        StoreDtype::F16,
    )
    .unwrap();
    fs::read(&path).unwrap()
}

/// Applies damages to `original` and reads the result from a file.
fn survives(
    original: &[u8],
    extension: &str,
    damages: &[Damage],
    read: fn(&Path) -> Result<(), FormatError>,
) -> Result<(), TestCaseError> {
    let mut bytes = original.to_vec();
    damages.iter().for_each(|damage| apply(&mut bytes, damage));
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(format!("a.{extension}"));
    fs::write(&path, &bytes)?;
    if let Err(error) = without_large_allocations(|| read(&path)) {
        prop_assert!(error.to_string().contains("a."), "{error} does not name the file");
    }
    Ok(())
}

proptest! {
    // Enough to reach every field of the headers many times; nothing is written beside the sources.
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_safetensors_never_panic_or_exhaust_memory(
        damages in prop::collection::vec(damage(small_safetensors().len()), 1..4)
    ) {
        survives(small_safetensors(), "safetensors", &damages, read_everything_safetensors)?;
    }

    #[test]
    fn damaged_gguf_never_panics_or_exhausts_memory(
        damages in prop::collection::vec(damage(7648), 1..4)
    ) {
        let original = fs::read(golden_path("gguf/quants.gguf")).unwrap();
        survives(&original, "gguf", &damages, read_everything_gguf)?;
    }
}

proptest! {
    // A larger file with a vocabulary and a whole model behind it: fewer cases.
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_gguf_models_never_panic_or_exhaust_memory(
        damages in prop::collection::vec(damage(30_000), 1..3)
    ) {
        let original = fs::read(golden_path("gguf/llama-tiny.gguf")).unwrap();
        survives(&original, "gguf", &damages, read_everything_gguf)?;
    }
}

#[test]
fn undamaged_files_are_read_without_complaint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    fs::write(&path, small_safetensors()).unwrap();
    without_large_allocations(|| read_everything_safetensors(&path)).unwrap();
    without_large_allocations(|| read_everything_gguf(&golden_path("gguf/llama-tiny.gguf"))).unwrap();
}

/// The head of a GGUF file with the given counts, then `rest`.
fn gguf(version: u32, n_tensors: u64, n_pairs: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(n_tensors.to_le_bytes());
    bytes.extend(n_pairs.to_le_bytes());
    bytes.extend(rest);
    bytes
}

/// A length and a text, as GGUF stores strings.
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A tensor's entry.
fn entry(name: &str, dimensions: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut bytes = text(name);
    bytes.extend((dimensions.len() as u32).to_le_bytes());
    dimensions.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

#[test]
fn every_lie_of_a_gguf_header_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let refusal = |bytes: Vec<u8>| {
        fs::write(&path, bytes).unwrap();
        let error = without_large_allocations(|| GgufFile::open(&path)).map(|_| ()).unwrap_err().to_string();
        error.strip_prefix(&format!("{}: ", path.display())).expect("the path comes first").to_owned()
    };
    let expect = |bytes: Vec<u8>, reason: &str| assert_eq!(refusal(bytes), reason);
    let invalid = "not a valid GGUF file: ";
    expect(vec![], "truncated the magic number: expected 4 bytes, the file has 0");
    expect(b"GGML....".to_vec(), &format!("{invalid}it starts with \"GGML\" instead of \"GGUF\""));
    expect(gguf(1, 0, 0, &[]), &format!("{invalid}version 1 is not supported, only 2 and 3 are"));
    expect(
        gguf(3u32.swap_bytes(), 0, 0, &[]),
        &format!("{invalid}it is big-endian; only little-endian files can be read"),
    );
    assert!(
        refusal(gguf(3, 0, u64::MAX, &[]))
            .starts_with("truncated list of 18446744073709551615 metadata pairs")
    );
    assert!(
        refusal(gguf(3, 1 << 40, 0, &[0; 64])).starts_with("truncated list of 1099511627776 tensor entries")
    );

    let pair = |key: &str, kind: u32, value: &[u8]| [&text(key)[..], &kind.to_le_bytes(), value].concat();
    assert!(refusal(gguf(3, 0, 1, &pair("k", 99, &[0; 8]))).contains("\"k\" has the unknown type 99"));
    assert!(refusal(gguf(3, 0, 1, &pair("k", 7, &[2]))).contains("truth value 2"));
    let array = |kind: u32, count: u64| [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
    for kind in [0, 6, 7, 8, 9, 11] {
        let lie = refusal(gguf(3, 0, 1, &pair("k", 9, &array(kind, u64::MAX / 2))));
        assert!(lie.starts_with("truncated list of 9223372036854775807 values of k"), "{lie}");
    }
    let nested: Vec<u8> = (0..6).flat_map(|_| array(9, 1)).collect();
    assert!(refusal(gguf(3, 0, 1, &pair("k", 9, &nested))).contains("nests arrays too deeply"));
    let twice = [pair("k", 7, &[1]), pair("k", 7, &[1])].concat();
    assert!(refusal(gguf(3, 0, 2, &twice)).contains("\"k\" occurs twice"));
    let bad_text = [&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat();
    assert!(refusal(gguf(3, 0, 1, &pair("k", 8, &bad_text))).contains("not UTF-8"));
    let alignment = pair("general.alignment", 4, &24u32.to_le_bytes());
    assert!(refusal(gguf(3, 0, 1, &alignment)).contains("alignment 24 is not a power of two"));

    let with_data = |entries: &[Vec<u8>], n_data: usize| {
        let mut bytes = gguf(3, entries.len() as u64, 0, &entries.concat());
        bytes.resize(bytes.len().next_multiple_of(32) + n_data, 0);
        bytes
    };
    assert!(
        refusal(with_data(&[entry("t", &[4], 99, 0)], 16))
            .starts_with("tensor \"t\" is stored as the unknown type number 99")
    );
    assert!(refusal(with_data(&[entry("t", &[], 0, 0)], 16)).contains("has 0 dimensions"));
    assert!(
        refusal(with_data(&[entry("t", &[1 << 40, 1 << 40], 0, 0)], 16))
            .contains("more elements than can be counted")
    );
    assert!(refusal(with_data(&[entry("t", &[33], 8, 0)], 64)).contains("not a multiple of the 32 of Q8_0"));
    assert!(refusal(with_data(&[entry("t", &[4], 0, 8)], 64)).contains("offset 8, not a multiple of 32"));
    assert_eq!(
        refusal(with_data(&[entry("t", &[4], 0, 32)], 40)),
        "truncated tensor t: expected 112 bytes, the file has 104"
    );
    assert!(refusal(with_data(&[entry("t", &[4], 0, u64::MAX - 31)], 16)).contains("lies beyond any file"));
    let overlapping = [entry("a", &[16], 0, 0), entry("b", &[4], 0, 32)];
    assert!(refusal(with_data(&overlapping, 64)).contains("\"a\" and \"b\" overlap"));
    let same_name = [entry("a", &[4], 0, 0), entry("a", &[4], 0, 32)];
    assert!(refusal(with_data(&same_name, 64)).contains("\"a\" occurs twice"));
}

#[test]
fn known_types_without_a_decoder_are_named_when_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let mut bytes = gguf(3, 1, 0, &entry("t", &[256], 10, 0));
    bytes.resize(bytes.len().next_multiple_of(32) + 84, 0);
    fs::write(&path, bytes).unwrap();
    let file = GgufFile::open(&path).unwrap();
    let error = file.read_f32("t").unwrap_err();
    assert!(error.to_string().contains("tensor \"t\" is stored as Q2_K"), "{error}");
    assert!(error.hint().unwrap().contains("Q4_K"));
}
