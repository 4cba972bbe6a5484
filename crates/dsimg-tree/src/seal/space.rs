//! Which blocks of the new file system are taken.

use crate::error::Fault;
use crate::ext4::{Extent, Superblock};

#[derive(Debug)]
pub(super) struct Space {
    /// A bit for each block.
    words: Vec<u64>,
    blocks: u64,
    /// All blocks before it are taken.
    next: u64,
}

impl Space {
    pub(super) fn new(at: &Superblock) -> Result<Self, Fault> {
        let words = usize::try_from(at.blocks.div_ceil(64)).map_err(|_| full())?;
        let mut space = Self { words: vec![0; words], blocks: at.blocks, next: 0 };
        space.take(0, at.first_block);
        Ok(space)
    }

    pub(super) fn is_taken(&self, block: u64) -> bool {
        self.words[index(block)] >> (block % 64) & 1 == 1
    }

    /// Without looking whether they are free.
    pub(super) fn take(&mut self, first: u64, count: u64) {
        for block in first..(first + count).min(self.blocks) {
            self.words[index(block)] |= 1 << (block % 64);
        }
    }

    /// The first run of `count` blocks that are free, from `from` on.
    pub(super) fn take_run(&mut self, from: u64, count: u64) -> Result<u64, Fault> {
        let mut start = from;
        let mut block = from;
        while block - start < count {
            if block >= self.blocks {
                return Err(full());
            }
            let is_taken = self.is_taken(block);
            block += 1;
            if is_taken {
                start = block;
            }
        }
        self.take(start, count);
        Ok(start)
    }

    /// The next `blocks` that are free, in runs; `logical` is where they are in their file.
    pub(super) fn take_extents(&mut self, logical: u64, blocks: u64, extents: &mut Vec<Extent>) -> Result<(), Fault> {
        let end = logical + blocks;
        let mut at = logical;
        while at < end {
            let physical = self.take_next()?;
            match extents.last_mut() {
                Some(last)
                    if last.logical + last.blocks == at
                        && last.physical + last.blocks == physical
                        && last.blocks < crate::ext4::extents::MAX_BLOCKS =>
                {
                    last.blocks += 1;
                }
                _ => extents.push(Extent { logical: at, physical, blocks: 1, written: true }),
            }
            at += 1;
        }
        Ok(())
    }

    pub(super) fn take_next(&mut self) -> Result<u64, Fault> {
        while self.next < self.blocks && self.is_taken(self.next) {
            // Whole words at once: a journal or a table of inodes is thousands of blocks.
            let is_full = self.next.is_multiple_of(64) && self.words[index(self.next)] == u64::MAX;
            self.next += if is_full { 64 } else { 1 };
        }
        if self.next >= self.blocks {
            return Err(full());
        }
        self.take(self.next, 1);
        Ok(self.next)
    }

    /// Of `count` blocks from `first` on, those that are free.
    pub(super) fn free(&self, first: u64, count: u64) -> u64 {
        (first..first + count).filter(|block| !self.is_taken(*block)).count() as u64
    }
}

fn index(block: u64) -> usize {
    usize::try_from(block / 64).unwrap_or(usize::MAX)
}

fn full() -> Fault {
    Fault::Full("all blocks are taken".to_owned())
}
