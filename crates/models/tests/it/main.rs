//! Models against reference numbers, against themselves computed in another way, and against bad input.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed test is told by a panic"
)]

mod adapters;
mod formats;
mod golden;
mod invariances;
mod refusals;
mod support;
