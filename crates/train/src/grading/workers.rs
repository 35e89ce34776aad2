//! Many questions at once, and when to give up.
//!
//! The threads are not waited for when the run is asked to stop, or when the judge is given up: a request that nobody
//! answers would hold up the run for as long as its time-out. They end by themselves then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tunesmith_http::HttpError;

use super::chat::Chat;
use crate::stop::StopFlag;

const N_WORKERS: usize = 8;
/// So many questions without any answer, one after the other, and the judge is given up for this evaluation.
const MAX_UNANSWERED: usize = 8;
/// How often it is looked whether the run is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// The text that the judge gave, or why there is none.
pub(super) type Gave = Result<String, String>;

struct Work {
    chat: Arc<Chat>,
    prompts: Vec<String>,
    next: AtomicUsize,
    is_over: AtomicBool,
}

/// Asks all of `prompts`; the answers are in their order. `None` when `stop` was raised meanwhile.
pub(super) fn ask_all(
    chat: &Arc<Chat>,
    prompts: Vec<String>,
    stop: &StopFlag,
    progress: &mut dyn FnMut(usize),
) -> Option<Vec<Gave>> {
    let n = prompts.len();
    let mut given: Vec<Option<Gave>> = vec![None; n];
    let work = Arc::new(Work {
        chat: Arc::clone(chat),
        prompts,
        next: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
    });
    let (sender, answers) = channel();
    for _ in 0..N_WORKERS.min(n) {
        let (work, sender) = (Arc::clone(&work), sender.clone());
        let spawned = thread::Builder::new().name("judge".to_owned()).spawn(move || work.run(&sender));
        // Fewer workers do it, too; without any the channel closes and nothing is answered.
        drop(spawned);
    }
    drop(sender);
    let (mut n_done, mut n_unanswered) = (0, 0);
    let mut reason = "it was not asked".to_owned();
    loop {
        if stop.is_raised() {
            work.is_over.store(true, Ordering::Relaxed);
            return None;
        }
        let (idx, outcome) = match answers.recv_timeout(LOOK) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let is_hopeless = match &outcome {
            Ok(_) => {
                n_unanswered = 0;
                false
            }
            Err(error) => {
                n_unanswered += usize::from(error.is_passing());
                reason = error.to_string();
                // Wrong key, wrong path or wrong model: no other question fares better.
                error.is_refusal() || matches!(error, HttpError::Status { status: 404, .. })
            }
        };
        if let Some(place) = given.get_mut(idx) {
            *place = Some(outcome.map_err(|error| error.to_string()));
        }
        n_done += 1;
        progress(n_done);
        if is_hopeless || n_unanswered >= MAX_UNANSWERED {
            work.is_over.store(true, Ordering::Relaxed);
            break;
        }
    }
    progress(n);
    Some(given.into_iter().map(|gave| gave.unwrap_or_else(|| Err(reason.clone()))).collect())
}

impl Work {
    fn run(&self, sender: &Sender<(usize, Result<String, HttpError>)>) {
        let wait = |pause: Duration| {
            let until = Instant::now() + pause;
            while Instant::now() < until && !self.is_over() {
                thread::sleep(LOOK.min(pause));
            }
            !self.is_over()
        };
        while !self.is_over() {
            let idx = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(prompt) = self.prompts.get(idx) else { return };
            if sender.send((idx, self.chat.ask(prompt, &wait))).is_err() {
                return;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}
