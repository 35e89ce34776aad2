//! What an experiment takes from its data set.

use serde_json::{Map, Value};

use crate::error::{ApiError, ApiResult};
use crate::state::AppState;

/// Name and fields of a data set, by their paths in the configuration.
pub(crate) struct DatasetFields {
    pub(crate) name: String,
    pub(crate) fields: Map<String, Value>,
}

/// The fields that the data set with this id sets.
///
/// # Errors
/// When there is none.
pub(crate) fn dataset_fields(state: &AppState, id: &str) -> ApiResult<DatasetFields> {
    let record =
        state.store.dataset(id)?.ok_or_else(|| ApiError::not_found(format!("there is no data set {id}")))?;
    let folder = state.workdir.dataset(id)?;
    let mut fields = Map::new();
    fields.insert("problem_type".to_owned(), record.problem_type.clone().into());
    let settings = record.settings.as_object().cloned().unwrap_or_default();
    for (name, value) in settings {
        let (field, value) = match (name.as_str(), value) {
            ("problem_type", value) => ("problem_type".to_owned(), value),
            ("train_table", Value::String(table)) => {
                ("dataset.train_dataframe".to_owned(), folder.join(table).display().to_string().into())
            }
            ("validation_table", Value::String(table)) => {
                fields.insert("dataset.validation_strategy".to_owned(), "custom".into());
                ("dataset.validation_dataframe".to_owned(), folder.join(table).display().to_string().into())
            }
            ("train_table" | "validation_table", _) => continue,
            ("prompt_columns", value) => ("dataset.prompt_column".to_owned(), value),
            (_, Value::Null)
                if name != "system_column" && name != "parent_id_column" && name != "id_column" =>
            {
                continue;
            }
            (name, value) => (format!("dataset.{name}"), value),
        };
        if tunesmith_config::find_field(&field).is_some() {
            fields.insert(field, value);
        }
    }
    Ok(DatasetFields { name: record.name, fields })
}
