//! The command line: names and help texts. The arguments of each command stand beside its code.

use clap::{Parser, Subcommand};

use crate::commands::{
    chat::ChatArgs, chat_worker::ChatWorkerArgs, completions::CompletionsArgs, config::ConfigCommand,
    data::DataCommand, demo::DemoArgs, doctor::DoctorArgs, export::ExportArgs, forecast::ForecastArgs,
    model::ModelCommand, predict::PredictArgs, smoke::SmokeArgs, studio::StudioArgs, train::TrainArgs,
};
use crate::reference::ReferenceArgs;

/// Fine-tune large language models on the machine you have.
///
/// An experiment is one YAML file; a run is one folder. `tunesmith demo` shows the whole way from rows of text to a
/// model one can chat with, in a few minutes and without a GPU.
#[derive(Debug, Parser)]
#[command(name = "tunesmith", version, max_term_width = 100, after_help = AFTER_HELP, after_long_help = after_long_help())]
pub(crate) struct Cli {
    /// Never colour the output; the environment variable NO_COLOR does the same
    #[arg(long, global = true)]
    pub(crate) no_color: bool,

    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(DemoArgs),
    Studio(StudioArgs),
    Train(TrainArgs),
    Chat(ChatArgs),
    Predict(PredictArgs),
    Forecast(ForecastArgs),
    Export(ExportArgs),
    Doctor(DoctorArgs),
    Smoke(SmokeArgs),
    #[command(subcommand)]
    Model(ModelCommand),
    #[command(subcommand)]
    Data(DataCommand),
    #[command(subcommand)]
    Config(ConfigCommand),
    Completions(CompletionsArgs),
    #[command(hide = true)]
    ChatWorker(ChatWorkerArgs),
    /// Look into tables for the studio: one task from standard input, its answer to standard output
    #[command(hide = true)]
    TableWorker,
    #[command(hide = true)]
    Reference(ReferenceArgs),
}

const AFTER_HELP: &str = "Start with `tunesmith demo`. `tunesmith help COMMAND` tells more about a command.";

/// Environment variables the program reads, for the help and the reference.
pub(crate) const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "TUNESMITH_CACHE",
        "folder for models and tokenised data [default: $XDG_CACHE_HOME/tunesmith or ~/.cache/tunesmith]",
    ),
    ("TUNESMITH_STUDIO", "work folder of the studio [default: ~/tunesmith]"),
    ("TUNESMITH_PASSWORD", "password of the studio"),
    ("HF_TOKEN", "access token for private or gated models of the Hugging Face hub"),
    ("HF_ENDPOINT", "address of the hub or of a mirror [default: https://huggingface.co]"),
    (
        "KAGGLE_USERNAME",
        "and KAGGLE_KEY, or KAGGLE_API_TOKEN alone: what kaggle:// needs where data is not public",
    ),
    (
        "AWS_ACCESS_KEY_ID",
        "and AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL: what s3:// needs",
    ),
    (
        "AZURE_STORAGE_KEY",
        "and AZURE_STORAGE_ACCOUNT; or AZURE_STORAGE_SAS_TOKEN; or AZURE_STORAGE_CONNECTION_STRING alone: what az:// needs",
    ),
    ("GOOGLE_APPLICATION_CREDENTIALS", "key file of a service account: what gs:// needs"),
    (
        "OPENAI_API_KEY",
        "and OPENAI_API_BASE: the model that grades answers where the metric is GPT; docs/metrics.md has the others",
    ),
    ("MIN_DISK_SPACE_FOR_EXPERIMENTS", "free disk space that a run asks for before it begins [default: 2GB]"),
    ("TUNESMITH_PROMPTS", "folder with templates of your own for that model [default: prompts]"),
    ("MLFLOW_TRACKING_URI", "where logging.logger: MLflow sends numbers; docs/trackers.md has the others"),
    ("NO_COLOR", "set to anything: no colour"),
    ("RUST_BACKTRACE", "set to 1: a defect of the program is reported with its call stack"),
];

fn after_long_help() -> String {
    use std::fmt::Write as _;

    use crate::failure::Exit;

    let mut text = "Examples:\n  \
        tunesmith demo                                    see it work\n  \
        tunesmith data preview rows.jsonl -Y cfg.yaml     see what the model will be trained on\n  \
        tunesmith train -Y cfg.yaml --output runs/first   train\n  \
        tunesmith chat runs/first                         talk to the result\n  \
        tunesmith predict runs/first --data new.csv --output answers.csv\n  \
        tunesmith export runs/first --output merged --format merged\n\n\
        Environment variables:\n"
        .to_owned();
    for (name, meaning) in ENVIRONMENT {
        let _ = writeln!(text, "  {name:<18} {meaning}");
    }
    text.push_str("\nExit codes:\n    0  success\n");
    for exit in Exit::ALL {
        let _ = writeln!(text, "  {:>3}  {}", exit.code(), exit.meaning());
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
