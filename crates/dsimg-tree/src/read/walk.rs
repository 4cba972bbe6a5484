//! All names of a file system.

use std::collections::HashSet;

use crate::error::Fault;
use crate::escape::escape;
use crate::ext4::{FileSystem, InodeKind, ROOT_INODE};

/// No path of a system that anybody uses is longer; a deeper one is taken for an attack.
const MAX_PATH: usize = 16 << 10;
/// Ten times what a large system has.
const MAX_NAMES: usize = 10_000_000;

#[derive(Debug)]
pub(super) struct Name {
    pub(super) path: Vec<u8>,
    pub(super) inode: u32,
}

/// In no order. Each directory is read once, so that a loop is found.
pub(super) fn walk(files: &FileSystem<'_>) -> Result<Vec<Name>, Fault> {
    let root = files.inode(ROOT_INODE)?;
    if root.kind != InodeKind::Directory {
        return Err(Fault::damaged("the root is no directory"));
    }
    let mut names = vec![Name { path: b"/".to_vec(), inode: ROOT_INODE }];
    let mut seen = HashSet::from([ROOT_INODE]);
    let mut to_read = vec![(Vec::new(), root)];
    // No directory shares blocks with another: what all of them hold is no more than the disk.
    let mut room = files.superblock().blocks;
    while let Some((path, directory)) = to_read.pop() {
        let blocks = files.block_map(&directory)?.allocated();
        room = room.checked_sub(blocks).ok_or_else(|| Fault::damaged("directories share their blocks"))?;
        let first = names.len();
        files.names(&directory, |name, inode| {
            let path = [path.as_slice(), b"/", &name].concat();
            if path.len() > MAX_PATH {
                return Err(Fault::damaged(format!("a path is longer than {MAX_PATH} bytes")));
            }
            if names.len() == MAX_NAMES {
                return Err(Fault::damaged(format!("there are more than {MAX_NAMES} names")));
            }
            names.push(Name { path, inode });
            Ok(())
        })?;
        for name in &names[first..] {
            let inode = files.inode(name.inode)?;
            if inode.kind != InodeKind::Directory {
                continue;
            }
            if !seen.insert(name.inode) {
                let what = format!("the directory `{}` is in two places, or in itself", escape(&name.path));
                return Err(Fault::damaged(what));
            }
            to_read.push((name.path.clone(), inode));
        }
    }
    Ok(names)
}
