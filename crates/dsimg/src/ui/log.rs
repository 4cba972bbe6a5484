//! The log file: everything that was reported, one line each, as the machine printed it.

use std::fs::File;
use std::io::{self, LineWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use dsimg_machine::{Event, Level, Reporter};

use crate::ui::lines::Lines;
use crate::ui::plain::describe;

/// Writes lines of the form `[  12.345] builder: text`; the time is in seconds since the log was begun.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: LineWriter<File>,
    lines: Lines,
}

impl LogFile {
    /// Makes the file, for its owner's eyes only.
    ///
    /// # Errors
    /// The file or its folder can't be made.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = File::options().create_new(true).write(true).mode(0o600).open(path)?;
        let state = State { file: LineWriter::new(file), lines: Lines::default() };
        Ok(Self { path: path.to_owned(), began: Instant::now(), state: Mutex::new(state) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Words that are no event, such as the failure at the end.
    pub(crate) fn write(&self, builder: &str, text: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_lines(&mut state, builder, text.lines().map(str::to_owned));
    }

    /// A full disk must not end a build that needs no more room: what can't be written is lost.
    fn write_lines(&self, state: &mut State, builder: &str, lines: impl IntoIterator<Item = String>) {
        let at = self.began.elapsed().as_secs_f64();
        for line in lines {
            drop(writeln!(state.file, "[{at:9.3}] {builder}: {line}"));
        }
    }
}

impl Reporter for LogFile {
    fn report(&self, builder: &str, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = match event {
            Event::Output { stream, bytes } => {
                let lines = state.lines.push(builder, *stream, bytes);
                lines.into_iter().map(|line| format!("| {line}")).collect()
            }
            // Every percent would be a line.
            Event::Progress { .. } => Vec::new(),
            Event::Message { level: Level::Debug, text } => vec![format!("debug: {text}")],
            event => {
                let rest = state.lines.finish(builder);
                rest.into_iter().map(|line| format!("| {line}")).chain(describe(event)).collect()
            }
        };
        self.write_lines(&mut state, builder, lines);
    }
}

#[cfg(test)]
mod tests {
    use dsimg_machine::OutputStream;

    use super::*;

    #[test]
    fn everything_is_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/a.log");
        let log = LogFile::create(&path).unwrap();
        let output = |bytes: &[u8]| Event::Output { stream: OutputStream::Stdout, bytes: bytes.to_owned() };
        log.report("kvm", &output(b"one\n\x1b[31mtwo"));
        log.report("kvm", &Event::Message { level: Level::Debug, text: "inner".to_owned() });
        log.report("kvm", &Event::Message { level: Level::Warning, text: "beware".to_owned() });
        log.write("kvm", "error: x\nhint: y\n");
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().map(|line| line.split_once("] ").unwrap().1).collect();
        let wanted = [
            "kvm: | one",
            "kvm: debug: inner",
            "kvm: | \u{1b}[31mtwo",
            "kvm: warning: beware",
            "kvm: error: x",
            "kvm: hint: y",
        ];
        assert_eq!(lines, wanted);
    }
}
