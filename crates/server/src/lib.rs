//! The studio's server: a JSON interface with event streams, an OpenAI-compatible one, and the embedded web app.
//!
//! One process, one work folder. It loads no model and computes nothing: training runs, chat models and readers of large tables
//! are child processes of the same program, and a run goes on when this process ends. Data sets, experiments and settings are files and rows of
//! a small database; `docs/studio.md` describes the interface for users of both.

pub mod access;
pub mod chat;
pub mod datasets;
pub mod error;
pub mod events;
mod fields;
mod files;
pub mod jobs;
pub mod machine;
mod models;
pub mod openai;
mod openapi;
pub mod runs;
mod schema;
pub mod secrets;
mod serve;
mod settings;
pub mod state;
mod storage;
mod web;
pub mod workdir;

pub use error::{ApiError, ApiResult};
pub use openapi::openapi_json;
pub use serve::{Access, ServeOptions, ServerError, router, run, serve, state};
pub use state::AppState;
