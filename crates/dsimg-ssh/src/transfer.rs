//! Files up and down, as streams through `tar` and `cat` in the guest.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dsimg_machine::{ExitStatus, OutputSink, OutputStream, RemoteCommand, SessionError};
use tokio_util::sync::CancellationToken;

use crate::connect::Link;
use crate::deadline::Deadline;
use crate::exec::{Input, Limits, Output, Tail, cannot_write, run};

/// Archives from this size on are worth a connection of their own.
const LARGE: u64 = 1 << 20;
/// A transfer in which no byte moves for so long is given up; the guest may be writing to a slow disk.
const SILENCE: Duration = Duration::from_secs(300);
/// What a guest takes in at the very least, for the limit of a file's writing.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 << 10;

/// `$1` folder, made if missing. What is there keeps its mode, and a link to a folder stays a link: an archive with
/// `./etc/…` in it must not change what `/etc` is. Files belong to who unpacks them: root.
const UNPACK: &str = r#"
umask 022
mkdir -p -- "$1" || exit
exec tar --extract --file=- --directory="$1" --preserve-permissions --no-same-owner \
    --no-overwrite-dir --keep-directory-symlink
"#;

/// `$1` folder, `$2` name in it.
const PACK: &str = r#"exec tar --create --file=- --directory="$1" -- "$2""#;

/// `$1` file, `$2` octal mode, `$3` length: a content cut short by a lost connection must not take the file's place.
const WRITE: &str = r#"
set -e
umask 022
folder=$(dirname -- "$1")
mkdir -p -- "$folder"
umask 077
new=$(mktemp -- "$folder/.dsimg-XXXXXXXX")
trap 'rm -f -- "$new"' EXIT
cat >"$new"
if [ "$(stat -c %s -- "$new")" != "$3" ]; then
    echo "the content came incomplete" >&2
    exit 1
fi
chmod -- "$2" "$new"
mv -f -T -- "$new" "$1"
trap - EXIT
"#;

/// # Errors
/// The archive can't be opened.
pub(crate) async fn open(archive: &Path) -> Result<tokio::fs::File, SessionError> {
    tokio::fs::File::open(archive).await.map_err(|source| cannot_read(archive, source))
}

pub(crate) async fn is_large(archive: &Path, file: &tokio::fs::File) -> Result<bool, SessionError> {
    let about = file.metadata().await.map_err(|source| cannot_read(archive, source))?;
    Ok(about.len() >= LARGE)
}

/// Unpacks the archive below `to`.
pub(crate) async fn upload(
    link: &Arc<Link>,
    elevate: bool,
    cancel: &CancellationToken,
    (file, path): (tokio::fs::File, &Path),
    to: &str,
) -> Result<(), SessionError> {
    let command = RemoteCommand::new(["sh", "-c", UNPACK, "sh", to]);
    let limits = Limits { deadline: Deadline::without_progress(SILENCE), cancel };
    let mut said = Said::default();
    let input = Input::File { file, path };
    let status = run(link, &command, elevate, input, Output::Sink(&mut said), &limits).await?;
    check(&status, format!("tar --extract in {to}"), &said.0)
}

/// Packs the guest's `from` into the archive, which appears when it is whole.
pub(crate) async fn download(
    link: &Arc<Link>,
    elevate: bool,
    cancel: &CancellationToken,
    from: &str,
    archive: &Path,
) -> Result<(), SessionError> {
    let (folder, name) = split(from);
    let command = RemoteCommand::new(["sh", "-c", PACK, "sh", folder, name]);
    let limits = Limits { deadline: Deadline::without_progress(SILENCE), cancel };
    let partial = Partial::beside(archive);
    let mut file = tokio::fs::File::create(&partial.0).await.map_err(|source| cannot_write(&partial.0, source))?;
    let mut stderr = Tail::default();
    let output = Output::File { file: &mut file, path: &partial.0, stderr: &mut stderr };
    let status = run(link, &command, elevate, Input::Bytes(&[]), output, &limits).await?;
    check(&status, format!("tar --create of {from}"), &stderr)?;
    tokio::fs::rename(&partial.0, archive).await.map_err(|source| cannot_write(archive, source))
}

/// The command that writes `content` to `to` by rename.
pub(crate) fn write_command(to: &str, mode: u32, content: &[u8]) -> RemoteCommand {
    let (mode, length) = (format!("{:o}", mode & 0o7777), content.len().to_string());
    let seconds = 60 + content.len() as u64 / SLOWEST_BYTES_PER_SECOND;
    RemoteCommand::new(["sh", "-c", WRITE, "sh", to, &mode, &length])
        .with_stdin(content.to_vec())
        .with_timeout(Duration::from_secs(seconds))
}

fn check(status: &ExitStatus, command: String, stderr: &Tail) -> Result<(), SessionError> {
    if status.success() {
        return Ok(());
    }
    Err(SessionError::Failed { command, status: status.clone(), stderr: stderr.text() })
}

/// Folder and name; the root folder is its own `.`.
fn split(path: &str) -> (&str, &str) {
    let path = path.trim_end_matches('/');
    match path.rsplit_once('/') {
        None if path.is_empty() => ("/", "."),
        None => (".", path),
        Some(("", name)) => ("/", name),
        Some((folder, name)) => (folder, name),
    }
}

fn cannot_read(path: &Path, source: std::io::Error) -> SessionError {
    SessionError::HostFile { action: "cannot read", path: path.to_owned(), source }
}

/// A file that is gone unless it was renamed.
struct Partial(PathBuf);

impl Partial {
    fn beside(path: &Path) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push(".partial");
        Self(name.into())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _renamed = std::fs::remove_file(&self.0);
    }
}

#[derive(Default)]
struct Said(Tail);

impl OutputSink for Said {
    fn write(&mut self, _: OutputStream, bytes: &[u8]) {
        self.0.push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_folder_and_a_name() {
        assert_eq!(split("/etc/apt/"), ("/etc", "apt"));
        assert_eq!(split("/etc"), ("/", "etc"));
        assert_eq!(split("/"), ("/", "."));
        assert_eq!(split("notes.txt"), (".", "notes.txt"));
    }
}
