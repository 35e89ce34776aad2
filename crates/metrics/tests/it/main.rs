//! The metrics against the numbers of the programs they are compared by, against the catalogue's vectors, and against what
//! must hold for any input.

mod catalogue;
mod golden;
mod invariances;
mod page;
