//! Tunesmith: fine-tune large language models on the machine you have.
//!
//! The binary is thin. Each command is one file under `commands`; the work is done by the crates below. What belongs
//! here and nowhere else: the command line, the terminal, exit codes, Ctrl-C, the place where models are kept, and the
//! demo with its data set.

mod allocator;
mod args;
mod commands;
mod demo;
mod experiment;
mod failure;
mod interrupt;
mod memory;
mod model_store;
mod out_of_memory;
mod panic_hook;
mod profile;
mod progress;
mod pypi;
mod random_gpt2;
mod reference;
mod talker;
mod terminal;
mod tracking;

use std::process::ExitCode;

use clap::Parser;

use crate::allocator::Allocator;
use crate::args::Cli;
use crate::failure::Exit;
use crate::terminal::Terminal;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator::new();

fn main() -> ExitCode {
    panic_hook::install();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refusal) => {
            // Help and version are "errors" for clap, too; it knows where to print which.
            let _ = refusal.print();
            return if refusal.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    let terminal = Terminal::new(cli.no_color);
    let outcome = commands::run(cli.command, &terminal).and_then(|()| terminal.finish());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal.failure(&failure);
            failure.exit.into()
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
