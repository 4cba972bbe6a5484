//! The guest's serial console: written to a file, its end kept for error reports, read for signs of a dead boot.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::tail::{Tail, last_lines};

/// The guest decides how much it writes; the log takes no more of it than this.
const LOG_LIMIT: usize = 16 << 20;
const TAIL: usize = 32 << 10;
const LINES_SHOWN: usize = 20;

/// What firmware and kernels write when no boot will come of it, and what that means.
const SIGNS: [(&str, &str); 5] = [
    ("Kernel panic - not syncing", "the guest's kernel panicked"),
    ("No bootable device.", "the firmware found nothing to boot on the disk"),
    ("No bootable option or device was found", "the firmware found nothing to boot on the disk"),
    ("UEFI Interactive Shell", "the firmware found nothing to boot on the disk"),
    ("You are in emergency mode", "the guest's system stopped in emergency mode"),
];

/// The console of one machine.
#[derive(Debug)]
pub(crate) struct Console {
    tail: Arc<Mutex<Tail>>,
    sign: watch::Receiver<Option<&'static str>>,
    task: JoinHandle<()>,
}

impl Console {
    /// Reads the console from now on; the file must not exist yet.
    pub(crate) fn open(stream: UnixStream, log: &Path) -> io::Result<Self> {
        let log = std::fs::OpenOptions::new().write(true).create_new(true).open(log)?;
        let tail = Arc::new(Mutex::new(Tail::new(TAIL)));
        let (found, sign) = watch::channel(None);
        let task = tokio::spawn(drain(stream, log.into(), Arc::clone(&tail), found));
        Ok(Self { tail, sign, task })
    }

    /// The last lines, safe to print.
    pub(crate) fn last_lines(&self) -> String {
        last_lines(&self.tail.lock().unwrap_or_else(PoisonError::into_inner).bytes(), LINES_SHOWN)
    }

    /// Why the boot will not come to anything, in words, once the console shows it.
    pub(crate) fn sign(&self) -> watch::Receiver<Option<&'static str>> {
        self.sign.clone()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A console that nobody reads would hold the guest up, so a failing log file does not end this.
async fn drain(
    mut stream: UnixStream,
    mut log: tokio::fs::File,
    tail: Arc<Mutex<Tail>>,
    found: watch::Sender<Option<&'static str>>,
) {
    let mut buffer = vec![0; 16 << 10];
    let mut scanner = Scanner::default();
    let mut room = LOG_LIMIT;
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let bytes = &buffer[..count];
        tail.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        if let Some(sign) = scanner.scan(bytes) {
            found.send_replace(Some(sign));
        }
        let kept = &bytes[..count.min(room)];
        if !kept.is_empty() && log.write_all(kept).await.is_ok() && log.flush().await.is_ok() {
            room -= kept.len();
        } else {
            room = 0;
        }
    }
}

/// Finds the signs in a stream that comes in pieces.
#[derive(Debug, Default)]
struct Scanner {
    /// The end of what was seen before, as long as the longest sign.
    carry: Vec<u8>,
}

impl Scanner {
    fn scan(&mut self, bytes: &[u8]) -> Option<&'static str> {
        self.carry.extend_from_slice(bytes);
        let contains = |sign: &str| self.carry.windows(sign.len()).any(|window| window == sign.as_bytes());
        let found = SIGNS.iter().find(|(sign, _)| contains(sign)).map(|(_, meaning)| *meaning);
        let longest = SIGNS.iter().map(|(sign, _)| sign.len()).max().unwrap_or_default();
        self.carry.drain(..self.carry.len().saturating_sub(longest));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_is_found_across_pieces() {
        let mut scanner = Scanner::default();
        assert_eq!(scanner.scan(b"[    1.0] Kernel panic - not"), None);
        assert_eq!(scanner.scan(b" syncing: VFS: Unable to mount"), Some("the guest's kernel panicked"));
        assert_eq!(scanner.scan(&[b'x'; 100]), None);
        assert!(scanner.carry.len() < 50);
    }

    #[tokio::test]
    async fn the_log_is_capped_and_the_tail_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("console.log");
        let (mut guest, ours) = UnixStream::pair().unwrap();
        let mut console = Console::open(ours, &log).unwrap();
        let line = [b'a'; 1 << 16];
        for _ in 0..(LOG_LIMIT / line.len() + 4) {
            guest.write_all(&line).await.unwrap();
        }
        guest.write_all(b"\nthe end\n").await.unwrap();
        drop(guest);
        (&mut console.task).await.unwrap();
        assert_eq!(std::fs::metadata(&log).unwrap().len(), LOG_LIMIT as u64);
        assert!(console.last_lines().ends_with("\nthe end"));
    }
}
