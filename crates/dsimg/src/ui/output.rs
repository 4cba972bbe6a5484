//! Writing to the two standard streams: nothing else in this program prints.

use std::fs::Permissions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::failure::{Code, Failure};

/// Prints a result on standard output. A reader that went away, such as `head`, is no failure.
///
/// # Errors
/// The text can't be written, for example because the disk is full.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Code::Build, "cannot write to standard output").because(error))
        }
        _ => Ok(()),
    }
}

/// Prints a result, or puts it into a file that the user named: whole or not at all.
///
/// # Errors
/// The text can't be written.
pub(crate) fn deliver(text: &str, file: Option<&Path>) -> Result<(), Failure> {
    let Some(file) = file else { return print(text) };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut new = tempfile::Builder::new().prefix(".dsimg-").tempfile_in(folder)?;
        new.write_all(text.as_bytes())?;
        new.as_file().set_permissions(Permissions::from_mode(0o644))?;
        new.persist(file).map_err(|error| error.error)
    };
    write().map(drop).map_err(|error| Failure::file("cannot write", file, error))
}

/// Says something on standard error. Where that is closed there is nobody to tell.
pub(crate) fn say(text: &str) {
    let mut stderr = io::stderr().lock();
    drop(stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()));
}

/// Says something and remembers it, for a log that is begun later.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<String>);

impl Remembered {
    pub(crate) fn say(&self, text: &str) {
        say(text);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
    }

    pub(crate) fn take(&self) -> String {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
