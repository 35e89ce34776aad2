//! `tunesmith config`: what an experiment file may say, and whether this one may.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use tunesmith_config::{ExperimentConfig, Level, explain, find_field, json_schema, nearest, schema};

use crate::experiment::{self, Overrides};
use crate::failure::{Exit, Failure};
use crate::terminal::{Style, Terminal};

/// Check an experiment file, show the schema, explain a field
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    Check(CheckArgs),
    Schema(SchemaArgs),
    Explain(ExplainArgs),
}

/// Check an experiment file without running it
///
/// Reports values of the wrong type or out of range, unknown fields, settings that contradict each other, and settings
/// that do something else here than they say. Looks neither at the data nor at the model.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tunesmith config check cfg.yaml
  tunesmith config check cfg.yaml --set training.lora=false --json")]
pub(crate) struct CheckArgs {
    /// Experiment file (YAML), also one of H2O LLM Studio
    file: PathBuf,

    #[command(flatten)]
    overrides: Overrides,

    /// Print one JSON object: ok, warnings, findings
    #[arg(long)]
    json: bool,
}

/// Print the JSON Schema of experiment files
///
/// Editors use it to complete and check the YAML. Each field carries its help text, default and range.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:
  tunesmith config schema > tunesmith.schema.json
  and, as the first line of cfg.yaml:
  # yaml-language-server: $schema=tunesmith.schema.json")]
pub(crate) struct SchemaArgs {}

/// Say what a field means, what it takes and what it is if not set
///
/// Without a field: list them all with their defaults.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tunesmith config explain training.packing
  tunesmith config explain lora_r
  tunesmith config explain")]
pub(crate) struct ExplainArgs {
    /// Name of the field, with or without its section
    field: Option<String>,
}

/// Runs one of the subcommands.
pub(crate) fn run(command: &ConfigCommand, terminal: &Terminal) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check(args) => check(args, terminal),
        ConfigCommand::Schema(SchemaArgs {}) => terminal.pretty_json(&json_schema()),
        ConfigCommand::Explain(args) => match &args.field {
            Some(field) => explain_one(field, terminal),
            None => {
                list_fields(terminal);
                Ok(())
            }
        },
    }
}

fn check(args: &CheckArgs, terminal: &Terminal) -> Result<(), Failure> {
    if args.json {
        return check_as_json(args, terminal);
    }
    let config = experiment::load(&args.file, &args.overrides, terminal)?;
    experiment::report_findings(&config, terminal)?;
    let ok = terminal.paint(Style::Green, "ok");
    terminal.line(format_args!(
        "{ok}: {} ({}, {})",
        args.file.display(),
        config.experiment_name,
        config.problem_type
    ));
    Ok(())
}

/// The findings are the result here, so they go to standard output; the exit code still tells good from bad.
fn check_as_json(args: &CheckArgs, terminal: &Terminal) -> Result<(), Failure> {
    let (mut config, warnings) = ExperimentConfig::load(&args.file)?;
    experiment::apply(&mut config, &args.overrides)?;
    let findings = config.check();
    let n_errors = findings.iter().filter(|finding| finding.level == Level::Error).count();
    terminal.json(&json!({"ok": n_errors == 0, "warnings": warnings, "findings": findings}))?;
    if n_errors == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Usage,
        format!("{}: {n_errors} of the settings cannot be used", args.file.display()),
    ))
}

fn explain_one(field: &str, terminal: &Terminal) -> Result<(), Failure> {
    if let Some(text) = explain(field) {
        terminal.line(text.trim_end());
        return Ok(());
    }
    let failure = Failure::new(Exit::Usage, format!("there is no field {field:?}"));
    // A bare name may stand in several sections.
    let paths: Vec<String> =
        schema().iter().filter(|spec| spec.name == field).map(tunesmith_config::FieldSpec::path).collect();
    let near = nearest(field, schema().iter().map(|spec| spec.name)).and_then(find_field);
    Err(match near {
        _ if !paths.is_empty() => failure.hint(format!("name one of {}", paths.join(", "))),
        Some(spec) => failure.hint(format!("did you mean {}?", spec.path())),
        None => failure.hint("`tunesmith config explain` lists all fields"),
    })
}

fn list_fields(terminal: &Terminal) {
    let mut section = None;
    for spec in schema().iter().filter(|spec| !spec.facets.is_hidden) {
        if section != Some(spec.section) {
            terminal.heading(if spec.section.is_empty() { "top level" } else { spec.section });
            section = Some(spec.section);
        }
        let default = if spec.path() == "experiment_name" {
            "two random words".to_owned()
        } else {
            (spec.default)().to_string()
        };
        terminal.line(format_args!("  {:<40} {}", spec.name, terminal.paint(Style::Dim, &default)));
    }
}
