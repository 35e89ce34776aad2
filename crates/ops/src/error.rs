//! What can go wrong in `ops` because of a user's choice or machine.

/// A request that this build or machine cannot fulfil.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpsError {
    /// The device name is not one this program knows.
    #[error("unknown device `{name}`; known names: {known}")]
    UnknownDevice {
        /// The name as given.
        name: String,
        /// Comma-separated list of accepted names.
        known: String,
    },
    /// The device exists in the world, but this program was built without it.
    #[error("device `{name}` is not compiled into this program")]
    DeviceNotCompiledIn {
        /// The name as given.
        name: String,
    },
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
            Self::UnknownDevice { .. } => Some("use `auto` or `cpu`".to_owned()),
            Self::DeviceNotCompiledIn { .. } => {
                Some("use `cpu`, or `auto` for the best device of this program".to_owned())
            }
            Self::Threads { .. } => {
                Some("the number of threads can be set once, before the first computation".to_owned())
            }
        }
    }
}
