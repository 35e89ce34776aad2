//! CPU arithmetic on plain slices, forward and backward; no tensor type, no policy.

pub mod dropout;
