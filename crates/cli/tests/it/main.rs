//! Runs the real program, and looks at the repository as a whole. One test binary: one link step.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a helper that fails is a test that fails"
)]

mod chat_worker;
mod classification;
mod data_fetch;
mod devices;
mod docs;
mod files;
mod harness;
mod judging;
mod layers;
#[path = "../../../ops/tests/support/on_device.rs"]
mod on_device;
mod sequence_to_sequence;
#[path = "../../../sources/tests/it/stub.rs"]
#[expect(dead_code, reason = "the tests of that crate need more of it")]
mod stub;
mod studio_chat;
mod studio_client;
mod studio_data;
mod studio_openai;
mod studio_runs;
mod surface;
mod tidy;
#[path = "../../../train/tests/it/tiny_t5.rs"]
mod tiny_t5;
mod tracking;
mod training;
