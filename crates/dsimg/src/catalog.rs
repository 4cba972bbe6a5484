//! The provisioners that a template may name: those inside this program, and those beside the template.

use std::collections::BTreeMap;
use std::path::Path;

use include_dir::{Dir, include_dir};

use dsimg_template::{Catalog, DEFINITION_FILE, Rejected, provisioner_from_files, read_provisioners};

static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../provisioners");

/// The folder of shell functions that every provisioner's scripts find.
const COMMON: &str = "common";

/// The shipped provisioners, with those of `provisioners/` beside the template over them.
///
/// # Errors
/// The definitions beside the template that were not accepted.
pub(crate) fn read(template: &Path) -> Result<Catalog, Vec<Rejected>> {
    let mut catalog = shipped()?;
    let beside = template.parent().unwrap_or(Path::new("")).join("provisioners");
    let (own, rejected) = read_provisioners(&beside);
    if !rejected.is_empty() {
        return Err(rejected);
    }
    own.into_iter().for_each(|provisioner| catalog.add(provisioner));
    Ok(catalog)
}

/// The shipped provisioners alone.
///
/// # Errors
/// One of them has a mistake in it; the tests make sure that none has.
pub(crate) fn shipped() -> Result<Catalog, Vec<Rejected>> {
    let mut catalog = Catalog::default();
    let mut rejected = Vec::new();
    for folder in SHIPPED.dirs() {
        let mut files = BTreeMap::new();
        collect(folder, folder.path(), &mut files);
        if folder.path() == Path::new(COMMON) {
            files.into_iter().for_each(|(path, content)| catalog.add_common(path, content));
        } else if files.contains_key(DEFINITION_FILE) {
            match provisioner_from_files(&Path::new("provisioners").join(folder.path()), files) {
                Ok(provisioner) => catalog.add(provisioner),
                Err(error) => rejected.push(error),
            }
        }
    }
    if rejected.is_empty() { Ok(catalog) } else { Err(rejected) }
}

fn collect(folder: &Dir<'_>, root: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for file in folder.files() {
        let path = file.path().strip_prefix(root).unwrap_or(file.path());
        files.insert(path.to_string_lossy().into_owned(), file.contents().to_vec());
    }
    folder.dirs().for_each(|inner| collect(inner, root, files));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_provisioner_is_accepted() {
        let catalog = shipped().unwrap();
        for name in ["apt", "file", "hygiene", "pip", "reboot", "shell"] {
            assert!(catalog.get(name).is_some(), "{name}");
        }
        assert!(catalog.common().contains_key("messages.sh"));
    }
}
