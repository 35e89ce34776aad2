//! How a model answers unless it is told otherwise, and what one could ask it.

use serde::Serialize;
use serde_json::{Map, Value, json};
use tunesmith_config::{ExperimentConfig, schema};
use tunesmith_data::{Conversation, load_splits};
use utoipa::ToSchema;

use crate::error::ApiResult;
use crate::runs::{act, config_of};
use crate::state::AppState;

/// Rows that are looked at for a system text and for questions.
const N_ROWS: usize = 200;
/// Questions that are suggested.
const N_SUGGESTIONS: usize = 4;

/// What a conversation begins with.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatDefaults {
    /// Fields of the `prediction` section by their bare names.
    #[schema(value_type = BTreeMap<String, crate::fields::FieldValue>)]
    settings: Map<String, Value>,
    /// The system text of the training data, when all rows share it.
    #[schema(required)]
    system: Option<String>,
    /// Questions of validation rows, or of training rows where there are none.
    suggestions: Vec<String>,
}

/// Those of an experiment, or of any other model.
pub(crate) async fn defaults_of(state: &AppState, experiment_id: Option<String>) -> ApiResult<ChatDefaults> {
    act(state, move |_, runs| {
        let Some(id) = experiment_id else {
            let mut config = ExperimentConfig::default();
            config.prediction.do_sample = false;
            return Ok(ChatDefaults {
                settings: prediction(&config),
                system: None,
                suggestions: ["Hello! What can you do?", "Explain in two sentences why the sky is blue."]
                    .map(str::to_owned)
                    .to_vec(),
            });
        };
        let (_, file, _) = runs.get(&id)?;
        let mut config = config_of(&file.values)?;
        let settings = prediction(&config);
        config.dataset.max_rows = N_ROWS;
        // The tables may be gone; one can chat all the same.
        let splits = load_splits(&config).ok();
        let (train, validation) = splits.map(|splits| (splits.train, splits.validation)).unwrap_or_default();
        let asked = if validation.is_empty() { &train } else { &validation };
        let mut suggestions: Vec<String> = Vec::new();
        for question in asked.iter().filter_map(first_prompt) {
            if suggestions.len() < N_SUGGESTIONS && !suggestions.contains(&question) {
                suggestions.push(question);
            }
        }
        Ok(ChatDefaults { settings, system: common_system(&train), suggestions })
    })
    .await
}

fn prediction(config: &ExperimentConfig) -> Map<String, Value> {
    schema()
        .iter()
        .filter(|field| field.section == "prediction")
        .filter_map(|field| Some((field.name.to_owned(), json!(config.get(&field.path())?))))
        .collect()
}

fn first_prompt(conversation: &Conversation) -> Option<String> {
    let prompt = conversation.rounds.first()?.prompt.trim();
    (!prompt.is_empty()).then(|| prompt.to_owned())
}

fn common_system(conversations: &[Conversation]) -> Option<String> {
    let mut systems = conversations.iter().filter_map(|one| one.rounds.first()).map(|round| &round.system);
    let first = systems.next().filter(|text| !text.trim().is_empty())?;
    systems.all(|text| text == first).then(|| first.clone())
}
