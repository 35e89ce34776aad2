//! The reference pages of the documentation, made from what the program itself knows: the command line and the schema.
//!
//! `docs/cli.md` and `docs/config.md` are this module's output; a test fails when they have drifted.

use std::fmt::Write as _;

use clap::{Args, CommandFactory, ValueEnum};
use tunesmith_config::{Dependency, FieldSpec, not_built_note, schema};

use crate::args::{Cli, ENVIRONMENT};
use crate::failure::{Exit, Failure};
use crate::terminal::Terminal;

/// Print a page of the documentation that is made from the program.
#[derive(Debug, Args)]
pub(crate) struct ReferenceArgs {
    /// Which page
    page: Page,
}

/// A generated page.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Page {
    /// docs/cli.md
    Cli,
    /// docs/config.md
    Config,
}

/// Prints the page.
pub(crate) fn run(args: &ReferenceArgs, terminal: &Terminal) -> Result<(), Failure> {
    let text = match args.page {
        Page::Cli => cli_page(),
        Page::Config => config_page(),
    };
    terminal.stream(&text);
    Ok(())
}

fn cli_page() -> String {
    let mut page = "# Command line\n\nMade by `make docs` from the program's own help; do not edit.\n\n\
        Results go to standard output, everything else to standard error. Options may stand before or after the \
        positional arguments. `--json` gives one JSON object (or, for `train`, one per line) instead of text.\n"
        .to_owned();
    let mut root = Cli::command().max_term_width(100).disable_help_subcommand(true);
    root.build();
    write_command(&mut page, &mut root.clone(), "tunesmith");

    page.push_str("\n## Exit codes\n\n| code | meaning |\n|---|---|\n| 0 | success |\n");
    for exit in Exit::ALL {
        let _ = writeln!(page, "| {} | {} |", exit.code(), exit.meaning());
    }
    page.push_str("\n## Environment variables\n\n| name | meaning |\n|---|---|\n");
    for (name, meaning) in ENVIRONMENT {
        let _ = writeln!(page, "| `{name}` | {meaning} |");
    }
    page
}

/// The long help of a command and, below it, of its subcommands.
fn write_command(page: &mut String, command: &mut clap::Command, path: &str) {
    // The examples, codes and variables at the end of the root's help have sections of their own.
    let is_root = path == "tunesmith";
    if is_root {
        *command = command.clone().after_long_help("");
    }
    let help = command.clone().render_long_help().to_string();
    let help: String = help.trim_end().lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let _ = write!(page, "\n## {path}\n\n```text\n{help}```\n");
    let names: Vec<String> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .map(|sub| sub.get_name().to_owned())
        .collect();
    for name in names {
        if let Some(sub) = command.find_subcommand_mut(&name) {
            write_command(page, sub, &format!("{path} {name}"));
        }
    }
}

fn config_page() -> String {
    let mut page = "# Experiment file\n\nMade by `make docs` from the declarations in `crates/config`; do not edit.\n\n\
        An experiment is one YAML file of sections with fields. A field that is left out has its default, an unknown one is \
        reported, a value of the wrong type or out of range is refused. Files of H2O LLM Studio load unchanged; what is not \
        built yet is reported when the file is checked (`tunesmith config check`). `tunesmith config explain FIELD` says \
        what stands here, `tunesmith config schema` gives it as JSON Schema for editors.\n"
        .to_owned();
    let mut section = None;
    for spec in schema() {
        if section != Some(spec.section) {
            let title = if spec.section.is_empty() { "Top level" } else { spec.section };
            let _ = write!(page, "\n## {title}\n");
            section = Some(spec.section);
        }
        write_field(&mut page, spec);
    }
    page
}

fn write_field(page: &mut String, spec: &FieldSpec) {
    let _ = write!(page, "\n### {}\n\n{}\n\n", spec.path(), spec.help().replace('\n', "\n\n"));
    let mut item = |name: &str, text: &str| {
        let _ = writeln!(page, "- {name}: {text}");
    };
    item("takes", &spec.allowed());
    // The name of an experiment is drawn when it is left out.
    if spec.path() != "experiment_name" {
        item("default", &format!("`{}`", (spec.default)()));
    }
    if !spec.facets.depends_on.is_empty() {
        let conditions: Vec<String> = spec.facets.depends_on.iter().map(Dependency::describe).collect();
        item("matters if", &conditions.join(" and "));
    }
    if let Some(note) = not_built_note(&spec.path()) {
        item("in this version", note);
    }
}
