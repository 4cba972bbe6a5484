//! Which blocks of a disk are looked at, and which of those are sent.
//!
//! A block that nobody ever wrote may hold anything, so it is not sent; one that holds written zeros is, because a
//! block that was never put reads as garbage on an encrypted volume. In a snapshot with a parent, a block that is not
//! put is the parent's: what the parent has there and the disk has not is overwritten with what the disk reads as, zeros.

use dsimg_machine::WrittenParts;

use super::sums::{BLOCK, Sums};

#[derive(Debug)]
pub(crate) struct Blocks<'a> {
    disk_bytes: u64,
    /// `None`: all may have been.
    written: Option<&'a WrittenParts>,
    /// What the parent has, its own parents' blocks among it; empty without one.
    parent: &'a Sums,
}

impl<'a> Blocks<'a> {
    pub(crate) fn new(disk_bytes: u64, written: Option<&'a WrittenParts>, parent: &'a Sums) -> Self {
        Self { disk_bytes, written, parent }
    }

    /// In order.
    pub(crate) fn to_look_at(&self) -> Vec<u32> {
        let of_disk = u32::try_from(self.disk_bytes.div_ceil(BLOCK)).unwrap_or(u32::MAX);
        let of_parent = self.parent.iter().last().map_or(0, |(last, _)| last + 1);
        (0..of_disk.max(of_parent))
            .filter(|index| self.was_written(*index) || self.parent.get(*index).is_some())
            .collect()
    }

    fn was_written(&self, index: u32) -> bool {
        let from = u64::from(index) * BLOCK;
        let to = (from + BLOCK).min(self.disk_bytes);
        from < to && self.written.is_none_or(|parts| parts.touches(from, to))
    }
}

/// Of the volume that holds so many bytes.
pub(crate) fn volume_gib(disk_bytes: u64) -> u32 {
    u32::try_from(disk_bytes.div_ceil(1 << 30).max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::sums::Sum;
    use super::*;

    const ZEROS: Sum = [1; 32];
    const DATA: Sum = [2; 32];

    fn sums(blocks: &[(u32, Sum)]) -> Sums {
        let mut sums = Sums::default();
        blocks.iter().for_each(|(index, sum)| sums.set(*index, *sum));
        sums
    }

    #[test]
    fn all_blocks_where_nobody_knows_what_was_written() {
        let parent = Sums::default();
        assert_eq!(Blocks::new(BLOCK * 2 + 1, None, &parent).to_look_at(), [0, 1, 2]);
        assert_eq!(Blocks::new(0, None, &parent).to_look_at(), [0; 0]);
    }

    #[test]
    fn never_written_blocks_are_passed_over() {
        let written = WrittenParts::of(BLOCK * 4, [(BLOCK - 1, BLOCK + 1), (BLOCK * 3, BLOCK * 3 + 1)]);
        let parent = Sums::default();
        assert_eq!(Blocks::new(BLOCK * 4, Some(&written), &parent).to_look_at(), [0, 1, 3]);
    }

    #[test]
    fn a_hole_does_not_inherit_what_the_parent_has() {
        let written = WrittenParts::of(BLOCK * 4, [(0, BLOCK)]);
        let parent = sums(&[(0, DATA), (2, DATA), (3, ZEROS)]);
        let blocks = Blocks::new(BLOCK * 4, Some(&written), &parent);
        assert_eq!(blocks.to_look_at(), [0, 2, 3]);
    }

    #[test]
    fn what_a_longer_parent_has_beyond_the_end_is_looked_at() {
        let parent = sums(&[(0, DATA), (5, DATA)]);
        assert_eq!(Blocks::new(BLOCK * 2, None, &parent).to_look_at(), [0, 1, 5]);
    }

    #[test]
    fn volumes_are_whole_gibibytes() {
        for (bytes, gib) in [(0, 1), (1, 1), (1 << 30, 1), ((1 << 30) + 1, 2)] {
            assert_eq!(volume_gib(bytes), gib, "{bytes}");
        }
    }
}
