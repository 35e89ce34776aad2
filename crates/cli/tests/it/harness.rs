//! Runs the program in a folder of its own and looks at what it says and leaves behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// The repository's root.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails the test unless the command failed as a user should see it: this exit code, one paragraph of what happened
    /// with all of `words` in it, a hint if any on one line, and no trace of a panic.
    #[track_caller]
    pub(crate) fn failure(self, code: i32, words: &[&str]) -> Self {
        let Self { stdout, stderr, .. } = &self;
        assert_eq!(self.code, code, "stdout:\n{stdout}\nstderr:\n{stderr}");
        assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
        let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        let [error] = errors[..] else { panic!("one line of error expected:\n{stderr}") };
        for word in words {
            assert!(stderr.contains(word), "{word:?} expected in:\n{stderr}");
        }
        let after = stderr.split_once(error).unwrap().1;
        for line in after.lines().filter(|line| !line.is_empty()) {
            assert!(line.starts_with("hint: "), "only a hint may follow the error:\n{stderr}");
        }
        self
    }
}

/// A temporary folder in which the program runs, with a cache of its own and nothing of the user's environment.
pub(crate) struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and its folder if need be.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Everything in the folder but the cache, as sorted relative paths.
    pub(crate) fn list(&self) -> Vec<String> {
        let mut names = Vec::new();
        list(self.folder.path(), self.folder.path(), &mut names);
        names.retain(|name| !name.starts_with("cache"));
        names.sort();
        names
    }

    /// The program with these arguments, not yet started. Two threads, no network.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tunesmith"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("TUNESMITH_CACHE", self.path("cache"))
            // Nobody listens there: a test that reaches for the network fails at once.
            .env("HF_ENDPOINT", "http://127.0.0.1:9")
            .env("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
            .env_remove("HF_TOKEN")
            .env_remove("OPENAI_API_KEY")
            .env_remove("OPENAI_API_BASE")
            .env_remove("OPENAI_API_TYPE")
            .env_remove("MLFLOW_TRACKING_URI")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        outcome(self.command(args))
    }

    /// Runs the program with `input` on its standard input.
    pub(crate) fn run_with_input(&self, args: &[&str], input: &str) -> Outcome {
        let input = self.write("stdin.txt", input);
        let mut command = self.command(args);
        command.stdin(fs::File::open(input).unwrap());
        outcome(command)
    }
}

pub(crate) fn outcome(mut command: Command) -> Outcome {
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn list(root: &Path, folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        names.push(path.strip_prefix(root).unwrap().display().to_string());
        if path.is_dir() {
            list(root, &path, names);
        }
    }
}

/// A tiny Llama with random weights, a SentencePiece vocabulary and a chat template, as one GGUF file.
pub(crate) fn tiny_model() -> PathBuf {
    repository().join("tests/golden/gguf/llama-tiny.gguf")
}

/// Rows with the columns `prompt` and `answer`, one JSON object a line.
pub(crate) fn rows(n_rows: usize) -> String {
    (0..n_rows).map(|idx| format!("{{\"prompt\": \"say {idx}\", \"answer\": \"it is {idx}\"}}\n")).collect()
}

/// An experiment on [`rows`] that trains the tiny model in a moment. `more` is put at its end.
pub(crate) fn experiment(more: &str) -> String {
    format!(
        "experiment_name: tiny
problem_type: text_causal_language_modeling
llm_backbone: {model}
output_directory: run
dataset:
    train_dataframe: rows.jsonl
    validation_size: 0.2
    system_column: None
    prompt_column: prompt
    answer_column: answer
    parent_id_column: None
    text_format: chat_template
tokenizer:
    max_length: 64
architecture:
    backbone_dtype: float32
environment:
    mixed_precision: false
    seed: 3
prediction:
    metric: Perplexity
    max_length_inference: 8
{more}",
        model = tiny_model().display()
    )
}

/// The `training` section of a quick run.
pub(crate) const QUICK_TRAINING: &str = "training:
    learning_rate: 0.01
    batch_size: 2
    epochs: 2
    lora_r: 4
";
