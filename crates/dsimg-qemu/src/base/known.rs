//! Bases by their digest: those that are in the cache, and those that come from another host.

use std::path::{Path, PathBuf};

use dsimg_machine::{BaseImage, KnownBase, MachineError, RunContext};
use dsimg_plan::Digest;
use dsimg_plan::plan::PlannedBase;

use super::store::{self, DISK, Place};
use super::{bootstrap, image};

/// The base of the cache with this digest. What the template says about the base stands over what was noted of it.
///
/// # Errors
/// The cache can't be read.
pub(crate) fn find(base: &PlannedBase, sha256: &Digest, cache: &Path) -> Result<Option<KnownBase>, MachineError> {
    let found = folders(&cache.join("bases"))?.iter().find_map(|folder| {
        let known = bootstrap::read(folder).or_else(|| store::read(folder))?;
        (known.image.sha256 == *sha256).then_some(known)
    });
    Ok(found.map(|known| KnownBase { image: as_planned(known.image, base), ..known }))
}

/// Moves the file into the cache, where it is found by its digest.
///
/// # Errors
/// The cache can't be written, or the build was cancelled.
pub(crate) async fn adopt(known: &KnownBase, run: &RunContext) -> Result<(), MachineError> {
    let place = Place::lock(&format!("adopted-{}", known.image.sha256), run).await?;
    if place.find().is_some() {
        return Ok(());
    }
    let workshop = place.workshop()?;
    let (from, to) = (&known.image.path, workshop.path().join(DISK));
    std::fs::rename(from, &to).map_err(|error| MachineError::file("cannot move a base to", &to, error))?;
    place.publish_known(workshop, known.clone()).map(drop)
}

fn as_planned(found: BaseImage, base: &PlannedBase) -> BaseImage {
    match base {
        PlannedBase::Image(source) => image::describe(source, found),
        PlannedBase::Bootstrap(_) | PlannedBase::Ami(_) => found,
    }
}

/// In the order of their names; none where there is no cache yet.
fn folders(bases: &Path) -> Result<Vec<PathBuf>, MachineError> {
    let entries = match std::fs::read_dir(bases).and_then(Iterator::collect::<std::io::Result<Vec<_>>>) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        entries => entries.map_err(|error| MachineError::file("cannot read", bases, error))?,
    };
    let is_in_use = |entry: &std::fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    let mut folders: Vec<_> = entries.iter().filter(|entry| is_in_use(entry)).map(std::fs::DirEntry::path).collect();
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::base::used_parts_of;
    use crate::testing::TestRun;

    fn planned(user: &str) -> PlannedBase {
        let text = format!(
            r#"{{"image": {{"location": {{"path": "b.qcow2"}}, "checksum": {{"sha256": "{}"}}, "format": null, "user": {user}}}}}"#,
            "0".repeat(64)
        );
        serde_json::from_str(&text).unwrap()
    }

    #[tokio::test]
    async fn a_base_of_another_host_is_found_by_its_digest() {
        let run = TestRun::new();
        let cache = &run.context.cache;
        let sha256 = Digest::of_bytes(b"disk");
        assert_eq!(find(&planned("null"), &sha256, cache).unwrap(), None);
        let file = run.context.work.join("came");
        std::fs::write(&file, "disk").unwrap();
        let image = BaseImage {
            path: file.clone(),
            id: None,
            sha256: sha256.clone(),
            description: "debian trixie, made 2026-11-21".to_owned(),
            virtual_size: 4,
            user: "debian".to_owned(),
        };
        let known = KnownBase { image, written: vec![(1, 3)] };
        adopt(&known, &run.context).await.unwrap();
        assert!(!file.exists(), "it is moved");
        // Another build was first.
        adopt(&known, &run.context).await.unwrap();

        let found = find(&planned("\"ada\""), &sha256, cache).unwrap().unwrap();
        assert_eq!(std::fs::read(&found.image.path).unwrap(), b"disk");
        assert_eq!((found.image.user.as_str(), &found.written), ("ada", &known.written));
        assert_eq!(used_parts_of(&found.image.path), Some(known.written));
        assert_eq!(find(&planned("null"), &Digest::of_bytes(b"other"), cache).unwrap(), None);
        // One that was touched is none.
        std::fs::set_permissions(&found.image.path, PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::write(&found.image.path, "disc").unwrap();
        assert_eq!(find(&planned("null"), &sha256, cache).unwrap(), None);
    }
}
