//! Room for blocks that is used again: new memory would be zeroed by the kernel for every block, and cold.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::sums::BLOCK;

/// As many as were ever in use at the same time.
#[derive(Debug, Default, Clone)]
pub(crate) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// Of one block's size; goes back when it is dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Buffers {
    /// The one that was used last: the processor may still have it at hand. What is in it is anybody's.
    pub(crate) fn take(&self) -> Buffer {
        let free = self.lock().pop();
        let bytes = free.unwrap_or_else(|| vec![0; usize::try_from(BLOCK).expect("half a mebibyte")]);
        Buffer { bytes, home: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.lock().push(std::mem::take(&mut self.bytes));
    }
}
