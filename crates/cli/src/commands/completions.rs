//! `tunesmith completions`: what a shell needs to complete commands and options.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::Failure;
use crate::terminal::Terminal;

/// Print the completion script of a shell
///
/// Put it where your shell looks for completions.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tunesmith completions bash > ~/.local/share/bash-completion/completions/tunesmith
  tunesmith completions zsh > ~/.zfunc/_tunesmith
  tunesmith completions fish > ~/.config/fish/completions/tunesmith.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs, terminal: &Terminal) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tunesmith", &mut script);
    terminal.stream(&String::from_utf8_lossy(&script));
    Ok(())
}
