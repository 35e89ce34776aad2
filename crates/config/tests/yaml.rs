//! Reading and writing experiment files: old files, PyYAML's spellings, errors with lines, the round trip.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use proptest::prelude::*;
use tunesmith_config::{
    BackboneDtype, ConfigError, DataPart, ExperimentConfig, Level, Logger, LossFunction, Metric,
    OptionalText, ProblemType, ScoreHead, schema,
};

const HEAD: &str = "problem_type: text_causal_language_modeling\n";

fn read(text: &str) -> ExperimentConfig {
    let (config, warnings) = ExperimentConfig::from_yaml(&format!("{HEAD}{text}"), "cfg.yaml").unwrap();
    assert_eq!(warnings, [], "{text}");
    config
}

fn error(text: &str) -> String {
    ExperimentConfig::from_yaml(&format!("{HEAD}{text}"), "cfg.yaml").unwrap_err().to_string()
}

#[test]
fn gv_11_2_an_old_file_loads_and_is_saved_again() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/legacy.yaml");
    let (config, warnings) = ExperimentConfig::load(&path).unwrap();
    assert_eq!(config.experiment_name, "test");
    assert_eq!(config.output_directory, "output/user/test/");
    assert_eq!(config.llm_backbone, "EleutherAI/pythia-12b-deduped");
    assert_eq!(config.architecture.backbone_dtype, BackboneDtype::Float16);
    assert!(!config.architecture.gradient_checkpointing);
    assert_eq!(config.dataset.data_sample, 0.1);
    assert_eq!(config.dataset.data_sample_choice, [DataPart::Train, DataPart::Validation]);
    assert_eq!(config.dataset.prompt_column, ["instruction"]);
    assert_eq!(config.dataset.text_answer_separator, r"\n");
    assert_eq!(config.dataset.text_prompt_start, "");
    assert!(config.dataset.parent_id_column.is_none());
    assert_eq!(config.dataset.validation_dataframe, OptionalText::none());
    assert_eq!(config.environment.gpus, ["0"]);
    assert_eq!(config.environment.number_of_workers, 8);
    assert_eq!(config.environment.seed, -1);
    assert_eq!(config.prediction.num_beams, 2);
    assert_eq!(config.prediction.repetition_penalty, 1.2);
    assert_eq!(config.tokenizer.max_length, 144);
    assert_eq!(config.training.batch_size, 3);
    assert_eq!(config.training.epochs, 0);
    assert_eq!(config.training.differential_learning_rate, 1e-5);
    assert!(config.training.evaluate_before_training);
    // A metric that is gone becomes what upstream's fallback computes.
    assert_eq!(config.prediction.metric, Metric::Bleu);

    let messages: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    // Its other keys that are gone ask for what happens anyway.
    assert_eq!(
        messages,
        [format!("{}:55: prediction.metric: GPT3.5 no longer exists; BLEU is used instead", path.display()),]
    );

    let (again, warnings) = ExperimentConfig::from_yaml(&config.to_yaml(), "saved").unwrap();
    assert_eq!(again, config);
    assert_eq!(warnings, []);
}

#[test]
fn yaml_1_1_spellings_mean_what_pyyaml_means() {
    let config = read(
        "training:
    learning_rate: 1e-05
    differential_learning_rate: 1.0e-05
    weight_decay: 0
    lora: yes
    use_dora: Off
    batch_size: 4.0
    epochs: 1_0
environment:
    gpus: ['0', 1]
    seed: +7
dataset:
    system_column: None
    parent_id_column: ~
    prompt_column: question
    chatbot_name: yes
    text_prompt_start:
logging:
    logger: None
",
    );
    assert_eq!(config.training.learning_rate, 1e-5);
    assert_eq!(config.training.differential_learning_rate, 1e-5);
    assert_eq!(config.training.weight_decay, 0.0);
    assert!(config.training.lora && !config.training.use_dora);
    assert_eq!((config.training.batch_size, config.training.epochs), (4, 10));
    assert_eq!(config.environment.gpus, ["0", "1"]);
    assert_eq!(config.environment.seed, 7);
    assert!(config.dataset.system_column.is_none() && config.dataset.parent_id_column.is_none());
    assert_eq!(config.dataset.prompt_column, ["question"]);
    assert_eq!(config.dataset.chatbot_name, "yes");
    assert_eq!(config.dataset.text_prompt_start, "");
    assert_eq!(config.logging.logger, Logger::None);
}

#[test]
fn missing_parts_have_defaults() {
    let config = read("training:\ndataset:\n    answer_column: answer\n");
    let default = ExperimentConfig::default();
    assert_eq!(config.training, default.training);
    assert_eq!(config.dataset.prompt_column, ["instruction", "input"]);
    assert_eq!(config.dataset.answer_column.all(), ["answer"]);
    assert_eq!(config.output_directory, "output/text_causal_language_modeling_config");
    // No name was given: two words are made up.
    assert_eq!(config.experiment_name.split('-').count(), 2);
}

#[test]
fn wrong_values_are_named_with_line_value_and_what_is_allowed() {
    let message = error(
        "training:
    epochs: many
    batch_size: 0
    schedule: Cosinus
    lora: 'true'
dataset:
    data_sample: 1.5
    validation_size: 1
    system_column: [a, b]
prediction:
    top_p: .nan
environment:
    seed: -2
tokenizer:
    max_length: 012
",
    );
    assert_eq!(
        message.lines().collect::<Vec<_>>(),
        [
            "cfg.yaml:3: training.epochs is many, expected a whole number of at least 0",
            "cfg.yaml:4: training.batch_size is 0, expected a whole number of at least 1",
            "cfg.yaml:5: training.schedule is Cosinus, expected one of Constant, Cosine, Linear, CosineWithRestarts, Polynomial, InverseSqrt, WSD (did you mean Cosine?)",
            "cfg.yaml:6: training.lora is 'true', expected true or false (without quotes)",
            "cfg.yaml:8: dataset.data_sample is 1.5, expected a number above 0 and at most 1",
            "cfg.yaml:9: dataset.validation_size is 1, expected a number above 0 and below 1",
            "cfg.yaml:10: dataset.system_column is [a, b], expected text, or None",
            "cfg.yaml:12: prediction.top_p is .nan, expected a number above 0 and at most 1",
            "cfg.yaml:14: environment.seed is -2, expected a whole number of at least -1",
            "cfg.yaml:16: tokenizer.max_length is 012, expected a whole number of at least 2",
        ]
    );
}

#[test]
fn slider_ends_are_no_limits() {
    let config = read(
        "tokenizer:\n    max_length: 100000\ntraining:\n    epochs: 500\n    batch_size: 1000\n    lora_r: 999\n",
    );
    assert_eq!(config.tokenizer.max_length, 100_000);
    assert_eq!(
        (config.training.epochs, config.training.batch_size, config.training.lora_r),
        (500, 1000, 999)
    );
}

#[test]
fn unknown_names_are_reported_once_per_section() {
    let text =
        format!("{HEAD}surprise: 1\ntrainig:\n    epochs: 3\ntraining:\n    epoch: 3\n    colour: red\n");
    let (config, warnings) = ExperimentConfig::from_yaml(&text, "cfg.yaml").unwrap();
    assert_eq!(config.training.epochs, 1);
    let messages: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        [
            "cfg.yaml:6: not known in training and not used: epoch (did you mean epochs?), colour",
            "cfg.yaml:2: not known at top level and not used: surprise, trainig (did you mean training?)",
        ]
    );
}

#[test]
fn the_problem_type_must_be_there_and_known() {
    let missing = ExperimentConfig::from_yaml("experiment_name: a\n", "cfg.yaml").unwrap_err();
    assert!(matches!(missing, ConfigError::MissingProblemType { .. }));
    assert!(missing.to_string().contains("text_dpo_modeling"), "{missing}");
    assert!(missing.hint().unwrap().contains("problem_type: text_causal_language_modeling"));

    let unknown =
        ExperimentConfig::from_yaml("a: 1\nproblem_type: text_dpo_modelling\n", "cfg.yaml").unwrap_err();
    let message = unknown.to_string();
    assert!(
        message.starts_with("cfg.yaml:2: problem_type is text_dpo_modelling, expected one of "),
        "{message}"
    );
    assert!(message.ends_with("(did you mean text_dpo_modeling?)"), "{message}");
}

#[test]
fn a_file_of_another_problem_type_opens_with_its_own_defaults() {
    let text = "problem_type: text_causal_classification_modeling\ndataset:\n    answer_column: [a, b]\n    num_classes: 2\n";
    let (config, warnings) = ExperimentConfig::from_yaml(text, "cfg.yaml").unwrap();
    assert_eq!(config.problem_type, ProblemType::CausalClassificationModeling);
    assert_eq!(config.llm_backbone, "h2oai/h2o-danube3-500m-chat");
    assert_eq!(config.output_directory, "output/text_causal_classification_modeling_config");
    assert_eq!(config.dataset.answer_column.all(), ["a", "b"]);
    assert_eq!(config.dataset.text_prompt_start, "");
    assert_eq!(config.training.loss_function, LossFunction::BinaryCrossEntropyLoss);
    assert_eq!(config.prediction.metric, Metric::Auc);
    // A file that does not name the head means the one that existed when it was written.
    assert_eq!(config.architecture.score_head, ScoreHead::Logits);
    assert_eq!(warnings, []);
    let errors = config.check().into_iter().filter(|finding| finding.level == Level::Error);
    assert_eq!(errors.map(|finding| finding.field).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn a_metric_of_another_problem_type_becomes_that_of_its_own() {
    let metric = |kind: &str| {
        let text = format!("problem_type: {kind}\nprediction:\n    metric: Sonnet\n");
        ExperimentConfig::from_yaml(&text, "cfg.yaml").unwrap().0.prediction.metric
    };
    assert_eq!(metric("text_causal_language_modeling"), Metric::Bleu);
    assert_eq!(metric("text_causal_classification_modeling"), Metric::LogLoss);
    assert_eq!(metric("text_causal_regression_modeling"), Metric::Mse);
}

#[test]
fn a_section_must_hold_fields() {
    assert_eq!(error("training: 5\n"), "cfg.yaml:2: training is a section and holds fields, not 5");
    assert!(error("training:\n  epochs: 1\n bad: 2\n").starts_with("cfg.yaml:4:"));
}

#[test]
fn files_look_as_pyyaml_writes_them() {
    let config =
        ExperimentConfig { experiment_name: "quiet-otter".to_owned(), ..ExperimentConfig::default() };
    let text = config.to_yaml();
    let starts = [
        "architecture:\n    backbone_dtype: int4\n    gradient_checkpointing: true\n    intermediate_dropout: 0.0\n",
        "\n    data_sample_choice:\n    - Train\n    - Validation\n    encoding: auto\n    id_column: id\n",
        "\n    prompt_column_separator: \\n\\n\n",
        "\n    text_answer_separator: <|answer|>\n",
        "\n    gpus: []\n",
        "\nexperiment_name: quiet-otter\nllm_backbone: h2oai/h2o-danube3-500m-base\nlogging:\n",
        "\n    logger: None\n",
        "\n    differential_learning_rate: 1.0e-05\n",
        "\n    tokenizer_kwargs: '{\"use_fast\": true, \"add_prefix_space\": false}'\n",
    ];
    for part in starts {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    let top_level: Vec<&str> = text.lines().filter(|line| !line.starts_with([' ', '-'])).collect();
    assert!(top_level.is_sorted());
}

#[test]
fn no_field_carries_a_secret() {
    for spec in schema() {
        assert!(!["api", "secret", "key"].iter().any(|word| spec.name.contains(word)), "{}", spec.path());
    }
}

#[test]
fn gv_11_2_every_default_survives_the_round_trip() {
    for problem_type in ProblemType::ALL {
        let config = ExperimentConfig {
            experiment_name: "a".to_owned(),
            ..ExperimentConfig::for_problem_type(*problem_type)
        };
        let (again, warnings) = ExperimentConfig::from_yaml(&config.to_yaml(), "saved").unwrap();
        assert_eq!(again, config);
        assert_eq!(warnings, []);
    }
}

/// Texts made of what YAML finds special.
fn awkward_text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "None", "null", "~", "yes", "True", "1", "0", "-", "+", ".", "e", "E", "5", "_", ":", " ", "#", "'",
        "\"", "\\", "\\n", "\n", "\t", "\r", "[", "]", "{", "}", ",", "&", "*", "!", "|", ">", "%", "@", "`",
        "?", "=", "<", "---", "...", "a", "é", "😀", "\u{0}", "\u{7f}", "\u{85}", "\u{a0}", "\u{2028}",
        "\u{feff}", ".inf", "0x1f", "1:30",
    ]);
    prop::collection::vec(pieces, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_and_number_survives_the_round_trip(
        text in awkward_text(),
        list in prop::collection::vec(awkward_text().prop_filter("names nothing", |text| !text.is_empty()), 0..3),
        rate in 0.0..1e300_f64,
        seed in -1..i64::MAX,
    ) {
        let mut config = ExperimentConfig { experiment_name: "a".to_owned(), ..ExperimentConfig::default() };
        config.dataset.text_prompt_start = text.clone();
        config.dataset.system_column = OptionalText::from(text);
        config.dataset.prompt_column = list;
        config.training.learning_rate = rate;
        config.environment.seed = seed;
        let (again, _) = ExperimentConfig::from_yaml(&config.to_yaml(), "saved").unwrap();
        prop_assert_eq!(again, config);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,60}") {
        let _ = ExperimentConfig::from_yaml(&text, "cfg.yaml");
    }
}
