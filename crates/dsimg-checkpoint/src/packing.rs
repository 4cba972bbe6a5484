//! A memory that is kept for long is compressed: `memory.zst` is zstd over exactly what its digest is over, the size and
//! then offset and content of each block that is not all zeros. So holes cost nothing, and to unpack it is to check it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use dsimg_plan::Digest;
use serde::{Deserialize, Serialize};

use crate::digest::{BLOCK, SparseHasher, for_each_block};

/// Higher ones take much longer for little.
const LEVEL: i32 = 3;

/// How a memory lies in the store. It is of the record and not of the checkpoint: it changes while builds know of the
/// checkpoint, so it is always read anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packing {
    #[default]
    Plain,
    /// As plain: it was tried, and saved too little.
    NotWorthwhile,
    /// As `memory.zst` of so many bytes.
    Zstd { size: u64 },
}

impl Packing {
    pub(crate) fn is_plain(&self) -> bool {
        *self == Self::Plain
    }
}

#[derive(Debug)]
pub(crate) enum UnpackError {
    /// Of what is compressed; completes the sentence.
    Damaged(String),
    /// Of where it goes.
    Failed(io::Error),
}

/// The digest of what was read; `None` when it takes more than `most` bytes.
pub(crate) fn pack(memory: &File, to: &File, most: u64) -> io::Result<Option<Digest>> {
    let size = memory.metadata()?.len();
    let mut hasher = SparseHasher::new(size);
    let mut encoder = zstd::stream::write::Encoder::new(to, LEVEL)?;
    encoder.write_all(&size.to_le_bytes())?;
    let mut too_large = false;
    for_each_block(memory, size, |offset, block| {
        too_large = too_large || encoder.get_mut().stream_position()? > most;
        if !too_large {
            hasher.update(offset, block);
            encoder.write_all(&offset.to_le_bytes())?;
            encoder.write_all(block)?;
        }
        Ok(())
    })?;
    encoder.finish()?;
    Ok((!too_large).then(|| hasher.digest()))
}

/// Gives the blocks in the order in which they lie, and at the end the digest over them: what was given before is to
/// be trusted only when it is the right one.
pub(crate) fn unpack(
    packed: &File,
    size: u64,
    mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> Result<Digest, UnpackError> {
    let damaged = |error: io::Error| UnpackError::Damaged(format!("can't be unpacked: {error}"));
    let mut decoder = zstd::stream::read::Decoder::new(packed).map_err(damaged)?;
    let mut number = [0; 8];
    decoder.read_exact(&mut number).map_err(damaged)?;
    let found = u64::from_le_bytes(number);
    if found != size {
        return Err(UnpackError::Damaged(format!("holds {found} bytes and was written with {size}")));
    }
    let mut hasher = SparseHasher::new(size);
    let mut buffer = vec![0; BLOCK];
    let mut next = 0;
    while read_offset(&mut decoder, &mut number).map_err(damaged)? {
        let offset = u64::from_le_bytes(number);
        if offset < next || offset >= size || offset % BLOCK as u64 != 0 {
            return Err(UnpackError::Damaged("can't be unpacked: its blocks are not in order".to_owned()));
        }
        let length = BLOCK.min(usize::try_from(size - offset).unwrap_or(BLOCK));
        let block = &mut buffer[..length];
        decoder.read_exact(block).map_err(damaged)?;
        hasher.update(offset, block);
        take(offset, block).map_err(UnpackError::Failed)?;
        next = offset + length as u64;
    }
    Ok(hasher.digest())
}

/// `false` at the end.
fn read_offset(decoder: &mut impl Read, number: &mut [u8; 8]) -> io::Result<bool> {
    let first = decoder.take(1).read(number)?;
    if first == 0 {
        return Ok(false);
    }
    decoder.read_exact(&mut number[1..])?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::digest::facts;

    fn memory() -> File {
        let memory = tempfile::tempfile().unwrap();
        // The last block is a short one.
        memory.set_len((200 << 20) + 1000).unwrap();
        memory.write_all_at(&[7; 200_000], 3 << 20).unwrap();
        memory.write_all_at(b"end", (200 << 20) + 997).unwrap();
        memory
    }

    fn packed(memory: &File) -> File {
        let packed = tempfile::tempfile().unwrap();
        assert_eq!(pack(memory, &packed, u64::MAX).unwrap(), Some(facts(memory).unwrap().sha256));
        packed
    }

    fn read_back(packed: &File, size: u64) -> Result<Digest, UnpackError> {
        let mut start = packed;
        start.rewind().unwrap();
        unpack(packed, size, |_, _| Ok(()))
    }

    #[test]
    fn what_was_packed_comes_back_with_its_holes() {
        let memory = memory();
        let facts_of_memory = facts(&memory).unwrap();
        let packed = packed(&memory);
        assert!(packed.metadata().unwrap().len() < 1000);
        let mut start = &packed;
        start.rewind().unwrap();
        let back = tempfile::tempfile().unwrap();
        back.set_len(facts_of_memory.size).unwrap();
        let digest = unpack(&packed, facts_of_memory.size, |offset, block| back.write_all_at(block, offset)).unwrap();
        assert_eq!(digest, facts_of_memory.sha256);
        let facts_of_back = facts(&back).unwrap();
        assert_eq!(facts_of_back.sha256, facts_of_memory.sha256);
        assert!(facts_of_back.allocated < 1 << 20, "{facts_of_back:?}");
    }

    #[test]
    fn no_damage_passes() {
        let memory = memory();
        let written = facts(&memory).unwrap();
        let packed = packed(&memory);
        let length = packed.metadata().unwrap().len();
        for at in 0..length {
            for bit in 0..8 {
                let mut byte = [0];
                packed.read_exact_at(&mut byte, at).unwrap();
                packed.write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
                let mut given = SparseHasher::new(written.size);
                let mut start = &packed;
                start.rewind().unwrap();
                let result = unpack(&packed, written.size, |offset, block| {
                    given.update(offset, block);
                    Ok(())
                });
                // A few bits of a zstd frame mean nothing: then the content is the same.
                if let Ok(digest) = result {
                    assert!(digest != written.sha256 || given.digest() == written.sha256, "byte {at}, bit {bit}");
                }
                packed.write_all_at(&byte, at).unwrap();
            }
        }
        for shorter in [0, 5, length / 2, length - 1] {
            packed.set_len(shorter).unwrap();
            assert!(matches!(read_back(&packed, written.size), Err(UnpackError::Damaged(_))), "{shorter}");
        }
        assert!(matches!(read_back(&self::packed(&memory), 5), Err(UnpackError::Damaged(_))));
    }

    #[test]
    fn where_it_goes_may_fail() {
        let (memory, failed) = (memory(), || io::Error::from(io::ErrorKind::StorageFull));
        let packed = packed(&memory);
        let mut start = &packed;
        start.rewind().unwrap();
        let result = unpack(&packed, memory.metadata().unwrap().len(), |_, _| Err(failed()));
        assert!(matches!(result, Err(UnpackError::Failed(_))), "{result:?}");
    }

    #[test]
    fn what_does_not_shrink_is_given_up() {
        let memory = tempfile::tempfile().unwrap();
        let mut random = 88_172_645_463_325_252_u64;
        let mut content = Vec::new();
        while content.len() < 4 << 20 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            content.extend_from_slice(&random.to_le_bytes());
        }
        memory.write_all_at(&content, 0).unwrap();
        let packed = tempfile::tempfile().unwrap();
        assert_eq!(pack(&memory, &packed, 3 << 20).unwrap(), None);
        assert!(packed.metadata().unwrap().len() < 4 << 20);
    }
}
