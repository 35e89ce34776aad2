//! An object as a file to fetch, its bytes for a thread that waits.

use std::io::{self, Read};
use std::rc::Rc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{GetOptions, GetRange};
use tunesmith_formats::resume::{Failure, Part};

use super::opened::Opened;
use crate::download::{Answer, Item, Remote};
use crate::error::SourceError;
use crate::names::plain_name_of;

pub(super) struct ObjectFile {
    opened: Rc<Opened>,
    path: Path,
}

impl ObjectFile {
    pub(super) fn item(
        opened: &Rc<Opened>,
        path: Path,
        n_bytes: Option<u64>,
        version: Option<String>,
    ) -> Item {
        let name = plain_name_of(path.as_ref());
        let remote = Box::new(Self { opened: Rc::clone(opened), path });
        Item { name, n_bytes, version: version.unwrap_or_default(), remote }
    }
}

impl Remote for ObjectFile {
    fn open(&self, start: u64, identity: Option<&str>) -> std::result::Result<Answer, Failure<SourceError>> {
        let opened = &self.opened;
        let options = GetOptions {
            range: Some(GetRange::Offset(start)).filter(|_| start > 0),
            if_match: identity.filter(|_| start > 0).map(str::to_owned),
            ..GetOptions::default()
        };
        let result = opened
            .wait(opened.client.objects.get_opts(&self.path, options))
            .map_err(|error| opened.failure(self.path.as_ref(), &error))?;
        let (start, total_bytes, identity) =
            (result.range.start, Some(result.meta.size), result.meta.e_tag.clone());
        let stream = result.into_stream();
        let body = Body { opened: Rc::clone(opened), stream, chunk: Bytes::new(), path: self.path.clone() };
        Ok(Answer { part: Part { start, total_bytes, body: Box::new(body) }, identity })
    }

    fn shown(&self) -> String {
        self.opened.bucket.address(self.path.as_ref())
    }
}

/// The bytes of an object, for a thread that waits.
struct Body {
    opened: Rc<Opened>,
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    chunk: Bytes,
    path: Path,
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.opened.wait(self.stream.next()) {
                None => return Ok(0),
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => {
                    let error = self.opened.failure(self.path.as_ref(), &error).into_error();
                    return Err(io::Error::other(match error {
                        SourceError::Unreachable { reason, .. } => reason,
                        error => error.to_string(),
                    }));
                }
            }
        }
        let n = out.len().min(self.chunk.len());
        let (Some(target), Some(bytes)) = (out.get_mut(..n), self.chunk.get(..n)) else { return Ok(0) };
        target.copy_from_slice(bytes);
        self.chunk = self.chunk.slice(n..);
        Ok(n)
    }
}
