//! `tunesmith table-worker`: what the studio wants to know about large tables, found out in a process of its own.

use std::io::{stdin, stdout};

use tunesmith_server::datasets::work_on_tables;

use crate::failure::{Exit, Failure};

/// Reads one task and answers it.
pub(crate) fn run() -> Result<(), Failure> {
    work_on_tables(stdin().lock(), stdout().lock())
        .map_err(|error| Failure::new(Exit::Usage, format!("this is no task about tables: {error}")))
}
