//! From an experiment file and the command line's changes to checked settings.

use std::path::Path;

use clap::Args;
use tunesmith_config::{ExperimentConfig, Finding, Level, OptionalText, ValidationStrategy};
use tunesmith_data::{Conversation, DataError, Splits, load_splits};

use crate::failure::{Exit, Failure};
use crate::terminal::Terminal;

/// What the command line may change in an experiment.
#[derive(Debug, Default, Args)]
pub(crate) struct Overrides {
    /// Change one field, e.g. training.epochs=3; may be repeated
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub(crate) settings: Vec<String>,

    /// Start from this model instead of llm_backbone: a folder, a GGUF file, a hub id, or `demo`
    #[arg(long, value_name = "PATH_OR_ID")]
    pub(crate) model: Option<String>,

    /// Compute on this device instead of environment.device: auto, cpu, cuda, cuda:1, metal, vulkan, …
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
}

/// Reads an experiment file, warns about what is odd in it and applies the overrides.
pub(crate) fn load(
    path: &Path,
    overrides: &Overrides,
    terminal: &Terminal,
) -> Result<ExperimentConfig, Failure> {
    let (mut config, warnings) = ExperimentConfig::load(path)?;
    for warning in warnings {
        terminal.warning(warning);
    }
    apply(&mut config, overrides)?;
    Ok(config)
}

/// Applies the overrides, in the order in which a reader expects them: single fields last.
pub(crate) fn apply(config: &mut ExperimentConfig, overrides: &Overrides) -> Result<(), Failure> {
    if let Some(model) = &overrides.model {
        config.llm_backbone.clone_from(model);
    }
    if let Some(device) = &overrides.device {
        config.environment.device.clone_from(device);
    }
    for setting in &overrides.settings {
        let Some((field, value)) = setting.split_once('=') else {
            return Err(Failure::new(Exit::Usage, format!("--set {setting}: there is no `=`"))
                .hint("write it like --set training.epochs=3"));
        };
        config.set(field.trim(), value)?;
    }
    Ok(())
}

/// All conversations of one table as the experiment lays them out, in the order of the rows, whatever the experiment
/// keeps for validation.
pub(crate) fn conversations(config: &ExperimentConfig, table: &Path) -> Result<Vec<Conversation>, DataError> {
    Ok(whole_table(config, table)?.train)
}

/// The same, with all that is known about them.
pub(crate) fn whole_table(config: &ExperimentConfig, table: &Path) -> Result<Splits, DataError> {
    let mut config = config.clone();
    config.dataset.train_dataframe = table.display().to_string();
    config.dataset.validation_strategy = ValidationStrategy::Automatic;
    config.dataset.validation_size = 0.0;
    let mut splits = load_splits(&config)?;
    splits.train.sort_by_key(|conversation| conversation.row);
    Ok(splits)
}

/// Makes the paths in the settings independent of the current folder, so that a run folder can be used from anywhere. A chat
/// template in a file becomes its source: a run holds what its answers were written by.
pub(crate) fn make_paths_absolute(config: &mut ExperimentConfig) {
    let dataset = &mut config.dataset;
    for text in
        [&mut dataset.train_dataframe, &mut config.llm_backbone, &mut config.architecture.pretrained_weights]
    {
        *text = absolute(&*text);
    }
    if let Some(path) = dataset.validation_dataframe.as_deref().map(absolute) {
        dataset.validation_dataframe = OptionalText::from(path);
    }
    let template = &mut config.tokenizer.chat_template;
    let is_source = template.contains("{{") || template.contains("{%");
    // A bare word is the name of a template.
    if !is_source
        && template.contains(['.', '/', '\\'])
        && let Ok(source) = std::fs::read_to_string(&*template)
    {
        *template = source;
    }
}

/// `text` as an absolute path if it names something that exists, else as it is.
fn absolute(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    let path = Path::new(text);
    match std::path::absolute(path) {
        Ok(absolute) if !text.is_empty() && path.exists() => absolute.display().to_string(),
        _ => text.to_owned(),
    }
}

/// Says what the settings' own check found; a finding that forbids a run is the failure.
pub(crate) fn report_findings(config: &ExperimentConfig, terminal: &Terminal) -> Result<(), Failure> {
    for finding in config.check().iter().filter(|finding| finding.level == Level::Warning) {
        let hint = finding.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        terminal.warning(format_args!("{}{hint}", text_of(finding)));
    }
    refuse_errors(config)
}

/// Fails when the settings forbid a run; a cheap look before models are fetched and data is read.
pub(crate) fn refuse_errors(config: &ExperimentConfig) -> Result<(), Failure> {
    let findings = config.check();
    let errors: Vec<&Finding> = findings.iter().filter(|finding| finding.level == Level::Error).collect();
    if errors.is_empty() {
        return Ok(());
    }
    let failure = Failure::new(Exit::Usage, join(errors.iter().map(|error| text_of(error))));
    let hints = join(errors.iter().filter_map(|error| error.hint.clone()));
    Err(if hints.is_empty() { failure } else { failure.hint(hints) })
}

fn text_of(finding: &Finding) -> String {
    format!("{}: {}", finding.field, finding.message)
}

fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_in_a_file_becomes_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.jinja");
        std::fs::write(&path, "{{ messages[0].content }}\n").unwrap();
        let mut config = ExperimentConfig::default();
        config.tokenizer.chat_template = path.display().to_string();
        make_paths_absolute(&mut config);
        assert_eq!(config.tokenizer.chat_template, "{{ messages[0].content }}\n");
        for text in ["", "chatml", "{{ a }}", "nowhere.jinja"] {
            config.tokenizer.chat_template = text.to_owned();
            make_paths_absolute(&mut config);
            assert_eq!(config.tokenizer.chat_template, text);
        }
    }

    #[test]
    fn overrides_are_applied_and_the_last_word_is_the_single_field() {
        let mut config = ExperimentConfig::default();
        let overrides = Overrides {
            settings: vec!["training.epochs=3".to_owned(), "llm_backbone=b".to_owned()],
            model: Some("a".to_owned()),
            device: Some("cpu".to_owned()),
        };
        apply(&mut config, &overrides).unwrap();
        assert_eq!(config.training.epochs, 3);
        assert_eq!(config.llm_backbone, "b");
        assert_eq!(config.environment.device, "cpu");
    }

    #[test]
    fn a_setting_without_a_value_or_with_a_bad_one_is_a_usage_error() {
        for setting in ["training.epochs", "training.epochs=many", "training.epoch=3"] {
            let overrides = Overrides { settings: vec![setting.to_owned()], ..Overrides::default() };
            let failure = apply(&mut ExperimentConfig::default(), &overrides).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{setting}");
            assert!(failure.hint.is_some(), "{setting}");
        }
    }

    #[test]
    fn only_what_exists_becomes_an_absolute_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv").display().to_string();
        assert_eq!(absolute(&path), path, "does not exist, is kept");
        assert_eq!(absolute("."), std::env::current_dir().unwrap().display().to_string());
        assert_eq!(absolute("owner/model"), "owner/model");
        assert_eq!(absolute(""), "");
    }
}
