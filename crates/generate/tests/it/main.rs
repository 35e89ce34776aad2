//! Generation against reference continuations, against itself computed otherwise, and on a real model.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a failed test is told by a panic")]

mod batches;
mod beams;
mod chat;
mod completions;
mod golden;
#[path = "../../../ops/tests/support/on_device.rs"]
mod on_device;
mod smollm2;
mod stopping;
mod support;
mod t5;
