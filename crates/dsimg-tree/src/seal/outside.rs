//! All of the disk that is not the root partition.

use std::ops::Range;

use super::target::TargetPartition;
use crate::disk::Source;
use crate::error::Fault;

const PIECE: u64 = 1 << 20;

/// Byte by byte: partition tables, boot code, other partitions, and what is between them.
pub(super) fn copy(source: &Source, root: Range<u64>, target: &TargetPartition<'_>) -> Result<(), Fault> {
    for part in [0..root.start, root.end..source.size()] {
        let mut at = part.start;
        while let Some((from, to)) = source.next_data(at, part.end)? {
            copy_run(source, from.max(part.start)..to, target)?;
            at = to;
        }
    }
    Ok(())
}

fn copy_run(source: &Source, run: Range<u64>, target: &TargetPartition<'_>) -> Result<(), Fault> {
    let mut buffer = Vec::new();
    let mut at = run.start;
    while at < run.end {
        buffer.resize(usize::try_from(PIECE.min(run.end - at)).unwrap_or(0), 0);
        source.read_at(&mut buffer, at)?;
        target.write_disk(&buffer, at)?;
        at += buffer.len() as u64;
    }
    Ok(())
}
