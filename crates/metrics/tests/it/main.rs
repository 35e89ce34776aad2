//! The metrics against the numbers of the programs they are compared by, against the catalogue's vectors, and against what
//! must hold for any input.

#![expect(clippy::unwrap_used, reason = "a failed test is told by a panic")]

mod catalogue;
mod golden;
mod invariances;
mod page;
