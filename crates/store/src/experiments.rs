//! Rows of experiments, and the order in which the waiting ones start.

use rusqlite::{OptionalExtension, Row, params};
use serde_json::Value;

use crate::Store;
use crate::datasets::json;
use crate::error::Result;

/// An experiment as the index knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ExperimentRecord {
    /// Never changes; also the name of its folder.
    pub id: String,
    /// What people call it; no two are called the same.
    pub name: String,
    /// The data set it learns from, while that exists.
    pub dataset_id: Option<String>,
    /// What the server last knew: `queued`, `running`, `finished`, ….
    pub status: String,
    /// Place among the waiting ones, the first to start having the smallest number.
    pub queue_position: Option<i64>,
    /// All the rest, as the server spells it.
    pub detail: Value,
    /// When it was made.
    pub created_unix_secs: f64,
}

const COLUMNS: &str = "id, name, dataset_id, status, queue_position, detail, created_unix_secs";

impl Store {
    /// All experiments, newest first.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn experiments(&self) -> Result<Vec<ExperimentRecord>> {
        self.experiments_where("1 ORDER BY created_unix_secs DESC, id", &[])
    }

    /// The experiments that wait, the next to start first.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn queue(&self) -> Result<Vec<ExperimentRecord>> {
        self.experiments_where(
            "queue_position IS NOT NULL ORDER BY queue_position, created_unix_secs, id",
            &[],
        )
    }

    /// The experiments that learn from a data set.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn experiments_of_dataset(&self, dataset_id: &str) -> Result<Vec<ExperimentRecord>> {
        self.experiments_where("dataset_id = ?1 ORDER BY created_unix_secs, id", &[dataset_id])
    }

    /// One experiment.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn experiment(&self, id: &str) -> Result<Option<ExperimentRecord>> {
        let connection = self.lock();
        let sql = format!("SELECT {COLUMNS} FROM experiments WHERE id = ?1");
        let row = connection.prepare_cached(&sql)?.query_row([id], read).optional()?;
        row.map(parsed).transpose()
    }

    /// Writes an experiment, replacing what stands under its id.
    ///
    /// # Errors
    /// As SQLite says; so is a name that another experiment has, or a data set that does not exist.
    pub fn put_experiment(&self, record: &ExperimentRecord) -> Result<()> {
        let sql = "INSERT INTO experiments (id, name, dataset_id, status, queue_position, detail, created_unix_secs) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO UPDATE SET name = ?2, dataset_id = ?3, \
                   status = ?4, queue_position = ?5, detail = ?6, created_unix_secs = ?7";
        self.lock().prepare_cached(sql)?.execute(params![
            record.id,
            record.name,
            record.dataset_id,
            record.status,
            record.queue_position,
            record.detail.to_string(),
            record.created_unix_secs,
        ])?;
        Ok(())
    }

    /// Forgets an experiment; tells whether there was one.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn delete_experiment(&self, id: &str) -> Result<bool> {
        Ok(self.lock().execute("DELETE FROM experiments WHERE id = ?1", [id])? > 0)
    }

    /// Whether an experiment other than `except_id` has that name.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn is_experiment_name_taken(&self, name: &str, except_id: Option<&str>) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM experiments WHERE name = ?1 AND id IS NOT ?2)";
        Ok(self.lock().query_row(sql, params![name, except_id], |row| row.get(0))?)
    }

    /// Puts the waiting experiments into this order. Waiting ones that are not named follow in the order they had;
    /// named ones that do not wait are passed over.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn reorder_queue(&self, ids: &[String]) -> Result<()> {
        let waiting: Vec<String> = self.queue()?.into_iter().map(|record| record.id).collect();
        let named = ids.iter().filter(|id| waiting.contains(id));
        let rest = waiting.iter().filter(|id| !ids.contains(id));
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for (position, id) in named.chain(rest).enumerate() {
            // Only who still waits: one may have been started since.
            let sql =
                "UPDATE experiments SET queue_position = ?1 WHERE id = ?2 AND queue_position IS NOT NULL";
            transaction.execute(sql, params![position as i64, id])?;
        }
        Ok(transaction.commit()?)
    }

    /// The position behind all that wait.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn next_queue_position(&self) -> Result<i64> {
        let sql = "SELECT coalesce(max(queue_position) + 1, 0) FROM experiments";
        Ok(self.lock().query_row(sql, [], |row| row.get(0))?)
    }

    fn experiments_where(&self, condition: &str, values: &[&str]) -> Result<Vec<ExperimentRecord>> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached(&format!("SELECT {COLUMNS} FROM experiments WHERE {condition}"))?;
        let rows = statement
            .query_map(rusqlite::params_from_iter(values), read)?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        rows.into_iter().map(parsed).collect()
    }
}

/// The record, and its detail that is still text.
fn read(row: &Row<'_>) -> rusqlite::Result<(ExperimentRecord, String)> {
    let record = ExperimentRecord {
        id: row.get(0)?,
        name: row.get(1)?,
        dataset_id: row.get(2)?,
        status: row.get(3)?,
        queue_position: row.get(4)?,
        detail: Value::Null,
        created_unix_secs: row.get(6)?,
    };
    Ok((record, row.get(5)?))
}

fn parsed((mut record, detail): (ExperimentRecord, String)) -> Result<ExperimentRecord> {
    record.detail = json("detail", &record.id, &detail)?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::datasets::tests::record as dataset;

    fn experiment(id: &str, queue_position: Option<i64>) -> ExperimentRecord {
        ExperimentRecord {
            id: id.to_owned(),
            name: format!("name of {id}"),
            dataset_id: Some("data".to_owned()),
            status: "queued".to_owned(),
            queue_position,
            detail: json!({"values": {"training.epochs": 2}}),
            created_unix_secs: 1.0,
        }
    }

    fn filled() -> Store {
        let store = Store::in_memory().unwrap();
        store.put_dataset(&dataset("data")).unwrap();
        for (id, position) in [("a", Some(0)), ("b", Some(1)), ("c", None), ("d", Some(2))] {
            store.put_experiment(&experiment(id, position)).unwrap();
        }
        store
    }

    fn ids(records: Vec<ExperimentRecord>) -> Vec<String> {
        records.into_iter().map(|record| record.id).collect()
    }

    #[test]
    fn the_queue_takes_a_new_order_and_keeps_who_is_not_named() {
        let store = filled();
        assert_eq!(store.next_queue_position().unwrap(), 3);
        store.reorder_queue(&["d".to_owned(), "c".to_owned(), "x".to_owned(), "b".to_owned()]).unwrap();
        assert_eq!(ids(store.queue().unwrap()), ["d", "b", "a"]);
        assert_eq!(store.experiment("c").unwrap().unwrap().queue_position, None);
    }

    #[test]
    fn a_deleted_data_set_leaves_its_experiments() {
        let store = filled();
        assert_eq!(ids(store.experiments_of_dataset("data").unwrap()), ["a", "b", "c", "d"]);
        store.delete_dataset("data").unwrap();
        assert_eq!(store.experiment("a").unwrap().unwrap().dataset_id, None);
        assert_eq!(store.experiments().unwrap().len(), 4);
    }

    #[test]
    fn an_experiment_needs_a_data_set_that_exists_and_its_own_name() {
        let store = filled();
        let stray = ExperimentRecord { dataset_id: Some("none".to_owned()), ..experiment("e", None) };
        assert!(store.put_experiment(&stray).is_err());
        let twin = ExperimentRecord { id: "e".to_owned(), ..experiment("a", None) };
        assert!(store.put_experiment(&twin).is_err());
        assert!(store.is_experiment_name_taken("name of a", None).unwrap());
        assert!(store.delete_experiment("a").unwrap() && !store.delete_experiment("a").unwrap());
    }
}
