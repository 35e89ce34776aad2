//! A model ready to talk: a bare one, one with an adapter, or the result of a run, prompted as it was trained.

use std::path::Path;

use tunesmith_config::{Dataset, ExperimentConfig, ProblemType, TextFormat};
use tunesmith_data::{Assembler, Conversation, printable_label, training_tokenizer, unescape};
use tunesmith_formats::model_source::ModelSource;
use tunesmith_formats::peft::read_adapter;
use tunesmith_formats::tokenizer::Tokenizer;
use tunesmith_generate::{ChatLayout, ChatMarkers, GenerationSettings};
use tunesmith_models::CausalLm;
use tunesmith_ops::{open_device, set_threads};
use tunesmith_train::{RunFolder, RunRecord, RunWeights, SavedRun, generation_settings};

use crate::experiment;
use crate::failure::{Exit, Failure};
use crate::model_store;
use crate::terminal::Terminal;

/// Model, tokenizer, and how to prompt them.
pub(crate) struct Talker {
    pub(crate) model: CausalLm,
    pub(crate) tokenizer: Tokenizer,
    /// `None` when the tokenizer brings no chat template and nothing else is known.
    pub(crate) layout: Option<ChatLayout>,
    /// How tokens are chosen unless the user says otherwise.
    pub(crate) settings: GenerationSettings,
    /// The system text of the training data, when it is the same everywhere.
    pub(crate) system: Option<String>,
    /// Rounds before the newest question that stay in view; `None` means all.
    pub(crate) n_history_rounds: Option<usize>,
    /// The model has an encoder, and has never seen more than a question in it: no round stays in view.
    pub(crate) is_single_turn: bool,
    /// What the user should know about the model's or the adapter's files.
    pub(crate) notes: Vec<String>,
}

/// What to talk to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// Run folder, or anything that [`model_store::resolve`] takes.
    pub(crate) name: &'a str,
    /// A PEFT adapter to put on a model.
    pub(crate) adapter: Option<&'a Path>,
    /// A checkpoint of a run, instead of its result.
    pub(crate) checkpoint: Option<&'a str>,
    /// What computes.
    pub(crate) device: &'a str,
    /// Threads to compute with; 0 means all.
    pub(crate) n_threads: usize,
}

/// Loads what the command line names.
///
/// # Errors
/// A model, adapter or run that cannot be loaded, and options that do not fit what is named.
pub(crate) fn load(source: &Source<'_>, terminal: &Terminal) -> Result<Talker, Failure> {
    let run_dir = Path::new(source.name);
    if RunFolder::new(run_dir).config().is_file() {
        if source.adapter.is_some() {
            return Err(Failure::new(Exit::Usage, "a run folder brings its own adapter")
                .hint("leave out --adapter, or name the base model instead of the run"));
        }
        return load_run(run_dir, source, terminal);
    }
    if source.checkpoint.is_some() {
        let what = format!("{} is not a run folder, so it has no checkpoints", source.name);
        return Err(Failure::new(Exit::Usage, what).hint("leave out --checkpoint, or name a run folder"));
    }
    let stored = model_store::resolve(source.name, terminal)?;
    let talker = load_model(&stored.path, source.adapter, source.device, source.n_threads)?;
    talker.notes.iter().for_each(|note| terminal.warning(note));
    Ok(talker)
}

/// Loads a model from a folder or GGUF file, with an adapter if one is given.
pub(crate) fn load_model(
    path: &Path,
    adapter: Option<&Path>,
    device: &str,
    n_threads: usize,
) -> Result<Talker, Failure> {
    set_threads(n_threads)?;
    let source = ModelSource::open(path)?;
    let tokenizer = source.tokenizer()?;
    let mut model = CausalLm::load(&source, &open_device(device)?)?;
    let mut notes = source.notes().to_vec();
    if let Some(adapter) = adapter {
        let (config, tensors) = read_adapter(adapter)?;
        notes.extend(model.load_adapter(&config, tensors)?.notes);
    }
    let is_single_turn = model.has_encoder();
    let layout = match ChatLayout::of_tokenizer(&tokenizer) {
        Ok(layout) => Some(layout),
        Err(_) if is_single_turn => Some(source_layout()),
        Err(_) => None,
    };
    Ok(Talker {
        model,
        tokenizer,
        layout,
        settings: GenerationSettings::default(),
        system: None,
        n_history_rounds: is_single_turn.then_some(0),
        is_single_turn,
        notes,
    })
}

/// Opens a run, with its base model wherever that is now.
pub(crate) fn open_run(run_dir: &Path, terminal: &Terminal) -> Result<SavedRun, Failure> {
    let folder = RunFolder::new(run_dir);
    let is_base_gone = RunRecord::read(&folder.record())?.is_some_and(|record| !record.model_path.exists());
    if !is_base_gone {
        return Ok(SavedRun::open(run_dir, None)?);
    }
    // The place may have changed since, but the name is still in the settings.
    let (config, _) = ExperimentConfig::load(&folder.config())?;
    let base = model_store::backbone(&config, terminal)?;
    Ok(SavedRun::open(run_dir, Some(&base.path))?)
}

/// Which weights of a run are meant.
pub(crate) fn weights(checkpoint: Option<&str>) -> RunWeights {
    checkpoint.map_or(RunWeights::Result, |name| RunWeights::Checkpoint(name.to_owned()))
}

fn load_run(run_dir: &Path, source: &Source<'_>, terminal: &Terminal) -> Result<Talker, Failure> {
    set_threads(source.n_threads)?;
    let run = open_run(run_dir, terminal)?;
    refuse_scores(run_dir, run.config())?;
    let model = run.model(&weights(source.checkpoint), &open_device(source.device)?)?;
    let config = run.config();
    // Texts are cut into tokens as they were in training.
    let tokenizer = training_tokenizer(config, run.tokenizer())?;
    let layout = match config.dataset.text_format {
        TextFormat::Markers => Some(ChatLayout::Markers(markers(&config.dataset))),
        TextFormat::ChatTemplate => ChatLayout::of_tokenizer(&tokenizer).ok(),
    };
    let seed = u64::try_from(config.environment.seed).unwrap_or(0);
    let settings = GenerationSettings {
        // What ends an answer in the training data ends it here, too.
        stop_ids: Assembler::new(config, &tokenizer)?.stop_ids(),
        ..generation_settings(&config.prediction, seed)
    };
    let first_rows = first_rows(config);
    let system = common_system(&first_rows);
    let is_single_turn = model.has_encoder() && first_rows.iter().all(|row| row.rounds.len() == 1);
    // The setting counts messages, two to a round.
    let n_history_rounds = if is_single_turn { 0 } else { config.prediction.num_history.div_ceil(2) };
    Ok(Talker {
        model,
        tokenizer,
        layout,
        settings,
        system,
        n_history_rounds: Some(n_history_rounds),
        is_single_turn,
        notes: Vec::new(),
    })
}

/// Models that give classes or numbers say nothing.
fn refuse_scores(run_dir: &Path, config: &ExperimentConfig) -> Result<(), Failure> {
    let problem_type = config.problem_type;
    let has_scores = matches!(
        problem_type,
        ProblemType::CausalClassificationModeling | ProblemType::CausalRegressionModeling
    );
    if !has_scores {
        return Ok(());
    }
    let labels: Vec<String> = config.class_labels().iter().map(|label| printable_label(label)).collect();
    let of_labels = match labels.as_slice() {
        [] => String::new(),
        labels if labels.len() <= 5 => format!(" of {}", labels.join(", ")),
        labels => format!(" of {} labels", labels.len()),
    };
    let what = format!(
        "the run {} is of {problem_type}: it answers with scores{of_labels}, not with text",
        run_dir.display()
    );
    Err(Failure::new(Exit::Usage, what)
        .hint("ask it about rows of a table with `tunesmith predict`; what it says of the validation rows is in validation_predictions.csv"))
}

/// The conversations of the first rows of a run's training table; none when the table is not there any more.
fn first_rows(config: &ExperimentConfig) -> Vec<Conversation> {
    const N_ROWS: usize = 100;

    let mut config = config.clone();
    config.dataset.max_rows = N_ROWS;
    experiment::conversations(&config, Path::new(&config.dataset.train_dataframe)).unwrap_or_default()
}

/// The system text that the conversations share. `None` when they differ or when there is none.
fn common_system(conversations: &[Conversation]) -> Option<String> {
    let mut systems = conversations
        .iter()
        .filter_map(|conversation| conversation.rounds.first())
        .map(|round| &round.system);
    let first = systems.next().filter(|text| !text.trim().is_empty())?;
    systems.all(|text| text == first).then(|| first.clone())
}

/// How an encoder that nobody said more of is given its source: the text and the end-of-text token.
fn source_layout() -> ChatLayout {
    ChatLayout::Markers(ChatMarkers { add_eos_to_prompt: true, ..ChatMarkers::default() })
}

/// No template and no markers: the model continues the text as it stands.
pub(crate) fn plain_layout() -> ChatLayout {
    ChatLayout::Markers(ChatMarkers::default())
}

/// The markers of a run as the model saw them.
fn markers(dataset: &Dataset) -> ChatMarkers {
    ChatMarkers {
        system_start: unescape(&dataset.text_system_start),
        prompt_start: unescape(&dataset.text_prompt_start),
        answer_separator: unescape(&dataset.text_answer_separator),
        add_eos_to_system: dataset.add_eos_token_to_system,
        add_eos_to_prompt: dataset.add_eos_token_to_prompt,
        add_eos_to_answer: dataset.add_eos_token_to_answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_prompted_as_it_was_trained() {
        let dataset = Dataset { text_prompt_start: r"\nQ: ".to_owned(), ..Dataset::default() };
        let markers = markers(&dataset);
        assert_eq!(markers.prompt_start, "\nQ: ");
        assert_eq!(markers.answer_separator, "<|answer|>");
        assert!(markers.add_eos_to_prompt);
    }

    #[test]
    fn a_system_text_counts_only_when_all_rows_share_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let mut config = ExperimentConfig::default();
        config.dataset.train_dataframe = path.display().to_string();
        config.dataset.prompt_column = vec!["prompt".to_owned()];
        config.dataset.answer_column = "answer".into();
        config.dataset.parent_id_column = tunesmith_config::OptionalText::none();
        let system_of = |systems: &[&str]| {
            let line = |system: &&str| {
                format!("{{\"system\": \"{system}\", \"prompt\": \"p\", \"answer\": \"a\"}}\n")
            };
            std::fs::write(&path, systems.iter().map(line).collect::<String>()).unwrap();
            common_system(&first_rows(&config))
        };
        assert_eq!(system_of(&["Be brief.", "Be brief."]).as_deref(), Some("Be brief."));
        assert_eq!(system_of(&["Be brief.", "Be kind."]), None);
        assert_eq!(system_of(&["", ""]), None);
        config.dataset.train_dataframe = "nowhere.jsonl".to_owned();
        assert_eq!(common_system(&first_rows(&config)), None);
    }
}
