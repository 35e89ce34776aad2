//! No field is parsed and then ignored: each is read somewhere in the other crates, or stands in the list of gaps.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use tunesmith_config::{not_built_note, schema};

/// Fields that mean nothing to a program like this whatever they say, as their help texts tell.
const WITHOUT_MEANING: &[&str] = &[
    // No code of a model is ever executed.
    "environment.trust_remote_code",
    // Parts of DeepSpeed, whose switch is in the list of gaps.
    "environment.deepspeed_method",
    "environment.deepspeed_allgather_bucket_size",
    "environment.deepspeed_reduce_bucket_size",
    "environment.deepspeed_stage3_prefetch_bucket_size",
    "environment.deepspeed_stage3_param_persistence_threshold",
    // Part of Neptune, which is in that list, too.
    "logging.neptune_project",
];

/// The sources of all other crates, without what stands in tests.
fn sources() -> String {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut text = String::new();
    let mut folders = vec![];
    for entry in std::fs::read_dir(crates).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("config") {
            folders.push(path.join("src"));
        }
    }
    // Readers that belong to the declarations.
    text.push_str(&std::fs::read_to_string(crates.join("config/src/sections/environment.rs")).unwrap());
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let source = std::fs::read_to_string(&path).unwrap();
                text.push_str(source.split("#[cfg(test)]\nmod tests").next().unwrap());
            }
        }
    }
    text
}

/// Whether `name` is accessed as a field.
fn is_read(sources: &str, name: &str) -> bool {
    let access = format!(".{name}");
    sources.match_indices(&access).any(|(at, _)| {
        let next = sources[at + access.len()..].chars().next().unwrap_or(' ');
        !next.is_alphanumeric() && next != '_' && next != '('
    })
}

#[test]
fn every_field_acts_or_is_named_as_a_gap() {
    let sources = sources();
    let unused: Vec<String> = schema()
        .iter()
        .filter(|spec| !is_read(&sources, spec.name) && not_built_note(&spec.path()).is_none())
        .map(|spec| spec.path())
        .filter(|path| !WITHOUT_MEANING.contains(&path.as_str()))
        .collect();
    assert_eq!(unused, Vec::<String>::new(), "parsed and never read");
    for path in WITHOUT_MEANING {
        let spec = tunesmith_config::find_field(path).unwrap();
        assert!(!is_read(&sources, spec.name), "{path} has a meaning");
    }
}
