//! Tables from elsewhere, brought into a folder: this machine, an address, the Hugging Face hub, Kaggle, S3, Azure Blob
//! Storage, Google Cloud Storage.
//!
//! A [`Source`] says where from and with which credentials, a [`Task`] takes progress and gives limit and cancellation, and
//! [`Source::fetch`] does the work: it goes on after a broken connection and, in the same folder, after a program that
//! ended in the middle; archives are unpacked, and nothing but tables stays. No asynchronous code is to be seen from
//! outside, and no command of a shell is ever run. Credentials are handed in ([`Source::with_environment`] takes them
//! from the usual variables) and never shown.

mod address;
mod archive;
mod bucket;
mod download;
mod environment;
mod error;
mod fetch;
mod http;
mod hub;
mod join;
mod kaggle;
mod local;
mod names;
mod services;
mod task;

pub use archive::unpack_if_archive;
pub use bucket::{Bucket, Listing, Object};
pub use error::{Result, SourceError};
pub use fetch::{Fetched, Source};
pub use hub::HubDataset;
pub use kaggle::KaggleDataset;
pub use names::{
    DATASET_RECORD, ending, free_path, is_importable, is_plain_name, is_table, plain_name_of, stem, tables_of,
};
pub use services::{Azure, Google, S3, Service};
pub use task::{Progress, Task};
pub use tunesmith_http::Secret;
