//! `config.json` of a model with a score head in place of the language model's: transformers' `…ForSequenceClassification`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::atomic::write_file;
use crate::dtype::StoreDtype;
use crate::error::{FormatError, Result};
use crate::label_names::add_label_names;
use crate::model_config::ModelConfig;

/// What the scores mean: `problem_type`, by which transformers chooses a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreProblem {
    /// Each score is a number.
    Regression,
    /// The scores are logits of classes of which one is right.
    SingleLabel,
    /// Each score is the logit of a yes or no.
    MultiLabel,
}

/// What `config.json` says of a score head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceClassifier {
    /// Names of the scores in order; there are as many scores as names.
    pub labels: Vec<String>,
    /// What they mean, if it is said.
    pub problem: Option<ScoreProblem>,
    /// The padding token. transformers takes the last other token of a row as the end of its text, so it must not be a
    /// token that texts end with; without one it scores one text at a time.
    pub pad_id: Option<u32>,
}

const ENDING: &str = "ForSequenceClassification";
/// Endings of the classes with a language model's head.
const LANGUAGE_MODEL_ENDINGS: [&str; 2] = ["ForCausalLM", "LMHeadModel"];
/// Number of labels where nothing is said, as in transformers.
const USUAL_N_LABELS: usize = 2;
/// More are not believed of a configuration that does not name them; its weights will not fit then.
const MOST_N_LABELS: usize = 1 << 16;

impl ScoreProblem {
    const ALL: [Self; 3] = [Self::Regression, Self::SingleLabel, Self::MultiLabel];

    /// The name in `problem_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Regression => "regression",
            Self::SingleLabel => "single_label_classification",
            Self::MultiLabel => "multi_label_classification",
        }
    }
}

impl SequenceClassifier {
    /// A head of `n_outputs` scores with the names that transformers gives: `LABEL_0` and so on.
    pub fn new(n_outputs: usize, problem: ScoreProblem, pad_id: Option<u32>) -> Self {
        let labels = (0..n_outputs).map(|output| format!("LABEL_{output}")).collect();
        Self { labels, problem: Some(problem), pad_id }
    }

    /// The same head with these names; those of another number are not taken.
    #[must_use]
    pub fn with_labels(mut self, labels: &[String]) -> Self {
        if labels.len() == self.labels.len() {
            self.labels = labels.to_vec();
        }
        self
    }

    /// What a configuration says, if it is that of a sequence classifier.
    pub fn of(config: &ModelConfig) -> Option<Self> {
        let get = |key: &str| config.raw.get(key);
        let class = get("architectures")?.get(0)?.as_str()?;
        if !class.ends_with(ENDING) {
            return None;
        }
        let name = get("problem_type").and_then(Value::as_str);
        let problem = ScoreProblem::ALL.into_iter().find(|problem| Some(problem.name()) == name);
        let id_to_label = get("id2label").and_then(Value::as_object).filter(|labels| !labels.is_empty());
        let n_labels = get("num_labels").and_then(Value::as_u64).map_or(USUAL_N_LABELS, |n| n as usize);
        let n_labels = id_to_label.map_or(n_labels.min(MOST_N_LABELS), Map::len);
        let label = |output: usize| {
            let named = id_to_label.and_then(|labels| labels.get(&output.to_string())?.as_str());
            named.map_or_else(|| format!("LABEL_{output}"), str::to_owned)
        };
        let labels = (0..n_labels).map(label).collect();
        Some(Self { labels, problem, pad_id: config.pad_id })
    }

    /// [`ModelConfig::to_json`] of the model with this head in place of its own.
    pub fn to_json(&self, config: &ModelConfig, dtype: StoreDtype) -> Value {
        let mut raw = config.to_json(dtype);
        let class = config.architecture.class_name();
        raw["architectures"] = json!([format!("{}{ENDING}", family_of(class))]);
        raw["num_labels"] = json!(self.labels.len());
        add_label_names(&mut raw, &self.labels);
        raw["problem_type"] = json!(self.problem.map(ScoreProblem::name));
        raw["pad_token_id"] = json!(self.pad_id);
        raw
    }

    /// Writes [`Self::to_json`] as `config.json` into the folder `dir`; returns the file.
    ///
    /// # Errors
    /// [`FormatError::Io`].
    pub fn save(&self, config: &ModelConfig, dir: &Path, dtype: StoreDtype) -> Result<PathBuf> {
        let path = dir.join("config.json");
        let text =
            serde_json::to_string_pretty(&self.to_json(config, dtype)).map_err(FormatError::json(&path))?;
        write_file(&path, text.as_bytes())?;
        Ok(path)
    }
}

/// Whether two class names are of one family, the second a sequence classifier's.
pub(crate) fn is_classifier_of(language_model: &str, class: &str) -> bool {
    class.strip_suffix(ENDING) == Some(family_of(language_model))
}

/// The family in a language model's class name.
fn family_of(class: &str) -> &str {
    if class == "Gemma3ForCausalLM" {
        // The classifier without `Text` is that of models that also see pictures.
        return "Gemma3Text";
    }
    LANGUAGE_MODEL_ENDINGS.iter().find_map(|ending| class.strip_suffix(ending)).unwrap_or(class)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut Value)) -> ModelConfig {
        let mut raw = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 96, "hidden_size": 32,
            "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "rms_norm_eps": 1e-6,
            "max_position_embeddings": 128,
        });
        change(&mut raw);
        ModelConfig::from_json(Path::new("config.json"), raw).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let language_model = config(|_| ());
        assert_eq!(SequenceClassifier::of(&language_model), None);
        for problem in ScoreProblem::ALL {
            let head = SequenceClassifier::new(3, problem, Some(7));
            let folder = tempfile::tempdir().unwrap();
            let path = head.save(&language_model, folder.path(), StoreDtype::F32).unwrap();
            let read = ModelConfig::read(&path).unwrap();
            assert_eq!(read.architecture, language_model.architecture);
            assert_eq!(read.raw["architectures"], json!(["LlamaForSequenceClassification"]));
            assert_eq!(SequenceClassifier::of(&read), Some(head));
        }
    }

    #[test]
    fn names_are_written_as_transformers_reads_them() {
        let names: Vec<String> = ["ham", "card, lost", "it's"].map(str::to_owned).to_vec();
        let head = SequenceClassifier::new(3, ScoreProblem::SingleLabel, None).with_labels(&names);
        let raw = head.to_json(&config(|_| ()), StoreDtype::F32);
        assert_eq!(raw["id2label"], json!({"0": "ham", "1": "card, lost", "2": "it's"}));
        assert_eq!(raw["label2id"], json!({"ham": 0, "card, lost": 1, "it's": 2}));
        assert_eq!(raw["num_labels"], 3);
        let unnamed = SequenceClassifier::new(2, ScoreProblem::SingleLabel, None).with_labels(&names);
        assert_eq!(unnamed.labels, ["LABEL_0", "LABEL_1"]);
    }

    #[test]
    fn labels_are_counted_as_transformers_does() {
        let labels_of = |key: &str, value: Value| {
            let read = config(|raw| {
                raw["architectures"] = json!(["LlamaForSequenceClassification"]);
                raw[key] = value;
            });
            SequenceClassifier::of(&read).unwrap().labels
        };
        assert_eq!(labels_of("unrelated", json!(0)), ["LABEL_0", "LABEL_1"]);
        assert_eq!(labels_of("num_labels", json!(1)), ["LABEL_0"]);
        assert_eq!(
            labels_of("id2label", json!({"0": "no", "1": "yes", "2": "maybe"})),
            ["no", "yes", "maybe"]
        );
    }

    #[test]
    fn families_are_recognised() {
        assert!(is_classifier_of("GPT2LMHeadModel", "GPT2ForSequenceClassification"));
        assert!(is_classifier_of("MistralForCausalLM", "MistralForSequenceClassification"));
        assert!(!is_classifier_of("MistralForCausalLM", "LlamaForSequenceClassification"));
        assert!(!is_classifier_of("MistralForCausalLM", "MistralForCausalLM"));
    }
}
