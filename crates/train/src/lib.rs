//! The trainer: loop, optimisers, schedules, evaluation, checkpoints, events, export.
