//! Reading a whole file system: names first, then contents in the order in which they lie on the disk.

mod contents;
mod walk;

use std::collections::HashMap;

use crate::entry::{Content, Entry, Kind};
use crate::error::{Fault, TreeError};
use crate::ext4::{FileSystem, Inode, InodeKind, flags};
use crate::tree::Tree;

use contents::digest_all;
use walk::{Name, walk};

/// Reads every name and every content of a file system. Takes two threads.
///
/// # Errors
/// The image can't be read, or its file system contradicts itself.
pub fn read_tree(files: &FileSystem<'_>) -> Result<Tree, TreeError> {
    let read = || {
        let names = walk(files)?;
        let inodes = read_inodes(files, &names)?;
        let contents = digest_all(files, inodes.values())?;
        entries(files, names, &inodes, &contents)
    };
    read().map_err(|fault| fault.of(files.image()))
}

fn read_inodes(files: &FileSystem<'_>, names: &[Name]) -> Result<HashMap<u32, Inode>, Fault> {
    let mut inodes = HashMap::new();
    for name in names {
        if let std::collections::hash_map::Entry::Vacant(place) = inodes.entry(name.inode) {
            place.insert(files.inode(name.inode)?);
        }
    }
    Ok(inodes)
}

fn entries(
    files: &FileSystem<'_>,
    mut names: Vec<Name>,
    inodes: &HashMap<u32, Inode>,
    contents: &HashMap<u32, Content>,
) -> Result<Tree, Fault> {
    names.sort_by(|a, b| a.path.cmp(&b.path));
    if let Some(pair) = names.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return Err(Fault::damaged(format!("`{}` is there twice", crate::escape::escape(&pair[0].path))));
    }
    let mut first_paths: HashMap<u32, Vec<u8>> = HashMap::new();
    let mut entries = Vec::with_capacity(names.len());
    for Name { path, inode: number } in names {
        let inode = &inodes[&number];
        let same_as = first_paths.get(&number).cloned();
        if same_as.is_none() && inode.links() > 1 {
            first_paths.insert(number, path.clone());
        }
        entries.push((entry(files, path, inode, same_as, contents)?, number));
    }
    Ok(Tree::new(entries))
}

fn entry(
    files: &FileSystem<'_>,
    path: Vec<u8>,
    inode: &Inode,
    same_as: Option<Vec<u8>>,
    contents: &HashMap<u32, Content>,
) -> Result<Entry, Fault> {
    let (major, minor) = inode.device();
    let kind = match inode.kind {
        InodeKind::Directory => Kind::Directory,
        InodeKind::File => Kind::File { size: inode.size(), content: contents[&inode.number] },
        InodeKind::Symlink => Kind::Symlink { target: files.target(inode)? },
        InodeKind::CharacterDevice => Kind::CharacterDevice { major, minor },
        InodeKind::BlockDevice => Kind::BlockDevice { major, minor },
        InodeKind::Fifo => Kind::Fifo,
        InodeKind::Socket => Kind::Socket,
    };
    Ok(Entry {
        path,
        kind,
        mode: inode.permissions(),
        uid: inode.uid(),
        gid: inode.gid(),
        mtime: inode.mtime(),
        flags: inode.flags() & flags::KEPT,
        xattrs: files.xattrs(inode)?,
        same_as,
    })
}
