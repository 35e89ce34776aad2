//! Files that models live in: safetensors, GGUF, `config.json`, PEFT adapters, tokenizers, chat templates,
//! and the hub they are fetched from.
//!
//! Everything is read into float32 and given under the names and in the layouts of the Hugging Face hub,
//! so that nothing above this crate asks where a weight came from. All readers take their input as
//! hostile: sizes, counts and offsets are checked with overflow-safe arithmetic before they are used, and
//! no allocation is larger than the file justifies. Nothing here computes with weights.

pub mod atomic;
pub mod chat_template;
pub mod dtype;
pub mod error;
pub mod gguf;
mod gguf_config;
pub mod gguf_metadata;
mod gguf_names;
pub mod gguf_quants;
mod gguf_split;
mod gguf_types;
pub mod hub;
pub mod impostor;
mod json_keys;
pub mod label_names;
pub mod mmap;
pub mod model_config;
pub mod model_source;
pub mod peft;
pub mod resume;
mod rope_scaling;
pub mod safetensors_io;
mod safetensors_write;
pub mod score_head;
pub mod sequence_classifier;
mod tied_weights;
pub mod tokenizer;

pub use atomic::{AtomicDir, write_file};
pub use dtype::{StoreDtype, StoredDtype};
pub use error::{FormatError, Result};
pub use impostor::{Impostor, impostor};
pub use model_config::{Activation, Architecture, EncoderDecoder, ModelConfig, RopeScaling};
pub use model_source::ModelSource;
pub use peft::{AdapterConfig, TargetModules};
pub use safetensors_io::{NamedTensor, TensorInfo};
pub use sequence_classifier::{ScoreProblem, SequenceClassifier};
