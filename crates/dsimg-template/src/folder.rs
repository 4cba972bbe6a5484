//! A provisioner from its directory, or from the files that a directory had.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::definition::Provisioner;
use crate::definition_file::parse_definition;
use crate::problem::Problem;
use crate::text::decode;

/// The file that makes a directory a provisioner.
pub const DEFINITION_FILE: &str = "provisioner.toml";

/// More is refused: a provisioner is scripts, and all of it is held in memory.
const LARGEST: u64 = 16 << 20;

/// A definition that was not accepted; `crate::report` draws it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    pub path: PathBuf,
    /// What was read from there; empty when nothing could be.
    pub text: String,
    pub problems: Vec<Problem>,
}

impl Rejected {
    fn without_text(path: &Path, message: String) -> Self {
        Self { path: path.to_owned(), text: String::new(), problems: vec![Problem::error(0..0, message)] }
    }
}

/// Makes a provisioner of the files of its directory, by path relative to it.
///
/// # Errors
/// There is no `provisioner.toml` among them, or it has problems.
pub fn provisioner_from_files(folder: &Path, mut files: BTreeMap<String, Vec<u8>>) -> Result<Provisioner, Rejected> {
    let path = folder.join(DEFINITION_FILE);
    let Some(bytes) = files.remove(DEFINITION_FILE) else {
        let message = format!("the folder `{}` has no `{DEFINITION_FILE}`", folder.display());
        return Err(Rejected::without_text(&path, message));
    };
    let text = match decode(&bytes) {
        Ok(text) => text.to_owned(),
        Err(problem) => return Err(Rejected { path, text: String::new(), problems: vec![problem] }),
    };
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    match parse_definition(&text, &name, &names) {
        Ok(definition) => Ok(Provisioner { definition, files }),
        Err(problems) => Err(Rejected { path, text, problems }),
    }
}

/// Reads a provisioner's directory.
///
/// # Errors
/// A file cannot be read, or `provisioner.toml` has problems.
pub fn read_provisioner(folder: &Path) -> Result<Provisioner, Rejected> {
    let mut files = BTreeMap::new();
    let mut room = LARGEST;
    read_files(folder, "", &mut files, &mut room)?;
    provisioner_from_files(folder, files)
}

/// Reads every provisioner below `folder`: the sub-folders that have a `provisioner.toml`.
///
/// An absent folder has none. Those that are accepted come first, in order of name.
#[must_use]
pub fn read_provisioners(folder: &Path) -> (Vec<Provisioner>, Vec<Rejected>) {
    let (mut accepted, mut rejected) = (Vec::new(), Vec::new());
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return (accepted, rejected),
        Err(error) => {
            rejected.push(Rejected::without_text(folder, format!("the folder cannot be read: {error}")));
            return (accepted, rejected);
        }
    };
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.sort();
    for folder in folders.into_iter().filter(|folder| folder.join(DEFINITION_FILE).exists()) {
        match read_provisioner(&folder) {
            Ok(provisioner) => accepted.push(provisioner),
            Err(error) => rejected.push(error),
        }
    }
    (accepted, rejected)
}

fn read_files(
    folder: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, Vec<u8>>,
    room: &mut u64,
) -> Result<(), Rejected> {
    let failed = |path: &Path, error: std::io::Error| Rejected::without_text(path, format!("cannot be read: {error}"));
    for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, error))? {
        let entry = entry.map_err(|error| failed(folder, error))?;
        let path = entry.path();
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            return Err(Rejected::without_text(&path, "the file's name is not UTF-8".to_owned()));
        };
        let kind = entry.file_type().map_err(|error| failed(&path, error))?;
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        if kind.is_dir() {
            read_files(&path, &format!("{prefix}{name}/"), files, room)?;
            continue;
        }
        let size = std::fs::metadata(&path).map_err(|error| failed(&path, error))?.len();
        *room = room.checked_sub(size).ok_or_else(|| {
            let message = format!("a provisioner's files may have {} MiB together", LARGEST >> 20);
            Rejected::without_text(&path, message)
        })?;
        files.insert(format!("{prefix}{name}"), std::fs::read(&path).map_err(|error| failed(&path, error))?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_with_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let hub = folder.path().join("hub");
        std::fs::create_dir_all(hub.join("conf")).unwrap();
        std::fs::create_dir_all(folder.path().join("common")).unwrap();
        std::fs::write(hub.join("conf/hub.py"), "c = 1").unwrap();
        std::fs::write(hub.join("install.sh"), "true").unwrap();
        std::fs::write(hub.join(".install.sh.swp"), "x").unwrap();
        let definition = "name = \"hub\"\nversion = 1\nsummary = \"A hub\"\n[[step]]\nrun = \"install.sh\"\n";
        std::fs::write(hub.join(DEFINITION_FILE), definition).unwrap();
        let (accepted, rejected) = read_provisioners(folder.path());
        assert_eq!(rejected, []);
        assert_eq!(accepted[0].files.keys().collect::<Vec<_>>(), ["conf/hub.py", "install.sh"]);
        assert_eq!(read_provisioners(&folder.path().join("none")), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_folder_without_a_definition_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let rejected = read_provisioner(folder.path()).unwrap_err();
        assert!(rejected.problems[0].message.contains("has no `provisioner.toml`"));
    }
}
