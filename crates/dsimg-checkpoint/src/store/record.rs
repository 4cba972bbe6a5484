//! `checkpoint.json`

use std::fs;
use std::io;
use std::path::Path;

use dsimg_plan::Digest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{RECORD, StoreError, file_error, sync_folder, write_new};
use crate::checkpoint::{Checkpoint, FORMAT};
use crate::listing::Newer;
use crate::packing::Packing;

/// In the making; what a crash leaves of it is swept.
pub(super) const RECORD_NEW: &str = ".checkpoint.json.new";

/// The digest is over the record's own bytes, so that no flipped bit in it goes unseen. This much, and the format in
/// the checkpoint, are the same in all formats.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    sha256: Digest,
    #[serde(borrow)]
    checkpoint: &'a RawValue,
}

/// What can be read of any format.
#[derive(Deserialize)]
struct Head {
    format: u32,
    #[serde(default)]
    parent: Option<String>,
}

/// A checkpoint and what the store knows of it beside. A dsimg that does not know of `packing` finds no `memory`, drops
/// it and boots from the disk; the format was not raised for that, for then it would throw away the disk as well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    #[serde(flatten)]
    pub(super) checkpoint: Checkpoint,
    #[serde(default, skip_serializing_if = "Packing::is_plain")]
    pub(super) packing: Packing,
}

#[derive(Debug)]
pub(super) enum Unread {
    Newer(Newer),
    /// Completes a sentence.
    Damaged(String),
    /// The host did not let it be read: it may well be whole.
    Failed(io::Error),
}

impl Unread {
    /// Completes a sentence.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Newer(newer) => format!("is of format {}, which a newer dsimg makes", newer.format),
            Self::Damaged(what) => what.clone(),
            Self::Failed(error) => format!("can't be read: {error}"),
        }
    }
}

pub(super) fn read(folder: &Path, id: &str) -> Result<Stored, Unread> {
    let text = match fs::read(folder.join(RECORD)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unread::Damaged("is missing".to_owned())),
        read => read.map_err(Unread::Failed)?,
    };
    let unreadable = |error: serde_json::Error| Unread::Damaged(format!("can't be understood: {error}"));
    let record: Record<'_> = serde_json::from_slice(&text).map_err(unreadable)?;
    if Digest::of_bytes(record.checkpoint.get().as_bytes()) != record.sha256 {
        return Err(Unread::Damaged("is damaged: its digest is not that with which it was written".to_owned()));
    }
    let head: Head = serde_json::from_str(record.checkpoint.get()).map_err(unreadable)?;
    if head.format > FORMAT {
        return Err(Unread::Newer(Newer { id: id.to_owned(), parent: head.parent, format: head.format }));
    }
    let stored: Stored = serde_json::from_str(record.checkpoint.get()).map_err(unreadable)?;
    match stored.checkpoint.id == id && head.format == FORMAT {
        true => Ok(stored),
        false => Err(Unread::Damaged(format!("is of checkpoint {} and format {}", stored.checkpoint.id, head.format))),
    }
}

pub(super) fn text(stored: &Stored) -> Result<Vec<u8>, StoreError> {
    let failed = |error: serde_json::Error| file_error("cannot write", Path::new(RECORD), error.into());
    let raw = serde_json::value::to_raw_value(stored).map_err(failed)?;
    let sha256 = Digest::of_bytes(raw.get().as_bytes());
    serde_json::to_vec(&Record { sha256, checkpoint: &raw }).map_err(failed)
}

/// The one that is there is the old one or the new one, whatever happens.
pub(super) fn replace(folder: &Path, stored: &Stored) -> Result<(), StoreError> {
    let failed = |error| file_error("cannot rewrite the record in", folder, error);
    let next = folder.join(RECORD_NEW);
    let _earlier = fs::remove_file(&next);
    write_new(&next, &text(stored)?).map_err(failed)?;
    fs::rename(&next, folder.join(RECORD)).map_err(failed)?;
    sync_folder(folder).map_err(failed)
}
