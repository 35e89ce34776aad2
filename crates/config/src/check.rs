//! Settings that are well formed each for itself but do not go together, or do not do here what they say.

use serde::Serialize;

use crate::choices::{
    BackboneDtype, LogStepSize, Logger, LoraInit, LossFunction, Packing, ProblemType, SaveCheckpoint,
};
use crate::experiment::schema;
use crate::field::FieldSpec;
use crate::sections::ExperimentConfig;
use crate::support;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The run must not start.
    Error,
    /// The run starts; the user should know.
    Warning,
}

/// One thing to say about the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// `section.name` of the field to look at.
    pub field: String,
    /// What is wrong or different.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl ExperimentConfig {
    /// All that can be said about the settings without looking at the machine or the data; errors first.
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.check_weights(&mut findings);
        self.check_adapter(&mut findings);
        self.check_course(&mut findings);
        self.check_data(&mut findings);
        self.check_choices(&mut findings);
        self.check_labels(&mut findings);
        self.check_pretraining(&mut findings);
        self.check_packing(&mut findings);
        self.check_augmentation(&mut findings);
        self.check_generation(&mut findings);
        self.check_device(&mut findings);
        self.check_logging(&mut findings);
        findings.extend(support::findings(self));
        findings.sort_by_key(|finding| finding.level != Level::Error);
        findings
    }

    /// Trackers whose steps are whole numbers cannot have shares of a run.
    fn check_logging(&self, findings: &mut Vec<Finding>) {
        let logger = self.logging.logger;
        let counts_steps = !matches!(logger, Logger::None | Logger::Neptune);
        if counts_steps && self.logging.log_step_size == LogStepSize::Relative {
            findings.push(error(
                "logging.log_step_size",
                format!("relative does not go together with {logger}, whose steps are whole numbers"),
                "set logging.log_step_size to absolute",
            ));
        }
    }

    fn check_weights(&self, findings: &mut Vec<Finding>) {
        let dtype = self.architecture.backbone_dtype;
        let is_quantized = dtype.is_4_bit() || dtype == BackboneDtype::Int8;
        if is_quantized && !self.architecture.pretrained {
            findings.push(error(
                "architecture.pretrained",
                "Quantization without pretrained weights: random weights cannot be kept in int4, int8 or nf4"
                    .to_owned(),
                "set architecture.backbone_dtype to float32",
            ));
        }
        if is_quantized && self.environment.use_deepspeed {
            findings.push(error(
                "environment.use_deepspeed",
                format!("DeepSpeed does not work with {dtype} weights"),
                "set environment.use_deepspeed to false",
            ));
        }
        let is_trainable = matches!(dtype, BackboneDtype::Bfloat16 | BackboneDtype::Float32);
        if !self.training.lora && !is_trainable && !self.training.only_evaluates() {
            findings.push(warning(
                "architecture.backbone_dtype",
                format!("training all weights in {dtype} loses small changes"),
                "set architecture.backbone_dtype to bfloat16 or float32, or training.lora to true",
            ));
        }
        let kwargs = &self.tokenizer.tokenizer_kwargs;
        let is_object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(kwargs).is_ok();
        if !kwargs.trim().is_empty() && !is_object {
            findings.push(error(
                "tokenizer.tokenizer_kwargs",
                format!("{kwargs:?} is not a JSON object"),
                r#"write it like {"use_fast": true}, or {} for no options"#,
            ));
        }
    }

    fn check_adapter(&self, findings: &mut Vec<Finding>) {
        let training = &self.training;
        let is_principal = training.lora && training.lora_init == LoraInit::Pissa;
        if is_principal && training.lora_dropout > 0.0 {
            findings.push(error(
                "training.lora_dropout",
                format!(
                    "is {} while training.lora_init is pissa, whose start must act whole",
                    training.lora_dropout
                ),
                "set training.lora_dropout to 0, or training.lora_init to default",
            ));
        }
    }

    /// How long a run is, what it keeps, and what its loss is.
    fn check_course(&self, findings: &mut Vec<Finding>) {
        let training = &self.training;
        let keeps_none = training.save_checkpoint == SaveCheckpoint::Disable;
        if training.save_steps > 0 && keeps_none {
            findings.push(warning(
                "training.save_steps",
                "has no effect while training.save_checkpoint is disable".to_owned(),
                "set training.save_checkpoint to last",
            ));
        }
        let keeps_several = training.save_checkpoint == SaveCheckpoint::EachEvaluationEpoch
            || (training.save_steps > 0 && !keeps_none);
        if training.save_total_limit > 0 && !keeps_several {
            findings.push(warning(
                "training.save_total_limit",
                "has no effect: no checkpoints of single steps are kept".to_owned(),
                "set training.save_steps, or training.save_checkpoint to each_evaluation_epoch",
            ));
        }
        let averages_tokens = matches!(
            training.loss_function,
            LossFunction::TokenAveragedCrossEntropy | LossFunction::SampleAveragedCrossEntropy
        );
        if training.label_smoothing > 0.0 && !averages_tokens {
            findings.push(error(
                "training.label_smoothing",
                format!(
                    "is {} while training.loss_function is {}, which has no labels over a vocabulary",
                    training.label_smoothing, training.loss_function
                ),
                "set it to 0",
            ));
        }
    }

    fn check_data(&self, findings: &mut Vec<Finding>) {
        let dataset = &self.dataset;
        let is_custom = dataset.validation_strategy == crate::ValidationStrategy::Custom;
        if is_custom && dataset.validation_dataframe.is_none() {
            findings.push(error(
                "dataset.validation_dataframe",
                "is empty, but dataset.validation_strategy is custom".to_owned(),
                "name the validation table, or set dataset.validation_strategy to automatic",
            ));
        }
        if !is_custom && let Some(path) = dataset.validation_dataframe.as_deref() {
            findings.push(warning(
                "dataset.validation_dataframe",
                format!("{path} is not read while dataset.validation_strategy is automatic"),
                "set dataset.validation_strategy to custom, or dataset.validation_dataframe to None",
            ));
        }
        if dataset.only_last_answer && !dataset.mask_prompt_labels {
            findings.push(warning(
                "dataset.only_last_answer",
                "has no effect while dataset.mask_prompt_labels is false: every token is learned".to_owned(),
                "set dataset.mask_prompt_labels to true",
            ));
        }
        if dataset.data_sample < 1.0 && dataset.data_sample_choice.is_empty() {
            findings.push(warning(
                "dataset.data_sample_choice",
                "is empty, so dataset.data_sample has no effect".to_owned(),
                "name Train, Validation or both",
            ));
        }
    }

    /// Choices that belong to another problem type.
    fn check_choices(&self, findings: &mut Vec<Finding>) {
        for spec in schema() {
            let (Some(names), Some(value)) = (spec.choices_of(self.problem_type), self.get(&spec.path()))
            else {
                continue;
            };
            let value = value.to_string();
            if !names.contains(&value.as_str()) {
                findings.push(error(
                    &spec.path(),
                    format!("{value} does not fit {}", self.problem_type),
                    &format!("set it to {}", names.join(" or ")),
                ));
            }
        }
    }

    /// Columns of classes and numbers, and the number of classes.
    fn check_labels(&self, findings: &mut Vec<Finding>) {
        let dataset = &self.dataset;
        let (n_columns, n_classes) = (dataset.answer_column.all().len(), dataset.num_classes);
        let is_cross_entropy = self.training.loss_function == LossFunction::CrossEntropyLoss;
        let has_labels = matches!(
            self.problem_type,
            ProblemType::CausalClassificationModeling | ProblemType::CausalRegressionModeling
        );
        if has_labels && dataset.parent_id_column.is_some() {
            findings.push(error(
                "dataset.parent_id_column",
                format!("{} has no conversations", self.problem_type),
                "set dataset.parent_id_column to None",
            ));
        }
        if n_columns == 0 || (n_columns > 1 && !has_labels) {
            let hint = if has_labels { "name at least one column" } else { "name the one column of answers" };
            findings.push(error("dataset.answer_column", format!("names {n_columns} columns"), hint));
            return;
        }
        if self.problem_type != ProblemType::CausalClassificationModeling {
            return;
        }
        match (is_cross_entropy, n_columns) {
            (true, 2..) => findings.push(error(
                "training.loss_function",
                format!("CrossEntropyLoss takes one column of classes, not {n_columns}"),
                "set training.loss_function to BinaryCrossEntropyLoss, which takes a column for each label",
            )),
            (false, 2..) if n_classes > 1 && n_classes != n_columns => findings.push(error(
                "dataset.num_classes",
                format!("is {n_classes}, but dataset.answer_column names {n_columns} columns"),
                &format!("set it to {n_columns}, or to 0 to find it"),
            )),
            _ => {}
        }
        self.check_class_names(findings);
    }

    /// Names of classes, and what stands between labels.
    fn check_class_names(&self, findings: &mut Vec<Finding>) {
        let dataset = &self.dataset;
        let (names, columns) = (&dataset.class_names, dataset.answer_column.all());
        let is_cross_entropy = self.training.loss_function == LossFunction::CrossEntropyLoss;
        let takes_lists = !is_cross_entropy && columns.len() == 1;
        let mut wrong_names = |message: String, hint: &str| {
            findings.push(error("dataset.class_names", message, hint));
        };
        let repeated =
            names.iter().enumerate().find(|(idx, name)| names.iter().take(*idx).any(|n| n == *name));
        if let Some((_, name)) = repeated {
            wrong_names(format!("names {name:?} twice"), "name each class once");
        } else if names.iter().any(|name| name.trim().is_empty()) {
            wrong_names("has an empty name".to_owned(), "give every class a name");
        } else if columns.len() > 1 && !names.is_empty() && names != columns {
            wrong_names(
                "differs from dataset.answer_column, whose columns are the labels".to_owned(),
                "leave it empty",
            );
        } else if is_cross_entropy && names.len() == 1 {
            wrong_names(
                "has one name, so there is nothing to tell apart".to_owned(),
                "name two classes or more",
            );
        } else if is_cross_entropy
            && names.len() > 1
            && dataset.num_classes > 1
            && names.len() != dataset.num_classes
        {
            findings.push(error(
                "dataset.num_classes",
                format!("is {}, but dataset.class_names has {} names", dataset.num_classes, names.len()),
                &format!("set it to {}, or to 0 to find it", names.len()),
            ));
        }
        if dataset.label_separator.is_empty() {
            findings.push(error(
                "dataset.label_separator",
                "is empty".to_owned(),
                "set it to auto, to none, or to what stands between the labels of a cell",
            ));
        } else if !takes_lists && !matches!(dataset.label_separator.as_str(), "auto" | "none") {
            findings.push(error(
                "dataset.label_separator",
                format!(
                    "{:?} goes together with one column and BinaryCrossEntropyLoss only",
                    dataset.label_separator
                ),
                "set it to auto; several labels at once need training.loss_function BinaryCrossEntropyLoss",
            ));
        }
    }

    /// Continued pre-training reads texts; what belongs to conversations has no place in them.
    fn check_pretraining(&self, findings: &mut Vec<Finding>) {
        if self.problem_type != ProblemType::ContinuedPretraining {
            return;
        }
        let defaults = [Self::for_problem_type(self.problem_type), Self::default()];
        let is_foreign = |spec: &&FieldSpec| spec.facets.hidden_for.contains(&self.problem_type);
        for path in schema().iter().filter(is_foreign).map(FieldSpec::path) {
            let Some(value) = self.get(&path) else { continue };
            if defaults.iter().all(|default| default.get(&path).as_ref() != Some(&value)) {
                findings.push(warning(
                    &path,
                    format!("{value} has no effect: texts have no prompts, rounds or markers"),
                    "leave it out, or set problem_type to text_causal_language_modeling",
                ));
            }
        }
    }

    /// Rows cut out of a stream of samples know neither the end of one nor which answer is the better.
    fn check_packing(&self, findings: &mut Vec<Finding>) {
        let is_wrapped = self.training.packing == Packing::Wrapped;
        let has_streams = matches!(
            self.problem_type,
            ProblemType::CausalLanguageModeling | ProblemType::ContinuedPretraining
        );
        if is_wrapped && !has_streams {
            findings.push(error(
                "training.packing",
                format!("wrapped does not fit {}: its samples must stay whole", self.problem_type),
                "set training.packing to samples or rows",
            ));
        }
    }

    /// Random changes that would change what is learned instead of varying it.
    fn check_augmentation(&self, findings: &mut Vec<Finding>) {
        let augmentation = &self.augmentation;
        if augmentation.token_mask_probability > 0.0 && self.problem_type == ProblemType::DpoModeling {
            findings.push(error(
                "augmentation.token_mask_probability",
                "two answers are compared by the probabilities of all their tokens; with other tokens masked in each, \
                 chance would decide which is better"
                    .to_owned(),
                "set it to 0; augmentation.neftune_noise_alpha varies preferences, too",
            ));
        }
        let has_rounds = !matches!(
            self.problem_type,
            ProblemType::CausalClassificationModeling
                | ProblemType::CausalRegressionModeling
                | ProblemType::ContinuedPretraining
        );
        let of_rounds = [
            ("augmentation.skip_parent_probability", augmentation.skip_parent_probability),
            ("augmentation.random_parent_probability", augmentation.random_parent_probability),
        ];
        for (field, probability) in of_rounds {
            if probability > 0.0 && !has_rounds {
                let message =
                    format!("{} has no conversations, so there are no earlier rounds", self.problem_type);
                findings.push(error(field, message, "set it to 0"));
            }
        }
    }

    fn check_generation(&self, findings: &mut Vec<Finding>) {
        let prediction = &self.prediction;
        if prediction.temperature > 0.0 && !prediction.do_sample {
            findings.push(warning(
                "prediction.temperature",
                "has no effect while prediction.do_sample is false".to_owned(),
                "set prediction.do_sample to true, or the temperature to 0",
            ));
        }
        if prediction.temperature == 0.0 && prediction.do_sample {
            findings.push(warning(
                "prediction.temperature",
                "is 0, so prediction.do_sample has no effect: the most likely token is always taken"
                    .to_owned(),
                "set a temperature such as 0.7",
            ));
        }
        if prediction.num_beams > 1 && prediction.do_sample && prediction.temperature > 0.0 {
            findings.push(error(
                "prediction.num_beams",
                "is above 1 while prediction.do_sample is true: beams follow the likeliest texts, and drawing leaves them"
                    .to_owned(),
                "set prediction.do_sample to false, or prediction.num_beams to 1",
            ));
        }
        if prediction.min_length_inference > prediction.max_length_inference {
            findings.push(warning(
                "prediction.min_length_inference",
                format!(
                    "is larger than prediction.max_length_inference ({})",
                    prediction.max_length_inference
                ),
                "every answer will have exactly max_length_inference tokens; make it smaller",
            ));
        }
        if self.logging.logger == crate::Logger::WeightsAndBiases
            && self.logging.log_step_size == crate::LogStepSize::Relative
        {
            findings.push(error(
                "logging.log_step_size",
                "Weights & Biases takes absolute steps only".to_owned(),
                "set logging.log_step_size to absolute",
            ));
        }
    }

    fn check_device(&self, findings: &mut Vec<Finding>) {
        let device = self.environment.device.to_ascii_lowercase();
        let is_known = match device.split_once(':') {
            None => matches!(device.as_str(), "auto" | "cpu" | "cuda" | "metal" | "mps" | "vulkan"),
            Some((kind, number)) => matches!(kind, "cuda" | "vulkan") && number.parse::<usize>().is_ok(),
        };
        if !is_known {
            findings.push(error(
                "environment.device",
                format!("{:?} is not a device", self.environment.device),
                "set it to auto, cpu, cuda, metal or vulkan; cuda:1 is the second of several",
            ));
        }
        let gpus = &self.environment.gpus;
        if gpus.iter().any(|id| id.parse::<usize>().is_err()) {
            findings.push(error(
                "environment.gpus",
                format!("{gpus:?} are not numbers of GPUs"),
                "list numbers from 0 on",
            ));
        }
    }
}

fn error(field: &str, message: String, hint: &str) -> Finding {
    Finding { level: Level::Error, field: field.to_owned(), message, hint: Some(hint.to_owned()) }
}

fn warning(field: &str, message: String, hint: &str) -> Finding {
    Finding { level: Level::Warning, field: field.to_owned(), message, hint: Some(hint.to_owned()) }
}
