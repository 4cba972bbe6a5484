//! The digests of all files.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use sha2::{Digest as _, Sha256};

use crate::entry::Content;
use crate::error::Fault;
use crate::ext4::{BlockMap, FileSystem, Inode, InodeKind};
use crate::tree::Digest;

const THREADS: usize = 2;
/// Files of sizes that add up to more than this many times their file system are no files of anybody.
const MAX_RATIO: u64 = 16;
/// Of which a sparse digest is made.
const SPARSE_BLOCK: usize = 64 << 10;
static ZEROS: [u8; SPARSE_BLOCK] = [0; SPARSE_BLOCK];

struct Job<'i> {
    inode: &'i Inode,
    map: BlockMap,
}

/// Those of all files among the inodes.
pub(super) fn digest_all<'i>(
    files: &FileSystem<'_>,
    inodes: impl Iterator<Item = &'i Inode>,
) -> Result<HashMap<u32, Content>, Fault> {
    let jobs = jobs(files, inodes)?;
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let contents = Mutex::new(HashMap::with_capacity(jobs.len()));
    let work = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if failed.load(Ordering::Relaxed) {
                break;
            }
            let content = digest(files, job).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            contents.lock().expect("nobody panics with it").insert(job.inode.number, content);
        }
        Ok(())
    };
    let results: Vec<Result<(), Fault>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("reading does not panic")).collect()
    });
    results.into_iter().collect::<Result<(), Fault>>()?;
    Ok(contents.into_inner().expect("nobody panics with it"))
}

/// In the order of the disk.
fn jobs<'i>(files: &FileSystem<'_>, inodes: impl Iterator<Item = &'i Inode>) -> Result<Vec<Job<'i>>, Fault> {
    let at = files.superblock();
    let (mut room, mut sizes) = (at.blocks, 0_u64);
    let limit = (at.blocks * at.block_size).saturating_mul(MAX_RATIO);
    let mut jobs = Vec::new();
    for inode in inodes.filter(|inode| inode.kind == InodeKind::File) {
        let map = files.block_map(inode)?;
        room = room.checked_sub(map.allocated()).ok_or_else(|| Fault::damaged("files share their blocks"))?;
        if !is_sparse(files, inode) {
            sizes = sizes.saturating_add(inode.size());
        }
        if sizes > limit {
            return Err(Fault::damaged(format!("its files claim to be more than {MAX_RATIO} times its size")));
        }
        jobs.push(Job { inode, map });
    }
    jobs.sort_by_key(|job| (job.map.first_block(), job.inode.number));
    Ok(jobs)
}

fn is_sparse(files: &FileSystem<'_>, inode: &Inode) -> bool {
    let at = files.superblock();
    inode.size() > at.blocks * at.block_size
}

fn digest(files: &FileSystem<'_>, job: &Job<'_>) -> Result<Content, Fault> {
    let size = job.inode.size();
    if is_sparse(files, job.inode) {
        return sparse_digest(files, job).map(Content::Sparse);
    }
    let mut hasher = Sha256::new();
    let mut done = 0;
    files.each_piece(&job.map, size, |place, piece| {
        hash_zeros(&mut hasher, place - done);
        hasher.update(piece);
        done = place + piece.len() as u64;
        Ok(())
    })?;
    hash_zeros(&mut hasher, size - done);
    Ok(Content::Plain(Digest::of_hasher(hasher)))
}

fn hash_zeros(hasher: &mut Sha256, mut count: u64) {
    while count > 0 {
        let length = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
        hasher.update(&ZEROS[..length]);
        count -= length as u64;
    }
}

/// See [`Content::Sparse`].
fn sparse_digest(files: &FileSystem<'_>, job: &Job<'_>) -> Result<Digest, Fault> {
    let size = job.inode.size();
    let mut hasher = Sha256::new();
    hasher.update(size.to_le_bytes());
    let mut block = Vec::with_capacity(SPARSE_BLOCK);
    let mut place = 0;
    let mut finish = |place: u64, block: &mut Vec<u8>| {
        let wanted = usize::try_from(size - place).unwrap_or(usize::MAX).min(SPARSE_BLOCK);
        block.resize(wanted, 0);
        if *block != ZEROS[..wanted] {
            hasher.update(place.to_le_bytes());
            hasher.update(&block);
        }
        block.clear();
    };
    files.each_piece(&job.map, size, |mut at, mut piece| {
        while !piece.is_empty() {
            let start = at - at % SPARSE_BLOCK as u64;
            if start != place {
                finish(place, &mut block);
                place = start;
            }
            let within = usize::try_from(at - start).unwrap_or(0);
            let (here, rest) = piece.split_at(piece.len().min(SPARSE_BLOCK - within));
            block.resize(within, 0);
            block.extend_from_slice(here);
            (at, piece) = (at + here.len() as u64, rest);
        }
        Ok(())
    })?;
    finish(place, &mut block);
    Ok(Digest::of_hasher(hasher))
}
