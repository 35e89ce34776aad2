//! A request to leave, shared between the trainer and whoever watches for Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by a signal handler or a supervisor; the trainer looks at it between micro-batches, then saves a checkpoint and
/// returns with the status "stopped". Clones share the same flag.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// A flag that nobody has raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the trainer to stop. Safe to call from a signal handler's thread, any number of times.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// True once somebody asked.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_flag() {
        let flag = StopFlag::new();
        let watcher = flag.clone();
        assert!(!flag.is_raised());
        watcher.raise();
        assert!(flag.is_raised());
    }
}
