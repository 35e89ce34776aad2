//! The demo: rows of text to a model that does something new, in a few minutes on a CPU.
//!
//! The data set is made here, by rules written for this project, so that the demo needs nothing but a base model.

mod dataset;
mod experiment_file;
mod grammar;
mod report;
mod score;
mod slots;

pub(crate) use experiment_file::{DemoFiles, write as write_files};
pub(crate) use report::show;
pub(crate) use score::{Score, score};
