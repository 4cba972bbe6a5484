//! Files of the guest that come out beside the image.

use std::fs::File;
use std::path::{Component, Path};

use dsimg_machine::{RunContext, Session};

use crate::error::BuildError;

/// Brings a file or folder of the guest to `to` below the image's folder.
///
/// # Errors
/// The guest has no such file, `to` leads outside, or the disk does not take it.
pub(crate) async fn fetch(
    from: &str,
    to: &Path,
    session: &dyn Session,
    image_folder: &Path,
    run: &RunContext,
) -> Result<(), BuildError> {
    let stays_inside = to.components().all(|part| matches!(part, Component::Normal(_)));
    if !stays_inside || to.as_os_str().is_empty() {
        let why = std::io::Error::other("it leads outside the image's folder");
        return Err(BuildError::file("cannot fetch to", to, why));
    }
    let archive = run.work.join("fetch.tar");
    session.download_tar(from, &archive).await?;
    let (packed, target) = (archive.clone(), image_folder.join(to));
    tokio::task::spawn_blocking(move || unpack(&packed, &target)).await.expect("unpacking does not panic")?;
    std::fs::remove_file(&archive).map_err(|error| BuildError::file("cannot remove", &archive, error))
}

/// The archive's first part of each name is the fetched file's own; it becomes `target`.
/// The guest is not trusted: names that lead outside, links and devices are passed over.
fn unpack(archive: &Path, target: &Path) -> Result<(), BuildError> {
    let unwritable = |error| BuildError::file("cannot write", target, error);
    let mut tar = tar::Archive::new(File::open(archive).map_err(unwritable)?);
    for entry in tar.entries().map_err(unwritable)? {
        let mut entry = entry.map_err(unwritable)?;
        let path = entry.path().map_err(unwritable)?.into_owned();
        let inner: Vec<_> = path.components().skip_while(|part| *part == Component::CurDir).skip(1).collect();
        if !inner.iter().all(|part| matches!(part, Component::Normal(_))) {
            continue;
        }
        let place = inner.iter().fold(target.to_owned(), |place, part| place.join(part));
        if entry.header().entry_type().is_dir() {
            std::fs::create_dir_all(&place).map_err(unwritable)?;
        } else if entry.header().entry_type().is_file() {
            if let Some(parent) = place.parent() {
                std::fs::create_dir_all(parent).map_err(unwritable)?;
            }
            let mut file = File::create(&place).map_err(unwritable)?;
            std::io::copy(&mut entry, &mut file).map_err(unwritable)?;
        }
    }
    Ok(())
}
