//! The studio's database: data sets, experiments, their queue, and settings, in one SQLite file.
//!
//! It is an index. Everything about data sets and experiments also stands in files beside them, from which the server
//! fills a lost database again; only settings live here alone. All calls block for the time of a small query; nothing
//! here knows HTTP or what the JSON texts of a record mean.

mod datasets;
mod error;
mod experiments;
mod migrations;
mod settings;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use datasets::DatasetRecord;
pub use error::{Result, StoreError};
pub use experiments::ExperimentRecord;
use rusqlite::Connection;

/// How long a query waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// An open database. One connection: the queries are short, and a lock is simpler than a pool.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<Connection>,
}

impl Store {
    /// Opens the file, making it and bringing its tables up to date as needed.
    ///
    /// # Errors
    /// The file cannot be opened, is no database, or was written by a newer version of this program.
    pub fn open(path: &Path) -> Result<Self> {
        Self::with(Connection::open(path)?)
    }

    /// A database that vanishes with this value.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn in_memory() -> Result<Self> {
        Self::with(Connection::open_in_memory()?)
    }

    fn with(mut connection: Connection) -> Result<Self> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // A reader never waits for a writer; a power cut loses at most the last transaction.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        migrations::run(&mut connection)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    /// The connection. A panic elsewhere leaves no half-done transaction behind, so a poisoned lock is fine.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
