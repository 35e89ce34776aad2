//! Which exit code each library error means. Text and hint are the libraries' own.

use tunesmith_config::ConfigError;
use tunesmith_data::DataError;
use tunesmith_formats::FormatError;
use tunesmith_generate::GenerateError;
use tunesmith_models::ModelError;
use tunesmith_ops::OpsError;
use tunesmith_platform::gpu::DeviceError;
use tunesmith_train::TrainError;

use super::{Exit, Failure};

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let failure = Self::from_error(Exit::Usage, &error, error.hint());
        // It has a line for each field that is wrong.
        Self { what: error.to_string().replace('\n', "; "), ..failure }
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Self::from_error(exit_of_data(&error), &error, error.hint())
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        Self::from_error(exit_of_format(&error), &error, error.hint())
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self::from_error(exit_of_model(&error), &error, error.hint())
    }
}

impl From<OpsError> for Failure {
    fn from(error: OpsError) -> Self {
        Self::from_error(exit_of_ops(&error), &error, error.hint())
    }
}

impl From<GenerateError> for Failure {
    fn from(error: GenerateError) -> Self {
        let exit = match &error {
            GenerateError::Model(error) => exit_of_model(error),
            GenerateError::Format(error) => exit_of_format(error),
            GenerateError::NotFinite { .. } => Exit::Run,
            GenerateError::NoChatTemplate => Exit::Model,
            _ => Exit::Usage,
        };
        Self::from_error(exit, &error, error.hint())
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        let exit = match &error {
            TrainError::Data(error) => exit_of_data(error),
            TrainError::TooFewSamples { .. } | TrainError::NothingToEvaluate { .. } => Exit::Data,
            TrainError::Format(error) => exit_of_format(error),
            TrainError::Model(error) => exit_of_model(error),
            TrainError::Ops(error) => exit_of_ops(error),
            TrainError::StartingWeights { .. }
            | TrainError::ModelKind { .. }
            | TrainError::NoWeights { .. }
            | TrainError::RunFile { .. } => Exit::Model,
            TrainError::NonFinite { .. } | TrainError::ExportDiffers { .. } => Exit::Run,
            TrainError::Io { action, .. } if !is_writing(action) => Exit::Model,
            TrainError::Io { .. }
            | TrainError::DiskSpace { .. }
            | TrainError::RunExists { .. }
            | TrainError::RunBusy { .. } => Exit::Output,
            _ => Exit::Usage,
        };
        Self::from_error(exit, &error, error.hint())
    }
}

fn exit_of_ops(error: &OpsError) -> Exit {
    match error {
        OpsError::Device(DeviceError::Unknown { .. }) => Exit::Usage,
        OpsError::Device(_) => Exit::Device,
        _ => Exit::Usage,
    }
}

fn exit_of_data(error: &DataError) -> Exit {
    match error {
        DataError::Tokenizer(error) => exit_of_format(error),
        DataError::Setting { .. } => Exit::Usage,
        DataError::Cache { .. } => Exit::Output,
        _ => Exit::Data,
    }
}

fn exit_of_format(error: &FormatError) -> Exit {
    match error {
        FormatError::Unreachable { .. }
        | FormatError::AccessRefused { .. }
        | FormatError::NotOnHub { .. }
        | FormatError::Hub { .. }
        | FormatError::Checksum { .. } => Exit::Network,
        FormatError::Io { action, .. } if is_writing(action) => Exit::Output,
        _ => Exit::Model,
    }
}

fn exit_of_model(error: &ModelError) -> Exit {
    match error {
        ModelError::Format(error) => exit_of_format(error),
        ModelError::LoraSetting { .. }
        | ModelError::NoLoraTarget { .. }
        | ModelError::LoraTargetUnsupported { .. }
        | ModelError::TooLong { .. } => Exit::Usage,
        _ => Exit::Model,
    }
}

/// Whether a failed operation on a file meant to change it.
fn is_writing(action: &str) -> bool {
    ["write", "append", "cut", "lock", "create", "rename", "replace", "remove", "sync", "flush", "move"]
        .iter()
        .any(|verb| action.contains(verb))
}
