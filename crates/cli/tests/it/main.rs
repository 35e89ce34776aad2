//! Runs the real program, and looks at the repository as a whole. One test binary: one link step.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails is a test that fails")]

mod chat_worker;
mod devices;
mod docs;
mod files;
mod harness;
mod layers;
mod surface;
mod tidy;
mod training;
