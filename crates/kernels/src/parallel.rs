//! Spreading independent tasks over the caller's rayon pool.

use rayon::iter::{IntoParallelIterator, ParallelIterator};

/// Elements of an elementwise operation that one task handles; fixed, so that results never depend on threads.
const ELEMENTS_PER_TASK: usize = 1 << 14;

/// Runs `work` on every task. A single task runs here and now, since waking the pool costs more than a small task.
pub(crate) fn run<T: Send>(tasks: Vec<T>, work: impl Fn(T) + Send + Sync) {
    if tasks.len() < 2 {
        tasks.into_iter().for_each(work);
    } else {
        tasks.into_par_iter().for_each(work);
    }
}

/// As [`run`], with a scratch value that each worker makes once and reuses.
pub(crate) fn run_with<T: Send, S>(
    tasks: Vec<T>,
    scratch: impl Fn() -> S + Send + Sync,
    work: impl Fn(&mut S, T) + Send + Sync,
) {
    if tasks.len() < 2 {
        let mut scratch = scratch();
        tasks.into_iter().for_each(|task| work(&mut scratch, task));
    } else {
        tasks.into_par_iter().for_each_init(scratch, work);
    }
}

/// Elements per task of an elementwise operation.
pub(crate) fn elements_per_task() -> usize {
    ELEMENTS_PER_TASK
}

/// Rows per task of an operation on rows of `width` elements; at least 1.
pub(crate) fn rows_per_task(width: usize) -> usize {
    (ELEMENTS_PER_TASK / width.max(1)).max(1)
}
