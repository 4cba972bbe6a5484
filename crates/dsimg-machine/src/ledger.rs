//! What a build made outside itself, on disk before it is made and struck out after it is gone.
//!
//! One file a build, `<state>/ledger/<build id>.jsonl`, locked for as long as the build lives: the kernel
//! drops the lock however the process dies, so a ledger that can be locked belongs to a dead build.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// A file of this name in a folder says that dsimg made the folder, so that a later run may remove it with all
/// that is in it.
pub const FOLDER_MARKER: &str = ".made-by-dsimg";

/// Something that would be left behind if the build died now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Resource {
    /// A folder that dsimg made and may remove with all that is in it.
    Folder { path: PathBuf },
    /// A process; `started` (clock ticks since boot, `/proc/PID/stat` field 22) tells it from a later one of the same number.
    Process { pid: i32, started: u64 },
    /// Something in a region of AWS, found by the name that its maker gave it before the call: for key pairs, security
    /// groups and AMIs their own name, for the rest the value of the tag [`AWS_NAME_TAG`].
    Aws {
        region: String,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        profile: Option<String>,
        what: AwsKind,
        name: String,
    },
}

/// A tag on everything that dsimg makes on AWS for the time of a build, from the call that makes it: its value is the
/// thing's name in the ledger. What is finished loses it.
pub const AWS_NAME_TAG: &str = "dsimg:temporary";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AwsKind {
    /// Goes first: it holds all the others.
    Instance,
    Volume,
    Image,
    Snapshot,
    SecurityGroup,
    KeyPair,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Made(Resource),
    Gone(Resource),
}

/// The ledger of a living build.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: Mutex<File>,
}

impl Ledger {
    /// Makes and locks the file; `folder` is made if missing.
    ///
    /// # Errors
    /// The folder can't be made, or the file can't be made or locked.
    pub fn open(folder: &Path, build_id: &str) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("{build_id}.jsonl"));
        let file = OpenOptions::new().create_new(true).append(true).open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        File::open(folder)?.sync_all()?;
        Ok(Self { path, file: Mutex::new(file) })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Called before the resource is made; on disk when this returns.
    ///
    /// # Errors
    /// The line can't be written; then the resource must not be made.
    pub fn will_make(&self, resource: Resource) -> io::Result<()> {
        self.append(&Line::Made(resource))
    }

    /// Called after the resource is gone.
    ///
    /// # Errors
    /// The line can't be written; the next run finds nothing to free, which is fine.
    pub fn is_gone(&self, resource: Resource) -> io::Result<()> {
        self.append(&Line::Gone(resource))
    }

    /// What is made and not gone.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn open_entries(&self) -> io::Result<Vec<Resource>> {
        read_entries(&File::open(&self.path)?)
    }

    /// The normal end: the file goes away when nothing is open in it, and stays for the next run otherwise.
    ///
    /// # Errors
    /// The file can't be read or removed.
    pub fn close(&self) -> io::Result<()> {
        if self.open_entries()?.is_empty() {
            std::fs::remove_file(&self.path)?;
        }
        Ok(())
    }

    fn append(&self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.write_all(text.as_bytes())?;
        file.sync_data()
    }
}

/// The ledger of a build that died; locked while this lives, so that two runs don't free the same things.
#[derive(Debug)]
pub struct DeadLedger {
    pub path: PathBuf,
    pub left: Vec<Resource>,
    _lock: File,
}

impl DeadLedger {
    /// After everything in it was freed.
    ///
    /// # Errors
    /// The file can't be removed.
    pub fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

/// All ledgers in the folder whose builds are dead. A folder that is missing has none.
///
/// # Errors
/// A ledger can't be read.
pub fn find_dead(folder: &Path) -> io::Result<Vec<DeadLedger>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut dead = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let lock = match File::open(&path) {
            Ok(lock) => lock,
            // Its build ended between the listing and now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let left = read_entries(&lock)?;
        dead.push(DeadLedger { path, left, _lock: lock });
    }
    Ok(dead)
}

/// A last line that a crash cut short says nothing and is passed over.
fn read_entries(file: &File) -> io::Result<Vec<Resource>> {
    let mut open = Vec::new();
    for line in BufReader::new(file).lines() {
        match serde_json::from_str(&line?) {
            Ok(Line::Made(resource)) => open.push(resource),
            Ok(Line::Gone(resource)) => open.retain(|made| *made != resource),
            Err(_) => {}
        }
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> Resource {
        Resource::Folder { path: PathBuf::from(name) }
    }

    #[test]
    fn a_living_ledger_is_not_found_dead() {
        let state = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(state.path(), "one").unwrap();
        ledger.will_make(folder("a")).unwrap();
        assert!(find_dead(state.path()).unwrap().is_empty());
        drop(ledger);
        let dead = find_dead(state.path()).unwrap();
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0].left, [folder("a")]);
    }

    #[test]
    fn what_is_gone_is_struck_out() {
        let state = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(state.path(), "two").unwrap();
        ledger.will_make(folder("a")).unwrap();
        ledger.will_make(folder("b")).unwrap();
        ledger.is_gone(folder("a")).unwrap();
        assert_eq!(ledger.open_entries().unwrap(), [folder("b")]);
        ledger.is_gone(folder("b")).unwrap();
        ledger.close().unwrap();
        assert!(!ledger.path().exists());
    }

    #[test]
    fn a_torn_last_line_is_passed_over() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("torn.jsonl");
        let whole = serde_json::to_string(&Line::Made(folder("a"))).unwrap();
        std::fs::write(&path, format!("{whole}\n{}", &whole[..10])).unwrap();
        assert_eq!(find_dead(state.path()).unwrap()[0].left, [folder("a")]);
    }
}
