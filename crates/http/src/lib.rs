//! HTTP with services that a user names: a pool of connections with time-outs, JSON in both directions, and secrets that are
//! never shown.
//!
//! Nothing here knows what a service is for. Data sources, the judge of a run and experiment trackers are built on it; the
//! hub's client in `tunesmith-formats` has more to resume and its own.

mod agent;
mod authorization;
mod error;
mod json_service;
mod secret;

pub use agent::{CONNECT_TIMEOUT, agent};
pub use authorization::{Authorization, basic};
pub use error::HttpError;
pub use json_service::JsonService;
pub use secret::{Secret, scrub};
