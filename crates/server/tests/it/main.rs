//! The studio's server from outside: the real router over a real work folder and database.

mod access;
mod config;
mod datasets;
mod harness;
mod hostile;
mod machine;
