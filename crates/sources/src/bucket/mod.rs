//! Buckets: listing what lies in one, and its objects as files to fetch.

mod object;
mod opened;

use std::rc::Rc;

use self::object::ObjectFile;
use self::opened::{MAX_LISTED, Opened};
use crate::download::Item;
use crate::error::{Result, SourceError};
use crate::names::{is_importable, plain_name_of, wanted_of};
use crate::services::Service;

/// Objects in a bucket, or container, as Azure says.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// Who keeps it.
    pub service: Service,
    /// Its name.
    pub name: String,
    /// Key of an object, or of a "folder", whose tables are all meant; empty for those at the root of the bucket.
    pub key: String,
}

/// What lies at one place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// "Folders" in it: whole prefixes, with a slash at the end.
    pub folders: Vec<String>,
    /// Objects in it.
    pub objects: Vec<Object>,
    /// Whether there is more than is listed.
    pub is_cut: bool,
}

/// An object.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its whole key.
    pub key: String,
    /// Its size.
    pub n_bytes: u64,
}

impl Bucket {
    /// Its address, as the command line takes it.
    pub(crate) fn shown(&self) -> String {
        self.address(&self.key)
    }

    /// What lies directly at the key, taken as a folder; also at the root.
    ///
    /// # Errors
    /// No answer, no access, no such bucket.
    pub(crate) fn list(&self) -> Result<Listing> {
        let opened = Opened::new(self)?;
        let prefix = self.key.trim_matches('/');
        opened.list(&if prefix.is_empty() { String::new() } else { format!("{prefix}/") })
    }

    /// The object at the key, or the tables directly in the folder of that name.
    pub(crate) fn items(&self) -> Result<Vec<Item>> {
        let opened = Rc::new(Opened::new(self)?);
        let key = self.key.trim_start_matches('/');
        let is_folder = key.is_empty() || key.ends_with('/');
        if !is_folder {
            let path = opened.path(key)?;
            match opened.head(&path) {
                Ok(meta) => {
                    let name = plain_name_of(key);
                    if !is_importable(&name) {
                        return Err(SourceError::NotATable { name });
                    }
                    return Ok(vec![ObjectFile::item(&opened, path, Some(meta.size), meta.e_tag)]);
                }
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(opened.failure(key, &error).into_error()),
            }
        }
        let key = key.trim_end_matches('/');
        let prefix = if key.is_empty() { String::new() } else { format!("{key}/") };
        let listing = opened.list(&prefix)?;
        if listing.is_cut {
            let reason = format!("there are more than {MAX_LISTED} objects in it; name a single one");
            return Err(SourceError::address(&self.shown(), reason));
        }
        let tables = wanted_of(listing.objects.iter().collect(), |object| plain_name_of(&object.key));
        let mut items = Vec::new();
        for object in tables {
            // The listing's version may be spelled differently from that of the object itself.
            items.push(ObjectFile::item(&opened, opened.path(&object.key)?, Some(object.n_bytes), None));
        }
        if items.is_empty() && listing.objects.is_empty() && listing.folders.is_empty() {
            return Err(SourceError::NotFound { address: self.shown(), reason: String::new() });
        }
        if items.is_empty() {
            let folders: Vec<&str> = listing.folders.iter().map(String::as_str).take(10).collect();
            let hint = if folders.is_empty() {
                String::new()
            } else {
                format!("it has the folders {}", folders.join(", "))
            };
            return Err(SourceError::NoTable { place: self.shown(), hint });
        }
        Ok(items)
    }

    fn address(&self, key: &str) -> String {
        format!("{}://{}/{}", self.service.scheme(), self.name, key.trim_start_matches('/'))
    }
}
