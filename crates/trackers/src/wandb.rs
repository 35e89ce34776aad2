//! Weights & Biases: a run as its own package writes it offline, to be uploaded with `wandb sync`.
//!
//! Nothing is sent from here. The file is a log in LevelDB's form: blocks of 32 KiB with records that are cut at their ends, each
//! with a checksum (zlib's), a length and the kind of the piece. A record holds a `Record` of the package's protocol buffers.
//!
//! There, a step has one row, and rows come in the order of their steps. A row is therefore held back until the next step
//! begins, since an evaluation belongs to the step before it; until then it stands in what is remembered of the run. The end of
//! a run is written beyond the length that is remembered, so that a resumed run goes on before it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::checksum::{ZLIB, crc};
use crate::counted_file::CountedFile;
use crate::error::TrackerError;
use crate::points::{Ending, Point};
use crate::protobuf::Message;
use crate::tracker::{Opened, RunInfo, Tracker};

/// Name of the folder in the run folder.
pub const WANDB_FOLDER: &str = "wandb";
/// `:W&B`, a magic number and version 0.
const HEADER: [u8; 7] = [b':', b'W', b'&', b'B', 0xe1, 0xbe, 0];
const BLOCK_BYTES: usize = 32_768;
/// Checksum, length and kind of a piece.
const PIECE_HEAD_BYTES: usize = 7;
/// The oldest package that reads the file.
const MIN_CONSUMER: &str = "0.40.0";

/// Where offline runs are put, and what they belong to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WandbRuns {
    /// Folder of the run's folder.
    pub folder: PathBuf,
    /// Project; empty: chosen when it is uploaded.
    pub project: String,
    /// Team or user; empty: who uploads.
    pub entity: String,
    /// When the run begins, as `YYYYmmdd_HHMMSS`: part of the folder's name.
    pub stamp: String,
}

/// An offline run.
pub(crate) struct Wandb {
    runs: WandbRuns,
    file: CountedFile,
    state: State,
}

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct State {
    run_id: String,
    /// Name of the folder below that of all runs.
    folder: String,
    n_bytes: u64,
    n_records: i64,
    /// When the first row was written: seconds since 1970-01-01 UTC.
    start_unix_secs: Option<u64>,
    /// The row that is held back.
    row: Option<Row>,
}

/// The numbers of a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Row {
    step: u64,
    unix_secs: u64,
    numbers: BTreeMap<String, f64>,
}

impl Wandb {
    pub(crate) fn new(runs: WandbRuns) -> Self {
        Self { runs, file: CountedFile::default(), state: State::default() }
    }

    fn path(&self, state: &State) -> PathBuf {
        self.runs.folder.join(&state.folder).join(format!("run-{}.wandb", state.run_id))
    }

    /// A file with its header and the record of the run.
    fn begin(&mut self, run: &RunInfo) -> Result<(), TrackerError> {
        let run_id = new_id();
        let folder = format!("offline-run-{}-{run_id}", self.runs.stamp);
        self.state = State { run_id, folder, ..State::default() };
        let producer = concat!("tunesmith ", env!("CARGO_PKG_VERSION"));
        let version = Message::new().bytes(1, producer).bytes(2, MIN_CONSUMER);
        let mut config = Message::new().message(1, &Message::new().bytes(1, "_wandb").bytes(16, "{}"));
        for (name, value) in &run.params {
            config = config.message(1, &Message::new().bytes(1, name).bytes(16, json!(value).to_string()));
        }
        let mut record = Message::new().bytes(1, &self.state.run_id);
        if !self.runs.entity.is_empty() {
            record = record.bytes(2, &self.runs.entity);
        }
        if !self.runs.project.is_empty() {
            record = record.bytes(3, &self.runs.project);
        }
        let record = record.message(4, &config).bytes(8, &run.name);
        let mut log = Log { offset: 0, bytes: Vec::new() };
        log.bytes.extend(HEADER);
        log.put(&self.record(21, &Message::new().message(1, &version)));
        log.put(&self.record(17, &record));
        let bytes = log.bytes;
        // Where whoever uploads puts files of its own.
        let files = self.runs.folder.join(&self.state.folder).join("files");
        std::fs::create_dir_all(&files).map_err(TrackerError::file(&files))?;
        self.file = CountedFile::begin(self.path(&self.state), &bytes)?;
        self.state.n_bytes = self.file.n_bytes();
        Ok(())
    }

    /// The next record, of the kind that the field says.
    fn record(&mut self, field: u32, message: &Message) -> Vec<u8> {
        self.state.n_records += 1;
        Message::new().int(1, self.state.n_records).message(field, message).into_bytes()
    }

    /// Puts a row, and the same as the run's latest numbers.
    fn put(&mut self, log: &mut Log, row: &Row) {
        let start = *self.state.start_unix_secs.get_or_insert(row.unix_secs);
        let own = [
            ("_step", json!(row.step)),
            ("_runtime", json!(row.unix_secs.saturating_sub(start))),
            ("_timestamp", json!(row.unix_secs)),
        ];
        let numbers = row.numbers.iter().map(|(name, value)| (name.as_str(), json!(value)));
        let (mut history, mut summary) = (Message::new(), Message::new());
        for (name, value) in own.into_iter().chain(numbers) {
            let item = Message::new().bytes(2, name).bytes(16, value.to_string());
            history = history.message(1, &item);
            summary = summary.message(1, &item);
        }
        let history = history.message(2, &Message::new().int(1, row.step as i64));
        log.put(&self.record(3, &summary));
        log.put(&self.record(2, &history));
    }
}

impl Tracker for Wandb {
    fn name(&self) -> &'static str {
        "W&B"
    }

    fn open(&mut self, run: &RunInfo, known: &Value) -> Result<Opened, TrackerError> {
        let known: Option<State> = serde_json::from_value(known.clone()).ok();
        let known = known.and_then(|state| {
            let file = CountedFile::go_on(self.path(&state), state.n_bytes)?;
            Some((state, file))
        });
        let is_continued = known.is_some();
        match known {
            Some((state, file)) => (self.state, self.file) = (state, file),
            None => self.begin(run)?,
        }
        let folder = self.runs.folder.join(&self.state.folder);
        let place = format!("{0} (wandb sync {0} uploads it)", folder.display());
        Ok(Opened { is_continued, place, warning: None })
    }

    fn log(&mut self, points: &[Point]) -> Result<(), TrackerError> {
        // A failure leaves everything as it was.
        let before = self.state.clone();
        let mut log = Log { offset: self.file.n_bytes(), bytes: Vec::new() };
        let mut row = self.state.row.take();
        for point in points {
            let done = row.take_if(|row| row.step != point.step);
            if let Some(done) = done {
                self.put(&mut log, &done);
            }
            let row = row.get_or_insert_with(|| Row { step: point.step, ..Row::default() });
            row.unix_secs = point.unix_secs;
            row.numbers.insert(point.series.clone(), point.value);
        }
        self.state.row = row;
        let outcome = self.file.append(&log.bytes);
        if outcome.is_err() {
            self.state = before;
        }
        self.state.n_bytes = self.file.n_bytes();
        outcome
    }

    fn end(&mut self, ending: Ending, unix_secs: u64) -> Result<(), TrackerError> {
        let before = self.state.clone();
        let mut log = Log { offset: self.file.n_bytes(), bytes: Vec::new() };
        if let Some(row) = self.state.row.take() {
            self.put(&mut log, &row);
        }
        let exit_code = match ending {
            Ending::Finished => 0,
            Ending::Failed => 1,
            Ending::Stopped => 255,
        };
        let runtime = unix_secs.saturating_sub(self.state.start_unix_secs.unwrap_or(unix_secs));
        let exit = Message::new().int(1, exit_code).int(2, runtime as i64);
        log.put(&self.record(18, &exit));
        self.state = before;
        // Not counted: who goes on begins where the end stands.
        self.file.clone().append(&log.bytes)
    }

    fn memory(&self) -> Value {
        serde_json::to_value(&self.state).unwrap_or_default()
    }
}

/// Pieces of records from a place in the file on.
struct Log {
    /// Where the bytes begin in the file.
    offset: u64,
    bytes: Vec<u8>,
}

impl Log {
    /// Appends a record, cut where blocks end.
    fn put(&mut self, mut record: &[u8]) {
        const WHOLE: u8 = 1;
        const FIRST: u8 = 2;
        const MIDDLE: u8 = 3;
        const LAST: u8 = 4;

        let mut is_first = true;
        loop {
            let in_block = (self.offset as usize + self.bytes.len()) % BLOCK_BYTES;
            let mut n_left = BLOCK_BYTES - in_block;
            if n_left < PIECE_HEAD_BYTES {
                self.bytes.resize(self.bytes.len() + n_left, 0);
                n_left = BLOCK_BYTES;
            }
            let (piece, rest) = record.split_at(record.len().min(n_left - PIECE_HEAD_BYTES));
            let kind = match (is_first, rest.is_empty()) {
                (true, true) => WHOLE,
                (true, false) => FIRST,
                (false, false) => MIDDLE,
                (false, true) => LAST,
            };
            self.bytes.extend(crc(ZLIB, &[&[kind], piece]).to_le_bytes());
            self.bytes.extend((piece.len() as u16).to_le_bytes());
            self.bytes.push(kind);
            self.bytes.extend(piece);
            if rest.is_empty() {
                return;
            }
            (record, is_first) = (rest, false);
        }
    }
}

/// Eight random letters and digits, as runs are called there.
fn new_id() -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    // The standard library seeds its hash maps from the operating system's random numbers.
    let mut random = RandomState::new().build_hasher().finish();
    let letter = |_| {
        let letter = LETTERS.get((random % 36) as usize).copied().unwrap_or(b'a');
        random /= 36;
        char::from(letter)
    };
    (0..8).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(series: &str, step: u64) -> Point {
        Point { series: series.to_owned(), step, value: step as f64, unix_secs: 100 + step }
    }

    #[test]
    fn records_are_cut_where_blocks_end() {
        let mut log = Log { offset: 0, bytes: HEADER.to_vec() };
        // The first leaves 3 bytes of the block, too few for a piece; the second takes three blocks.
        log.put(&vec![1; BLOCK_BYTES - 7 - 7 - 3]);
        log.put(&vec![2; 2 * BLOCK_BYTES]);
        assert_eq!(log.bytes[BLOCK_BYTES - 3..BLOCK_BYTES], [0; 3]);
        let kinds = [7, BLOCK_BYTES, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES].map(|at| log.bytes[at + 6]);
        assert_eq!(kinds, [1, 2, 3, 4]);
        assert_eq!(log.bytes.len(), 3 * BLOCK_BYTES + 7 + 14);
    }

    #[test]
    fn a_row_waits_for_the_next_step_and_an_end_can_be_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let runs = WandbRuns {
            folder: folder.path().to_owned(),
            stamp: "20260131_090507".to_owned(),
            ..WandbRuns::default()
        };
        let mut tracker = Wandb::new(runs.clone());
        assert!(!tracker.open(&RunInfo::default(), &Value::Null).unwrap().is_continued);
        let n_head = tracker.file.n_bytes();
        tracker.log(&[point("train/loss", 2)]).unwrap();
        assert_eq!(tracker.file.n_bytes(), n_head, "the evaluation of the step may follow");
        tracker.log(&[point("validation/loss", 2), point("train/loss", 4)]).unwrap();
        let (memory, n_bytes) = (tracker.memory(), tracker.file.n_bytes());
        assert!(n_head < n_bytes && memory["row"]["step"] == 4);
        tracker.end(Ending::Stopped, 200).unwrap();
        let path = tracker.file.path().to_owned();
        let ended = std::fs::read(&path).unwrap();
        assert!(ended.len() as u64 > n_bytes);

        let mut again = Wandb::new(runs);
        assert!(again.open(&RunInfo::default(), &memory).unwrap().is_continued);
        again.end(Ending::Stopped, 200).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), ended);
        again.log(&[point("train/loss", 6)]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), again.file.n_bytes());
    }
}
