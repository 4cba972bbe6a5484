//! The disk of a machine that is off, written anew from its files: the same files give the same disk.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tokio::task::spawn_blocking;

use dsimg_machine::{MachineError, RunContext};
use dsimg_plan::Digest;
use dsimg_tree::SealSettings;

use crate::base::used_parts;

/// Directories' hashes begin with it. The same for all images: they are to be equal.
const HASH_SEED: [u8; 16] = *b"dsimg hash seed.";

/// Makes the raw disk `sealed` of `whole`, which goes if this does not fail. Gives the sha256 of the files' listing.
///
/// # Errors
/// The disk was not shut down in order, its file system has features that can't be made anew, or the host's disk is full.
pub(crate) async fn write_anew(
    whole: PathBuf,
    sealed: PathBuf,
    epoch: i64,
    run: &RunContext,
) -> Result<Digest, MachineError> {
    let out_of_range =
        |_| MachineError::refused(format!("the time {epoch} can't be that of files"), "report this as a bug");
    let settings = SealSettings { epoch: u32::try_from(epoch).map_err(out_of_range)?, hash_seed: HASH_SEED };
    // It can't be stopped half-way; it takes seconds.
    let sealing = spawn_blocking(move || {
        let sealed = dsimg_tree::seal(&whole, &sealed, &settings).map_err(|error| {
            let hint = error.hint().unwrap_or("leave `seal` out of `[image]`");
            MachineError::refused(format!("the image can't be sealed: {error}"), hint)
        })?;
        fs::remove_file(&whole).map_err(|error| MachineError::file("cannot remove", &whole, error))?;
        Ok::<_, MachineError>(sealed.digest.to_string())
    });
    let digest = sealing.await.map_err(|_| MachineError::Cancelled)??;
    if run.cancel.is_cancelled() {
        return Err(MachineError::Cancelled);
    }
    Ok(Digest::parse(&digest).expect("a sha256 has 64 hex digits"))
}

/// Writes beside the image which parts of a sealed disk are in use: zeros that the file system counts on are holes in the file.
pub(crate) fn used_parts_of(sealed: &Path, folder: &Path) -> Result<(), MachineError> {
    let file = File::open(sealed).map_err(|error| MachineError::file("cannot read", sealed, error))?;
    let used = used_parts(&file).map_err(|error| MachineError::file("cannot read", sealed, error))?;
    used.write(folder).map_err(|error| MachineError::file("cannot write into", folder, error))
}
