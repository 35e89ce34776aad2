//! Sends a run's numbers on to an experiment tracker while the run goes on.
//!
//! A tracker follows `events.jsonl` of the run folder, on a thread of its own ([`Tracking`]): the file is the queue, so that a
//! slow server never slows the training, a server that is gone for an hour loses nothing, and nothing piles up in memory. What
//! has arrived is remembered in `tracker.json` beside it. A resumed run takes the same steps again, so a count of events is
//! enough to go on in the same run of the tracker, without gaps and without a number twice.
//!
//! Nothing here knows of models or configurations: events are read by their documented form (`docs/events.md`), settings come
//! as names and texts. Addresses and credentials are in no file of the run.

mod checksum;
mod counted_file;
mod destination;
mod error;
mod event_reader;
mod follower;
mod memory;
mod mlflow;
mod points;
mod protobuf;
mod tensorboard;
mod tracker;
mod tracking;
mod wandb;

pub use destination::Destination;
pub use error::TrackerError;
pub use memory::MEMORY_FILE;
pub use mlflow::MlflowServer;
pub use points::Point;
pub use tensorboard::TENSORBOARD_FOLDER;
pub use tracker::RunInfo;
pub use tracking::{Message, Tracking};
pub use wandb::{WANDB_FOLDER, WandbRuns};
