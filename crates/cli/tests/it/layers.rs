//! The arrows between the workspace's crates point down, as the table in ARCHITECTURE.md says.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::harness::repository;

/// Crates in the order of the table, each with the crates it may depend on.
fn table() -> Vec<(String, BTreeSet<String>)> {
    let page = std::fs::read_to_string(repository().join("ARCHITECTURE.md")).unwrap();
    let rows: Vec<_> = page
        .lines()
        .skip_while(|line| !line.starts_with("| layer | crate |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
            let [_, name, _, allowed] = cells[..] else { panic!("four cells expected: {line}") };
            (quoted(name).pop().unwrap(), quoted(allowed).into_iter().collect())
        })
        .collect();
    assert!(5 < rows.len(), "the table of ARCHITECTURE.md was not found");
    rows
}

/// The texts between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The workspace's crates, each with those of its dependencies that are in the workspace. Dependencies of tests count.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name_of = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let names: BTreeSet<String> = packages.iter().map(name_of).collect();
    let dependencies = |package: &Value| {
        package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .map(name_of)
            .filter(|name| names.contains(name))
            .collect()
    };
    packages.iter().map(|package| (name_of(package), dependencies(package))).collect()
}

#[test]
fn every_crate_is_in_the_table_and_nothing_else_is() {
    let in_table: BTreeSet<String> = table().into_iter().map(|(name, _)| name).collect();
    let in_workspace: BTreeSet<String> = edges().into_keys().collect();
    assert_eq!(in_table, in_workspace);
}

#[test]
fn no_crate_depends_on_one_that_the_table_does_not_allow() {
    let edges = edges();
    for (name, allowed) in table() {
        let surplus: Vec<_> = edges[&name].difference(&allowed).collect();
        assert!(surplus.is_empty(), "{name} may not depend on {surplus:?}; see the table in ARCHITECTURE.md");
    }
}

#[test]
fn the_table_itself_allows_only_arrows_that_point_down() {
    let table = table();
    for (row_idx, (name, allowed)) in table.iter().enumerate() {
        for target in allowed {
            let below = table.iter().skip(row_idx + 1).any(|(lower, _)| lower == target);
            assert!(below, "{name} -> {target}: not a lower row of the table");
        }
    }
}
