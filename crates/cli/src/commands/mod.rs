//! One file per command: its arguments with their help, and what it does.

pub(crate) mod chat;
pub(crate) mod chat_worker;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod data;
mod data_fetch;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod forecast;
pub(crate) mod model;
mod model_inspect;
mod model_pull;
pub(crate) mod predict;
pub(crate) mod smoke;
pub(crate) mod studio;
pub(crate) mod table_worker;
pub(crate) mod train;

use crate::args::Command;
use crate::failure::Failure;
use crate::reference;
use crate::terminal::Terminal;

/// Does what the command line asks for.
pub(crate) fn run(command: Command, terminal: &Terminal) -> Result<(), Failure> {
    match command {
        Command::Demo(args) => demo::run(&args, terminal),
        Command::Studio(args) => studio::run(&args, terminal),
        Command::Train(args) => train::run(&args, terminal),
        Command::Chat(args) => chat::run(&args, terminal),
        Command::Doctor(args) => doctor::run(&args, terminal),
        Command::Forecast(args) => forecast::run(&args, terminal),
        Command::ChatWorker(args) => chat_worker::run(&args, terminal),
        Command::TableWorker => table_worker::run(),
        Command::Predict(args) => predict::run(&args, terminal),
        Command::Export(args) => export::run(&args, terminal),
        Command::Model(command) => model::run(&command, terminal),
        Command::Data(command) => data::run(&command, terminal),
        Command::Config(command) => config::run(&command, terminal),
        Command::Smoke(args) => smoke::run(&args, terminal),
        Command::Completions(args) => completions::run(&args, terminal),
        Command::Reference(args) => reference::run(&args, terminal),
    }
}
