//! A tree as canonical text, which lies beside an image and is what its digest is of.

mod parse;

use std::io::{self, Write};

use crate::entry::{Content, Entry, Kind};
use crate::escape::{escape, hex};
use crate::tree::Tree;

pub use parse::{ListingError, parse_listing};

const HEADER: &str = "#dsimg-tree 1";

/// Whether modification times are part of a listing and its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Times {
    #[default]
    Included,
    LeftOut,
}

impl Times {
    fn word(self) -> &'static str {
        match self {
            Self::Included => "times",
            Self::LeftOut => "no-times",
        }
    }
}

/// Writes the tree as text.
///
/// ```text
/// #dsimg-tree 1 times
/// / type=dir mode=0755 uid=0 gid=0 time=1795219200.000000000
/// /bin type=link mode=0777 uid=0 gid=0 link=usr/bin time=1795219200.000000000
/// /etc/host\040name type=file mode=0644 uid=0 gid=0 size=5 sha256=2cf2…9824 time=1795219200.000000000
/// /usr/bin/ping type=file mode=0755 uid=0 gid=0 size=… sha256=… xattr.security.capability=0100…00 time=…
/// ```
///
/// The first line ends with `times` or `no-times`. Each further line is one name, sorted by the bytes of the paths, and
/// ends with a newline. After the path come these words, in this order, one space between two:
///
/// | word | where |
/// |---|---|
/// | `type=` `dir`, `file`, `link`, `char`, `block`, `fifo`, `socket` | everywhere |
/// | `mode=` four octal digits, `uid=`, `gid=` | everywhere |
/// | `size=` bytes, `sha256=` of all bytes | files |
/// | `sparse-sha256=` in place of `sha256=` | files larger than their file system, see [`Content::Sparse`] |
/// | `link=` target | links |
/// | `device=` major`,`minor | `char`, `block` |
/// | `same-as=` the first path of the same inode | second and further hard links |
/// | `flags=0x` hexadecimal, see [`Entry::flags`] | where they are not 0 |
/// | `xattr.`name`=` hexadecimal | one for each extended attribute, sorted by name |
/// | `time=` seconds`.`nanoseconds, of nine digits | if the first line says `times` |
///
/// In paths, targets and names of attributes each byte other than `!` to `~`, and the backslash, is a backslash and three octal
/// digits; in names of attributes `=` is, too.
///
/// # Errors
/// `to` does not take it.
pub fn write_listing(tree: &Tree, times: Times, to: &mut impl Write) -> io::Result<()> {
    writeln!(to, "{HEADER} {}", times.word())?;
    tree.entries().iter().try_for_each(|entry| to.write_all(line(entry, times).as_bytes()))
}

fn line(entry: &Entry, times: Times) -> String {
    let (kind, own) = match &entry.kind {
        Kind::Directory => ("dir", String::new()),
        Kind::File { size, content: Content::Plain(digest) } => ("file", format!(" size={size} sha256={digest}")),
        Kind::File { size, content: Content::Sparse(digest) } => {
            ("file", format!(" size={size} sparse-sha256={digest}"))
        }
        Kind::Symlink { target } => ("link", format!(" link={}", escape(target))),
        Kind::CharacterDevice { major, minor } => ("char", format!(" device={major},{minor}")),
        Kind::BlockDevice { major, minor } => ("block", format!(" device={major},{minor}")),
        Kind::Fifo => ("fifo", String::new()),
        Kind::Socket => ("socket", String::new()),
    };
    let Entry { mode, uid, gid, mtime, flags, .. } = entry;
    let mut line = format!("{} type={kind} mode={mode:04o} uid={uid} gid={gid}{own}", escape(&entry.path));
    if let Some(path) = &entry.same_as {
        line += &format!(" same-as={}", escape(path));
    }
    if *flags != 0 {
        line += &format!(" flags={flags:#x}");
    }
    for xattr in &entry.xattrs {
        line += &format!(" xattr.{}={}", escape(&xattr.name).replace('=', "\\075"), hex(&xattr.value));
    }
    if times == Times::Included {
        line += &format!(" time={}.{:09}", mtime.seconds, mtime.nanoseconds);
    }
    line.push('\n');
    line
}
