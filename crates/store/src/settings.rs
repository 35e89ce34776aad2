//! Settings: named JSON values.

use std::collections::BTreeMap;

use rusqlite::params;
use serde_json::Value;

use crate::Store;
use crate::datasets::json;
use crate::error::Result;

impl Store {
    /// All settings that were ever changed.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn settings(&self) -> Result<BTreeMap<String, Value>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT name, value FROM settings")?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        rows.into_iter()
            .map(|(name, text)| {
                let value = json("value", &name, &text)?;
                Ok((name, value))
            })
            .collect()
    }

    /// Changes several settings at once; `None` takes one back to its default.
    ///
    /// # Errors
    /// As SQLite says; then none of them is changed.
    pub fn change_settings(&self, changes: &BTreeMap<String, Option<Value>>) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for (name, value) in changes {
            match value {
                Some(value) => transaction.execute(
                    "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
                    params![name, value.to_string()],
                )?,
                None => transaction.execute("DELETE FROM settings WHERE name = ?1", [name])?,
            };
        }
        Ok(transaction.commit()?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_changed_together_and_taken_back() {
        let store = Store::in_memory().unwrap();
        let change = |entries: &[(&str, Option<Value>)]| {
            let changes = entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            store.change_settings(&changes).unwrap();
        };
        change(&[("theme", Some(json!("dark"))), ("runs_per_device", Some(json!(2)))]);
        change(&[("theme", Some(json!("light"))), ("runs_per_device", None)]);
        assert_eq!(store.settings().unwrap(), BTreeMap::from([("theme".to_owned(), json!("light"))]));
    }
}
