//! A time account of the operations: how often each ran, how long it took, and how much work that was.
//!
//! [`measure`] is put around whatever shall have a row. While accounting is off, which it is unless [`switch`]ed on, that
//! costs one look at a flag, and nothing that is computed depends on either. Flag and account belong to the thread that
//! calls the operations; the threads that a kernel spreads its work over do not matter. Where one measurement lies inside
//! another, its time counts for the inner one only, so that all rows together are never more than the time that passed.
//!
//! Work is counted from the shapes alone: what the formula needs, not what an implementation happens to do. Only products
//! of matrices count as arithmetic; elementwise operations are bound by memory and have none. Traffic is that of a cache
//! without limits: every operand is read once and every result written once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::time::Instant;

/// Bytes of a single-precision number.
const F32_BYTES: usize = 4;

/// What has to be done for a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Multiplications and additions of matrix products.
    pub n_flops: u64,
    /// Bytes read and written.
    pub n_bytes: u64,
}

impl Work {
    /// The product of an [m, k] and a [k, n] matrix.
    pub fn product(m: usize, k: usize, n: usize) -> Self {
        Self { n_flops: 2 * (m * k * n) as u64, ..Self::traffic(m * k + k * n + m * n) }
    }

    /// Reading or writing `n_values` single-precision numbers.
    pub fn traffic(n_values: usize) -> Self {
        Self { n_flops: 0, n_bytes: (F32_BYTES * n_values) as u64 }
    }

    /// This, if it has to be done.
    pub fn when(self, is_needed: bool) -> Self {
        if is_needed { self } else { Self::default() }
    }
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { n_flops: self.n_flops + other.n_flops, n_bytes: self.n_bytes + other.n_bytes }
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Work {
    fn sum<I: Iterator<Item = Self>>(works: I) -> Self {
        works.fold(Self::default(), Self::add)
    }
}

/// One row of the account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Times it ran.
    pub n_calls: u64,
    /// Nanoseconds that took, without what was measured inside.
    pub nanos: u64,
    /// What was done.
    pub work: Work,
}

thread_local! {
    static IS_ON: Cell<bool> = const { Cell::new(false) };
    static ROWS: RefCell<BTreeMap<&'static str, Row>> = const { RefCell::new(BTreeMap::new()) };
    /// Time of the measurements that ended inside the one that is under way.
    static INNER_NANOS: Cell<u64> = const { Cell::new(0) };
}

/// Begins or stops accounting on this thread; the rows stay.
pub fn switch(is_on: bool) {
    IS_ON.set(is_on);
}

/// Whether this thread accounts.
#[inline]
pub fn is_on() -> bool {
    IS_ON.get()
}

/// The rows of this thread by name, which are forgotten here.
pub fn take() -> BTreeMap<&'static str, Row> {
    ROWS.take()
}

/// Runs `run`, and when accounting is on adds a call with its time and its `work` to the row `name`.
#[inline]
pub fn measure<T>(name: &'static str, work: impl FnOnce() -> Work, run: impl FnOnce() -> T) -> T {
    if !is_on() {
        return run();
    }
    let work = work();
    let outer_nanos = INNER_NANOS.replace(0);
    let started = Instant::now();
    let result = run();
    let nanos = started.elapsed().as_nanos() as u64;
    let own_nanos = nanos.saturating_sub(INNER_NANOS.replace(outer_nanos + nanos));
    ROWS.with_borrow_mut(|rows| {
        let row = rows.entry(name).or_default();
        row.n_calls += 1;
        row.nanos += own_nanos;
        row.work += work;
    });
    result
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;

    #[test]
    fn nothing_is_noted_unless_asked_for() {
        let value = measure("a", || unreachable!("the work is not asked for"), || 7);
        assert_eq!((value, is_on(), take()), (7, false, BTreeMap::new()));
        switch(true);
        // Another thread has an account of its own.
        std::thread::scope(|scope| scope.spawn(|| measure("a", Work::default, || ())).join()).unwrap();
        assert_eq!(take(), BTreeMap::new());
        switch(false);
    }

    #[test]
    fn calls_and_work_add_up_and_rows_are_handed_out_once() {
        switch(true);
        for _ in 0..3 {
            measure("a", || Work::product(2, 3, 5), || ());
        }
        measure("b", || Work::traffic(10).when(false), || ());
        switch(false);
        let rows = take();
        assert_eq!(rows.keys().copied().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(rows["a"].n_calls, 3);
        assert_eq!(rows["a"].work, Work { n_flops: 3 * 60, n_bytes: 3 * 4 * (6 + 15 + 10) });
        assert_eq!((rows["b"].n_calls, rows["b"].work), (1, Work::default()));
        assert!(take().is_empty());
    }

    #[test]
    fn time_counts_for_the_innermost_measurement() {
        const NAP: Duration = Duration::from_millis(5);
        switch(true);
        let started = Instant::now();
        measure("outer", Work::default, || {
            for _ in 0..2 {
                measure("middle", Work::default, || measure("inner", Work::default, || sleep(NAP)));
            }
        });
        let passed = started.elapsed().as_nanos() as u64;
        switch(false);
        let rows = take();
        assert!(rows["inner"].nanos >= 2 * NAP.as_nanos() as u64, "a nap is never shorter: {rows:?}");
        assert!(rows.values().map(|row| row.nanos).sum::<u64>() <= passed, "{rows:?} in {passed} ns");
    }
}
