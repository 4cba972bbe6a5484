//! A disk over which files go into the guest. ssh's ciphers take an emulated guest seconds for what a disk brings
//! at once.
//!
//! The guest reads it past its page cache, so that it never sees an older content.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use dsimg_machine::{ExitStatus, MachineError, RemoteCommand, Session, SessionError};

/// Sparse: it takes room for what is on its way only.
pub(crate) const SIZE: u64 = 64 << 30;
/// The disk's serial number; udev names it after that.
pub(crate) const SERIAL: &str = "dsimg-transfer";
/// Read at once.
const BLOCK: u64 = 1 << 20;
/// The guest has no such disk under the name that udev gives.
const NO_DISK: u32 = 93;
const SLOWEST_BYTES_PER_SECOND: u64 = 256 << 10;

/// `$1` folder, made if missing, `$2` blocks. The same options as for an archive by ssh.
const UNPACK: &str = r#"
disk=/dev/disk/by-id/virtio-dsimg-transfer
[ -b "$disk" ] || exit 93
umask 022
mkdir -p -- "$1" || exit
dd if="$disk" iflag=direct bs=1M count="$2" status=none |
  tar --extract --file=- --directory="$1" --preserve-permissions --no-same-owner \
    --no-overwrite-dir --keep-directory-symlink
"#;

/// The host's side of the disk.
#[derive(Debug)]
pub(crate) struct Transfer {
    /// One archive at a time.
    file: Mutex<File>,
}

impl Transfer {
    /// Makes the disk; nobody but its owner may read it.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.set_len(SIZE)?;
        Ok(Self { file: Mutex::new(file) })
    }

    /// Unpacks a tar file of this host below `to` in the guest, over the disk where the guest has it.
    pub(crate) async fn bring(&self, session: &dyn Session, archive: &Path, to: &str) -> Result<(), MachineError> {
        let file = self.file.lock().await;
        let size = load(&file, archive).await?;
        let Some(blocks) = size else { return Ok(session.upload_tar(archive, to).await?) };
        let command = RemoteCommand::new(["sh", "-c", UNPACK, "sh", to, &blocks.to_string()])
            .with_timeout(Duration::from_secs(60 + blocks * BLOCK / SLOWEST_BYTES_PER_SECOND));
        let unpacked = session.read(&command).await;
        // What was on its way may be nobody else's business.
        clear(&file).map_err(|error| MachineError::file("cannot clear the disk for", archive, error))?;
        match unpacked {
            Err(SessionError::Failed { status: ExitStatus::Code(NO_DISK), .. }) => {
                Ok(session.upload_tar(archive, to).await?)
            }
            unpacked => Ok(unpacked.map(drop)?),
        }
    }
}

/// Puts the archive at the disk's start, and gives its length in blocks; `None` when it has no room there.
async fn load(file: &File, archive: &Path) -> Result<Option<u64>, MachineError> {
    let failed = |error| MachineError::file("cannot send", archive, error);
    let (mut to, from) = (file.try_clone().map_err(failed)?, archive.to_owned());
    let copied = spawn_blocking(move || -> io::Result<Option<u64>> {
        use std::io::Seek as _;
        let mut from = File::open(from)?;
        let size = from.metadata()?.len();
        if size > SIZE {
            return Ok(None);
        }
        to.rewind()?;
        io::copy(&mut from, &mut to)?;
        Ok(Some(size.div_ceil(BLOCK)))
    });
    match copied.await {
        Ok(copied) => copied.map_err(failed),
        // The runtime is going down.
        Err(_) => Err(MachineError::Cancelled),
    }
}

fn clear(file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.set_len(SIZE)
}
