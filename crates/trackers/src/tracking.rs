//! The thread that follows a run, as whoever trains sees it.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::destination::Destination;
use crate::follower::Follower;
use crate::tracker::RunInfo;

/// Something to tell the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whether something did not go as it should.
    pub is_warning: bool,
    /// In words.
    pub text: String,
}

/// Follows a run from its beginning to its end.
#[derive(Debug)]
pub struct Tracking {
    name: &'static str,
    /// Until it begins.
    follower: Option<Follower>,
    messages: Receiver<Message>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    /// Tells the thread that the run is over; closed when nobody waits for it any more.
    end: Sender<()>,
    /// Closed by the thread when it is done.
    done: Receiver<()>,
}

impl Tracking {
    /// Follows the run in `run_dir`, from [`Self::begin`] on.
    pub fn new(destination: Destination, run_dir: &Path, run: RunInfo) -> Self {
        let (sender, messages) = channel();
        let tracker = destination.tracker();
        let name = tracker.name();
        let follower = Follower::new(tracker, run_dir, run, sender);
        Self { name, follower: Some(follower), messages, running: None }
    }

    /// Starts the thread; called when the run's `events.jsonl` has been cut to where the run goes on, or is complete. Only the
    /// first call counts.
    pub fn begin(&mut self) {
        let Some(follower) = self.follower.take() else { return };
        let (end, ends) = channel();
        let (is_done, done) = channel();
        let work = move || {
            follower.run(&ends);
            drop(is_done);
        };
        if thread::Builder::new().name("tracker".to_owned()).spawn(work).is_ok() {
            self.running = Some(Running { end, done });
        }
    }

    /// What there is to say since the last call. Never waits.
    pub fn messages(&self) -> Vec<Message> {
        self.messages.try_iter().collect()
    }

    /// Lets the thread send what is left for `patience` at most, and gives the last messages. What is left after that is sent
    /// when the run is resumed.
    pub fn finish(self, patience: Duration) -> Vec<Message> {
        let mut is_late = false;
        if let Some(Running { end, done }) = &self.running {
            // Where the thread has ended, nobody listens.
            let _ = end.send(());
            // Whatever it is in the middle of has a time-out of its own, but the program need not wait for that.
            is_late = done.recv_timeout(patience) == Err(RecvTimeoutError::Timeout);
        }
        let mut messages = self.messages();
        if is_late {
            let text =
                format!("{} has not got all of this run; resuming it sends what is missing", self.name);
            messages.push(Message { is_warning: true, text });
        }
        messages
    }
}
