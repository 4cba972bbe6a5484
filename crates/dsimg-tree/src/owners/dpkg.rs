//! Debian packages: `/var/lib/dpkg`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Ecosystem, Lists, Owner, Owners, field};
use crate::entry::Kind;
use crate::error::TreeError;
use crate::tree::Tree;

const STATUS: &[u8] = b"/var/lib/dpkg/status";
const INFO: &[u8] = b"/var/lib/dpkg/info/";

pub(super) fn read(lists: &Lists<'_>, owners: &mut Owners) -> Result<(), TreeError> {
    let status = lists.text(STATUS)?.unwrap_or_default();
    let packages = packages(&status);
    owners.conffiles.extend(conffiles(&status).map(|path| merged(lists.tree, path.as_bytes())));
    // A folder that one package alone has goes with it; those of several belong to none.
    let mut shared = HashSet::new();
    let names = lists.tree.entries().iter().filter_map(|entry| Some((entry, entry.path.strip_prefix(INFO)?)));
    for (entry, file) in names {
        let Some((owner, suffix)) = package_of(file, &packages) else { continue };
        owners.claim(entry.path.clone(), owner);
        if suffix != b"list" {
            continue;
        }
        let list = lists.text(&entry.path)?.unwrap_or_default();
        for path in list.lines().filter(|path| path.starts_with('/') && *path != "/.") {
            let path = merged(lists.tree, path.as_bytes());
            let is_folder = lists.tree.get(&path).is_some_and(|entry| entry.kind == Kind::Directory);
            if is_folder && owners.paths.get(&path).is_some_and(|other| other != owner) {
                shared.insert(path.clone());
            }
            owners.claim(path, owner);
        }
    }
    owners.paths.retain(|path, _| !shared.contains(path));
    Ok(())
}

/// By name, and by name and architecture: the files of those that may be installed for several are named by both.
fn packages(status: &str) -> HashMap<String, Arc<Owner>> {
    let mut packages = HashMap::new();
    for paragraph in status.split("\n\n") {
        let (Some(name), Some(version)) = (field(paragraph, "Package"), field(paragraph, "Version")) else { continue };
        let place = String::new();
        let owner = Owner { ecosystem: Ecosystem::Deb, name: name.to_owned(), version: version.to_owned(), place };
        let owner = Arc::new(owner);
        if let Some(architecture) = field(paragraph, "Architecture") {
            packages.insert(format!("{name}:{architecture}"), owner.clone());
        }
        packages.insert(name.to_owned(), owner);
    }
    packages
}

/// `libc6:amd64.list` → the package and `list`. Names may have dots.
fn package_of<'p, 'f>(file: &'f [u8], packages: &'p HashMap<String, Arc<Owner>>) -> Option<(&'p Arc<Owner>, &'f [u8])> {
    let dot = file.iter().rposition(|byte| *byte == b'.')?;
    let name = std::str::from_utf8(&file[..dot]).ok()?;
    packages.get(name).map(|owner| (owner, &file[dot + 1..]))
}

/// ` /etc/issue 5a1f…` below `Conffiles:`.
fn conffiles(status: &str) -> impl Iterator<Item = &str> {
    let mut is_inside = false;
    status.lines().filter_map(move |line| {
        if !line.starts_with(' ') {
            is_inside = line == "Conffiles:";
            return None;
        }
        line.split(' ').nth(1).filter(|path| is_inside && path.starts_with('/'))
    })
}

/// `/bin/x` where `/bin` is a link to `usr/bin`: packages name their files as they always did.
fn merged(tree: &Tree, path: &[u8]) -> Vec<u8> {
    let end = path.iter().skip(1).position(|byte| *byte == b'/').map_or(path.len(), |end| end + 1);
    match tree.get(&path[..end]).map(|entry| &entry.kind) {
        // Not one that goes up.
        Some(Kind::Symlink { target }) if end < path.len() && !target.contains(&b'.') => {
            let target = target.strip_prefix(b"/").unwrap_or(target);
            [b"/", target, &path[end..]].concat()
        }
        _ => path.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.41-12
Conffiles:
 /etc/ld.so.conf.d/x86.conf d4e7
 /etc/old 11aa obsolete
Description: GNU C Library
 /not/a/conffile here

Package: gtk2.0-doc
Architecture: all
Version: 1:2
";

    #[test]
    fn packages_are_found_by_the_names_of_their_files() {
        let packages = packages(STATUS);
        let find = |file: &str| {
            package_of(file.as_bytes(), &packages)
                .map(|(owner, suffix)| format!("{} {} {}", owner.name, owner.version, String::from_utf8_lossy(suffix)))
        };
        assert_eq!(find("libc6:amd64.list").as_deref(), Some("libc6 2.41-12 list"));
        assert_eq!(find("gtk2.0-doc.md5sums").as_deref(), Some("gtk2.0-doc 1:2 md5sums"));
        assert_eq!(find("format"), None);
    }

    #[test]
    fn conffiles_are_those_below_their_field() {
        assert_eq!(conffiles(STATUS).collect::<Vec<_>>(), ["/etc/ld.so.conf.d/x86.conf", "/etc/old"]);
    }
}
