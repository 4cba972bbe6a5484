//! The bytes of a disk, whatever the format of its image.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{SeekFrom, seek};

use super::qcow2::Qcow2;
use crate::error::Fault;

/// A chain of images may have as many layers; more is taken for a loop.
pub(super) const LAYERS: usize = 64;

#[derive(Debug)]
pub(crate) enum Source {
    Raw { file: File, size: u64 },
    Qcow2(Box<Qcow2>),
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        let file = File::open(path)?;
        let mut magic = [0; 4];
        if file.metadata()?.len() >= 4 {
            file.read_exact_at(&mut magic, 0)?;
        }
        if &magic == super::qcow2::MAGIC { Self::qcow2(file, path, LAYERS) } else { Self::raw(file) }
    }

    pub(super) fn qcow2(file: File, path: &Path, layers: usize) -> Result<Self, Fault> {
        Ok(Self::Qcow2(Box::new(Qcow2::open(file, path, layers)?)))
    }

    pub(super) fn raw(file: File) -> Result<Self, Fault> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is no regular file").into());
        }
        Ok(Self::Raw { size: metadata.len(), file })
    }

    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Raw { size, .. } => *size,
            Self::Qcow2(image) => image.size(),
        }
    }

    /// Fills the buffer with what begins at byte `offset`. May be called from several threads.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Fault> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.size());
        if end.is_none() {
            return Err(Fault::damaged(format!(
                "{} bytes at {offset} are wanted of a disk of {} bytes",
                buffer.len(),
                self.size()
            )));
        }
        match self {
            Self::Raw { file, .. } => Ok(file.read_exact_at(buffer, offset)?),
            Self::Qcow2(image) => image.read_at(buffer, offset),
        }
    }

    /// The bytes from `start` on that may be other than zero, up to `end`: from and to of the next run.
    pub(crate) fn next_data(&self, start: u64, end: u64) -> Result<Option<(u64, u64)>, Fault> {
        let run = match self {
            Self::Raw { file, size } => next_data(file, start, *size)?,
            Self::Qcow2(image) => image.next_data(start, end)?,
        };
        Ok(run.map(|(from, to)| (from, to.min(end))).filter(|(from, to)| from < to))
    }
}

fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        // A file system without holes.
        Err(rustix::io::Errno::INVAL) => return Ok(Some((at, size))),
        Err(error) => return Err(error.into()),
    };
    let end = seek(file, SeekFrom::Hole(start))?;
    Ok(Some((start, end)))
}
