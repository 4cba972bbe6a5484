//! Python distributions: `NAME.dist-info/RECORD` in any folder of packages.

use std::sync::Arc;

use super::{Ecosystem, Lists, Owner, Owners, field};
use crate::error::TreeError;

const RECORD: &[u8] = b".dist-info/RECORD";

pub(super) fn read(lists: &Lists<'_>, owners: &mut Owners) -> Result<(), TreeError> {
    for entry in lists.tree.entries().iter().filter(|entry| entry.path.ends_with(RECORD)) {
        let info = &entry.path[..entry.path.len() - b"/RECORD".len()];
        let Some(end) = info.iter().rposition(|byte| *byte == b'/') else { continue };
        let place = &info[..end];
        let metadata = lists.text(&[info, b"/METADATA"].concat())?.unwrap_or_default();
        let (Some(name), Some(version)) = (field(&metadata, "Name"), field(&metadata, "Version")) else { continue };
        let owner = Arc::new(Owner {
            ecosystem: Ecosystem::Python,
            name: name.to_owned(),
            version: version.to_owned(),
            place: String::from_utf8_lossy(place).into_owned(),
        });
        let record = lists.text(&entry.path)?.unwrap_or_default();
        for path in record.lines().filter_map(|line| recorded_path(place, line)) {
            // Of its own folders, such as numpy and numpy.libs, only files are recorded.
            for folder in super::ancestors(&path).skip(1).take_while(|folder| folder.len() > place.len()) {
                if folder.starts_with(place) {
                    owners.claim(folder.to_vec(), &owner);
                }
            }
            owners.claim(path, &owner);
        }
        owners.folders.insert(info.to_vec(), owner);
    }
    Ok(())
}

/// The path of a line of CSV: from the folder of packages, or absolute.
fn recorded_path(place: &[u8], line: &str) -> Option<Vec<u8>> {
    let path = match line.strip_prefix('"') {
        Some(quoted) => quoted.rsplit_once("\",")?.0.replace("\"\"", "\""),
        None => line.split(',').next()?.to_owned(),
    };
    if path.is_empty() {
        return None;
    }
    let mut parts: Vec<&[u8]> =
        if path.starts_with('/') { vec![] } else { place.split(|byte| *byte == b'/').collect() };
    parts.retain(|part| !part.is_empty());
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part.as_bytes()),
        }
    }
    Some(parts.iter().flat_map(|part| [b"/", *part].concat()).collect())
}

/// `…/__pycache__/x.cpython-313.pyc` → `…/x.py`, and `…/__pycache__` → `…`.
pub(super) fn source_of(path: &[u8]) -> Option<Vec<u8>> {
    const CACHE: &[u8] = b"/__pycache__/";
    if let Some(folder) = path.strip_suffix(&CACHE[..CACHE.len() - 1]) {
        return Some(folder.to_vec());
    }
    let stem = path.strip_suffix(b".pyc")?;
    let at = stem.windows(CACHE.len()).rposition(|window| window == CACHE)?;
    let name = &stem[at + CACHE.len()..];
    let end = name.iter().position(|byte| *byte == b'.')?;
    Some([&stem[..at], b"/", &name[..end], b".py"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(line: &str) -> Option<String> {
        recorded_path(b"/opt/venv/lib/site-packages", line).map(|path| String::from_utf8(path).unwrap())
    }

    #[test]
    fn recorded_paths_count_from_the_folder_of_packages() {
        assert_eq!(path("numpy/core.py,sha256=x,12").as_deref(), Some("/opt/venv/lib/site-packages/numpy/core.py"));
        assert_eq!(path("../../bin/f2py,sha256=x,3").as_deref(), Some("/opt/venv/bin/f2py"));
        assert_eq!(path("\"a,\"\"b\"\".py\",,").as_deref(), Some("/opt/venv/lib/site-packages/a,\"b\".py"));
        assert_eq!(path("/usr/local/x,,").as_deref(), Some("/usr/local/x"));
        assert_eq!(path("../../../../../../etc/passwd,,"), None, "above the root");
        assert_eq!(path(""), None);
    }

    #[test]
    fn bytecode_belongs_to_its_source() {
        let source = |path: &str| source_of(path.as_bytes()).map(|path| String::from_utf8(path).unwrap());
        assert_eq!(source("/a/__pycache__/b.cpython-313.opt-1.pyc").as_deref(), Some("/a/b.py"));
        assert_eq!(source("/a/__pycache__").as_deref(), Some("/a"));
        assert_eq!(source("/a/b.pyc"), None);
        assert_eq!(source("/a/b.py"), None);
    }
}
