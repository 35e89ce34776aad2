//! Texts of any columns of the validation table, for those who look at a sample's row beyond its prompt and answer.

use std::collections::BTreeMap;
use std::path::Path;

use tunesmith_config::{ExperimentConfig, TableLayout, ValidationStrategy};

use crate::columns::Purpose;
use crate::error::{DataError, Result};
use crate::layouts::layout_of;
use crate::table::read_table_with;
use crate::table_options::TableOptions;

/// Columns of the validation table by name; the rows are those of the table, as in [`crate::Round::row`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowTexts {
    columns: BTreeMap<String, Vec<String>>,
}

impl RowTexts {
    /// Reads `names` from the table that validation rows come from. No names, no reading.
    ///
    /// # Errors
    /// The table cannot be read, has no such column, or its messages form trees, whose rows are not those of samples.
    pub fn of_validation(config: &ExperimentConfig, names: &[String]) -> Result<Self> {
        if names.is_empty() {
            return Ok(Self::default());
        }
        let dataset = &config.dataset;
        let of_its_own = dataset.validation_dataframe.as_deref();
        let path = match dataset.validation_strategy {
            ValidationStrategy::Custom => of_its_own.unwrap_or(&dataset.train_dataframe),
            ValidationStrategy::Automatic => &dataset.train_dataframe,
        };
        let table = read_table_with(Path::new(path), &TableOptions::from_config(dataset))?;
        let refused = |reason: String| DataError::Setting { field: "prediction.metric_gpt_template", reason };
        if layout_of(&table, config, Purpose::Validation).0 == TableLayout::Tree {
            let what = names.join(", ");
            return Err(refused(format!(
                "asks for {what}, and samples out of trees have no row with columns"
            )));
        }
        let column = |name: &String| match table.column_idx(name) {
            Some(column) => {
                Ok((name.clone(), (0..table.n_rows()).map(|row| table.cell(row, column).text()).collect()))
            }
            None => Err(refused(format!(
                "asks for column {name:?}, which {path} has not got; there are {}",
                table.columns.join(", ")
            ))),
        };
        Ok(Self { columns: names.iter().map(column).collect::<Result<_>>()? })
    }

    /// The text of a column in a row.
    pub fn text(&self, name: &str, row: usize) -> Option<&str> {
        self.columns.get(name)?.get(row).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_those_of_the_table_that_validates() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let mut config = ExperimentConfig::default();
        config.dataset.train_dataframe = write("train.csv", "instruction,output,n\na,b,1\nc,d,2\n");
        let names = ["n".to_owned()];
        let texts = RowTexts::of_validation(&config, &names).unwrap();
        assert_eq!([texts.text("n", 1), texts.text("n", 2), texts.text("x", 0)], [Some("2"), None, None]);

        config.dataset.validation_strategy = ValidationStrategy::Custom;
        config.dataset.validation_dataframe = write("val.csv", "instruction,output,n\na,b,7\n").into();
        assert_eq!(RowTexts::of_validation(&config, &names).unwrap().text("n", 0), Some("7"));
        let missing = RowTexts::of_validation(&config, &["m".to_owned()]).unwrap_err().to_string();
        assert!(missing.contains("\"m\"") && missing.contains("instruction, output, n"), "{missing}");

        let tree = r#"[{"message_id": "1", "text": "q", "role": "prompter", "parent_id": null, "n": 1},
            {"message_id": "2", "text": "a", "role": "assistant", "parent_id": "1", "n": 2}]"#;
        config.dataset.validation_dataframe = write("tree.json", tree).into();
        let refused = RowTexts::of_validation(&config, &names).unwrap_err().to_string();
        assert!(refused.contains("trees"), "{refused}");
    }
}
