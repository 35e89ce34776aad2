//! The studio's server from outside: the real router over a real work folder and database.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "functions shared by tests are not themselves marked as tests"
)]

mod access;
mod config;
mod datasets;
mod harness;
mod hostile;
mod machine;
mod predictions;
mod targets;
