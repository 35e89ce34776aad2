//! What every handler has at hand.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tunesmith_platform::gpu::Backend;
use tunesmith_store::Store;

use crate::access::Guard;
use crate::chat::Chat;
use crate::events::EventBus;
use crate::jobs::Jobs;
use crate::machine::MachineWatch;
use crate::runs::Runs;
use crate::secrets::Secrets;
use crate::workdir::Workdir;

/// The shared state; cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

/// The parts of the state.
pub struct Inner {
    /// Places on the disk.
    pub workdir: Workdir,
    /// The database. Its calls block for the time of a small query, which handlers may.
    pub store: Store,
    /// What happens, for everybody who listens.
    pub events: EventBus,
    /// Work that takes longer than a request.
    pub jobs: Jobs,
    /// This program's own executable, for child processes.
    pub program: PathBuf,
    /// Folder of models and tokenised data; child processes get it as `TUNESMITH_CACHE`.
    pub cache_dir: PathBuf,
    /// What this program can compute with.
    pub compiled_backends: Vec<Backend>,
    /// Who may come in.
    pub guard: Guard,
    /// Tokens for other services.
    pub secrets: Secrets,
    /// What was found out about the machine.
    pub machine: MachineWatch,
    /// Tells when the server ends.
    pub shutdown: Shutdown,
    /// Training runs.
    pub runs: Runs,
    /// Models to chat with.
    pub chat: Chat,
}

impl AppState {
    /// Shares the parts.
    pub fn new(parts: Inner) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for AppState {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Tells when the server ends: streams end and helpers stop.
#[derive(Debug, Clone)]
pub struct Shutdown {
    sender: Arc<watch::Sender<bool>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { sender: Arc::new(watch::Sender::new(false)) }
    }
}

impl Shutdown {
    /// Says that the server ends.
    pub fn trigger(&self) {
        self.sender.send_replace(true);
    }

    /// Whether it ends.
    pub fn is_triggered(&self) -> bool {
        *self.sender.borrow()
    }

    /// Waits until it does.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut receiver = self.sender.subscribe();
        async move {
            // An error means that nobody can trigger it any more, which is an end, too.
            receiver.wait_for(|is_over| *is_over).await.ok();
        }
    }
}
