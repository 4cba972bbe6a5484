//! The files in an image that was written, read without booting it.

use std::path::Path;

use dsimg_machine::{RunContext, Written};
use dsimg_plan::Digest;
use dsimg_tree::{Disk, Times, TreeError, read_tree};
use tokio::task::spawn_blocking;

use crate::error::BuildError;

/// sha256 of the listing of all files, without their times; `None` where the image lies elsewhere or has a file system that
/// can't be read, which is told.
///
/// # Errors
/// The build is cancelled.
pub(crate) async fn digest_of(
    written: &Written,
    folder: &Path,
    run: &RunContext,
) -> Result<Option<Digest>, BuildError> {
    let Some(image) = written.files.first().map(|artifact| folder.join(&artifact.file)) else { return Ok(None) };
    let reading = spawn_blocking(move || {
        let tree = read_tree(&Disk::open(&image)?.root()?)?;
        Ok::<_, TreeError>(tree.digest(Times::LeftOut).to_string())
    });
    match reading.await.map_err(|_| BuildError::Cancelled)? {
        Ok(digest) => Ok(Digest::parse(&digest)),
        Err(error) => {
            run.warn(format!(
                "the image's files can't be read, so nobody can tell whether they are the same again: {error}"
            ));
            Ok(None)
        }
    }
}
