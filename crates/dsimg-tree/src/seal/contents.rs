//! The contents of files, in the order in which they lie on the old disk.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::target::TargetPartition;
use crate::error::Fault;
use crate::ext4::{BlockMap, Extent, FileSystem};

const THREADS: usize = 2;

/// A content to copy.
#[derive(Debug)]
pub(super) struct Job {
    /// Where it is.
    pub(super) map: BlockMap,
    pub(super) size: u64,
    /// Where it goes.
    pub(super) extents: Vec<Extent>,
}

pub(super) fn copy(files: &FileSystem<'_>, jobs: &[Job], target: &TargetPartition<'_>) -> Result<(), Fault> {
    let mut jobs: Vec<&Job> = jobs.iter().collect();
    jobs.sort_by_key(|job| job.map.first_block());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            files.each_piece(&job.map, job.size, |at, piece| write(files, &job.extents, at, piece, target))?;
        }
        Ok(())
    };
    let results: Vec<Result<(), Fault>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("copying does not panic")).collect()
    });
    results.into_iter().collect()
}

/// The piece begins at `at` in its file.
fn write(
    files: &FileSystem<'_>,
    extents: &[Extent],
    at: u64,
    piece: &[u8],
    target: &TargetPartition<'_>,
) -> Result<(), Fault> {
    let block_size = files.superblock().block_size;
    let end = at + piece.len() as u64;
    let index = |place: u64| usize::try_from(place - at).unwrap_or(usize::MAX);
    let first = extents.partition_point(|extent| (extent.logical + extent.blocks) * block_size <= at);
    for extent in &extents[first..] {
        let start = extent.logical * block_size;
        if start >= end {
            break;
        }
        let (from, to) = (start.max(at), (start + extent.blocks * block_size).min(end));
        target.write(&piece[index(from)..index(to)], extent.physical, from - start)?;
    }
    Ok(())
}
