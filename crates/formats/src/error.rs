//! What can go wrong with a file or with the hub, said in one sentence that names the path, what was
//! expected and what was found; [`FormatError::hint`] adds what the user can do about it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::impostor::{HEAD_BYTES, Impostor, impostor};

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, FormatError>;

/// A failure of reading, writing or fetching a model's files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The operating system refused an operation on a file or folder.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What was attempted, as a verb phrase: "open", "write the header".
        action: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },

    /// A file that has to be there is not.
    #[error("{}: {what} is missing", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// What was looked for, e.g. "config.json".
        what: String,
    },

    /// A file ends before the bytes its own header promises.
    #[error("{}: truncated {what}: expected {expected_bytes} bytes, the file has {actual_bytes}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Which part is cut: "header", "tensor data", "tensor model.norm.weight".
        what: String,
        /// Bytes the file needs to have for that part to be whole.
        expected_bytes: u64,
        /// Bytes it has.
        actual_bytes: u64,
    },

    /// A file's content contradicts its format.
    #[error("{}: not a valid {format} file: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Name of the format: "safetensors", "GGUF".
        format: &'static str,
        /// What is wrong, with the offending values.
        reason: String,
    },

    /// Something else was put in a file's place: a Git LFS pointer, the page of a web server.
    #[error("{}: {found}", path.display())]
    Impostor {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: Impostor,
    },

    /// A JSON file cannot be parsed or has a value of the wrong kind.
    #[error("{}: invalid JSON: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's message with line and column.
        reason: String,
    },

    /// A tensor is asked for that the file does not have.
    #[error("{}: no tensor named {name:?}", path.display())]
    NoSuchTensor {
        /// The model file or folder.
        path: PathBuf,
        /// The name asked for.
        name: String,
    },

    /// A tensor is stored in an element type that this reader does not know.
    #[error("{}: tensor {name:?} is stored as {dtype}, which cannot be read as float32 here", path.display())]
    UnsupportedDtype {
        /// The model file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The element type's name or number as the file gives it.
        dtype: String,
    },

    /// A tensor's name has no counterpart in the Hugging Face naming of its architecture.
    #[error("{}: tensor {name:?} has no known place in a {architecture} model", path.display())]
    UnknownTensor {
        /// The model file.
        path: PathBuf,
        /// The tensor's name in the file.
        name: String,
        /// The architecture as the file gives it.
        architecture: String,
    },

    /// A tensor's shape is not the one needed.
    #[error("{}: tensor {name:?} has shape {actual:?}, expected {expected:?}", path.display())]
    Shape {
        /// The model file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The shape that fits.
        expected: Vec<usize>,
        /// The shape found.
        actual: Vec<usize>,
    },

    /// The model's architecture is not one of those implemented.
    #[error("{}: unknown model architecture {name:?}; the nearest known one is {nearest:?}", path.display())]
    UnknownArchitecture {
        /// The configuration file.
        path: PathBuf,
        /// The architecture as the file gives it.
        name: String,
        /// The most similar name that would be understood.
        nearest: String,
        /// All names that would be understood.
        known: Vec<&'static str>,
    },

    /// A model configuration lacks a key or has a value that cannot be used.
    #[error("{}: {key}: {reason}", path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// The key, e.g. "rope_scaling.type".
        key: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A folder or file that was given as a model is not one.
    #[error("{}: not a model: {reason}", path.display())]
    NotAModel {
        /// What was given.
        path: PathBuf,
        /// Why it cannot be a model.
        reason: String,
    },

    /// A tokenizer cannot be read, built or applied.
    #[error("{}: tokenizer: {reason}", path.display())]
    Tokenizer {
        /// The tokenizer's file or folder, or the GGUF file that holds it.
        path: PathBuf,
        /// What is wrong, with the offending key, token or id.
        reason: String,
    },

    /// A chat template cannot be compiled or rendered, or rejects the conversation.
    #[error("{}: chat template: {reason}", path.display())]
    Template {
        /// Where the template comes from; "chat_template" when it has no file.
        path: PathBuf,
        /// The template engine's message, or the text the template raised.
        reason: String,
    },

    /// A PEFT adapter folder is not usable.
    #[error("{}: adapter: {reason}", path.display())]
    Adapter {
        /// The adapter folder or the file in it.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The hub cannot be reached.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// The address tried.
        url: String,
        /// The network's reason, or that the time allowed ran out.
        reason: String,
    },

    /// The hub wants a (different) access token.
    #[error("{url}: access refused (HTTP {status}) for {model_id}{}", if *had_token { " with the given token" } else { "" })]
    AccessRefused {
        /// The address.
        url: String,
        /// 401 or 403.
        status: u16,
        /// The model asked for.
        model_id: String,
        /// Whether a token was sent.
        had_token: bool,
    },

    /// The hub has no such model, revision or file.
    #[error("{url}: not found (HTTP 404): {what}")]
    NotOnHub {
        /// The address.
        url: String,
        /// The model, revision or file.
        what: String,
    },

    /// The hub answered something that cannot be used.
    #[error("{url}: {reason}")]
    Hub {
        /// The address.
        url: String,
        /// Status or content that was not expected.
        reason: String,
    },

    /// A downloaded file is not the one the hub announced.
    #[error("{}: download of {url} is damaged: expected {expected}, got {actual}", path.display())]
    Checksum {
        /// The temporary file, which is removed.
        path: PathBuf,
        /// The address.
        url: String,
        /// Announced size or SHA-256.
        expected: String,
        /// Size or SHA-256 found.
        actual: String,
    },
}

impl FormatError {
    /// What the user can do about it, where something is known to help; one sentence without a final newline.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Truncated { .. } | Self::Checksum { .. } => {
                Some("The file is incomplete; download or copy it again.".into())
            }
            Self::Impostor { found, .. } => Some(found.hint().to_owned()),
            Self::Missing { path, .. } if path.extension().is_some_and(|end| end == "gguf") => {
                Some("All parts of a split model have to be in one folder; download or copy the others, too.".into())
            }
            Self::Missing { what, .. } if what.contains("config.json") => Some(
                "A model folder needs config.json, tokenizer.json and model.safetensors (or its shards with \
                 model.safetensors.index.json), or one .gguf file."
                    .into(),
            ),
            Self::NotAModel { .. } => Some(
                "Give a folder in Hugging Face layout (config.json and *.safetensors), a .gguf file, or fetch one \
                 with `tunesmith model pull`."
                    .into(),
            ),
            Self::UnsupportedDtype { .. } => Some(
                "Use a file in float32, float16, bfloat16, or a GGUF in Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or \
                 Q6_K."
                    .into(),
            ),
            Self::UnknownArchitecture { known, .. } => {
                Some(format!("Models of these architectures can be used: {}.", known.join(", ")))
            }
            Self::Config { key, .. } if key == "quantization_config" => Some(
                "Take the model that it was made from (for NAME-bnb-4bit, NAME-GPTQ, NAME-AWQ and NAME-FP8 that is NAME), with \
                 architecture.backbone_dtype nf4 or int4 if it is to take little memory."
                    .into(),
            ),
            Self::Unreachable { .. } => Some(
                "Without a network, pass the path of a model folder or .gguf file instead of a model id. With a \
                 mirror, set HF_ENDPOINT; behind a proxy, set HTTPS_PROXY, and SSL_CERT_FILE to its certificate."
                    .into(),
            ),
            Self::AccessRefused { url, model_id, had_token, .. } => {
                let address = url.split("/api/").next().unwrap_or_default();
                let address = address.split(&format!("/{model_id}/")).next().unwrap_or_default();
                let page = format!("{address}/{model_id}");
                Some(match had_token {
                    false => format!(
                        "The model is gated, private, or misspelled. If {page} asks for it, accept the license there; then \
                         log in with `hf auth login`, or set HF_TOKEN to a token of an account that may read it."
                    ),
                    true => format!(
                        "Accept the license on {page} with the token's account, and check that HF_TOKEN or the login of \
                         `hf auth login` is valid and may read gated models."
                    ),
                })
            }
            Self::NotOnHub { .. } => Some(
                "Check the spelling (owner/name) and the revision; private models need HF_TOKEN or `hf auth login` to be visible.".into(),
            ),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("Free some disk space and run the same command again.".into())
            }
            _ => None,
        }
    }

    /// Builds [`FormatError::Io`]; for `map_err(FormatError::io(path, "open"))`.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), action, source }
    }

    /// Builds [`FormatError::Json`] from the parser's error, or [`FormatError::Impostor`] when the file is something else
    /// altogether.
    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self {
        move |error| {
            let mut head = Vec::new();
            // A file that cannot be read again was not the one that could not be parsed.
            let read = File::open(path).and_then(|file| file.take(HEAD_BYTES as u64).read_to_end(&mut head));
            match impostor(&head).filter(|_| read.is_ok()) {
                Some(found) => Self::Impostor { path: path.to_owned(), found },
                None => Self::Json { path: path.to_owned(), reason: error.to_string() },
            }
        }
    }

    /// Fails with [`FormatError::Impostor`] when `bytes`, the content of the file at `path`, are not what its name says.
    pub(crate) fn refuse_impostor(path: &Path, bytes: &[u8]) -> Result<()> {
        match impostor(bytes.get(..HEAD_BYTES).unwrap_or(bytes)) {
            Some(found) => Err(Self::Impostor { path: path.to_owned(), found }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_path_and_say_what_helps() {
        let error = FormatError::Truncated {
            path: "m/model.safetensors".into(),
            what: "tensor data".into(),
            expected_bytes: 100,
            actual_bytes: 90,
        };
        assert_eq!(
            error.to_string(),
            "m/model.safetensors: truncated tensor data: expected 100 bytes, the file has 90"
        );
        assert!(error.hint().is_some_and(|hint| hint.contains("again")));

        let refused = |had_token| FormatError::AccessRefused {
            url: "http://x/api".into(),
            status: 401,
            model_id: "a/b".into(),
            had_token,
        };
        assert_eq!(refused(false).to_string(), "http://x/api: access refused (HTTP 401) for a/b");
        assert!(refused(true).to_string().ends_with("for a/b with the given token"));
        assert!(refused(false).hint().is_some_and(|hint| hint.contains("HF_TOKEN")));
    }
}
