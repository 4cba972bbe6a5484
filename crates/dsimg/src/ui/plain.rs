//! Progress as plain lines with the time, for logs of CI systems and for ears.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use dsimg_machine::{Event, Level, Reporter};

use crate::ui::lines::Lines;
use crate::ui::{Screen, output, text};

/// Writes to standard error.
#[derive(Debug)]
pub(crate) struct Plain {
    began: Instant,
    quiet: bool,
    /// With several builders each line begins with the builder's name.
    named: bool,
    lines: Mutex<Lines>,
}

impl Plain {
    pub(crate) fn new(named: bool) -> Self {
        Self { began: Instant::now(), quiet: false, named, lines: Mutex::default() }
    }

    /// Warnings only.
    pub(crate) fn quiet() -> Self {
        Self { quiet: true, ..Self::new(true) }
    }

    fn write(&self, builder: &str, line: &str) {
        let name = if self.named && !builder.is_empty() { format!("{builder}: ") } else { String::new() };
        let seconds = self.began.elapsed().as_secs();
        let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds % 3600 / 60, seconds % 60);
        output::say(&format!("[{time}] {name}{}\n", text::printable(line)));
    }
}

impl Reporter for Plain {
    fn report(&self, builder: &str, event: &Event) {
        if self.quiet && !matches!(event, Event::Message { level: Level::Warning, .. }) {
            return;
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Output { stream, bytes } => {
                for line in lines.push(builder, *stream, bytes) {
                    self.write(builder, &format!("  {line}"));
                }
            }
            event => {
                for line in lines.finish(builder) {
                    self.write(builder, &format!("  {line}"));
                }
                describe(event).iter().for_each(|line| self.write(builder, line));
            }
        }
    }
}

impl Screen for Plain {
    fn say(&self, text: &str) {
        output::say(text);
    }
}

/// The event in words; nothing for output, progress and what is for the log only.
pub(crate) fn describe(event: &Event) -> Option<String> {
    match event {
        Event::PhaseStarted { phase } => Some(format!("{} …", phase.describe())),
        Event::PhaseEnded { phase, elapsed } => Some(format!("{}: {}", phase.describe(), text::seconds(*elapsed))),
        Event::StageStarted { number, count, label, provisioner } => {
            let kind = if label == provisioner { String::new() } else { format!(" ({provisioner})") };
            Some(format!("stage {number} of {count}: {label}{kind} …"))
        }
        Event::StageEnded { number, count, label, elapsed } => {
            Some(format!("stage {number} of {count}: {label}: {}", text::seconds(*elapsed)))
        }
        Event::ProgressEnded { what } => Some(format!("{what}: done")),
        Event::Message { level: Level::Info, text } => Some(text.clone()),
        Event::Message { level: Level::Warning, text } => Some(format!("warning: {text}")),
        Event::Output { .. } | Event::Progress { .. } | Event::Message { level: Level::Debug, .. } => None,
    }
}
