//! The trainer: one run from configuration to result, in a folder of its own.
//!
//! [`run`] loads model and data, trains in windows of micro-batches, evaluates, writes checkpoints and events, and exports
//! what was trained. It owns its run folder and nothing else: no database, no terminal, and no socket but to the judge that a
//! run may be given ([`RunRequest::judge`]). Progress reaches the
//! outside as [`Event`] values, through the folder's `events.jsonl` and through an [`Observer`].
//!
//! Two promises shape the code. A run killed at any instant loses at most the work since its last checkpoint; and a
//! resumed run gives, bit for bit on a CPU, the losses and weights of an uninterrupted one. Therefore everything random is
//! a function of the seed and the position in the run ([`TrainState`] has no generator), the state changes only between
//! accumulation windows, and files appear complete or not at all.

mod activations;
mod answers;
mod checkpoint;
mod clock;
mod collective;
mod comparison;
mod disk_space;
mod early_stopping;
mod error;
mod evaluate;
mod event_log;
mod events;
mod export;
mod export_template;
mod extend;
mod forecast;
mod gradients;
mod grading;
mod journal;
mod json_file;
mod judge;
mod keys;
mod learning;
mod milestones;
mod number_formats;
mod optimizer;
mod plan;
mod predict;
mod predictions;
mod preference;
mod profile;
mod record;
mod reference;
mod reference_store;
mod run;
mod run_folder;
mod run_log;
mod saved_run;
mod schedule;
mod score_metrics;
mod sequences;
mod setup;
mod starting_weights;
mod state;
mod status;
mod stop;
mod summary;
mod text_metrics;
mod trainability;
mod trainer;
mod validation;
mod window;

pub use answers::{answer_all, generation_settings};
pub use checkpoint::{FoundCheckpoint, load_weights, newest as newest_checkpoint};
pub use clock::{run_time, utc_stamp};
pub use collective::{Collective, SingleProcess};
pub use disk_space::{LEAST_FREE_DISK_BYTES, parse_disk_size};
pub use early_stopping::EarlyStopping;
pub use error::{Failure, TrainError};
pub use evaluate::{EvaluateOptions, Evaluated, Figures, SampleLoss, TextLoss, evaluate};
pub use event_log::read_events;
pub use events::{
    Checkpoint, CheckpointReason, EndReason, Evaluation, Event, EventBody, Export, ExportKind, Grading,
    NoObserver, NoteLevel, Observer, Rewards, RunEnd, RunExtended, RunFailed, RunStarted, SkippedStep, Step,
    Timing,
};
pub use export::{
    ExportReport, ModelFolderOptions, load_head_on_logits, write_adapter_folder, write_model_folder,
};
pub use forecast::MemoryForecast;
pub use gradients::{clip_factor, global_norm};
pub use grading::JudgeEndpoint;
pub use judge::{Judge, judged_by};
pub use keys::{KeyUse, derive_key};
pub use optimizer::{Optimizer, ParameterGroup, rule_of};
pub use plan::RunPlan;
pub use predict::{Predicted, predict};
pub use preference::{
    JudgedAnswer, KtoSettings, KtoStep, Pair, PreferenceLoss, PreferencePair, PreferenceStep, Reduction,
    kto_loss,
};
pub use profile::{Operation, Profile};
pub use record::{Dtypes, Fingerprints, Machine, RunRecord};
pub use run::{RunRequest, is_finished, run};
pub use run_folder::RunFolder;
pub use saved_run::{RunWeights, SavedRun};
pub use schedule::LearningRateSchedule;
pub use state::{Best, Exact, LastValidation, TrainState, Unreported};
pub use status::{RunStatus, Status};
pub use stop::StopFlag;
pub use summary::RunSummary;
pub use trainability::Trainability;
