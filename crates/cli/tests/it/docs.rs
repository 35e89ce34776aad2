//! The documentation is true: generated pages are current, examples load, links lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Sandbox, repository};

#[test]
fn generated_pages_are_current() {
    for page in ["cli", "config"] {
        let expected = Sandbox::new().run(&["reference", page]).success().stdout;
        let path = repository().join(format!("docs/{page}.md"));
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == expected, "{} is out of date: run `make docs`", path.display());
    }
}

#[test]
fn the_example_experiments_are_valid() {
    let mut n_examples = 0;
    for entry in fs::read_dir(repository().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "yaml") {
            let checked = Sandbox::new().run(&["config", "check", path.to_str().unwrap()]).success();
            assert_eq!(checked.stderr, "", "{}: an example should need no warning", path.display());
            n_examples += 1;
        }
    }
    assert!(0 < n_examples);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut pages: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| repository().join(name)).to_vec();
    for folder in ["docs", "examples", "tests/golden"] {
        let entries = fs::read_dir(repository().join(folder)).unwrap();
        pages.extend(
            entries
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|e| e == "md")),
        );
    }
    let mut broken = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !leads_somewhere(&page, file) {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn leads_somewhere(page: &Path, file: &str) -> bool {
    page.parent().unwrap().join(file).exists()
}

#[test]
fn the_readme_names_the_commands_that_exist() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let makefile = fs::read_to_string(repository().join("Makefile")).unwrap();
    for target in
        readme.split("make ").skip(1).filter_map(|rest| rest.split(|c: char| !c.is_ascii_lowercase()).next())
    {
        let is_target = makefile.contains(&format!("\n{target}:"));
        assert!(
            is_target || target.is_empty() || !readme.contains(&format!("`make {target}`")),
            "make {target}"
        );
    }
}

/// Every known answer has its test, and every such test its line.
#[test]
fn the_page_of_known_answers_names_the_tests_there_are() {
    let page = fs::read_to_string(repository().join("docs/conformance.md")).unwrap();
    let named: BTreeSet<String> =
        page.split('`').filter(|part| part.contains("::gv_")).map(str::to_owned).collect();
    let mut found = BTreeSet::new();
    let mut folders = vec![repository().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(repository()).unwrap().display().to_string();
                let text = fs::read_to_string(&path).unwrap();
                let tests = text.lines().filter_map(|line| {
                    let test = line.trim_start().trim_start_matches("async ").strip_prefix("fn gv_")?;
                    test.split_once("()").map(|(test, _)| format!("{name}::gv_{test}"))
                });
                found.extend(tests);
            }
        }
    }
    assert_eq!(named, found);
}
