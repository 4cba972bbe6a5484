//! The SHA-256 of each block of a disk, by its place.

/// Bytes of a block: EBS's, and fixed.
pub(crate) const BLOCK: u64 = 512 * 1024;

pub(crate) type Sum = [u8; 32];

/// No block has this sum, so it stands for "none".
const NONE: Sum = [0; 32];

/// 64 KiB for each GiB of disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sums(Vec<Sum>);

impl Sums {
    pub(crate) fn get(&self, index: u32) -> Option<&Sum> {
        self.0.get(index as usize).filter(|sum| **sum != NONE)
    }

    pub(crate) fn set(&mut self, index: u32, sum: Sum) {
        let place = index as usize;
        if self.0.len() <= place {
            self.0.resize(place + 1, NONE);
        }
        self.0[place] = sum;
    }

    /// Those that are there, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Sum)> {
        (0..).zip(&self.0).filter(|(_, sum)| **sum != NONE)
    }

    pub(crate) fn count(&self) -> u64 {
        self.iter().count() as u64
    }

    /// This, and where `newer` has something, that.
    pub(crate) fn under(mut self, newer: &Self) -> Self {
        newer.iter().for_each(|(index, sum)| self.set(index, *sum));
        self
    }
}
