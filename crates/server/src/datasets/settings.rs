//! What a data set's columns mean, and the one place that says which fields of an experiment that is.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tunesmith_config::{ExperimentConfig, LossFunction, OptionalText, ProblemType, ValidationStrategy};
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
    /// Column of the answer; of the better one where answers are preferred, of the text where texts are learned.
    #[serde(default)]
    #[schema(required)]
    pub answer_column: Option<String>,
    /// Columns of labels (one with a label or a list of them in a cell, or several of 0 and 1), or of numbers to predict.
    #[serde(default)]
    #[schema(required)]
    pub label_columns: Vec<String>,
    /// Number of classes; 1 for one column of two labels. Counted in the table where it is not given.
    #[serde(default)]
    #[schema(required)]
    pub num_classes: Option<u64>,
    /// The one column of labels holds any number of them in a cell; found in the table.
    #[serde(default)]
    pub has_label_lists: bool,
    /// Column of the answer that is to be preferred less.
    #[serde(default)]
    #[schema(required)]
    pub rejected_answer_column: Option<String>,
    /// Column of the prompt of the rejected answer, where it is another one.
    #[serde(default)]
    #[schema(required)]
    pub rejected_prompt_column: Option<String>,
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
        let has_texts = self.kind() == Some(ProblemType::ContinuedPretraining);
        !has_texts && (!self.prompt_columns.is_empty() || self.layout != "columns")
    }

    /// The problem type, if it is one.
    pub fn kind(&self) -> Option<ProblemType> {
        ProblemType::ALL.iter().copied().find(|kind| kind.as_str() == self.problem_type)
    }

    /// Whether classes or numbers are learned, and no texts.
    pub fn has_labels(&self) -> bool {
        matches!(
            self.kind(),
            Some(ProblemType::CausalClassificationModeling | ProblemType::CausalRegressionModeling)
        )
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
            label_columns: Vec::new(),
            num_classes: None,
            has_label_lists: false,
            rejected_answer_column: None,
            rejected_prompt_column: None,
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
        // Defaults of other fields depend on it.
        let kind = config.problem_type;
        config = ExperimentConfig::for_problem_type(kind);
        // Classes, numbers, rejected answers and plain texts stand in columns of their own.
        let has_texts = kind == ProblemType::ContinuedPretraining;
        let has_columns = self.has_labels() || has_texts || kind == ProblemType::DpoModeling;
        config.set("dataset.layout", if has_columns { "columns" } else { &self.layout })?;
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
        if has_texts {
            if let Some(text) = self.answer_column.as_ref().filter(|name| !name.is_empty()) {
                dataset.answer_column = text.as_str().into();
            }
            return Ok(config);
        }
        dataset.prompt_column.clone_from(&self.prompt_columns);
        if self.has_labels() {
            if !self.label_columns.is_empty() {
                dataset.answer_column = self.label_columns.clone().into();
            }
            if let Some(n) = self.num_classes.and_then(|n| usize::try_from(n).ok()) {
                dataset.num_classes = n.max(1);
            }
            if kind == ProblemType::CausalClassificationModeling {
                let is_one_of_several =
                    self.label_columns.len() < 2 && dataset.num_classes > 1 && !self.has_label_lists;
                config.training.loss_function = if is_one_of_several {
                    LossFunction::CrossEntropyLoss
                } else {
                    LossFunction::BinaryCrossEntropyLoss
                };
            }
            return Ok(config);
        }
        if let Some(answer) = self.answer_column.as_ref().filter(|name| !name.is_empty()) {
            dataset.answer_column = answer.as_str().into();
        }
        if let Some(rejected) = self.rejected_answer_column.as_ref().filter(|name| !name.is_empty()) {
            dataset.rejected_answer_column.clone_from(rejected);
        }
        dataset.rejected_prompt_column = optional(&self.rejected_prompt_column);
        dataset.system_column = optional(&self.system_column);
        dataset.parent_id_column = optional(&self.parent_id_column);
        dataset.id_column = optional(&self.id_column);
        Ok(config)
    }
}
