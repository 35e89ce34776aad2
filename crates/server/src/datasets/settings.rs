//! What a data set's columns mean, and the one place that says which fields of an experiment that is.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tunesmith_config::{ExperimentConfig, OptionalText, ProblemType, ValidationStrategy};
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult};

/// Roles of tables and columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// `text_causal_language_modeling`, ….
    pub problem_type: String,
    /// File of the training rows.
    pub train_table: String,
    /// File of the validation rows; without one a share of the training rows is put aside.
    #[serde(default)]
    #[schema(required)]
    pub validation_table: Option<String>,
    /// Share that is put aside.
    #[serde(default = "default_validation_size")]
    #[schema(required)]
    pub validation_size: f64,
    /// How rows become conversations: `auto`, `columns`, `alpaca`, `sharegpt`, `messages` or `tree`.
    #[serde(default = "default_layout")]
    #[schema(required)]
    pub layout: String,
    /// Column of system texts.
    #[serde(default)]
    #[schema(required)]
    pub system_column: Option<String>,
    /// Columns of the prompt, in order.
    #[serde(default)]
    #[schema(required)]
    pub prompt_columns: Vec<String>,
    /// Column of the answer.
    #[serde(default)]
    #[schema(required)]
    pub answer_column: Option<String>,
    /// Column that names the row before this one in a conversation.
    #[serde(default)]
    #[schema(required)]
    pub parent_id_column: Option<String>,
    /// Column of the row's own id.
    #[serde(default)]
    #[schema(required)]
    pub id_column: Option<String>,
}

fn default_validation_size() -> f64 {
    0.01
}

fn default_layout() -> String {
    "auto".to_owned()
}

impl DataSettings {
    /// Whether rows are questions and answers, and not texts.
    pub fn has_prompts(&self) -> bool {
        !self.prompt_columns.is_empty() || self.layout != "columns"
    }

    /// Settings that name a table and nothing else.
    pub fn of_table(train_table: &str) -> Self {
        Self {
            problem_type: ProblemType::CausalLanguageModeling.as_str().to_owned(),
            train_table: train_table.to_owned(),
            validation_table: None,
            validation_size: default_validation_size(),
            layout: default_layout(),
            system_column: None,
            prompt_columns: Vec::new(),
            answer_column: None,
            parent_id_column: None,
            id_column: None,
        }
    }

    /// An experiment that reads these tables out of `folder`.
    ///
    /// # Errors
    /// A table that is none of the folder's, a value its field does not take.
    pub fn config(&self, folder: &Path) -> ApiResult<ExperimentConfig> {
        let mut config = ExperimentConfig::default();
        config.set("problem_type", &self.problem_type)?;
        config.set("dataset.layout", &self.layout)?;
        config.set("dataset.validation_size", &self.validation_size.to_string())?;
        let table = |name: &str| -> ApiResult<String> {
            let path = folder.join(super::tables::plain_name(name)?);
            if !path.is_file() {
                let error = ApiError::invalid(format!("there is no table {name}"));
                return Err(error.hint("choose one of the files of the data set"));
            }
            Ok(path.display().to_string())
        };
        let optional = |text: &Option<String>| match text.as_deref() {
            Some(text) if !text.is_empty() => OptionalText::from(text),
            _ => OptionalText::none(),
        };
        let dataset = &mut config.dataset;
        dataset.train_dataframe = table(&self.train_table)?;
        if let Some(validation) = self.validation_table.as_deref().filter(|name| !name.is_empty()) {
            dataset.validation_strategy = ValidationStrategy::Custom;
            dataset.validation_dataframe = OptionalText::from(table(validation)?);
        }
        dataset.system_column = optional(&self.system_column);
        dataset.prompt_column.clone_from(&self.prompt_columns);
        if let Some(answer) = self.answer_column.as_ref().filter(|name| !name.is_empty()) {
            dataset.answer_column = answer.as_str().into();
        }
        dataset.parent_id_column = optional(&self.parent_id_column);
        dataset.id_column = optional(&self.id_column);
        Ok(config)
    }
}
