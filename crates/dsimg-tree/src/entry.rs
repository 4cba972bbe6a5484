//! One name in a tree, and what it stands for.

use crate::tree::Digest;

/// Since 1970, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// ext4 knows those from 1901 to 2446.
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// An extended attribute. `value` is as ext4 keeps it; of POSIX ACLs, whose names begin with `system.posix_acl_`, that is a
/// shorter form than `getfattr` shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// sha256 of all bytes, as `sha256sum` tells.
    Plain(Digest),
    /// Of a file larger than its file system, which is zeros for the most part: sha256 over the file's size, and over place and
    /// bytes of each block of 64 KiB that is not all zeros (sizes and places as little-endian numbers of 8 bytes).
    Sparse(Digest),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Directory,
    /// `size` in bytes.
    File {
        size: u64,
        content: Content,
    },
    Symlink {
        target: Vec<u8>,
    },
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    Socket,
}

/// One name. Two names of one inode (hard links) are two entries that differ in `path` and `same_as`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// From the root, `/` itself or `/usr/bin/env`. Any bytes but NUL.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// The lower twelve bits: set-uid and the like, and permissions.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    /// Of those that `chattr` sets: immutable (0x10), append-only (0x20), no dump (0x40) and their like.
    pub flags: u32,
    /// Sorted by name.
    pub xattrs: Vec<Xattr>,
    /// The first path of the same inode, where this is not the first.
    pub same_as: Option<Vec<u8>>,
}
