//! The tables, and how an older file gets them: numbered steps, each run once, in a transaction.

use rusqlite::Connection;

use crate::error::{Result, StoreError};

/// Steps in order. One that was released is never changed, only followed by another.
const STEPS: &[&str] = &["
    CREATE TABLE datasets (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        problem_type TEXT NOT NULL,
        settings TEXT NOT NULL,
        tables TEXT NOT NULL,
        source TEXT NOT NULL,
        n_rows INTEGER NOT NULL,
        n_validation_rows INTEGER,
        n_bytes INTEGER NOT NULL,
        created_unix_secs REAL NOT NULL
    ) STRICT;
    CREATE TABLE experiments (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        dataset_id TEXT REFERENCES datasets (id) ON DELETE SET NULL,
        status TEXT NOT NULL,
        queue_position INTEGER,
        detail TEXT NOT NULL,
        created_unix_secs REAL NOT NULL
    ) STRICT;
    CREATE INDEX experiments_of_dataset ON experiments (dataset_id);
    CREATE INDEX experiments_by_status ON experiments (status, queue_position);
    CREATE TABLE settings (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT;
"];

/// Runs the steps that the file has not seen.
pub(crate) fn run(connection: &mut Connection) -> Result<()> {
    let known = STEPS.len() as i64;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (idx, step) in STEPS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", idx as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn a_file_is_brought_up_to_date_once_and_a_newer_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("studio.sqlite3");
        for _ in 0..2 {
            let store = Store::open(&path).unwrap();
            let version: i64 =
                store.lock().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
            assert_eq!(version, STEPS.len() as i64);
        }
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::TooNew { found: 99, .. }), "{error}");
        assert!(error.hint().unwrap().contains("newer version"));
    }

    #[test]
    fn readers_and_writers_do_not_block_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("studio.sqlite3")).unwrap();
        let mode: String = store.lock().pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }
}
