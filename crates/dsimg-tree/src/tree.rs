//! A file tree as data.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::entry::{Entry, Time};
use crate::listing::{Times, write_listing};

/// A sha256. Shown in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub(crate) fn of_hasher(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_hex = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| ())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ())?;
        }
        if is_hex { Ok(Self(digest)) } else { Err(()) }
    }
}

/// All names of a file system, sorted by the bytes of their paths; the root is first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    entries: Vec<Entry>,
    /// Where each entry is in the file system that it was read from; none of those of a listing.
    inodes: Vec<u32>,
}

impl Tree {
    /// Sorts; paths occur once, which the callers see to.
    pub(crate) fn new(mut entries: Vec<(Entry, u32)>) -> Self {
        entries.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        let (entries, inodes) = entries.into_iter().unzip();
        Self { entries, inodes }
    }

    pub(crate) fn of_listing(entries: Vec<Entry>) -> Self {
        Self { entries, inodes: Vec::new() }
    }

    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.index(path).map(|index| &self.entries[index])
    }

    /// The inode of a path, in the file system that this tree was read from.
    pub(crate) fn inode(&self, path: &[u8]) -> Option<u32> {
        self.index(path).and_then(|index| self.inodes.get(index)).copied()
    }

    pub(crate) fn with_inodes(&self) -> impl Iterator<Item = (&Entry, u32)> {
        self.entries.iter().zip(self.inodes.iter().copied())
    }

    fn index(&self, path: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|entry| entry.path.as_slice().cmp(path)).ok()
    }

    /// sha256 of the [listing](write_listing).
    #[must_use]
    pub fn digest(&self, times: Times) -> Digest {
        struct Hashing(Sha256);
        impl std::io::Write for Hashing {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.update(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut hashing = Hashing(Sha256::new());
        write_listing(self, times, &mut hashing).expect("hashing can't fail");
        Digest::of_hasher(hashing.0)
    }

    /// The same with no time after `epoch` (seconds since 1970): what is later becomes `epoch`.
    #[must_use]
    pub fn clamped(mut self, epoch: i64) -> Self {
        let latest = Time { seconds: epoch, nanoseconds: 0 };
        for entry in &mut self.entries {
            entry.mtime = entry.mtime.min(latest);
        }
        self
    }
}
