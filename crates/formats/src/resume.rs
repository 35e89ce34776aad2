//! Bringing a file over a connection that may break: the one loop behind downloads of models and imports of data.
//!
//! What arrives is appended to an unfinished file. When the connection breaks, the rest is asked for; who asks, of whom
//! and how it is told whether the rest still belongs to what is here is the matter of a [`Transfer`].

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

/// A connection that gives no byte for this long is taken for broken, in seconds.
pub const STALL_SECS: u64 = 30;
/// Failures in a row, without a byte in between, after which a transfer is given up.
const MAX_FAILURES: u32 = 4;
const CHUNK_BYTES: usize = 1 << 17;

/// How an attempt to get a file went wrong.
#[derive(Debug)]
pub enum Failure<E> {
    /// Another attempt may help: connections, overload.
    Passing(E),
    /// What is here is no beginning of the file that is there now: it is thrown away before another attempt.
    Changed(E),
    /// No attempt will help.
    Final(E),
}

impl<E> Failure<E> {
    /// The error in it.
    pub fn into_error(self) -> E {
        match self {
            Self::Passing(error) | Self::Changed(error) | Self::Final(error) => error,
        }
    }
}

/// An answer: the file from some byte on.
pub struct Part {
    /// Position of the first byte of `body`: what was asked for, or 0 when the answer is the whole file again.
    pub start: u64,
    /// Size of the whole file, where it is known.
    pub total_bytes: Option<u64>,
    /// The bytes.
    pub body: Box<dyn Read>,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Part");
        shown.field("start", &self.start).field("total_bytes", &self.total_bytes).finish_non_exhaustive()
    }
}

/// A file on its way.
pub trait Transfer {
    /// What goes wrong with it.
    type Error;

    /// Asks for the file from byte `start` on.
    ///
    /// # Errors
    /// No answer, or one that is none.
    fn open(&mut self, start: u64) -> Result<Part, Failure<Self::Error>>;

    /// Told of every piece, before it is written: `n_bytes` are here with it.
    ///
    /// # Errors
    /// Whatever shall end the transfer: too many bytes, cancelled.
    fn arrived(&mut self, n_bytes: u64, total_bytes: Option<u64>) -> Result<(), Self::Error>;

    /// Told before another attempt, for which it waits.
    ///
    /// # Errors
    /// Whatever shall end the transfer.
    fn retrying(&mut self, error: &Self::Error, wait: Duration) -> Result<(), Self::Error>;

    /// A connection that broke.
    fn broken(&self, reason: String) -> Self::Error;

    /// An operation on the unfinished file that the system refused.
    fn io(&self, path: &Path, action: &'static str, error: io::Error) -> Self::Error;
}

/// Brings the file to `unfinished`, going on after the bytes that are there. The first failure after some bytes is followed
/// by another attempt at once, later ones by `wait`, twice `wait`, ….
///
/// # Errors
/// What the transfer says; a connection's failure when there were four without a byte in between.
pub fn resume<T: Transfer>(transfer: &mut T, unfinished: &Path, mut wait: Duration) -> Result<(), T::Error> {
    let mut n_failures = 0;
    loop {
        let before = file_size(unfinished);
        let error = match attempt(transfer, unfinished) {
            Ok(()) => return Ok(()),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing(error)) => error,
            Err(Failure::Changed(error)) => {
                remove(unfinished).map_err(|failed| transfer.io(unfinished, "remove", failed))?;
                error
            }
        };
        n_failures = if file_size(unfinished) > before { 1 } else { n_failures + 1 };
        if n_failures >= MAX_FAILURES {
            return Err(error);
        }
        let is_first = n_failures == 1;
        transfer.retrying(&error, if is_first { Duration::ZERO } else { wait })?;
        if !is_first {
            wait *= 2;
        }
    }
}

/// One request for what is missing.
fn attempt<T: Transfer>(transfer: &mut T, unfinished: &Path) -> Result<(), Failure<T::Error>> {
    let n_asked = file_size(unfinished);
    let Part { start, total_bytes, mut body } = transfer.open(n_asked)?;
    let goes_on = start > 0 && start == n_asked;
    let mut n_here = if goes_on { start } else { 0 };
    let opened =
        OpenOptions::new().create(true).write(true).truncate(!goes_on).append(goes_on).open(unfinished);
    let mut out = opened.map_err(|error| Failure::Final(transfer.io(unfinished, "open", error)))?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let n = match body.read(&mut chunk) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::Passing(transfer.broken(error.to_string()))),
        };
        let Some(bytes) = chunk.get(..n).filter(|bytes| !bytes.is_empty()) else { break };
        n_here += n as u64;
        transfer.arrived(n_here, total_bytes).map_err(Failure::Final)?;
        out.write_all(bytes).map_err(|error| Failure::Final(transfer.io(unfinished, "write", error)))?;
    }
    match total_bytes {
        Some(total) if n_here < total => Err(Failure::Passing(
            transfer.broken(format!("the connection ended after {n_here} of {total} bytes")),
        )),
        _ => out.sync_all().map_err(|error| Failure::Final(transfer.io(unfinished, "flush", error))),
    }
}

/// Bytes of a file; none when there is no such file.
pub(crate) fn file_size(path: &Path) -> u64 {
    fs::metadata(path).map(|metadata| metadata.len()).unwrap_or_default()
}

/// Removes a file if it is there.
///
/// # Errors
/// It cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
