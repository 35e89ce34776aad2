//! `tunesmith model`: get models and look into them.

use clap::Subcommand;

use super::{model_inspect, model_pull};
use crate::failure::Failure;
use crate::terminal::Terminal;

/// Get models and look into them
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    Pull(model_pull::PullArgs),
    Inspect(model_inspect::InspectArgs),
}

/// Runs one of the subcommands.
pub(crate) fn run(command: &ModelCommand, terminal: &Terminal) -> Result<(), Failure> {
    match command {
        ModelCommand::Pull(args) => model_pull::run(args, terminal),
        ModelCommand::Inspect(args) => model_inspect::run(args, terminal),
    }
}
