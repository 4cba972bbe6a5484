//! Memories: checked, dropped, compressed and unpacked again.
//!
//! Whatever changes how a memory lies holds the checkpoint's lock exclusively and goes in this order: the new file is on
//! the disk, the record names it, the old file goes. So the record always names one that is whole, and what a crash
//! leaves is a file that it does not name, which a sweep removes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::record::{self, Stored};
use super::{Damage, MEMORY, Store, StoreError, file_error, remove_if_there, sync_folder};
use crate::Memory;
use crate::checkpoint::{Checkpoint, FileFacts};
use crate::packing::{Packing, UnpackError, pack, unpack};

pub(super) const PACKED: &str = "memory.zst";
/// In the making.
pub(super) const PACKED_NEW: &str = ".memory.zst.new";
/// Compressed, it may take so much of what it took: a build that uses it has to unpack it.
const WORTHWHILE_PERCENT: u64 = 80;

/// What became of a memory that was to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compressed {
    /// It takes so many bytes less.
    Saved(u64),
    /// It stays as it is, and is not tried again.
    NotWorthwhile,
    /// There is none, or it was tried before.
    NothingToDo,
}

impl Store {
    /// # Errors
    /// There is a memory, and it is not as it was written.
    pub fn verify_memory(&self, checkpoint: &Checkpoint) -> Result<(), Damage> {
        match &checkpoint.memory {
            None => Ok(()),
            Some(memory) => match self.packing(&checkpoint.id) {
                Packing::Zstd { size } => self.verify_packed(&checkpoint.id, memory, size),
                Packing::Plain | Packing::NotWorthwhile => self.verify_file(&checkpoint.id, MEMORY, &memory.file),
            },
        }
    }

    /// Whether its memory must be unpacked. To be asked while it is held: then it stays so.
    #[must_use]
    pub fn is_compressed(&self, id: &str) -> bool {
        matches!(self.packing(id), Packing::Zstd { .. })
    }

    /// How its memory lies now. Where the record can't be read, reading the memory itself tells more.
    fn packing(&self, id: &str) -> Packing {
        record::read(&self.folder_of(id), id).map(|stored| stored.packing).unwrap_or_default()
    }

    fn verify_packed(&self, id: &str, memory: &Memory, packed_size: u64) -> Result<(), Damage> {
        let damage = |what: String| Damage { id: id.to_owned(), file: PACKED.to_owned(), what };
        let path = self.folder_of(id).join(PACKED);
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = opened.map_err(|error| damage(format!("can't be read: {error}")))?;
        if size != packed_size {
            return Err(damage(format!("has {size} bytes and was written with {packed_size}")));
        }
        match unpack(&file, memory.file.size, |_, _| Ok(())) {
            Ok(digest) if digest == memory.file.sha256 => Ok(()),
            Ok(_) => Err(damage("is damaged: its digest is not that with which it was written".to_owned())),
            Err(UnpackError::Damaged(what)) => Err(damage(what)),
            Err(UnpackError::Failed(error)) => Err(damage(format!("can't be read: {error}"))),
        }
    }

    /// Unpacks the memory of a checkpoint that is held into a new, sparse file in `folder`, and checks it. The store's own
    /// stays compressed.
    ///
    /// # Errors
    /// It is damaged, there is no room for it, or `is_cancelled`.
    pub fn unpack_memory(
        &self,
        checkpoint: &Checkpoint,
        folder: &Path,
        is_cancelled: impl Fn() -> bool,
    ) -> Result<PathBuf, StoreError> {
        let damage = |what: String| Damage { id: checkpoint.id.clone(), file: PACKED.to_owned(), what };
        let target = folder.join(MEMORY);
        let failed = |error| file_error("cannot unpack a memory to", &target, error);
        let memory = checkpoint.memory.as_ref().ok_or_else(|| damage("is missing".to_owned()))?;
        let packed = File::open(self.folder_of(&checkpoint.id).join(PACKED));
        let packed = packed.map_err(|error| damage(format!("can't be read: {error}")))?;
        let file = File::options().write(true).create_new(true).mode(0o600).open(&target).map_err(failed)?;
        file.set_len(memory.file.size).map_err(failed)?;
        let unpacked = unpack(&packed, memory.file.size, |offset, block| match is_cancelled() {
            true => Err(io::Error::other("cancelled")),
            false => file.write_all_at(block, offset),
        });
        match unpacked {
            Ok(digest) if digest == memory.file.sha256 => Ok(target),
            Ok(_) => Err(damage("is damaged: its digest is not that with which it was written".to_owned()).into()),
            Err(UnpackError::Damaged(what)) => Err(damage(what).into()),
            Err(UnpackError::Failed(error)) => Err(failed(error)),
        }
    }

    /// Removes the memory of a checkpoint and leaves its disk.
    ///
    /// # Errors
    /// It is in use, or can't be rewritten.
    pub fn drop_memory(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let _lock = self.lock_for_removal(&checkpoint.id)?;
        let folder = self.folder_of(&checkpoint.id);
        let Some(stored) = self.read_anew(&checkpoint.id)? else { return Ok(()) };
        let left = Stored { checkpoint: Checkpoint { memory: None, ..stored.checkpoint }, packing: Packing::Plain };
        record::replace(&folder, &left)?;
        for name in [MEMORY, PACKED] {
            remove_if_there(&folder.join(name))
                .map_err(|error| file_error("cannot drop a memory in", &folder, error))?;
        }
        Ok(())
    }

    /// Compresses the memory of a checkpoint, if that saves enough. It is as it was or compressed, whatever happens.
    ///
    /// # Errors
    /// It is in use, damaged, or can't be rewritten.
    pub fn compress_memory(&self, id: &str) -> Result<Compressed, StoreError> {
        let _lock = self.lock_for_removal(id)?;
        let Some(stored) = self.read_anew(id)? else { return Ok(Compressed::NothingToDo) };
        let Some(memory) = stored.checkpoint.memory.clone().filter(|_| stored.packing == Packing::Plain) else {
            return Ok(Compressed::NothingToDo);
        };
        let folder = self.folder_of(id);
        let next = folder.join(PACKED_NEW);
        let ended = self.compress_locked(&folder, stored, memory);
        // Of one that failed or does not pay; the other one has its name.
        let _removed = fs::remove_file(next);
        ended
    }

    fn compress_locked(&self, folder: &Path, stored: Stored, memory: Memory) -> Result<Compressed, StoreError> {
        let before = memory.file.allocated;
        let Some(packed) = pack_beside(folder, &memory, &stored.checkpoint.id)? else {
            record::replace(folder, &Stored { packing: Packing::NotWorthwhile, ..stored })?;
            return Ok(Compressed::NotWorthwhile);
        };
        let failed = |error| file_error("cannot compress the memory in", folder, error);
        fs::rename(folder.join(PACKED_NEW), folder.join(PACKED)).map_err(failed)?;
        sync_folder(folder).map_err(failed)?;
        let file = FileFacts { allocated: packed.allocated, ..memory.file.clone() };
        let checkpoint = Checkpoint { memory: Some(Memory { file, ..memory }), ..stored.checkpoint };
        record::replace(folder, &Stored { checkpoint, packing: Packing::Zstd { size: packed.size } })?;
        remove_if_there(&folder.join(MEMORY)).map_err(failed)?;
        Ok(Compressed::Saved(before.saturating_sub(packed.allocated)))
    }

    /// The record as it is now; `None` when the checkpoint is gone.
    fn read_anew(&self, id: &str) -> Result<Option<Stored>, StoreError> {
        match record::read(&self.folder_of(id), id) {
            Ok(stored) => Ok(Some(stored)),
            Err(_) if !self.folder_of(id).exists() => Ok(None),
            Err(unread) => Err(Damage::of_record(id, &unread).into()),
        }
    }
}

/// A packed file that is on the disk.
struct Packed {
    size: u64,
    allocated: u64,
}

/// `None` when it saves too little.
fn pack_beside(folder: &Path, memory: &Memory, id: &str) -> Result<Option<Packed>, StoreError> {
    let next = folder.join(PACKED_NEW);
    let failed = |error| file_error("cannot write", &next, error);
    let damage = |what: String| Damage { id: id.to_owned(), file: MEMORY.to_owned(), what };
    let plain = match File::open(folder.join(MEMORY)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damage("is missing".to_owned()).into()),
        opened => opened.map_err(|error| file_error("cannot read the memory in", folder, error))?,
    };
    remove_if_there(&next).map_err(failed)?;
    let file = File::options().write(true).create_new(true).mode(0o600).open(&next).map_err(failed)?;
    let most = memory.file.allocated / 100 * WORTHWHILE_PERCENT;
    match pack(&plain, &file, most).map_err(failed)? {
        None => return Ok(None),
        Some(digest) if digest != memory.file.sha256 => {
            return Err(damage("is damaged: its digest is not that with which it was written".to_owned()).into());
        }
        Some(_) => {}
    }
    file.set_permissions(fs::Permissions::from_mode(0o400)).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let packed = Packed { size: metadata.len(), allocated: metadata.blocks() * 512 };
    Ok((packed.allocated <= most).then_some(packed))
}
