//! Rows of data sets.

use rusqlite::{OptionalExtension, Row, params};
use serde_json::Value;

use crate::Store;
use crate::error::{Result, StoreError};

/// A data set as the index knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetRecord {
    /// Never changes; also the name of its folder.
    pub id: String,
    /// What people call it; no two are called the same.
    pub name: String,
    /// `text_causal_language_modeling`, ….
    pub problem_type: String,
    /// Column roles and tables, as the server spells them.
    pub settings: Value,
    /// Its table files, as the server spells them.
    pub tables: Value,
    /// Where it came from, in words.
    pub source: String,
    /// Rows of the training table.
    pub n_rows: u64,
    /// Rows of the validation table, if there is one.
    pub n_validation_rows: Option<u64>,
    /// Size of all its files.
    pub n_bytes: u64,
    /// When it was made.
    pub created_unix_secs: f64,
}

const COLUMNS: &str = "id, name, problem_type, settings, tables, source, n_rows, n_validation_rows, n_bytes, \
                       created_unix_secs";

impl Store {
    /// All data sets, newest first.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn datasets(&self) -> Result<Vec<DatasetRecord>> {
        let connection = self.lock();
        let sql = format!("SELECT {COLUMNS} FROM datasets ORDER BY created_unix_secs DESC, id");
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement.query_map([], RawDataset::read)?.collect::<rusqlite::Result<Vec<_>>>()?;
        rows.into_iter().map(RawDataset::parsed).collect()
    }

    /// One data set.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn dataset(&self, id: &str) -> Result<Option<DatasetRecord>> {
        let connection = self.lock();
        let sql = format!("SELECT {COLUMNS} FROM datasets WHERE id = ?1");
        let row = connection.prepare_cached(&sql)?.query_row([id], RawDataset::read).optional()?;
        row.map(RawDataset::parsed).transpose()
    }

    /// Writes a data set, replacing what stands under its id.
    ///
    /// # Errors
    /// As SQLite says; so is a name that another data set has.
    pub fn put_dataset(&self, record: &DatasetRecord) -> Result<()> {
        let sql = "INSERT INTO datasets (id, name, problem_type, settings, tables, source, n_rows, n_validation_rows, \
                   n_bytes, created_unix_secs) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
                   ON CONFLICT (id) DO UPDATE SET name = ?2, problem_type = ?3, settings = ?4, tables = ?5, source = ?6, \
                   n_rows = ?7, n_validation_rows = ?8, n_bytes = ?9, created_unix_secs = ?10";
        self.lock().prepare_cached(sql)?.execute(params![
            record.id,
            record.name,
            record.problem_type,
            record.settings.to_string(),
            record.tables.to_string(),
            record.source,
            whole(record.n_rows),
            record.n_validation_rows.map(whole),
            whole(record.n_bytes),
            record.created_unix_secs,
        ])?;
        Ok(())
    }

    /// Forgets a data set; tells whether there was one.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn delete_dataset(&self, id: &str) -> Result<bool> {
        Ok(self.lock().execute("DELETE FROM datasets WHERE id = ?1", [id])? > 0)
    }

    /// Whether a data set other than `except_id` has that name.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn is_dataset_name_taken(&self, name: &str, except_id: Option<&str>) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM datasets WHERE name = ?1 AND id IS NOT ?2)";
        Ok(self.lock().query_row(sql, params![name, except_id], |row| row.get(0))?)
    }
}

/// A row whose JSON is still text.
struct RawDataset {
    record: DatasetRecord,
    settings: String,
    tables: String,
}

impl RawDataset {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let record = DatasetRecord {
            id: row.get(0)?,
            name: row.get(1)?,
            problem_type: row.get(2)?,
            settings: Value::Null,
            tables: Value::Null,
            source: row.get(5)?,
            n_rows: count(row.get(6)?),
            n_validation_rows: row.get::<_, Option<i64>>(7)?.map(count),
            n_bytes: count(row.get(8)?),
            created_unix_secs: row.get(9)?,
        };
        Ok(Self { record, settings: row.get(3)?, tables: row.get(4)? })
    }

    fn parsed(self) -> Result<DatasetRecord> {
        let Self { mut record, settings, tables } = self;
        record.settings = json("settings", &record.id, &settings)?;
        record.tables = json("tables", &record.id, &tables)?;
        Ok(record)
    }
}

pub(crate) fn json(column: &'static str, id: &str, text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|source| StoreError::Json { column, id: id.to_owned(), source })
}

/// SQLite counts in signed numbers; no count here comes near their end.
fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn count(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn record(id: &str) -> DatasetRecord {
        DatasetRecord {
            id: id.to_owned(),
            name: format!("name of {id}"),
            problem_type: "text_causal_language_modeling".to_owned(),
            settings: json!({"prompt_columns": ["q"]}),
            tables: json!([{"path": "train.csv"}]),
            source: "upload".to_owned(),
            n_rows: 3,
            n_validation_rows: None,
            n_bytes: 40,
            created_unix_secs: 1.5,
        }
    }

    #[test]
    fn what_is_written_is_read_back_changed_and_deleted() {
        let store = Store::in_memory().unwrap();
        let mut one = record("one");
        store.put_dataset(&one).unwrap();
        store.put_dataset(&DatasetRecord { created_unix_secs: 2.0, ..record("two") }).unwrap();
        assert_eq!(store.dataset("one").unwrap().as_ref(), Some(&one));
        one.name = "other".to_owned();
        one.n_validation_rows = Some(7);
        store.put_dataset(&one).unwrap();
        assert_eq!(store.dataset("one").unwrap().as_ref(), Some(&one));
        let ids: Vec<String> = store.datasets().unwrap().into_iter().map(|record| record.id).collect();
        assert_eq!(ids, ["two", "one"]);
        assert!(store.is_dataset_name_taken("other", None).unwrap());
        assert!(!store.is_dataset_name_taken("other", Some("one")).unwrap());
        assert!(store.delete_dataset("one").unwrap() && !store.delete_dataset("one").unwrap());
        assert_eq!(store.dataset("one").unwrap(), None);
    }

    #[test]
    fn two_data_sets_cannot_share_a_name() {
        let store = Store::in_memory().unwrap();
        store.put_dataset(&record("one")).unwrap();
        let twin = DatasetRecord { id: "two".to_owned(), ..record("one") };
        assert!(store.put_dataset(&twin).is_err());
    }
}
