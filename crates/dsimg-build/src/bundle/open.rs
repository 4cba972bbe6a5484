//! A bundle on the host that builds from it: its blobs in the package store, its files in a folder of the cache.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use dsimg_store::{Members, Store, unpack};
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use super::files::{is_place, leads_elsewhere, make_parent, put_out};
use super::{ABOUT, About, BundleFault, CarriedFile, FORMAT, VARIABLES};

/// Below the cache: bundles that are in use.
pub const BUNDLES: &str = "bundles";

/// A bundle that was unpacked. Dropped, its files are removed; what is in the package store stays.
#[derive(Debug)]
pub struct Unpacked {
    pub about: About,
    pub template: PathBuf,
    /// Values for variables, in the form of a `--var-file`.
    pub variables: PathBuf,
    folder: TempDir,
    /// Locked, so that who sweeps leftovers sees that it is in use.
    _lock: File,
}

impl Unpacked {
    /// The template's.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.template.parent().unwrap_or(self.folder.path())
    }
}

/// Reads every byte of the bundle before anything of it is used.
///
/// # Errors
/// It is no bundle, or damaged, or there is no room for it.
pub fn open(bundle: &Path, cache: &Path) -> Result<Unpacked, BundleFault> {
    let store = Store::open(cache)?;
    let members = unpack(bundle, &store)?;
    let about = read_about(&members, bundle)?;
    check_places(&members, &about, bundle)?;
    let bundles = cache.join(BUNDLES);
    fs::create_dir_all(&bundles).map_err(|error| BundleFault::file("cannot make", &bundles, error))?;
    sweep(cache);
    let (folder, lock) =
        make_folder(&bundles).map_err(|error| BundleFault::file("cannot make a folder in", &bundles, error))?;

    put_out(&about.files, &store, folder.path())?;
    for (name, bytes) in members.iter().filter(|(name, _)| *name != ABOUT) {
        let path = folder.path().join(name);
        let written = make_parent(&path).and_then(|()| fs::write(&path, bytes));
        written.map_err(|error| BundleFault::file("cannot write", path, error))?;
    }
    let (template, variables) = (folder.path().join(&about.template), folder.path().join(VARIABLES));
    Ok(Unpacked { about, template, variables, folder, _lock: lock })
}

/// A folder with its lock. While a sweep goes on there is none that is not locked yet.
fn make_folder(bundles: &Path) -> io::Result<(TempDir, File)> {
    let all = File::open(bundles)?;
    // No harm where the file system has no locks.
    let _no_sweep = flock(&all, FlockOperation::LockExclusive);
    let folder = TempDir::new_in(bundles)?;
    let lock = File::open(folder.path())?;
    let _unlocked = flock(&lock, FlockOperation::NonBlockingLockExclusive);
    Ok((folder, lock))
}

fn read_about(members: &Members, bundle: &Path) -> Result<About, BundleFault> {
    #[derive(serde::Deserialize)]
    struct Any {
        format: u32,
        dsimg: String,
    }
    let text = members.get(ABOUT).ok_or_else(|| foreign(bundle, format!("it has no `{ABOUT}`")))?;
    let unclear = |error: serde_json::Error| foreign(bundle, format!("`{ABOUT}`: {error}"));
    let Any { format, dsimg } = serde_json::from_slice(text).map_err(unclear)?;
    if format > FORMAT {
        return Err(BundleFault::Newer { path: bundle.to_owned(), made_by: dsimg });
    }
    let about: About = serde_json::from_slice(text).map_err(unclear)?;
    let lacks = |name: &str| !members.contains_key(name);
    if !is_place(&about.template) || lacks(&about.template) || lacks(VARIABLES) {
        return Err(foreign(bundle, "it has no template"));
    }
    Ok(about)
}

/// All of it is put below one folder.
fn check_places(members: &Members, about: &About, bundle: &Path) -> Result<(), BundleFault> {
    let is_taken =
        |name: &&String| about.files.get(*name).is_some_and(|file| !matches!(file, CarriedFile::File { .. }));
    let elsewhere = about.files.keys().chain(members.keys()).find(|name| leads_elsewhere(name, &about.files));
    match elsewhere.or_else(|| members.keys().find(is_taken)) {
        Some(name) => Err(foreign(bundle, format!("a file of it would be `{}`", name.escape_default()))),
        None => Ok(()),
    }
}

fn foreign(bundle: &Path, why: impl Into<String>) -> BundleFault {
    BundleFault::Foreign { path: bundle.to_owned(), why: why.into() }
}

/// Removes what builds left that died. What can't be removed stays for the next time.
pub fn sweep(cache: &Path) {
    let bundles = cache.join(BUNDLES);
    let Ok(all) = File::open(&bundles) else { return };
    if flock(&all, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    for entry in fs::read_dir(&bundles).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_dead = File::open(&path).is_ok_and(|it| flock(&it, FlockOperation::NonBlockingLockExclusive).is_ok());
        if is_dead {
            let _next_time = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use dsimg_store::pack;

    use super::*;

    struct Rig {
        folder: TempDir,
        about: About,
        members: Members,
    }

    impl Rig {
        fn new() -> Self {
            let about = About {
                format: FORMAT,
                dsimg: "1".to_owned(),
                template: "images/t.toml".to_owned(),
                only: Vec::new(),
                runs: BTreeSet::new(),
                bases: Vec::new(),
                secrets: BTreeSet::new(),
                files: BTreeMap::new(),
                spared: BTreeSet::new(),
            };
            let members = [("images/t.toml", "a"), ("images/t.lock", "b"), (VARIABLES, "")];
            let members = members.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
            Self { folder: tempfile::tempdir().unwrap(), about, members: members.into() }
        }

        fn open(&self) -> Result<Unpacked, BundleFault> {
            let out = self.folder.path().join("bundle");
            let store = Store::open(&self.folder.path().join("one")).unwrap();
            let mut members = self.members.clone();
            members.insert(ABOUT.to_owned(), serde_json::to_vec(&self.about).unwrap());
            pack(&store, &out, &members, &BTreeSet::new()).unwrap();
            open(&out, &self.folder.path().join("two"))
        }

        fn refused(&self) -> String {
            self.open().unwrap_err().to_string()
        }
    }

    #[test]
    fn its_files_are_there_while_it_is_in_use() {
        let rig = Rig::new();
        let unpacked = rig.open().unwrap();
        assert_eq!(fs::read(&unpacked.template).unwrap(), b"a");
        assert_eq!(fs::read(unpacked.folder().join("t.lock")).unwrap(), b"b");
        let bundles = rig.folder.path().join("two").join(BUNDLES);
        fs::create_dir(bundles.join("left")).unwrap();
        let second = rig.open().unwrap();
        assert!(unpacked.template.exists() && !bundles.join("left").exists());
        drop((unpacked, second));
        assert_eq!(fs::read_dir(bundles).unwrap().count(), 0);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let mut rig = Rig::new();
        rig.about.template = "../t.toml".to_owned();
        assert!(rig.refused().ends_with("it has no template"));
        rig.about.template = "other.toml".to_owned();
        assert!(rig.refused().ends_with("it has no template"));
        rig.about.format = 2;
        assert!(rig.refused().ends_with("was made by a newer dsimg (1)"));
        let mut rig = Rig::new();
        let folder = CarriedFile::Folder;
        rig.about.files.insert("../out".to_owned(), folder);
        assert!(rig.refused().ends_with("a file of it would be `../out`"));
        let mut rig = Rig::new();
        let link = || CarriedFile::Symlink { target: "/tmp".to_owned() };
        rig.about.files.insert("images".to_owned(), link());
        assert!(rig.refused().contains("a file of it would be `images/t.lock`"), "{}", rig.refused());
        let mut rig = Rig::new();
        rig.about.files.insert("images/t.toml".to_owned(), link());
        assert!(rig.refused().contains("a file of it would be `images/t.toml`"), "{}", rig.refused());
    }
}
