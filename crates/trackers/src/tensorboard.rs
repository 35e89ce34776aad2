//! TensorBoard: a file of events in the run folder, which `tensorboard --logdir` reads while it grows.
//!
//! A record of the file is the length of its content (u64), a checksum of that, the content, and a checksum of the content, all
//! little-endian. The content is an `Event` of TensorFlow's protocol buffers with one `Summary` of scalars. TensorBoard keeps
//! scalars as 32-bit floats.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::checksum::{CASTAGNOLI, crc};
use crate::counted_file::CountedFile;
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
    file: CountedFile,
}

impl TensorBoard {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, file: CountedFile::default() }
    }
}

impl Tracker for TensorBoard {
    fn name(&self) -> &'static str {
        "TensorBoard"
    }

    fn open(&mut self, run: &RunInfo, known: &Value) -> Result<Opened, TrackerError> {
        let path = self.folder.join(FILE_NAME);
        let known = CountedFile::go_on(path.clone(), known["n_bytes"].as_u64().unwrap_or(0));
        let is_continued = known.is_some();
        self.file = match known {
            Some(file) => file,
            None => {
                let version = Message::new().double(1, 0.0).bytes(3, VERSION);
                CountedFile::begin(path, &[record(version), record(settings(run))].concat())?
            }
        };
        let place =
            format!("{} (tensorboard --logdir {})", self.file.path().display(), self.folder.display());
        Ok(Opened { is_continued, place, warning: None })
    }

    fn log(&mut self, points: &[Point]) -> Result<(), TrackerError> {
        let mut records = Vec::new();
        for together in points.chunk_by(|a, b| (a.step, a.unix_secs) == (b.step, b.unix_secs)) {
            let Some(first) = together.first() else { continue };
            let mut summary = Message::new();
            for Point { series, value, .. } in together {
                summary = summary.message(1, &Message::new().bytes(1, series).float(2, *value as f32));
            }
            let event = Message::new().double(1, first.unix_secs as f64).int(2, first.step as i64);
            records.extend(record(event.message(5, &summary)));
        }
        self.file.append(&records)
    }

    fn end(&mut self, _: Ending, _: u64) -> Result<(), TrackerError> {
        Ok(())
    }

    fn memory(&self) -> Value {
        json!({"n_bytes": self.file.n_bytes()})
    }
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

/// Turned and shifted, so that sums of data which hold sums are no worse.
fn masked_checksum(bytes: &[u8]) -> u32 {
    crc(CASTAGNOLI, &[bytes]).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_on_where_it_was_or_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let open = |known: &Value| {
            let mut board = TensorBoard::new(folder.path().join("a"));
            let run = RunInfo { name: "run".to_owned(), params: vec![("a".to_owned(), "b|c".to_owned())] };
            let is_continued = board.open(&run, known).unwrap().is_continued;
            (board, is_continued)
        };
        let (mut board, is_continued) = open(&Value::Null);
        assert!(!is_continued);
        let point = |step| Point { series: "train/loss".to_owned(), step, value: 0.5, unix_secs: 9 };
        board.log(&[point(1), point(2)]).unwrap();
        let (known, path) = (board.memory(), board.file.path().to_owned());
        let whole = std::fs::read(&path).unwrap();
        board.log(&[point(3)]).unwrap();
        let (mut board, is_continued) = open(&known);
        board.log(&[]).unwrap();
        assert!(is_continued && std::fs::read(&path).unwrap() == whole);
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(!open(&known).1);
    }
}
