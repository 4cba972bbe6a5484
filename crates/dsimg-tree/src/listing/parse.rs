//! Reading a listing back, strictly: what is read is what would be written again.

use thiserror::Error;

use super::{HEADER, Times, line};
use crate::entry::{Content, Entry, Kind, Time, Xattr};
use crate::escape::{unescape, unhex};
use crate::tree::Tree;

/// A listing that dsimg would not have written.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {line} of the tree's listing: {what}")]
pub struct ListingError {
    /// From 1 on.
    pub line: usize,
    pub what: String,
}

/// Reads what [`super::write_listing`] wrote. Without times, all are 0.
///
/// # Errors
/// The text was cut off or changed, or is of another format or version.
pub fn parse_listing(text: &str) -> Result<(Tree, Times), ListingError> {
    let fail = |line: usize, what: &str| ListingError { line, what: what.to_owned() };
    let mut lines = text.split_inclusive('\n');
    let first = lines.next().unwrap_or_default().trim_end_matches('\n');
    let times = match first.strip_prefix(HEADER) {
        Some(" times") => Times::Included,
        Some(" no-times") => Times::LeftOut,
        _ => return Err(fail(1, &format!("expected `{HEADER} times` or `{HEADER} no-times`"))),
    };
    let mut entries: Vec<Entry> = Vec::new();
    for (number, text) in (2..).zip(lines) {
        let entry = parse_line(text).ok_or_else(|| fail(number, "this is no line of one"))?;
        // Whatever else could be wrong with a line shows here.
        if line(&entry, times) != text {
            return Err(fail(number, "this is not as dsimg writes it"));
        }
        if entries.last().is_some_and(|last| last.path >= entry.path) {
            return Err(fail(number, "this path is not in order"));
        }
        entries.push(entry);
    }
    if entries.first().is_none_or(|entry| entry.path != b"/") {
        return Err(fail(2, "the root is missing"));
    }
    Ok((Tree::of_listing(entries), times))
}

fn parse_line(text: &str) -> Option<Entry> {
    let mut words = text.strip_suffix('\n')?.split(' ');
    let path = unescape(words.next()?).filter(|path| path.first() == Some(&b'/'))?;
    let mut found = Words::default();
    for word in words {
        found.take(word)?;
    }
    let (major, minor) = found.device.unwrap_or_default();
    let kind = match found.kind? {
        "dir" => Kind::Directory,
        "file" => Kind::File { size: found.size?, content: found.content? },
        "link" => Kind::Symlink { target: found.target? },
        "char" => Kind::CharacterDevice { major, minor },
        "block" => Kind::BlockDevice { major, minor },
        "fifo" => Kind::Fifo,
        "socket" => Kind::Socket,
        _ => return None,
    };
    let (mode, uid, gid) = (found.mode?, found.uid?, found.gid?);
    let (flags, xattrs, same_as) = (found.flags, found.xattrs, found.same_as);
    let mtime = found.time.unwrap_or(Time { seconds: 0, nanoseconds: 0 });
    Some(Entry { path, kind, mode, uid, gid, mtime, flags, xattrs, same_as })
}

#[derive(Default)]
struct Words<'a> {
    kind: Option<&'a str>,
    mode: Option<u16>,
    uid: Option<u32>,
    gid: Option<u32>,
    size: Option<u64>,
    content: Option<Content>,
    target: Option<Vec<u8>>,
    device: Option<(u32, u32)>,
    same_as: Option<Vec<u8>>,
    flags: u32,
    xattrs: Vec<Xattr>,
    time: Option<Time>,
}

impl<'a> Words<'a> {
    fn take(&mut self, word: &'a str) -> Option<()> {
        let (key, value) = word.split_once('=')?;
        match key {
            "type" => self.kind = Some(value),
            "mode" => self.mode = Some(u16::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777)?),
            "uid" => self.uid = Some(value.parse().ok()?),
            "gid" => self.gid = Some(value.parse().ok()?),
            "size" => self.size = Some(value.parse().ok()?),
            "sha256" => self.content = Some(Content::Plain(value.parse().ok()?)),
            "sparse-sha256" => self.content = Some(Content::Sparse(value.parse().ok()?)),
            "link" => self.target = Some(unescape(value)?),
            "device" => {
                let (major, minor) = value.split_once(',')?;
                self.device = Some((major.parse().ok()?, minor.parse().ok()?));
            }
            "same-as" => self.same_as = Some(unescape(value)?),
            "flags" => self.flags = u32::from_str_radix(value.strip_prefix("0x")?, 16).ok()?,
            "time" => {
                let (seconds, nanoseconds) = value.split_once('.')?;
                self.time = Some(Time { seconds: seconds.parse().ok()?, nanoseconds: nanoseconds.parse().ok()? });
            }
            _ => {
                let name = key.strip_prefix("xattr.")?.replace("\\075", "=");
                self.xattrs.push(Xattr { name: unescape(&name)?, value: unhex(value)? });
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "#dsimg-tree 1 times\n/ type=dir mode=0755 uid=0 gid=0 time=-1.000000000\n";

    fn with(line: &str) -> Result<(), (usize, String)> {
        parse_listing(&format!("{ROOT}{line}")).map(drop).map_err(|error| (error.line, error.what))
    }

    #[test]
    fn what_dsimg_writes_is_read() {
        for line in [
            "",
            "/a type=link mode=0777 uid=0 gid=0 link=\\040 time=1.000000000\n",
            "/a type=char mode=0000 uid=1 gid=2 device=1,2 flags=0x10 xattr.user.a\\075b=00ff time=1.999999999\n",
            "/a type=socket mode=0000 uid=1 gid=2 same-as=/0 time=1.000000000\n",
        ] {
            assert_eq!(with(line), Ok(()), "{line}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_line() {
        for line in [
            "/a type=dir mode=0755 uid=0 gid=0 time=1.000000000",
            "/a type=dir mode=0755 uid=0 gid=0\n",
            "/a type=dir mode=755 uid=0 gid=0 time=1.000000000\n",
            "/a type=dir mode=0755 gid=0 uid=0 time=1.000000000\n",
            "/a type=dir mode=0755 uid=00 gid=0 time=1.000000000\n",
            "/a type=dir mode=0755 uid=0 gid=0 link=x time=1.000000000\n",
            "/a type=dir mode=0755 uid=0 gid=0 time=1.0\n",
            "/a type=file mode=0755 uid=0 gid=0 size=1 time=1.000000000\n",
            "/a type=file mode=0755 uid=0 gid=0 size=1 sha256=00 time=1.000000000\n",
            "/a type=thing mode=0755 uid=0 gid=0 time=1.000000000\n",
            "a type=dir mode=0755 uid=0 gid=0 time=1.000000000\n",
            "/\\141 type=dir mode=0755 uid=0 gid=0 time=1.000000000\n",
            "\n",
        ] {
            assert_eq!(with(line).map_err(|(number, _)| number), Err(3), "{line}");
        }
        let again = "/ type=dir mode=0755 uid=0 gid=0 time=-1.000000000\n";
        assert_eq!(with(again), Err((3, "this path is not in order".to_owned())));
    }

    #[test]
    fn other_formats_and_empty_trees_are_refused() {
        for text in ["", "#mtree\n", "#dsimg-tree 2 times\n", "#dsimg-tree 1\n", "#dsimg-tree 1 times\n"] {
            assert!(parse_listing(text).is_err(), "{text}");
        }
        let error = parse_listing("#dsimg-tree 2 times\n").unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("expected `#dsimg-tree 1 times`"), "{error}");
    }
}
