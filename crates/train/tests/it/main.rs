//! Whole runs over a tiny model: what they compute, what survives a kill, and what they leave behind.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and tells the figures it found"
)]

mod augmenting;
mod course;
mod devices;
#[path = "../../../models/tests/it/digest.rs"]
mod digest;
mod exporting;
mod judge;
#[path = "../../../ops/tests/support/on_device.rs"]
mod on_device;
mod predicting;
mod preferences;
mod problem_types;
mod profiling;
mod reference;
mod resuming;
mod sequence_to_sequence;
mod smollm2;
#[path = "../../../sources/tests/it/stub.rs"]
#[expect(dead_code, reason = "the tests of that crate need more of it")]
mod stub;
mod support;
mod tiny_t5;
mod training;
