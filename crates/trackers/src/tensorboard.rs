//! TensorBoard: a file of events in the run folder, which `tensorboard --logdir` reads while it grows.
//!
//! A record of the file is the length of its content (u64), a checksum of that, the content, and a checksum of the content, all
//! little-endian. The content is an `Event` of TensorFlow's protocol buffers with one `Summary` of scalars. TensorBoard keeps
//! scalars as 32-bit floats.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::TrackerError;
use crate::points::{Ending, Point};
use crate::protobuf::Message;
use crate::tracker::{Opened, RunInfo, Tracker};

/// Name of the folder in the run folder.
pub const TENSORBOARD_FOLDER: &str = "tensorboard";
/// TensorBoard looks for `tfevents` in names.
const FILE_NAME: &str = "events.out.tfevents.0.tunesmith";
const VERSION: &str = "brain.Event:2";
/// The element type of texts.
const DT_STRING: i64 = 7;

/// A file of events.
pub(crate) struct TensorBoard {
    folder: PathBuf,
    n_bytes: u64,
}

impl TensorBoard {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, n_bytes: 0 }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE_NAME)
    }

    /// Puts records at the end of what is counted, over whatever a killed process left there.
    fn append(&mut self, records: &[u8]) -> Result<(), TrackerError> {
        let path = self.path();
        let failed = TrackerError::file(&path);
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(false).open(&path).map_err(&failed)?;
        let n_before = file.metadata().map_err(&failed)?.len();
        if n_before != self.n_bytes {
            file.set_len(self.n_bytes).map_err(&failed)?;
        }
        file.seek(SeekFrom::Start(self.n_bytes)).map_err(&failed)?;
        file.write_all(records).and_then(|()| file.sync_data()).map_err(&failed)?;
        self.n_bytes += records.len() as u64;
        Ok(())
    }
}

impl Tracker for TensorBoard {
    fn name(&self) -> &'static str {
        "TensorBoard"
    }

    fn open(&mut self, run: &RunInfo, known: &Value) -> Result<Opened, TrackerError> {
        fs::create_dir_all(&self.folder).map_err(TrackerError::file(&self.folder))?;
        let n_known = known["n_bytes"].as_u64().unwrap_or(0);
        let is_continued = n_known > 0 && size(&self.path()) >= n_known;
        self.n_bytes = if is_continued { n_known } else { 0 };
        if !is_continued {
            let version = Message::new().double(1, 0.0).bytes(3, VERSION);
            self.append(&[record(version), record(settings(run))].concat())?;
        }
        let place = format!("{} (tensorboard --logdir {})", self.path().display(), self.folder.display());
        Ok(Opened { is_continued, place, warning: None })
    }

    fn log(&mut self, points: &[Point]) -> Result<(), TrackerError> {
        let records =
            points.chunk_by(|a, b| (a.step, a.unix_secs) == (b.step, b.unix_secs)).map(|together| {
                let mut summary = Message::new();
                for Point { series, value, .. } in together {
                    summary = summary.message(1, &Message::new().bytes(1, series).float(2, *value as f32));
                }
                let Some(first) = together.first() else { return Vec::new() };
                record(
                    Message::new()
                        .double(1, first.unix_secs as f64)
                        .int(2, first.step as i64)
                        .message(5, &summary),
                )
            });
        let records: Vec<u8> = records.flatten().collect();
        self.append(&records)
    }

    fn end(&mut self, _: Ending, _: u64) -> Result<(), TrackerError> {
        Ok(())
    }

    fn memory(&self) -> Value {
        json!({"n_bytes": self.n_bytes})
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// The settings as a table for the page of texts.
fn settings(run: &RunInfo) -> Message {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let lines = run.params.iter().map(|(name, value)| format!("| {} | {} |\n", cell(name), cell(value)));
    let table =
        format!("| setting of {} | value |\n|---|---|\n{}", cell(&run.name), lines.collect::<String>());
    let plugin = Message::new().bytes(1, "text");
    let shape = Message::new().message(2, &Message::new().int(1, 1));
    let tensor = Message::new().int(1, DT_STRING).message(2, &shape).bytes(8, table);
    let value = Message::new()
        .bytes(1, "settings/text_summary")
        .message(8, &tensor)
        .message(9, &Message::new().message(1, &plugin));
    Message::new().double(1, 0.0).message(5, &Message::new().message(1, &value))
}

/// A record around a message.
fn record(message: Message) -> Vec<u8> {
    let content = message.into_bytes();
    let length = (content.len() as u64).to_le_bytes();
    let sums = [masked_checksum(&length), masked_checksum(&content)].map(u32::to_le_bytes);
    [&length, sums[0].as_slice(), &content, &sums[1]].concat()
}

/// CRC-32C, turned and shifted, so that sums of data which hold sums are no worse.
fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The cyclic redundancy check of Castagnoli's polynomial, bit by bit: files are small.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { POLYNOMIAL } else { 0 };
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn what_a_killed_process_left_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut board = TensorBoard::new(folder.path().join("a"));
        let run = RunInfo { name: "run".to_owned(), params: vec![("a".to_owned(), "b|c".to_owned())] };
        assert!(!board.open(&run, &Value::Null).unwrap().is_continued);
        let point = |step| Point { series: "train/loss".to_owned(), step, value: 0.5, unix_secs: 9 };
        board.log(&[point(1), point(2)]).unwrap();
        let (known, path) = (board.memory(), board.path());
        let whole = fs::read(&path).unwrap();
        board.log(&[point(3)]).unwrap();
        drop(board);

        let mut again = TensorBoard::new(folder.path().join("a"));
        assert!(again.open(&run, &known).unwrap().is_continued);
        again.log(&[]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
        // A file that is shorter than was counted on begins anew.
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let mut anew = TensorBoard::new(folder.path().join("a"));
        assert!(!anew.open(&run, &known).unwrap().is_continued);
        assert!(fs::metadata(&path).unwrap().len() < whole.len() as u64);
    }
}
