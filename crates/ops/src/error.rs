//! What can go wrong in `ops` because of a user's choice or machine.

use tunesmith_platform::gpu::DeviceError;

/// A request that this build or machine cannot fulfil.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpsError {
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The thread pool could not get the wanted size.
    #[error("cannot use {wanted} threads: {reason}")]
    Threads {
        /// The wanted number of threads.
        wanted: usize,
        /// Why not.
        reason: String,
    },
}

impl OpsError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Device(error) => Some(error.hint()),
            Self::Threads { .. } => {
                Some("the number of threads can be set once, before the first computation".to_owned())
            }
        }
    }
}
