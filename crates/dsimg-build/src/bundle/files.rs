//! Files of the host: their places in a bundle, and how they are put out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use dsimg_plan::inputs::list_files;
use dsimg_plan::plan::{FileKind, PlannedFile};
use dsimg_plan::{Digest, InputError};
use dsimg_store::{BundleBlob, Store};
use serde::{Deserialize, Serialize};

use super::BundleFault;

/// One entry below the bundle's root; what it says is all that a plan looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CarriedFile {
    File { sha256: Digest, executable: bool },
    Folder,
    Symlink { target: String },
}

/// What was gathered.
#[derive(Debug, Clone, PartialEq)]
pub struct HostFiles {
    /// The template's folder, relative to the bundle's root; empty for the root itself.
    pub folder: String,
    pub files: BTreeMap<String, CarriedFile>,
    pub blobs: BTreeSet<BundleBlob>,
}

/// All below the paths, which start from the template's folder (absolute). The bundle's root is the nearest folder that
/// all of them are in, so that they keep their places relative to the template.
///
/// # Errors
/// A path is absolute or its name is not UTF-8, or a file can't be read.
pub fn gather(folder: &Path, paths: &BTreeSet<PathBuf>) -> Result<HostFiles, BundleFault> {
    let folder = below(Path::new("/"), folder);
    let mut root = folder.as_path();
    let mut places = BTreeMap::new();
    for path in paths {
        let no_place = || BundleFault::Place { path: path.clone() };
        let place = Some(below(&folder, path)).filter(|_| path.is_relative()).ok_or_else(no_place)?;
        let parent = place.parent().ok_or_else(no_place)?;
        root = root.ancestors().find(|ancestor| parent.starts_with(ancestor)).unwrap_or(root);
        places.insert(path, place.clone());
    }
    let mut gathered = HostFiles { folder: name_below(root, &folder)?, files: BTreeMap::new(), blobs: BTreeSet::new() };
    for (path, place) in places {
        let listed = list_files(&folder, path, "bundle").map_err(|error| match error {
            InputError::Unreadable { path, source, .. } => BundleFault::file("cannot read", path, source),
            other => other.into(),
        })?;
        if place.is_dir() {
            gathered.add(root, &place, CarriedFile::Folder)?;
        }
        for PlannedFile { path: inner, kind, .. } in listed {
            let place = if inner.is_empty() { place.clone() } else { place.join(inner) };
            match kind {
                FileKind::File { sha256, executable, .. } => {
                    gathered.add(root, &place, CarriedFile::File { sha256, executable })?;
                }
                FileKind::Folder => gathered.add(root, &place, CarriedFile::Folder)?,
                FileKind::Symlink { target } => gathered.add(root, &place, CarriedFile::Symlink { target })?,
                FileKind::Rendered { .. } => unreachable!("files of the host are not rendered yet"),
            }
        }
    }
    Ok(gathered)
}

impl HostFiles {
    /// What is a link stays one, also where the template names its target by it.
    fn add(&mut self, root: &Path, place: &Path, file: CarriedFile) -> Result<(), BundleFault> {
        let name = name_below(root, place)?;
        if let CarriedFile::File { sha256, .. } = &file {
            let (digest, path) = (sha256.clone(), place.to_owned());
            self.blobs.insert(BundleBlob { digest, name: name.clone(), compress: false, file: Some(path) });
        }
        match self.files.get(&name) {
            Some(CarriedFile::Symlink { .. }) => {}
            _ => {
                self.files.insert(name, file);
            }
        }
        Ok(())
    }
}

/// The path from the folder, with its `.` and `..` carried out.
fn below(folder: &Path, path: &Path) -> PathBuf {
    let mut at = folder.to_owned();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                at.pop();
            }
            Component::Normal(name) => at.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    at
}

fn name_below(root: &Path, place: &Path) -> Result<String, BundleFault> {
    let name = place.strip_prefix(root).ok().and_then(Path::to_str).map(str::to_owned);
    name.ok_or_else(|| BundleFault::Place { path: place.to_owned() })
}

/// Whether something at this place would be put elsewhere than below the bundle's root, by its name or by a link on its way.
pub(super) fn leads_elsewhere(name: &str, files: &BTreeMap<String, CarriedFile>) -> bool {
    let is_link = |name: &str| matches!(files.get(name), Some(CarriedFile::Symlink { .. }));
    !is_place(name) || name.match_indices('/').any(|(at, _)| is_link(&name[..at]))
}

/// Puts the files below a folder, from the store; links come last.
///
/// # Errors
/// A file is not in the store, or can't be written.
pub(super) fn put_out(files: &BTreeMap<String, CarriedFile>, store: &Store, folder: &Path) -> Result<(), BundleFault> {
    for (name, file) in files {
        let path = folder.join(name);
        let done = match file {
            CarriedFile::Folder => fs::create_dir_all(&path),
            CarriedFile::File { sha256, executable } => copy(&store.verified(sha256)?, &path, *executable),
            CarriedFile::Symlink { .. } => Ok(()),
        };
        done.map_err(|error| BundleFault::file("cannot write", path, error))?;
    }
    for (name, file) in files {
        if let CarriedFile::Symlink { target } = file {
            let path = folder.join(name);
            let made = make_parent(&path).and_then(|()| symlink(target, &path));
            made.map_err(|error| BundleFault::file("cannot write", path, error))?;
        }
    }
    Ok(())
}

/// A relative path of plain names: bundles come from outside.
pub(super) fn is_place(name: &str) -> bool {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    name.split('/').all(is_plain) && !name.contains('\0')
}

fn copy(from: &Path, to: &Path, executable: bool) -> io::Result<()> {
    make_parent(to)?;
    fs::copy(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 }))
}

pub(super) fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> tempfile::TempDir {
        let host = tempfile::tempdir().unwrap();
        for (path, text) in
            [("team/images/setup.sh", "a"), ("team/common/deep/x.txt", "b"), ("team/common/y.txt", "{}")]
        {
            let path = host.path().join(path);
            make_parent(&path).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::set_permissions(host.path().join("team/images/setup.sh"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir(host.path().join("team/common/empty")).unwrap();
        symlink("../y.txt", host.path().join("team/common/deep/link")).unwrap();
        host
    }

    fn paths(paths: &[&str]) -> BTreeSet<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn files_keep_their_places_relative_to_the_template() {
        let host = host();
        let folder = host.path().join("team/images");
        let alone = gather(&folder, &paths(&["./setup.sh"])).unwrap();
        assert_eq!((alone.folder.as_str(), alone.files.keys().next().unwrap().as_str()), ("", "setup.sh"));
        let gathered =
            gather(&folder.join("../images"), &paths(&["setup.sh", "../common", "../common/y.txt"])).unwrap();
        assert_eq!(gathered.folder, "images");
        let names: Vec<_> = gathered.files.keys().map(String::as_str).collect();
        let expected =
            ["common", "common/deep", "common/deep/link", "common/deep/x.txt", "common/empty", "common/y.txt"];
        assert_eq!(names[..6], expected);
        assert_eq!(names[6..], ["images/setup.sh"]);

        let store = Store::open(&host.path().join("cache")).unwrap();
        for blob in &gathered.blobs {
            store.put_file(blob.file.as_ref().unwrap(), &Default::default()).unwrap();
        }
        let out = host.path().join("out");
        assert!(!gathered.files.keys().any(|name| leads_elsewhere(name, &gathered.files)));
        put_out(&gathered.files, &store, &out).unwrap();
        let again = gather(&out.join("images"), &paths(&["setup.sh", "../common"])).unwrap();
        assert_eq!(again.files, gathered.files);
    }

    #[test]
    fn what_has_no_place_elsewhere_is_named() {
        let host = host();
        let error = gather(host.path(), &paths(&["/etc/hostname"])).unwrap_err();
        assert!(error.to_string().starts_with("`/etc/hostname` can't go into a bundle"), "{error}");
        let error = gather(host.path(), &paths(&["team/none"])).unwrap_err();
        assert!(matches!(&error, BundleFault::File { path, .. } if path == Path::new("team/none")), "{error:?}");
    }

    #[test]
    fn hostile_places_are_found() {
        for name in ["../x", "/x", "a/../../x", "", "a//x", "a/./x", "x\0"] {
            assert!(leads_elsewhere(name, &BTreeMap::new()), "{name}");
        }
        let link = CarriedFile::Symlink { target: "/".to_owned() };
        let files = BTreeMap::from([("a".to_owned(), link)]);
        assert!(leads_elsewhere("a/b/x", &files) && !leads_elsewhere("a", &files) && !leads_elsewhere("b/a/x", &files));
    }
}
