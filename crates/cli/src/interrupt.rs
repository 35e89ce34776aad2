//! Ctrl-C and termination signals: the first asks the work to end well, the second ends the process.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tunesmith_train::StopFlag;

use crate::failure::{Exit, Failure};
use crate::terminal::write_err;

/// A flag that the first Ctrl-C raises; `promise` tells the user what happens next. A second Ctrl-C ends the process
/// at once, which loses at most the work since the last checkpoint.
///
/// # Errors
/// The operating system refuses to install the handler.
pub(crate) fn stop_on_ctrl_c(promise: &'static str) -> Result<StopFlag, Failure> {
    let flag = StopFlag::new();
    let raised = flag.clone();
    install(move || {
        if raised.is_raised() {
            leave();
        }
        raised.raise();
        write_err(format_args!("\n{promise}; press Ctrl-C again to leave at once\n"));
    })?;
    Ok(flag)
}

/// Ctrl-C in a conversation: breaks off the answer being given; between answers, or a second time, ends the process.
#[derive(Debug, Clone)]
pub(crate) struct AnswerBreak {
    state: Arc<AtomicU8>,
}

const WAITING: u8 = 0;
const ANSWERING: u8 = 1;
const BREAKING_OFF: u8 = 2;

impl AnswerBreak {
    /// Takes over Ctrl-C. To be called once.
    ///
    /// # Errors
    /// The operating system refuses to install the handler.
    pub(crate) fn install() -> Result<Self, Failure> {
        let state = Arc::new(AtomicU8::new(WAITING));
        let seen = Arc::clone(&state);
        install(move || {
            let changed = seen.compare_exchange(ANSWERING, BREAKING_OFF, Ordering::AcqRel, Ordering::Acquire);
            if changed.is_err() {
                leave();
            }
        })?;
        Ok(Self { state })
    }

    /// An answer begins.
    pub(crate) fn begin(&self) {
        self.state.store(ANSWERING, Ordering::Release);
    }

    /// The answer is complete or broken off.
    pub(crate) fn end(&self) {
        self.state.store(WAITING, Ordering::Release);
    }

    /// Whether the answer should be broken off.
    pub(crate) fn is_wanted(&self) -> bool {
        self.state.load(Ordering::Acquire) == BREAKING_OFF
    }
}

fn install(handler: impl FnMut() + Send + 'static) -> Result<(), Failure> {
    ctrlc::set_handler(handler).map_err(|error| Failure::from_error(Exit::Internal, &error, None))
}

fn leave() {
    write_err(format_args!("\n"));
    process::exit(i32::from(Exit::Interrupted.code()));
}
