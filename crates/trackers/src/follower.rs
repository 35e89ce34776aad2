//! Reads the events of a run as they come and hands them to a tracker, with patience.

use std::fmt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use crate::error::TrackerError;
use crate::event_reader::EventReader;
use crate::memory::{Memory, MemoryFile};
use crate::points::{Ending, Entry, Point};
use crate::tracker::{RunInfo, Tracker};
use crate::tracking::Message;

/// How often it is looked for new events.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between tries while the tracker is out of reach: twice as long each time, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Points that are handed over at once: what MLflow takes.
const MAX_POINTS: usize = 1000;

/// The work of the thread.
pub(crate) struct Follower {
    tracker: Box<dyn Tracker>,
    run: RunInfo,
    reader: EventReader,
    file: MemoryFile,
    memory: Memory,
    is_open: bool,
    /// Read and not yet handed over.
    pending: Vec<Entry>,
    /// How the run ended, and when, until the tracker knows.
    ending: Option<(Ending, u64)>,
    /// The present trouble was told.
    is_trouble_told: bool,
    messages: Sender<Message>,
}

impl Follower {
    pub(crate) fn new(
        tracker: Box<dyn Tracker>,
        run_dir: &Path,
        run: RunInfo,
        messages: Sender<Message>,
    ) -> Self {
        let file = MemoryFile::of_run(run_dir);
        let memory = file.read(tracker.name());
        Self {
            tracker,
            run,
            reader: EventReader::new(run_dir.join("events.jsonl")),
            file,
            memory,
            is_open: false,
            pending: Vec::new(),
            ending: None,
            is_trouble_told: false,
            messages,
        }
    }

    /// Follows until `ends` says that the run is over and nothing is left to hand over, or nobody wants it any more.
    pub(crate) fn run(mut self, ends: &Receiver<()>) {
        let mut is_over = false;
        let mut pause = INTERVAL;
        loop {
            match self.hand_over() {
                Ok(()) => {
                    if self.is_trouble_told {
                        self.say(false, format!("{} takes numbers again", self.tracker.name()));
                    }
                    self.is_trouble_told = false;
                    pause = INTERVAL;
                    if is_over {
                        return;
                    }
                }
                Err(error) if error.is_passing() => {
                    if !std::mem::replace(&mut self.is_trouble_told, true) {
                        self.say(
                            true,
                            format!("{} is out of reach and tried again: {error}", self.tracker.name()),
                        );
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => {
                    let name = self.tracker.name();
                    self.say(true, format!("{name} gets no more of this run: {error}"));
                    return;
                }
            }
            // At the end somebody waits, until it takes too long and the channel is closed.
            match ends.recv_timeout(if is_over { INTERVAL } else { pause }) {
                Ok(()) => is_over = true,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Hands over all events there are.
    fn hand_over(&mut self) -> Result<(), TrackerError> {
        if !self.is_open {
            self.open()?;
        }
        loop {
            if self.pending.is_empty() {
                self.pending = self.reader.read()?;
            }
            if self.pending.is_empty() {
                break;
            }
            self.hand_over_pending()?;
        }
        if let Some((ending, unix_secs)) = self.ending {
            self.tracker.end(ending, unix_secs)?;
            self.ending = None;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), TrackerError> {
        let opened = self.tracker.open(&self.run, &self.memory.run)?;
        if !opened.is_continued {
            self.memory.n_events = 0;
        }
        self.is_open = true;
        // Before the first number, so that a kill does not leave a run that nobody goes on with.
        self.remember(self.memory.n_events)?;
        self.say(false, format!("numbers also go to {}", opened.place));
        if let Some(warning) = opened.warning {
            self.say(true, warning);
        }
        Ok(())
    }

    /// As many as the tracker takes at once, again and again.
    fn hand_over_pending(&mut self) -> Result<(), TrackerError> {
        while !self.pending.is_empty() {
            let (mut n_entries, mut n_events) = (0, self.memory.n_events);
            let mut points: Vec<Point> = Vec::new();
            let mut ending = self.ending;
            for entry in &self.pending {
                let is_new = entry.position > self.memory.n_events;
                if is_new && !points.is_empty() && points.len() + entry.points.len() > MAX_POINTS {
                    break;
                }
                if is_new {
                    points.extend(entry.points.iter().cloned());
                    n_events = entry.position;
                }
                ending = match entry.ending {
                    Some(how) => Some((how, entry.unix_secs)),
                    // Steps after an end are those of a process that went on.
                    None => ending.filter(|_| entry.position == 0),
                };
                n_entries += 1;
            }
            if !points.is_empty() {
                self.tracker.log(&points)?;
            }
            self.pending.drain(..n_entries);
            self.ending = ending;
            if n_events > self.memory.n_events {
                self.remember(n_events)?;
            }
        }
        Ok(())
    }

    fn remember(&mut self, n_events: u64) -> Result<(), TrackerError> {
        self.memory.n_events = n_events;
        self.memory.run = self.tracker.memory();
        self.file.write(&self.memory)
    }

    fn say(&self, is_warning: bool, text: String) {
        // Nobody listens any more when the program is about to end.
        let _ = self.messages.send(Message { is_warning, text });
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("tracker", &self.tracker.name()).finish_non_exhaustive()
    }
}
