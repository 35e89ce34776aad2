//! The declarations themselves, single settings, explanations, JSON Schema, checks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use tunesmith_config::{
    ConfigError, DataPart, Dependency, ExperimentConfig, Finding, Kind, Level, LossFunction, Metric,
    OptionalText, ProblemType, Value, explain, find_field, json_schema, schema,
};

#[test]
fn gv_11_2_declarations_are_complete_and_consistent() {
    let mut paths: Vec<String> = schema().iter().map(|spec| spec.path()).collect();
    let n_fields = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), n_fields, "a field stands twice");

    for spec in schema() {
        let path = spec.path();
        assert!(spec.help().len() > 20, "{path} has no help");
        let number = match (spec.default)() {
            Value::Int(value) => Some(value as f64),
            Value::Float(value) => Some(value),
            _ => None,
        };
        let is_number = matches!(spec.kind, Kind::Int | Kind::Float);
        assert_eq!(is_number, spec.facets.limit.is_some(), "{path}: numbers, and only they, have limits");
        if let (Some(number), Some(limit)) = (number, spec.facets.limit) {
            assert!(limit.contains(number), "{path}: the default is not allowed");
            if let Some(slider) = spec.facets.slider {
                assert!(slider.step > 0.0 && slider.max.is_none_or(|max| max > slider.min), "{path}");
                assert!(limit.contains(slider.min), "{path}: the slider starts outside the limits");
            }
            for value in spec.facets.grid.map(|grid| grid.values).unwrap_or_default() {
                assert!(limit.contains(*value), "{path}: grid value {value} is not allowed");
            }
        }
        for dependency in spec.facets.depends_on {
            let other = find_field(&format!("{}.{}", spec.section, dependency.field));
            let other = other.unwrap_or_else(|| panic!("{path} depends on an unknown field"));
            if let (Kind::Choice(names), Some(value)) = (other.kind, dependency.value) {
                assert!(names.contains(&value), "{path} depends on an unknown choice");
            }
        }
    }
}

#[test]
fn defaults_are_those_of_upstream() {
    // Fields and defaults for causal language modeling, as upstream's table lists them.
    let expected = "
        llm_backbone=h2oai/h2o-danube3-500m-base problem_type=text_causal_language_modeling
        dataset.personalize=false dataset.chatbot_name=h2oGPT dataset.chatbot_author=H2O.ai
        dataset.train_dataframe=/path/to/train.csv dataset.validation_strategy=automatic
        dataset.validation_dataframe='' dataset.validation_size=0.01 dataset.data_sample=1.0
        dataset.system_column=system dataset.prompt_column_separator=\\n\\n dataset.answer_column=output
        dataset.parent_id_column=parent_id dataset.id_column=id dataset.text_system_start=<|system|>
        dataset.text_prompt_start=<|prompt|> dataset.text_answer_separator=<|answer|>
        dataset.add_eos_token_to_system=true dataset.add_eos_token_to_prompt=true
        dataset.add_eos_token_to_answer=true dataset.limit_chained_samples=false
        dataset.mask_prompt_labels=true dataset.only_last_answer=false
        dataset.rejected_answer_column=rejected_response dataset.rejected_prompt_column=None dataset.num_classes=1
        dataset.class_names=[] dataset.label_separator=auto dataset.judgement_column=label
        training.kto_desirable_weight=1.0 training.kto_undesirable_weight=1.0
        training.beta=0.2 training.simpo_gamma=1.0 architecture.score_head=hidden
        tokenizer.max_length=512 tokenizer.add_prompt_answer_tokens=false tokenizer.padding_quantile=1.0
        architecture.pretrained=true architecture.backbone_dtype=int4 architecture.gradient_checkpointing=true
        architecture.intermediate_dropout=0.0 architecture.pretrained_weights=''
        training.loss_function=TokenAveragedCrossEntropy training.optimizer=AdamW training.learning_rate=0.0001
        training.differential_learning_rate_layers=[] training.differential_learning_rate=1.0e-05
        training.freeze_layers=[] training.attention_implementation=auto training.batch_size=2
        training.drop_last_batch=true training.epochs=1 training.schedule=Cosine
        training.min_learning_rate_ratio=0.0 training.warmup_epochs=0.0 training.weight_decay=0.0
        training.gradient_clip=0.0 training.grad_accumulation=1 training.lora=true training.use_dora=false
        training.lora_r=4 training.lora_alpha=16 training.lora_dropout=0.05 training.use_rslora=false
        training.lora_init=default training.lora_target_modules='' training.lora_unfreeze_layers=[] training.save_checkpoint=last
        training.evaluation_epochs=1.0 training.evaluate_before_training=false
        training.train_validation_data=false
        augmentation.token_mask_probability=0.0 augmentation.skip_parent_probability=0.0
        augmentation.random_parent_probability=0.0 augmentation.neftune_noise_alpha=0.0
        prediction.metric=GPT prediction.metric_gpt_model=gpt-3.5-turbo-0301
        prediction.metric_gpt_template=general prediction.min_length_inference=2
        prediction.max_length_inference=256 prediction.max_time=0.0 prediction.batch_size_inference=0
        prediction.do_sample=false prediction.num_beams=1 prediction.temperature=0.0
        prediction.repetition_penalty=1.0 prediction.stop_tokens='' prediction.top_k=0 prediction.top_p=1.0 prediction.min_p=0.0
        prediction.num_history=4
        environment.gpus=[] environment.mixed_precision=true environment.mixed_precision_dtype=bfloat16
        environment.compile_model=false environment.use_deepspeed=false environment.deepspeed_method=ZeRO2
        environment.deepspeed_allgather_bucket_size=1000000 environment.deepspeed_reduce_bucket_size=1000000
        environment.deepspeed_stage3_prefetch_bucket_size=1000000
        environment.deepspeed_stage3_param_persistence_threshold=1000000
        environment.find_unused_parameters=false environment.trust_remote_code=true
        environment.huggingface_branch=main environment.number_of_workers=4 environment.seed=-1
        logging.log_step_size=absolute logging.log_all_ranks=false logging.logger=None
        logging.neptune_project='' logging.wandb_project='' logging.wandb_entity='' logging.mlflow_experiment=''
        prediction.metric_gpt_failures=left_out
        dataset.layout=auto dataset.text_format=markers dataset.max_rows=0
        dataset.encoding=auto dataset.leading_zeros=keep dataset.turns=auto dataset.truncate=prompt_left dataset.on_bad_row=skip
        tokenizer.add_bos_token=true tokenizer.chat_template='' tokenizer.chat_template_kwargs=''
        training.packing=samples
        training.shuffle=true training.checkpoint_interval_secs=600.0 training.checkpoint_every_steps=0
        training.max_steps=0 training.save_steps=0 training.save_total_limit=0 training.max_skipped_steps=10
        training.early_stopping_patience=0 training.early_stopping_min_delta=0.0
        training.adam_beta1=0.9 training.adam_beta2=0.999 training.adam_epsilon=1.0e-08
        training.schedule_cycles=1 training.schedule_power=1.0 training.schedule_decay_share=0.1
        training.weight_decay_norms=false training.label_smoothing=0.0 training.lora_plus_ratio=1.0
        training.log_every_steps=1 environment.device=auto environment.threads=0";
    let config = ExperimentConfig::default();
    let mut n_seen = 0;
    for entry in expected.split_whitespace() {
        let (path, value) = entry.split_once('=').unwrap();
        assert_eq!(config.get(path).unwrap_or_else(|| panic!("{path}")).to_string(), value, "{path}");
        n_seen += 1;
    }
    assert_eq!(config.dataset.prompt_column, ["instruction", "input"]);
    assert_eq!(config.dataset.data_sample_choice, [DataPart::Train, DataPart::Validation]);
    assert_eq!(config.tokenizer.tokenizer_kwargs, r#"{"use_fast": true, "add_prefix_space": false}"#);
    // Besides those three: the two names that have no fixed default.
    assert_eq!(n_seen + 5, schema().len());
}

#[test]
fn defaults_of_other_problem_types_are_read_and_differ() {
    for spec in schema() {
        for kind in ProblemType::ALL {
            let Some(text) = spec.other_default(*kind) else { continue };
            let mut config = ExperimentConfig::default();
            config.set(&spec.path(), text).unwrap_or_else(|error| panic!("{}: {error}", spec.path()));
            let value = ExperimentConfig::for_problem_type(*kind).get(&spec.path());
            assert_eq!(value, config.get(&spec.path()), "{}", spec.path());
            assert_ne!(value, ExperimentConfig::default().get(&spec.path()), "{}", spec.path());
        }
        for (kind, names) in spec.facets.choices_for {
            let Kind::Choice(all) = spec.kind else { panic!("{} takes no choice", spec.path()) };
            assert!(names.iter().all(|name| all.contains(name)), "{}", spec.path());
            let default = ExperimentConfig::for_problem_type(*kind).get(&spec.path()).unwrap().to_string();
            assert!(names.contains(&default.as_str()), "{} for {kind}", spec.path());
        }
    }
}

/// Fields of a classification with these columns, classes and loss that have an error.
fn errors_of_classes(columns: &str, n_classes: &str, loss: &str) -> Vec<String> {
    let mut config = ExperimentConfig::for_problem_type(ProblemType::CausalClassificationModeling);
    config.set("dataset.answer_column", columns).unwrap();
    config.set("dataset.num_classes", n_classes).unwrap();
    config.set("training.loss_function", loss).unwrap();
    config.check().into_iter().filter(|f| f.level == Level::Error).map(|f| f.field).collect()
}

#[test]
fn classes_columns_and_loss_fit_each_other() {
    let none = Vec::<String>::new();
    let (binary, multi) = ("BinaryCrossEntropyLoss", "CrossEntropyLoss");
    assert_eq!(errors_of_classes("label", "1", binary), none);
    assert_eq!(errors_of_classes("a,b,c", "3", binary), none);
    assert_eq!(errors_of_classes("label", "4", multi), none);
    assert_eq!(errors_of_classes("a,b", "2", multi), ["training.loss_function"]);
    // Found in the data, which also say whether a column holds several labels in a cell.
    assert_eq!(errors_of_classes("label", "1", multi), none);
    assert_eq!(errors_of_classes("label", "0", multi), none);
    assert_eq!(errors_of_classes("label", "3", binary), none);
    assert_eq!(errors_of_classes("a,b", "0", binary), none);
    assert_eq!(errors_of_classes("a,b", "3", binary), ["dataset.num_classes"]);
    assert_eq!(errors_of_classes("label", "1", "MSELoss"), ["training.loss_function"]);
}

#[test]
fn class_names_fit_columns_loss_and_number() {
    let errors = |changes: &[(&str, &str)]| -> Vec<String> {
        let mut config = ExperimentConfig::for_problem_type(ProblemType::CausalClassificationModeling);
        changes.iter().for_each(|(field, value)| config.set(field, value).unwrap());
        config.check().into_iter().filter(|f| f.level == Level::Error).map(|f| f.field).collect()
    };
    let softmax = ("training.loss_function", "CrossEntropyLoss");
    let three = ("dataset.class_names", "[a, b, 'c, d']");
    assert_eq!(errors(&[softmax, three]), Vec::<String>::new());
    assert_eq!(errors(&[softmax, three, ("dataset.num_classes", "3")]), Vec::<String>::new());
    assert_eq!(errors(&[softmax, three, ("dataset.num_classes", "2")]), ["dataset.num_classes"]);
    assert_eq!(errors(&[softmax, ("dataset.class_names", "[a, b, a]")]), ["dataset.class_names"]);
    assert_eq!(errors(&[softmax, ("dataset.class_names", "[a, ' ']")]), ["dataset.class_names"]);
    assert_eq!(errors(&[softmax, ("dataset.class_names", "a")]), ["dataset.class_names"]);
    assert_eq!(
        errors(&[("dataset.answer_column", "x,y"), ("dataset.class_names", "a,b")]),
        ["dataset.class_names"]
    );
    assert_eq!(
        errors(&[("dataset.answer_column", "x,y"), ("dataset.class_names", "x,y")]),
        Vec::<String>::new()
    );
    assert_eq!(errors(&[softmax, ("dataset.label_separator", "|")]), ["dataset.label_separator"]);
    assert_eq!(errors(&[("dataset.label_separator", "|")]), Vec::<String>::new());
    assert_eq!(errors(&[("dataset.label_separator", "")]), ["dataset.label_separator"]);
}

#[test]
fn gv_11_2_labels_are_capitalised_words() {
    let label = |name: &str| find_field(name).unwrap().label();
    assert_eq!(label("llm_backbone"), "LLM Backbone");
    assert_eq!(label("lora_r"), "Lora R");
}

#[test]
fn gv_2_2_dependencies_hold() {
    let cases: &[(Option<&'static str>, bool, &[&str], bool)] = &[
        (Some("true"), true, &["true"], true),
        (Some("true"), true, &["false"], false),
        (Some("true"), false, &["true"], false),
        (Some("true"), false, &["false"], true),
        (Some("false"), true, &["false"], true),
        (Some("false"), true, &["true"], false),
        (Some("false"), false, &["false"], false),
        (Some("false"), false, &["true"], true),
        (Some("value"), true, &["value"], true),
        (Some("value"), true, &["other"], false),
        (Some("value"), false, &["value"], false),
        (Some("value"), false, &["other"], true),
        (None, true, &[], false),
        (None, true, &["v"], false),
        (None, false, &[], false),
        (None, false, &["v"], true),
    ];
    for (value, is_set, values, expected) in cases {
        let dependency = Dependency { field: "f", value: *value, is_set: *is_set };
        assert_eq!(dependency.holds(values), *expected, "{dependency:?} {values:?}");
    }
}

#[test]
fn fields_apply_when_all_their_conditions_hold() {
    let mut config = ExperimentConfig::default();
    let applies = |config: &ExperimentConfig, name: &str| config.applies(find_field(name).unwrap());
    assert!(applies(&config, "lora_r") && !applies(&config, "freeze_layers"));
    config.training.lora = false;
    assert!(!applies(&config, "lora_r") && applies(&config, "freeze_layers"));

    assert!(applies(&config, "only_last_answer"));
    config.dataset.mask_prompt_labels = false;
    assert!(!applies(&config, "only_last_answer"));

    assert!(!applies(&config, "differential_learning_rate"));
    config.training.differential_learning_rate_layers = vec!["head".to_owned()];
    assert!(applies(&config, "differential_learning_rate"));

    assert!(!applies(&config, "data_sample_choice"));
    config.dataset.data_sample = 0.5;
    assert!(applies(&config, "data_sample_choice"));

    config.problem_type = ProblemType::CausalRegressionModeling;
    assert!(!applies(&config, "text_format"));
}

#[test]
fn single_settings_are_checked_like_files() {
    let mut config = ExperimentConfig::default();
    config.set("training.epochs", "3").unwrap();
    config.set("learning_rate", "3e-4").unwrap();
    config.set("dataset.prompt_column", "question, context").unwrap();
    config.set("environment.gpus", "['0', '1']").unwrap();
    config.set("dataset.system_column", "None").unwrap();
    config.set("data_sample_choice", "Train").unwrap();
    config.set("freeze_layers", "").unwrap();
    config.set("training.loss_function", "SampleAveragedCrossEntropy").unwrap();
    assert_eq!(config.training.epochs, 3);
    assert_eq!(config.training.learning_rate, 3e-4);
    assert_eq!(config.dataset.prompt_column, ["question", "context"]);
    assert_eq!(config.environment.gpus, ["0", "1"]);
    assert_eq!(config.dataset.system_column, OptionalText::none());
    assert_eq!(config.dataset.data_sample_choice, [DataPart::Train]);
    assert_eq!(config.training.freeze_layers, Vec::<String>::new());
    assert_eq!(config.training.loss_function, LossFunction::SampleAveragedCrossEntropy);

    let message = config.set("training.epochs", "-1").unwrap_err().to_string();
    assert_eq!(message, "command line: training.epochs is -1, expected a whole number of at least 0");
    assert_eq!(config.training.epochs, 3, "a refused value changes nothing");

    for (name, near) in
        [("training.epoch", "training.epochs"), ("lora_rank", ""), ("batchsize", "training.batch_size")]
    {
        let error = config.set(name, "3").unwrap_err();
        assert!(matches!(error, ConfigError::UnknownField { .. }));
        assert!(error.hint().unwrap().contains(near), "{:?}", error.hint());
    }
}

#[test]
fn explanations_say_what_a_form_would_show() {
    let text = explain("lora_r").unwrap();
    for part in ["training.lora_r", "whole number of at least 1", "4", "1 to 256", "lora is true"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(explain("backbone_dtype").unwrap().contains("kept in float32 here"));
    assert!(explain("no_such_field").is_none());
    assert!(schema().iter().all(|spec| explain(&spec.path()).is_some()));
}

#[test]
fn json_schema_describes_every_field() {
    let root = json_schema();
    assert_eq!(root["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for spec in schema() {
        let pointer = match spec.section {
            "" => format!("/properties/{}", spec.name),
            section => format!("/properties/{section}/properties/{}", spec.name),
        };
        let field = root.pointer(&pointer).unwrap_or_else(|| panic!("{pointer}"));
        assert!(!field["description"].as_str().unwrap().is_empty());
    }
    let training = &root["properties"]["training"]["properties"];
    assert_eq!(training["epochs"]["type"], "integer");
    assert_eq!(training["epochs"]["minimum"], 0);
    assert_eq!(
        training["schedule"]["enum"],
        serde_json::json!([
            "Constant",
            "Cosine",
            "Linear",
            "CosineWithRestarts",
            "Polynomial",
            "InverseSqrt",
            "WSD"
        ])
    );
    assert_eq!(training["lora_dropout"]["exclusiveMaximum"], 1.0);
    assert_eq!(training["lora_r"]["x-slider"]["max"], 256.0);
    assert_eq!(training["learning_rate"]["default"], 1e-4);
}

/// Settings without a single remark.
fn quiet() -> ExperimentConfig {
    let mut config = ExperimentConfig::default();
    config.set("backbone_dtype", "float32").unwrap();
    config.set("mixed_precision", "false").unwrap();
    config.set("metric", "Perplexity").unwrap();
    assert_eq!(config.check(), []);
    config
}

fn findings(changes: &[(&str, &str)]) -> Vec<Finding> {
    let mut config = quiet();
    for (name, value) in changes {
        config.set(name, value).unwrap();
    }
    config.check()
}

#[test]
fn defaults_say_nothing() {
    assert!(ExperimentConfig::default().check().is_empty());
}

/// Changed settings, and level, field and a part of the message of the finding they cause.
type Expected<'a> = (&'a [(&'a str, &'a str)], Level, &'a str, &'a str);

#[test]
fn gv_2_5_what_does_not_go_together_is_found() {
    let cases: &[Expected] = &[
        (
            &[("pretrained", "false"), ("backbone_dtype", "int4")],
            Level::Error,
            "architecture.pretrained",
            "Quantization",
        ),
        (
            &[("use_deepspeed", "true"), ("backbone_dtype", "int8")],
            Level::Error,
            "environment.use_deepspeed",
            "int8",
        ),
        (
            &[("lora", "false"), ("backbone_dtype", "float16")],
            Level::Warning,
            "architecture.backbone_dtype",
            "float16",
        ),
        (&[("temperature", "0.5")], Level::Warning, "prediction.temperature", "do_sample is false"),
        (&[("do_sample", "true")], Level::Warning, "prediction.temperature", "is 0"),
        (
            &[("logger", "W&B"), ("log_step_size", "relative")],
            Level::Error,
            "logging.log_step_size",
            "absolute",
        ),
        (&[("validation_strategy", "custom")], Level::Error, "dataset.validation_dataframe", "custom"),
        (
            &[("validation_dataframe", "held-out.csv")],
            Level::Warning,
            "dataset.validation_dataframe",
            "held-out.csv is not read",
        ),
        (&[("device", "abacus")], Level::Error, "environment.device", "not a device"),
        (&[("device", "cuda:x")], Level::Error, "environment.device", "not a device"),
        (&[("gpus", "x")], Level::Error, "environment.gpus", "not numbers"),
        (&[("tokenizer_kwargs", "fast")], Level::Error, "tokenizer.tokenizer_kwargs", "JSON"),
        (
            &[("tokenizer_kwargs", r#"{"legacy": true}"#)],
            Level::Warning,
            "tokenizer.tokenizer_kwargs",
            "tokenizer.json",
        ),
        (&[("lora_init", "pissa")], Level::Error, "training.lora_dropout", "pissa"),
        (
            &[("problem_type", "text_dpo_modeling"), ("token_mask_probability", "0.1")],
            Level::Error,
            "augmentation.token_mask_probability",
            "chance",
        ),
        (
            &[("problem_type", "text_causal_regression_modeling"), ("random_parent_probability", "0.1")],
            Level::Error,
            "augmentation.random_parent_probability",
            "no conversations",
        ),
        (
            &[("num_beams", "2"), ("do_sample", "true"), ("temperature", "0.7")],
            Level::Error,
            "prediction.num_beams",
            "drawing",
        ),
        (
            &[("problem_type", "text_sequence_to_sequence_modeling"), ("mask_prompt_labels", "false")],
            Level::Warning,
            "dataset.mask_prompt_labels",
            "the decoder learns the answer alone",
        ),
        (
            &[("problem_type", "text_sequence_to_sequence_modeling"), ("intermediate_dropout", "0.1")],
            Level::Warning,
            "architecture.intermediate_dropout",
            "dropout_rate",
        ),
        (
            &[("problem_type", "text_sequence_to_sequence_modeling"), ("loss_function", "DPOLoss")],
            Level::Error,
            "training.loss_function",
            "sequence",
        ),
        (
            &[("problem_type", "text_dpo_modeling"), ("packing", "wrapped")],
            Level::Error,
            "training.packing",
            "whole",
        ),
        (
            &[("save_steps", "10"), ("save_checkpoint", "disable")],
            Level::Warning,
            "training.save_steps",
            "disable",
        ),
        (&[("save_total_limit", "2")], Level::Warning, "training.save_total_limit", "single steps"),
        (
            &[
                ("problem_type", "text_dpo_modeling"),
                ("loss_function", "DPOLoss"),
                ("label_smoothing", "0.1"),
            ],
            Level::Error,
            "training.label_smoothing",
            "DPOLoss",
        ),
        (&[("answer_column", "a,b")], Level::Error, "dataset.answer_column", "2 columns"),
        (&[("loss_function", "DPOLoss")], Level::Error, "training.loss_function", "causal"),
        (&[("gpus", "0,1")], Level::Warning, "environment.gpus", "one GPU"),
    ];
    for (changes, level, field, part) in cases {
        let found = findings(changes);
        let is_hit = |finding: &Finding| {
            finding.level == *level && finding.field == *field && finding.message.contains(part)
        };
        assert!(found.iter().any(is_hit), "{changes:?}: {found:#?}");
        assert!(found.is_sorted_by_key(|finding| finding.level != Level::Error), "errors come first");
    }
}

#[test]
fn settings_that_are_switched_off_are_not_complained_about() {
    assert_eq!(findings(&[("lora_init", "pissa"), ("lora", "false")]), []);
    assert_eq!(findings(&[("lora_init", "pissa"), ("lora_dropout", "0"), ("use_dora", "true")]), []);
    assert_eq!(findings(&[("num_beams", "3"), ("optimizer", "AdamW8bit")]), []);
    assert_eq!(findings(&[("neftune_noise_alpha", "5"), ("skip_parent_probability", "0.2")]), []);
    assert_eq!(findings(&[("temperature", "0.7"), ("do_sample", "true")]), []);
    assert_eq!(findings(&[("number_of_workers", "8")]), []);
    assert_eq!(findings(&[("save_total_limit", "2"), ("save_steps", "5"), ("label_smoothing", "0.1")]), []);
    assert_eq!(findings(&[("lora_plus_ratio", "16"), ("adam_beta2", "0.95"), ("schedule", "WSD")]), []);
    assert_eq!(findings(&[("tokenizer_kwargs", r#"{"add_prefix_space": true}"#)]), []);
    assert_eq!(findings(&[("tokenizer_kwargs", "")]), []);
    assert_eq!(Metric::Perplexity.to_string(), "Perplexity");
}
