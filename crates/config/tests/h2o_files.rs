//! Files as the settings page of H2O LLM Studio can write them: every field at every choice and at the ends of its range,
//! lists and texts with nothing in them, keys of older versions. Each loads and means what it says, or is refused or
//! reported by name where the tables below say so.
//!
//! Length: two thirds are tables.
//! The tables are written down from that program's field list, not from the declarations of this crate.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use tunesmith_config::{ExperimentConfig, Level, ProblemType, Value};

/// What a field of the page can hold.
#[derive(Clone, Copy)]
enum Page {
    Switch,
    /// A slider or number box of whole numbers: the ends of its range.
    Whole(&'static [i64]),
    /// The same of numbers, in PyYAML's spelling.
    Number(&'static [&'static str]),
    Words(&'static [&'static str]),
    Text,
    /// The one column of answers.
    Column,
    /// A column or file, or the word `None`.
    OrNone,
    /// Several of what is offered, none of which need be chosen.
    Several,
    /// The two parts of the data.
    Parts,
    /// A JSON object as text.
    Options,
}

use Page::{Column, Number, Options, OrNone, Parts, Several, Switch, Text, Whole, Words};

const RATES: Page = Number(&["1.0e-09", "1.0e-05", "0.0001", "1.0"]);
const SHARES: Page = Number(&["0.0", "0.05", "1.0"]);

/// Path, what the page offers, and default in that program's spelling.
type Field = (&'static str, Page, &'static str);

/// The fields of causal language modeling.
const FIELDS: &[Field] = &[
    ("architecture.backbone_dtype", Words(&["float32", "bfloat16", "float16", "int8", "int4"]), "int4"),
    ("architecture.gradient_checkpointing", Switch, "true"),
    ("architecture.intermediate_dropout", Number(&["0.0", "0.05", "0.5"]), "0.0"),
    ("architecture.pretrained", Switch, "true"),
    ("architecture.pretrained_weights", Text, "''"),
    ("augmentation.neftune_noise_alpha", Number(&["0.0", "0.05", "15.0"]), "0.0"),
    ("augmentation.random_parent_probability", SHARES, "0.0"),
    ("augmentation.skip_parent_probability", SHARES, "0.0"),
    ("augmentation.token_mask_probability", Number(&["0.0", "0.9"]), "0.0"),
    ("dataset.add_eos_token_to_answer", Switch, "true"),
    ("dataset.add_eos_token_to_prompt", Switch, "true"),
    ("dataset.add_eos_token_to_system", Switch, "true"),
    ("dataset.answer_column", Column, "output"),
    ("dataset.chatbot_author", Text, "H2O.ai"),
    ("dataset.chatbot_name", Text, "h2oGPT"),
    ("dataset.data_sample", Number(&["0.01", "0.5", "1.0"]), "1.0"),
    ("dataset.data_sample_choice", Parts, "[Train, Validation]"),
    ("dataset.id_column", OrNone, "id"),
    ("dataset.limit_chained_samples", Switch, "false"),
    ("dataset.mask_prompt_labels", Switch, "true"),
    ("dataset.only_last_answer", Switch, "false"),
    ("dataset.parent_id_column", OrNone, "None"),
    ("dataset.personalize", Switch, "false"),
    ("dataset.prompt_column", Several, "[instruction, input]"),
    ("dataset.prompt_column_separator", Text, r"\n\n"),
    ("dataset.system_column", OrNone, "None"),
    ("dataset.text_answer_separator", Text, "<|answer|>"),
    ("dataset.text_prompt_start", Text, "<|prompt|>"),
    ("dataset.text_system_start", Text, "<|system|>"),
    ("dataset.train_dataframe", Text, "/path/to/train.csv"),
    ("dataset.validation_dataframe", OrNone, "None"),
    ("dataset.validation_size", Number(&["0.01", "0.5", "0.95"]), "0.01"),
    ("dataset.validation_strategy", Words(&["automatic", "custom"]), "automatic"),
    ("environment.compile_model", Switch, "false"),
    ("environment.deepspeed_allgather_bucket_size", Whole(&[1_000_000, 500_000_000]), "1000000"),
    ("environment.deepspeed_method", Words(&["ZeRO2", "ZeRO3"]), "ZeRO2"),
    ("environment.deepspeed_reduce_bucket_size", Whole(&[1_000_000, 500_000_000]), "1000000"),
    ("environment.deepspeed_stage3_param_persistence_threshold", Whole(&[1_000_000]), "1000000"),
    ("environment.deepspeed_stage3_prefetch_bucket_size", Whole(&[1_000_000]), "1000000"),
    ("environment.find_unused_parameters", Switch, "false"),
    ("environment.gpus", Several, "['0']"),
    ("environment.huggingface_branch", Text, "main"),
    ("environment.mixed_precision", Switch, "true"),
    ("environment.mixed_precision_dtype", Words(&["bfloat16", "float16"]), "bfloat16"),
    ("environment.number_of_workers", Whole(&[1, 4, 8, 256]), "8"),
    ("environment.seed", Whole(&[-1, 0, 1_000_000]), "-1"),
    ("environment.trust_remote_code", Switch, "true"),
    ("environment.use_deepspeed", Switch, "false"),
    ("logging.log_all_ranks", Switch, "false"),
    ("logging.log_step_size", Words(&["absolute", "relative"]), "absolute"),
    ("logging.logger", Words(&["None", "Neptune", "W&B"]), "None"),
    ("logging.neptune_project", Text, "''"),
    ("logging.wandb_entity", Text, "''"),
    ("logging.wandb_project", Text, "''"),
    ("prediction.batch_size_inference", Whole(&[0, 1, 512]), "0"),
    ("prediction.do_sample", Switch, "false"),
    ("prediction.max_length_inference", Whole(&[1, 256, 4096]), "256"),
    ("prediction.max_time", Number(&["0.0", "1.0", "600.0"]), "0.0"),
    ("prediction.metric", Words(&["BLEU", "GPT", "Perplexity"]), "BLEU"),
    ("prediction.metric_gpt_model", Text, "gpt-3.5-turbo-0301"),
    ("prediction.metric_gpt_template", Words(&["general", "rag", "mt-bench"]), "general"),
    ("prediction.min_length_inference", Whole(&[0, 2, 1024]), "2"),
    ("prediction.num_beams", Whole(&[1, 2, 4]), "1"),
    ("prediction.num_history", Whole(&[1, 4, 50]), "4"),
    ("prediction.repetition_penalty", Number(&["1.0", "1.025", "10.0"]), "1.0"),
    ("prediction.stop_tokens", Text, "''"),
    ("prediction.temperature", Number(&["0.0", "0.3", "10.0"]), "0.0"),
    ("prediction.top_k", Whole(&[0, 100]), "0"),
    ("prediction.top_p", Number(&["0.5", "1.0"]), "1.0"),
    ("tokenizer.add_prompt_answer_tokens", Switch, "false"),
    ("tokenizer.max_length", Whole(&[32, 512, 16_384, 131_072]), "512"),
    ("tokenizer.padding_quantile", Number(&["0.0", "0.5", "1.0"]), "1.0"),
    ("tokenizer.tokenizer_kwargs", Options, r#"'{"use_fast": true, "add_prefix_space": false}'"#),
    ("training.attention_implementation", Words(&["auto", "eager", "flash_attention_2", "sdpa"]), "auto"),
    ("training.batch_size", Whole(&[1, 2, 256]), "2"),
    ("training.differential_learning_rate", RATES, "1.0e-05"),
    ("training.differential_learning_rate_layers", Several, "[]"),
    ("training.drop_last_batch", Switch, "true"),
    ("training.epochs", Whole(&[0, 1, 50]), "1"),
    ("training.evaluate_before_training", Switch, "false"),
    ("training.evaluation_epochs", Number(&["0.01", "1.0"]), "1.0"),
    ("training.freeze_layers", Several, "[]"),
    ("training.grad_accumulation", Whole(&[1, 8, 32]), "1"),
    ("training.gradient_clip", Number(&["0.0", "0.1", "10.0"]), "0.0"),
    ("training.learning_rate", RATES, "0.0001"),
    ("training.lora", Switch, "true"),
    ("training.lora_alpha", Whole(&[1, 16, 256]), "16"),
    ("training.lora_dropout", Number(&["0.0", "0.05", "0.5"]), "0.05"),
    ("training.lora_r", Whole(&[1, 4, 256]), "4"),
    ("training.lora_target_modules", Text, "''"),
    ("training.lora_unfreeze_layers", Several, "[]"),
    (
        "training.loss_function",
        Words(&["TokenAveragedCrossEntropy", "SampleAveragedCrossEntropy"]),
        "TokenAveragedCrossEntropy",
    ),
    ("training.min_learning_rate_ratio", Number(&["0.0", "0.0001", "0.1"]), "0.0"),
    ("training.optimizer", Words(&["Adadelta", "Adam", "AdamW", "AdamW8bit", "RMSprop", "SGD"]), "AdamW"),
    ("training.save_checkpoint", Words(&["last", "best", "each_evaluation_epoch", "disable"]), "last"),
    ("training.schedule", Words(&["Constant", "Cosine", "Linear"]), "Cosine"),
    ("training.train_validation_data", Switch, "false"),
    ("training.use_dora", Switch, "false"),
    ("training.use_rslora", Switch, "false"),
    ("training.warmup_epochs", Number(&["0.0", "0.05", "5.0"]), "0.0"),
    ("training.weight_decay", Number(&["0.0", "1.0e-05", "0.2"]), "0.0"),
];

/// What the other problem types have besides or instead.
const OTHERS: &[(ProblemType, &[Field])] = &[
    (
        ProblemType::CausalClassificationModeling,
        &[
            ("dataset.add_prompt_answer_tokens", Words(&["false"]), "false"),
            ("dataset.answer_column", Several, "[label]"),
            ("dataset.num_classes", Whole(&[1]), "1"),
            ("dataset.text_answer_separator", Text, "''"),
            ("dataset.text_prompt_start", Text, "''"),
            ("dataset.text_system_start", Text, "''"),
            ("dataset.add_eos_token_to_answer", Switch, "false"),
            ("dataset.add_eos_token_to_prompt", Switch, "false"),
            ("dataset.add_eos_token_to_system", Switch, "false"),
            ("dataset.parent_id_column", Words(&["None"]), "None"),
            ("augmentation.skip_parent_probability", Number(&["0.0"]), "0.0"),
            ("augmentation.random_parent_probability", Number(&["0.0"]), "0.0"),
            ("training.loss_function", Words(&["BinaryCrossEntropyLoss"]), "BinaryCrossEntropyLoss"),
            ("training.differential_learning_rate_layers", Several, "[classification_head]"),
            ("prediction.metric", Words(&["AUC", "Accuracy", "LogLoss"]), "AUC"),
        ],
    ),
    (
        ProblemType::CausalRegressionModeling,
        &[
            ("dataset.answer_column", Several, "[label]"),
            ("dataset.num_classes", Whole(&[1]), "1"),
            ("dataset.text_answer_separator", Text, "''"),
            ("dataset.text_prompt_start", Text, "''"),
            ("dataset.text_system_start", Text, "''"),
            ("dataset.parent_id_column", Words(&["None"]), "None"),
            ("augmentation.skip_parent_probability", Number(&["0.0"]), "0.0"),
            ("augmentation.random_parent_probability", Number(&["0.0"]), "0.0"),
            ("training.loss_function", Words(&["MSELoss", "MAELoss"]), "MSELoss"),
            ("training.differential_learning_rate_layers", Several, "[regression_head]"),
            ("prediction.metric", Words(&["MSE", "MAE"]), "MSE"),
        ],
    ),
    (
        ProblemType::SequenceToSequenceModeling,
        &[
            ("architecture.backbone_dtype", Words(&["float32", "bfloat16"]), "bfloat16"),
            ("environment.mixed_precision", Switch, "false"),
            ("dataset.text_answer_separator", Text, "''"),
            ("dataset.text_prompt_start", Text, "''"),
            ("dataset.text_system_start", Text, "''"),
        ],
    ),
    (
        ProblemType::DpoModeling,
        &[
            ("augmentation.token_mask_probability", Number(&["0.0"]), "0.0"),
            ("dataset.answer_column", Column, "chosen_response"),
            ("dataset.limit_chained_samples", Switch, "true"),
            ("dataset.rejected_answer_column", Text, "rejected_response"),
            ("dataset.rejected_prompt_column", OrNone, "None"),
            ("training.beta", Number(&["0.05", "0.2", "1.0"]), "0.2"),
            ("training.gradient_clip", Number(&["0.0", "10.0"]), "10.0"),
            (
                "training.loss_function",
                Words(&["DPOLoss", "DPOHingeLoss", "DPOIPOLoss", "KTOPairLoss", "CPOLoss", "SimPOLoss"]),
                "DPOLoss",
            ),
            ("training.simpo_gamma", Number(&["0.05", "1.0", "2.0"]), "1.0"),
        ],
    ),
];

/// A value that a run does not start with, or says something about.
struct Said {
    path: &'static str,
    /// As the field shows them.
    values: &'static [&'static str],
    /// All problem types where there are none.
    kinds: &'static [ProblemType],
    level: Level,
    /// The field that is named, where it is another one.
    about: Option<&'static str>,
}

const fn said(path: &'static str, values: &'static [&'static str], level: Level) -> Said {
    Said { path, values, kinds: &[], level, about: None }
}

impl Said {
    const fn about(self, field: &'static str) -> Self {
        Self { about: Some(field), ..self }
    }

    const fn only(self, kinds: &'static [ProblemType]) -> Self {
        Self { kinds, ..self }
    }
}

const DECODERS: &[ProblemType] = &[
    ProblemType::CausalLanguageModeling,
    ProblemType::CausalClassificationModeling,
    ProblemType::CausalRegressionModeling,
    ProblemType::DpoModeling,
];
const SEQUENCES: &[ProblemType] = &[ProblemType::SequenceToSequenceModeling];

/// Everything else passes without a word. Of two findings about a field the error comes first.
const SAID: &[Said] = &[
    said("architecture.backbone_dtype", &[], Level::Warning),
    said("architecture.intermediate_dropout", &["0.05", "0.5"], Level::Warning),
    said("architecture.pretrained", &["false"], Level::Error),
    said("dataset.answer_column", &["[]"], Level::Error),
    said("dataset.mask_prompt_labels", &["false"], Level::Warning).only(SEQUENCES),
    said("dataset.validation_dataframe", &["column", "1"], Level::Warning),
    said("dataset.validation_strategy", &["custom"], Level::Error).about("dataset.validation_dataframe"),
    said("environment.compile_model", &["true"], Level::Warning),
    said("environment.find_unused_parameters", &["true"], Level::Warning),
    said("environment.gpus", &["[0, 1]"], Level::Warning),
    said("environment.mixed_precision_dtype", &["float16"], Level::Warning).only(DECODERS),
    said("environment.number_of_workers", &["1", "256"], Level::Warning),
    said("environment.use_deepspeed", &["true"], Level::Error).only(DECODERS),
    said("environment.use_deepspeed", &["true"], Level::Warning),
    said("logging.log_all_ranks", &["true"], Level::Warning),
    said("logging.log_step_size", &["relative"], Level::Warning),
    said("logging.logger", &["Neptune"], Level::Warning),
    said("prediction.do_sample", &["true"], Level::Warning).about("prediction.temperature"),
    said("prediction.max_length_inference", &["1"], Level::Warning).about("prediction.min_length_inference"),
    said("prediction.min_length_inference", &["1024"], Level::Warning),
    said("prediction.temperature", &["0.3", "10.0"], Level::Warning),
    said("tokenizer.add_prompt_answer_tokens", &["true"], Level::Error),
    said("tokenizer.padding_quantile", &["0.5"], Level::Warning),
    said("tokenizer.tokenizer_kwargs", &[r#"{"use_fast": false}"#], Level::Warning),
    said("training.attention_implementation", &["eager", "flash_attention_2", "sdpa"], Level::Warning),
    said("training.lora", &["false"], Level::Warning).about("architecture.backbone_dtype"),
];

/// Fields that are named when several values do not go together.
const OF_MIXTURES: [&str; 3] =
    ["dataset.only_last_answer", "dataset.data_sample_choice", "prediction.num_beams"];

/// The values of a page in YAML, each with what the field then shows; `None` where only loading is looked at.
fn values(page: Page) -> Vec<(String, Option<String>)> {
    let shown = |yaml: &str, shown: &str| (yaml.to_owned(), Some(shown.to_owned()));
    match page {
        Switch => vec![shown("true", "true"), shown("false", "false")],
        Whole(numbers) => {
            numbers.iter().map(|number| shown(&number.to_string(), &number.to_string())).collect()
        }
        Number(numbers) => numbers.iter().map(|number| shown(number, number)).collect(),
        Words(words) => words.iter().map(|word| shown(word, word)).collect(),
        Text => vec![
            shown("''", "''"),
            shown("plain", "plain"),
            shown("'1'", "1"),
            shown("'true'", "true"),
            shown("'a: b # c'", "a: b # c"),
            // As PyYAML 6.0.3 writes long and special texts at an indentation of 4.
            shown(
                "a long text that is folded at eighty columns because it is longer\n        than that",
                "a long text that is folded at eighty columns because it is longer than that",
            ),
            shown("'it''s: folded, too\n        # and quoted'", "it's: folded, too # and quoted"),
            shown("\"a\\tb \\xE9 is\\\n        \\ folded \\U0001F600\"", "a\tb é is folded 😀"),
            shown("'\n\n\n        Human: '", "\n\nHuman: "),
            shown("null", "''"),
            shown("[]", "''"),
            shown("['']", "''"),
        ],
        Column => vec![
            shown("output", "output"),
            shown("'1'", "1"),
            shown("''", "[]"),
            shown("null", "[]"),
            shown("['']", "[]"),
        ],
        OrNone => vec![
            shown("None", "None"),
            shown("'None'", "None"),
            shown("''", "''"),
            shown("null", "None"),
            shown("column", "column"),
            shown("'1'", "1"),
        ],
        Several => vec![
            shown("[]", "[]"),
            shown("['']", "[]"),
            shown("''", "[]"),
            shown("None", "[]"),
            shown("null", "[]"),
            shown("['0']", "[0]"),
            shown("[0]", "[0]"),
            shown("'0'", "[0]"),
            shown("&id001\n    - '0'\n    - '1'", "[0, 1]"),
            shown("!!python/tuple\n    - '0'", "[0]"),
        ],
        Options => vec![
            shown("''", "''"),
            shown("'{}'", "{}"),
            shown(r#"'{"use_fast": true}'"#, r#"{"use_fast": true}"#),
            shown(r#"'{"use_fast": false}'"#, r#"{"use_fast": false}"#),
            shown(r#"'{"add_prefix_space": true}'"#, r#"{"add_prefix_space": true}"#),
        ],
        Parts => vec![
            shown("[Train, Validation]", "[Train, Validation]"),
            shown("[Train]", "[Train]"),
            shown("Validation", "[Validation]"),
            shown("[]", "[]"),
            shown("['']", "[]"),
        ],
    }
}

/// The page of each field of a problem type, with its default.
fn pages(kind: ProblemType) -> BTreeMap<&'static str, (Page, &'static str)> {
    let others = OTHERS.iter().filter(|(other, _)| *other == kind).flat_map(|(_, fields)| fields.iter());
    FIELDS.iter().chain(others).map(|(path, page, default)| (*path, (*page, *default))).collect()
}

/// The file as that program writes it: sections and fields by name.
fn file(kind: ProblemType, values: &BTreeMap<&str, String>) -> String {
    let mut text =
        format!("experiment_name: test\nllm_backbone: a/b\noutput_directory: out\nproblem_type: {kind}\n");
    let mut section = "";
    for (path, value) in values {
        let (name, field) = path.split_once('.').unwrap();
        if name != section {
            section = name;
            text.push_str(&format!("{section}:\n"));
        }
        text.push_str(&format!("    {field}: {value}\n"));
    }
    text
}

fn defaults(kind: ProblemType) -> BTreeMap<&'static str, String> {
    pages(kind).into_iter().map(|(path, (_, default))| (path, default.to_owned())).collect()
}

fn load(text: &str) -> (ExperimentConfig, Vec<String>) {
    let (config, warnings) =
        ExperimentConfig::from_yaml(text, "cfg.yaml").unwrap_or_else(|error| panic!("{error}\n{text}"));
    (config, warnings.iter().map(ToString::to_string).collect())
}

const KINDS: [ProblemType; 5] = [
    ProblemType::CausalLanguageModeling,
    ProblemType::CausalClassificationModeling,
    ProblemType::CausalRegressionModeling,
    ProblemType::SequenceToSequenceModeling,
    ProblemType::DpoModeling,
];

#[test]
fn every_field_loads_at_every_choice_and_means_it() {
    let mut n_files = 0;
    for kind in KINDS {
        for (path, (page, _)) in pages(kind) {
            for (yaml, shown) in values(page) {
                let mut fields = defaults(kind);
                fields.insert(path, yaml.clone());
                let (config, warnings) = load(&file(kind, &fields));
                n_files += 1;
                if path == "dataset.add_prompt_answer_tokens" {
                    assert_eq!(warnings, Vec::<String>::new());
                    continue;
                }
                let found = config.get(path).unwrap();
                // One answer column is shown as a text.
                let is_single = matches!(found, Value::Text(_)) && matches!(page, Several);
                let found = if is_single { format!("[{found}]") } else { found.to_string() };
                assert_eq!(Some(found), shown, "{kind}: {path}: {yaml}");
                let is_cpu = path == "environment.gpus" && config.environment.gpus.is_empty();
                assert_eq!(warnings.len(), usize::from(is_cpu), "{kind}: {path}: {yaml}: {warnings:?}");
                // What was read is written and read again the same.
                let (again, _) = load(&config.to_yaml());
                assert_eq!(again, config, "{kind}: {path}: {yaml}");
            }
        }
    }
    assert!(n_files > 1000, "{n_files}");
}

/// The findings of a file in which one field has this value.
fn findings(kind: ProblemType, path: &'static str, yaml: &str) -> Vec<(String, Level)> {
    let mut fields = defaults(kind);
    fields.insert(path, yaml.to_owned());
    let found = load(&file(kind, &fields)).0.check();
    let mut found: Vec<_> = found.into_iter().map(|finding| (finding.field, finding.level)).collect();
    found.dedup();
    found
}

#[test]
fn what_is_refused_or_reported_stands_in_the_table() {
    for kind in KINDS {
        for (path, (page, _)) in pages(kind) {
            for (yaml, shown) in values(page) {
                let value = shown.unwrap_or_default();
                let expected: Vec<(String, Level)> = SAID
                    .iter()
                    .filter(|said| said.path == path && said.values.contains(&value.as_str()))
                    .filter(|said| said.kinds.is_empty() || said.kinds.contains(&kind))
                    .map(|said| (said.about.unwrap_or(path).to_owned(), said.level))
                    .collect();
                assert_eq!(findings(kind, path, &yaml), expected, "{kind}: {path}: {yaml}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any mixture of what the page offers loads, and what is refused or reported is about fields that the table names.
    #[test]
    fn any_mixture_of_choices_loads(kind in prop::sample::select(&KINDS[..]), picks in prop::collection::vec(0_usize..1000, 128)) {
        let mut fields = BTreeMap::new();
        for ((path, (page, _)), pick) in pages(kind).into_iter().zip(&picks) {
            let values = values(page);
            fields.insert(path, values[pick % values.len()].0.clone());
        }
        let (config, _) = load(&file(kind, &fields));
        let known: Vec<&str> = SAID.iter().map(|said| said.about.unwrap_or(said.path)).chain(OF_MIXTURES).collect();
        for finding in config.check() {
            prop_assert!(known.contains(&finding.field.as_str()), "{:?}", finding);
        }
        prop_assert_eq!(load(&config.to_yaml()).0, config);
    }
}

#[test]
fn values_that_the_page_cannot_write_are_refused_by_name() {
    for (path, (page, _)) in pages(ProblemType::CausalLanguageModeling) {
        let (values, part): (&[&str], &str) = match page {
            Switch => (&["'true'", "null", "''", "1", "[]"], "true or false"),
            Whole(_) => (&["'4'", "null", "''", "4.5", "many", "[4]", "-2", "true"], "a whole number"),
            Number(_) => (&["'0.5'", "null", "''", ".inf", ".nan", "[0.5]", "-1.0", "true"], "a number"),
            Words(_) if path == "prediction.metric" || path == "prediction.metric_gpt_template" => continue,
            Words(_) => (&["''", "Unheard", "[]", "1"], "one of"),
            Text | OrNone | Options => (&["[a, b]", "{a: b}"], "text"),
            Several | Parts | Column => (&["{a: b}", "[[a]]"], "a list"),
        };
        for yaml in values {
            let mut fields = defaults(ProblemType::CausalLanguageModeling);
            fields.insert(path, (*yaml).to_owned());
            let error =
                ExperimentConfig::from_yaml(&file(ProblemType::CausalLanguageModeling, &fields), "cfg.yaml");
            let message = error.expect_err(&format!("{path}: {yaml}")).to_string();
            assert!(message.contains(path) && message.contains(part), "{path}: {yaml}: {message}");
        }
    }
}

/// A file of causal language modeling with further keys, some of older versions.
fn with_keys(keys: &[(&'static str, &str)]) -> String {
    let mut fields = defaults(ProblemType::CausalLanguageModeling);
    for (path, value) in keys {
        fields.insert(path, (*value).to_owned());
    }
    file(ProblemType::CausalLanguageModeling, &fields)
}

#[test]
fn keys_of_older_versions_are_used_refused_or_reported() {
    // Asks for what happens anyway: not a word.
    let neutral = [
        ("architecture.force_embedding_gradients", "false"),
        ("dataset.add_prompt_answer_tokens", "false"),
        ("environment.use_fsdp", "false"),
        ("environment.use_deepspeed", "NA"),
        ("environment.deepspeed_offload_optimizer", "false"),
        ("tokenizer.max_length_prompt", "512"),
        ("tokenizer.max_length_answer", "1024"),
        ("tokenizer.use_fast", "true"),
        ("tokenizer.add_prefix_space", "false"),
        ("training.use_flash_attention_2", "false"),
    ];
    let (config, warnings) = load(&with_keys(&neutral));
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(config, load(&with_keys(&[])).0);

    // Not used, by name and reason.
    let noted = [
        ("dataset.add_prompt_answer_tokens", "true", "never had an effect"),
        ("environment.use_fsdp", "true", "one process"),
        ("environment.deepspeed_offload_optimizer", "true", "one process"),
        ("environment.deepspeed_stage3_max_live_parameters", "1000000000", "one process"),
        ("environment.deepspeed_stage3_max_reuse_distance", "1000000000", "one process"),
        ("logging.number_of_texts", "10", "validation_predictions.csv"),
        ("tokenizer.max_length_prompt", "256", "tokenizer.max_length (512)"),
        ("tokenizer.max_length_answer", "256", "tokenizer.max_length (512)"),
        ("tokenizer.use_fast", "false", "tokenizer.json"),
        ("prediction.mmax_time", "0.0", "did you mean max_time?"),
        ("training.rollout_steps", "8", "not known in training and not used"),
    ];
    for (path, value, part) in noted {
        let (config, warnings) = load(&with_keys(&[(path, value)]));
        let [warning] = warnings.as_slice() else { panic!("{path}: {warnings:?}") };
        let name = path.split_once('.').unwrap().1;
        assert!(warning.contains(name) && warning.contains(part), "{path}: {warning}");
        assert_eq!(config, load(&with_keys(&[])).0, "{path}");
    }

    // Would learn something else.
    let text = with_keys(&[("architecture.force_embedding_gradients", "true")]);
    let message = ExperimentConfig::from_yaml(&text, "cfg.yaml").unwrap_err().to_string();
    assert!(
        message.contains("architecture.force_embedding_gradients is true") && message.contains("[embed]"),
        "{message}"
    );
}

/// A file of nothing but some keys.
fn short(text: &str) -> (ExperimentConfig, Vec<String>) {
    load(&format!("problem_type: text_causal_language_modeling\n{text}"))
}

#[test]
fn keys_of_older_versions_become_those_of_today() {
    let cases = [
        ("training:\n  save_best_checkpoint: true\n", "training.save_checkpoint", "best"),
        (
            "training:\n  use_flash_attention_2: true\n",
            "training.attention_implementation",
            "flash_attention_2",
        ),
        (
            "tokenizer:\n  add_prefix_space: true\n",
            "tokenizer.tokenizer_kwargs",
            "{\"use_fast\": true, \"add_prefix_space\": true}",
        ),
        ("environment:\n  use_deepspeed: ZeRO3\n", "environment.deepspeed_method", "ZeRO3"),
    ];
    for (text, field, value) in cases {
        let (config, warnings) = short(text);
        assert_eq!(config.get(field).unwrap().to_string(), value);
        let is_told = warnings
            .iter()
            .any(|it| it.contains("no longer exists") && it.contains(&format!("{field}: {value}")));
        assert!(is_told, "{warnings:?}");
    }
    assert!(short("environment:\n  use_deepspeed: ZeRO2\n").0.environment.use_deepspeed);
    let (config, warnings) = short("training:\n  save_best_checkpoint: false\n");
    assert_eq!((config.training.save_checkpoint.as_str(), warnings), ("last", vec![]));

    // The field of today counts where a file has both.
    let (config, warnings) = short("training:\n  save_best_checkpoint: true\n  save_checkpoint: disable\n");
    assert_eq!(config.training.save_checkpoint.as_str(), "disable");
    assert!(warnings.len() == 1 && warnings[0].contains("the file has training.save_checkpoint as well"));
}

#[test]
fn a_list_without_a_gpu_means_the_processor() {
    for gpus in ["['']", "[]", "", "''", "[null, '']"] {
        let (config, warnings) = short(&format!("environment:\n  gpus: {gpus}\n"));
        assert_eq!((config.environment.device.as_str(), config.environment.first_gpu()), ("cpu", None));
        assert!(warnings.len() == 1 && warnings[0].contains("environment.gpus names no GPU"), "{warnings:?}");
        assert_eq!(config.check(), [], "{gpus}");
        // A file that names a device means that one.
        let (config, warnings) = short(&format!("environment:\n  gpus: {gpus}\n  device: cuda\n"));
        assert_eq!((config.environment.device.as_str(), warnings), ("cuda", vec![]));
    }
    assert_eq!(short("environment:\n  seed: 1\n").0.environment.device, "auto");
    assert_eq!(short("environment:\n  gpus: ['1']\n").0.environment.first_gpu(), Some(1));
    let (config, warnings) = short("environment:\n  gpus: ['', '1']\n");
    assert_eq!(config.environment.first_gpu(), Some(1));
    assert!(warnings[0].contains("environment.gpus: 1 of its 2 entries are empty"), "{warnings:?}");
}

#[test]
fn reinforcement_learning_is_refused_by_name() {
    let text = "problem_type: text_rlhf_language_modeling\nreward_model: a/b\ntraining:\n  ppo_epochs: 4\n";
    let message = ExperimentConfig::from_yaml(text, "cfg.yaml").unwrap_err().to_string();
    assert!(message.contains("text_rlhf_language_modeling") && message.contains("reward model is not built"));
}
