//! The experiment schema, declared once: YAML reader and writer, JSON Schema, help texts, checks.
//!
//! Every field is one entry of a `fields!` block in [`sections`]: Rust type, default, range, choices, visibility
//! and help text stand together, and everything else is derived from that entry: the typed struct, the reader
//! with its range check, the writer, the JSON Schema, `explain` and the list of fields a form needs.
//!
//! Files of H2O LLM Studio load unchanged and files written here load there. Nothing in this crate reads data or
//! looks at the machine; it only knows the YAML text and its own declarations.

mod check;
mod choices;
mod declare;
mod error;
mod experiment;
mod explain;
mod field;
mod field_value;
mod json_schema;
mod label_form;
mod legacy;
mod nearest;
mod node;
mod sections;
mod slug;
mod support;
mod yaml_reader;
mod yaml_writer;

pub use check::{Finding, Level};
pub use choices::{
    AttentionImplementation, BackboneDtype, DataPart, DeepspeedMethod, JudgeFailures, LeadingZeros,
    LogStepSize, Logger, LoraInit, LossFunction, Metric, MixedPrecisionDtype, OnBadRow, Optimizer, Packing,
    ProblemType, SaveCheckpoint, Schedule, ScoreHead, TableLayout, TextEncoding, TextFormat, Truncate, Turns,
    ValidationStrategy,
};
pub use error::{ConfigError, FieldProblem, Warning};
pub use experiment::{find_field, schema};
pub use explain::explain;
pub use field::{Dependency, Facets, FieldSpec, Grid, Kind, Limit, Slider};
pub use field_value::{Columns, OptionalText, Value};
pub use json_schema::json_schema;
pub use label_form::LabelForm;
pub use nearest::nearest;
pub use sections::{
    Architecture, Augmentation, Dataset, Environment, ExperimentConfig, Logging, Prediction, Tokenizer,
    Training,
};
pub use support::not_built_note;
