//! The texts of a changed file, for whoever wants to show lines.

use super::{Change, Difference};
use crate::entry::{Entry, Kind};
use crate::error::TreeError;
use crate::ext4::FileSystem;
use crate::tree::Tree;

/// A longer file is none to show lines of. In bytes.
const LIMIT: usize = 64 << 10;
/// What is not readable by all is kept out of reports.
const READABLE_BY_ALL: u16 = 0o004;

/// What a text file was, and what it is; `None` on the side where it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    pub before: Option<String>,
    pub after: Option<String>,
}

/// The texts of a file that was added, removed, or has other content. `None` if one of them is longer than 64 KiB, no
/// UTF-8, or not readable by every user in the image (keys, shadow). Both trees must come from their file systems.
///
/// # Errors
/// An image can't be read.
pub fn read_texts(
    change: &Change,
    before: (&FileSystem<'_>, &Tree),
    after: (&FileSystem<'_>, &Tree),
) -> Result<Option<Texts>, TreeError> {
    let (old, new) = match &change.difference {
        Difference::Added(entry) => (None, Some(entry)),
        Difference::Removed(entry) => (Some(entry), None),
        Difference::Changed { before, after, .. } if before.kind != after.kind => (Some(before), Some(after)),
        Difference::Changed { .. } => return Ok(None),
    };
    let (old, new) = (old.map(|entry| read(entry, before)), new.map(|entry| read(entry, after)));
    let (old, new) = (old.transpose()?, new.transpose()?);
    Ok(match (old, new) {
        (Some(None), _) | (_, Some(None)) => None,
        (old, new) => Some(Texts { before: old.flatten(), after: new.flatten() }),
    })
}

fn read(entry: &Entry, (files, tree): (&FileSystem<'_>, &Tree)) -> Result<Option<String>, TreeError> {
    if !matches!(entry.kind, Kind::File { .. }) || entry.mode & READABLE_BY_ALL == 0 {
        return Ok(None);
    }
    let Some(inode) = tree.inode(&entry.path) else { return Ok(None) };
    let content = files.inode(inode).and_then(|inode| files.content(&inode, LIMIT));
    let content = content.map_err(|fault| fault.of(files.image()))?;
    Ok(content.filter(|bytes| !bytes.contains(&0)).and_then(|bytes| String::from_utf8(bytes).ok()))
}
