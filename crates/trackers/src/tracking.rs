//! The thread that follows a run, as whoever trains sees it.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

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
    /// Until it begins.
    follower: Option<Follower>,
    messages: Receiver<Message>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    /// Tells the thread until when it may try.
    end: Sender<Instant>,
    /// Closed by the thread when it is done.
    done: Receiver<()>,
}

impl Tracking {
    /// Follows the run in `run_dir`, from [`Self::begin`] on.
    pub fn new(destination: Destination, run_dir: &Path, run: RunInfo) -> Self {
        let (sender, messages) = channel();
        let follower = Follower::new(destination.tracker(), run_dir, run, sender);
        Self { follower: Some(follower), messages, running: None }
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
        if let Some(Running { end, done }) = &self.running {
            // Where the thread has ended, nobody listens.
            let _ = end.send(Instant::now() + patience);
            // Whatever it is in the middle of has a time-out of its own, but the program need not wait for that.
            let _ = done.recv_timeout(patience + Duration::from_secs(1));
        }
        self.messages()
    }
}
