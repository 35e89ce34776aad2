//! Every kind of source, against servers that are started here: small ones that answer what a test says, and those by which
//! other people test their clients of S3, Azure and Google.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "functions shared by tests are not themselves marked as tests"
)]

mod archives;
mod azure;
mod files;
mod google;
mod harness;
mod hub;
mod kaggle;
mod s3;
mod stub;
