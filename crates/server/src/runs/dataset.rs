//! What an experiment takes from its data set.

use serde_json::{Map, Value, json};
use tunesmith_config::{ProblemType, find_field};

use crate::datasets::DataSettings;
use crate::error::{ApiError, ApiResult};
use crate::state::AppState;

/// The fields that a data set decides, where they belong to its problem type.
const FIELDS: [&str; 14] = [
    "problem_type",
    "dataset.layout",
    "dataset.train_dataframe",
    "dataset.validation_strategy",
    "dataset.validation_dataframe",
    "dataset.validation_size",
    "dataset.system_column",
    "dataset.prompt_column",
    "dataset.answer_column",
    "dataset.num_classes",
    "dataset.rejected_answer_column",
    "dataset.rejected_prompt_column",
    "dataset.parent_id_column",
    "dataset.id_column",
];
/// Which loss fits follows from the columns of classes.
const LOSS: &str = "training.loss_function";

/// Name and fields of a data set, by their paths in the configuration.
pub(crate) struct DatasetFields {
    pub(crate) name: String,
    pub(crate) fields: Map<String, Value>,
}

/// The fields that the data set with this id sets.
///
/// # Errors
/// When there is none, or one of its tables is gone.
pub(crate) fn dataset_fields(state: &AppState, id: &str) -> ApiResult<DatasetFields> {
    let record =
        state.store.dataset(id)?.ok_or_else(|| ApiError::not_found(format!("there is no data set {id}")))?;
    let settings: DataSettings = serde_json::from_value(record.settings)
        .map_err(|error| ApiError::internal(format!("the settings of data set {id} are damaged: {error}")))?;
    let config = settings.config(&state.workdir.dataset(id)?)?;
    let kind = config.problem_type;
    let is_used =
        |path: &str| find_field(path).is_some_and(|field| field.problem_types().any(|of| of == kind));
    let loss = (kind == ProblemType::CausalClassificationModeling).then_some(LOSS);
    let fields = FIELDS
        .into_iter()
        .filter(|path| is_used(path))
        .chain(loss)
        .filter_map(|path| Some((path.to_owned(), json!(config.get(path)?))))
        .collect();
    Ok(DatasetFields { name: record.name, fields })
}
