//! R packages: folders with a `DESCRIPTION`, built, in any library.

use std::sync::Arc;

use super::{Ecosystem, Lists, Owner, Owners, field};
use crate::error::TreeError;

const DESCRIPTION: &[u8] = b"/DESCRIPTION";

pub(super) fn read(lists: &Lists<'_>, owners: &mut Owners) -> Result<(), TreeError> {
    for entry in lists.tree.entries().iter().filter(|entry| entry.path.ends_with(DESCRIPTION)) {
        let folder = &entry.path[..entry.path.len() - DESCRIPTION.len()];
        // What R itself reads of an installed package; a source package has none.
        if lists.tree.get(&[folder, b"/Meta/package.rds"].concat()).is_none() {
            continue;
        }
        let description = lists.text(&entry.path)?.unwrap_or_default();
        let (Some(name), Some(version)) = (field(&description, "Package"), field(&description, "Version")) else {
            continue;
        };
        let library = &folder[..folder.iter().rposition(|byte| *byte == b'/').unwrap_or(0)];
        let owner = Owner {
            ecosystem: Ecosystem::R,
            name: name.to_owned(),
            version: version.to_owned(),
            place: String::from_utf8_lossy(library).into_owned(),
        };
        owners.folders.insert(folder.to_vec(), Arc::new(owner));
    }
    Ok(())
}
