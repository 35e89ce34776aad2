//! Models against reference numbers, against themselves computed in another way, and against bad input.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed test is told by a panic"
)]

mod adapter_settings;
mod adapters;
mod digest;
mod formats;
mod golden;
mod heads;
mod invariances;
#[path = "../../../ops/tests/support/on_device.rs"]
mod on_device;
mod on_disk;
mod refusals;
mod support;
mod t5;
