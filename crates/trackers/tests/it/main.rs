//! Runs that a tracker follows: a server of the test's own that takes numbers, refuses, is slow, or is gone for a while.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod following;
#[path = "../../../sources/tests/it/stub.rs"]
#[expect(dead_code, reason = "the tests of that crate need more of it")]
mod stub;
