//! The declarations: one file per section of the YAML file, and the whole experiment here.

mod architecture;
mod augmentation;
mod dataset;
mod environment;
mod logging;
mod prediction;
mod tokenizer;
mod training;

pub use architecture::Architecture;
pub use augmentation::Augmentation;
pub use dataset::Dataset;
pub use environment::Environment;
pub use logging::Logging;
pub use prediction::Prediction;
pub use tokenizer::Tokenizer;
pub use training::Training;

use crate::choices::ProblemType;
use crate::declare::fields;
use crate::field::facets;

const CLASSIFICATION: &[ProblemType] = &[ProblemType::CausalClassificationModeling];
const REGRESSION: &[ProblemType] = &[ProblemType::CausalRegressionModeling];
const CLASSIFICATION_AND_REGRESSION: &[ProblemType] =
    &[ProblemType::CausalClassificationModeling, ProblemType::CausalRegressionModeling];
/// Those whose rows hold something to predict instead of conversations.
const WITHOUT_CONVERSATIONS: &[ProblemType] = &[
    ProblemType::CausalClassificationModeling,
    ProblemType::CausalRegressionModeling,
    ProblemType::ContinuedPretraining,
];
const PRETRAINING: &[ProblemType] = &[ProblemType::ContinuedPretraining];
const DPO: &[ProblemType] = &[ProblemType::DpoModeling];
const SEQUENCE_TO_SEQUENCE: &[ProblemType] = &[ProblemType::SequenceToSequenceModeling];
/// Those whose texts are assembled without markers unless a file says otherwise.
const WITHOUT_MARKERS: &[ProblemType] = &[
    ProblemType::ContinuedPretraining,
    ProblemType::CausalClassificationModeling,
    ProblemType::CausalRegressionModeling,
    ProblemType::SequenceToSequenceModeling,
];
/// Those whose loss is not the mean cross-entropy of tokens.
const WITHOUT_TOKEN_LOSS: &[ProblemType] = &[
    ProblemType::CausalClassificationModeling,
    ProblemType::CausalRegressionModeling,
    ProblemType::DpoModeling,
];
const NOT_CLASSIFICATION: &[ProblemType] = &[
    ProblemType::CausalLanguageModeling,
    ProblemType::ContinuedPretraining,
    ProblemType::CausalRegressionModeling,
    ProblemType::SequenceToSequenceModeling,
    ProblemType::DpoModeling,
];
const NOT_CLASSIFICATION_OR_REGRESSION: &[ProblemType] = &[
    ProblemType::CausalLanguageModeling,
    ProblemType::ContinuedPretraining,
    ProblemType::SequenceToSequenceModeling,
    ProblemType::DpoModeling,
];
const NOT_DPO: &[ProblemType] = &[
    ProblemType::CausalLanguageModeling,
    ProblemType::ContinuedPretraining,
    ProblemType::CausalClassificationModeling,
    ProblemType::CausalRegressionModeling,
    ProblemType::SequenceToSequenceModeling,
];

fields! {
    /// Everything one experiment needs to know: the whole YAML file.
    pub struct ExperimentConfig in "" {
        /// Name of the experiment and of its run folder. A slash becomes a hyphen. Without one, two random words
        /// are joined.
        experiment_name: String = String::new();
        /// The model to start from: a Hugging Face model id such as `h2oai/h2o-danube3-500m-base`, a folder with
        /// config.json and safetensors files, or a GGUF file.
        llm_backbone: String = "h2oai/h2o-danube3-500m-base".to_owned();
        /// Folder the run writes to.
        output_directory: String = "output/text_causal_language_modeling_config".to_owned()
            => facets().hidden();
        /// What is learned. Causal language modeling learns answers, in chats and to instructions; continued pre-training
        /// learns plain texts.
        problem_type: ProblemType = ProblemType::CausalLanguageModeling;
    }
    sections {
        /// Model weights and their number formats.
        architecture: Architecture;
        /// Random changes of the training data.
        augmentation: Augmentation;
        /// Tables, columns and text assembly.
        dataset: Dataset;
        /// Devices, threads, seeds.
        environment: Environment;
        /// Where the run's numbers go.
        logging: Logging;
        /// Validation metric and text generation.
        prediction: Prediction;
        /// Token counts and tokenizer options.
        tokenizer: Tokenizer;
        /// Loss, optimizer, schedule, adapters, checkpoints.
        training: Training;
    }
}
