//! The frames of an Arrow stream, looked at before the library reads them: it allocates what their headers ask for, and a
//! damaged header asks for more than any machine has.

use std::io::{self, Read, Seek, SeekFrom};

use arrow_ipc::{RecordBatch, root_as_message};

use crate::compressed::unpacked_limit_bytes;

/// Stands before the length of every message, since Arrow 0.15.
const CONTINUATION: u32 = u32::MAX;
/// What begins and ends a file; a stream has neither.
pub(crate) const FILE_MAGIC: &[u8; 6] = b"ARROW1";
const FILE_START_BYTES: u64 = 8;

/// Where the messages of a file or stream begin and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Messages {
    /// First byte.
    pub(crate) start: u64,
    /// One behind the last byte.
    pub(crate) end: u64,
    /// Whether they end as they should; a stream without its mark may have been cut off between two messages.
    pub(crate) is_whole: bool,
}

/// Finds the messages and checks the sizes that they name against the size of the file.
///
/// # Errors
/// The outer one when the file cannot be read; the inner one says what is wrong with it.
pub(crate) fn messages(file: &mut (impl Read + Seek)) -> io::Result<Result<Messages, String>> {
    let n_bytes = file.seek(SeekFrom::End(0))?;
    let (start, limit) = match file_footer(file, n_bytes)? {
        Ok(Some(footer)) => (FILE_START_BYTES, footer),
        Ok(None) => (0, n_bytes),
        Err(reason) => return Ok(Err(reason)),
    };
    let mut walk = Walk { position: start, limit, left_bytes: unpacked_limit_bytes(n_bytes) };
    loop {
        file.seek(SeekFrom::Start(walk.position))?;
        match walk.step(file)? {
            Ok(Step::Message) => {}
            Ok(last) => {
                // The end of a file was seen already.
                let is_whole = start > 0 || last == Step::EndMark;
                return Ok(Ok(Messages { start, end: walk.position, is_whole }));
            }
            Err(reason) => return Ok(Err(format!("{reason} (byte {})", walk.position))),
        }
    }
}

/// Where the footer of a file begins; `None` for a stream.
fn file_footer(file: &mut (impl Read + Seek), n_bytes: u64) -> io::Result<Result<Option<u64>, String>> {
    let mut magic = [0; 6];
    file.rewind()?;
    if n_bytes < magic.len() as u64 {
        return Ok(Ok(None));
    }
    file.read_exact(&mut magic)?;
    if &magic != FILE_MAGIC {
        return Ok(Ok(None));
    }
    let cut_off = || Ok(Err("the end of the file is missing".to_owned()));
    let mut end = [0; 10];
    if n_bytes < FILE_START_BYTES + end.len() as u64 {
        return cut_off();
    }
    file.seek(SeekFrom::End(-(end.len() as i64)))?;
    file.read_exact(&mut end)?;
    let [a, b, c, d, end_magic @ ..] = end;
    let footer_bytes = u64::from(u32::from_le_bytes([a, b, c, d]));
    let footer = (n_bytes - end.len() as u64).checked_sub(footer_bytes).filter(|at| *at >= FILE_START_BYTES);
    match footer {
        Some(footer) if &end_magic == FILE_MAGIC => Ok(Ok(Some(footer))),
        _ => cut_off(),
    }
}

#[derive(PartialEq, Eq)]
enum Step {
    Message,
    EndMark,
    EndOfFile,
}

struct Walk {
    position: u64,
    /// Where the messages must have ended.
    limit: u64,
    /// What the rest may unpack to.
    left_bytes: u64,
}

impl Walk {
    /// Goes over one message.
    fn step(&mut self, file: &mut (impl Read + Seek)) -> io::Result<Result<Step, String>> {
        let damaged = |what: &str| Ok(Err(format!("its structure is damaged: {what}")));
        let left = self.limit - self.position;
        if left == 0 {
            return Ok(Ok(Step::EndOfFile));
        }
        if left < 8 {
            return damaged("a message is cut off");
        }
        let mut word = [0; 4];
        file.read_exact(&mut word)?;
        let mut start = 4;
        if u32::from_le_bytes(word) == CONTINUATION {
            file.read_exact(&mut word)?;
            start = 8;
        }
        let header_bytes = u64::from(u32::from_le_bytes(word));
        if header_bytes == 0 {
            return Ok(Ok(Step::EndMark));
        }
        if header_bytes > left - start {
            return damaged("a message is longer than the file");
        }
        let mut header = Vec::new();
        file.take(header_bytes).read_to_end(&mut header)?;
        let Ok(message) = root_as_message(&header) else { return damaged("a message has no valid header") };
        let body_bytes = u64::try_from(message.bodyLength()).unwrap_or(u64::MAX);
        let body_start = start + header_bytes;
        if body_bytes > left - body_start {
            return damaged("a message is longer than the file");
        }
        let dictionary = message.header_as_dictionary_batch();
        let batch = message.header_as_record_batch().or_else(|| dictionary?.data());
        if let Some(batch) = batch {
            let body = self.position + body_start;
            if let Err(reason) = self.check_sizes(file, &batch, body, body_bytes)? {
                return damaged(reason);
            }
        }
        self.position += body_start + body_bytes;
        Ok(Ok(Step::Message))
    }

    /// The numbers of rows and the sizes of unpacked buffers, which stand before each of them.
    fn check_sizes(
        &mut self,
        file: &mut (impl Read + Seek),
        batch: &RecordBatch<'_>,
        body: u64,
        body_bytes: u64,
    ) -> io::Result<Result<(), &'static str>> {
        if !u64::try_from(batch.length()).is_ok_and(|n_rows| n_rows <= self.left_bytes) {
            return Ok(Err("a number of rows"));
        }
        if batch.compression().is_none() {
            return Ok(Ok(()));
        }
        for buffer in batch.buffers().into_iter().flatten() {
            let (offset, length) = (u64::try_from(buffer.offset()), u64::try_from(buffer.length()));
            let (Ok(offset), Ok(length)) = (offset, length) else { return Ok(Err("a place of a column")) };
            if length == 0 {
                continue;
            }
            if length < 8 || offset.checked_add(length).is_none_or(|end| end > body_bytes) {
                return Ok(Err("a place of a column"));
            }
            let mut size = [0; 8];
            file.seek(SeekFrom::Start(body + offset))?;
            file.read_exact(&mut size)?;
            // -1 says that the buffer is not compressed after all.
            let unpacked = match i64::from_le_bytes(size) {
                -1 => length,
                size => u64::try_from(size).unwrap_or(u64::MAX),
            };
            match self.left_bytes.checked_sub(unpacked) {
                Some(left) => self.left_bytes = left,
                None => return Ok(Err("a column unpacks to more than 200 times the size of the file")),
            }
        }
        Ok(Ok(()))
    }
}
