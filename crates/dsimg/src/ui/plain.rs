//! Progress as plain lines with the time, for logs of CI systems and for ears.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dsimg_machine::{Event, Level, Reporter};

use crate::ui::lines::Lines;
use crate::ui::{Screen, output, text};

/// How often a line tells how far a download is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Writes to standard error.
#[derive(Debug)]
pub(crate) struct Plain {
    began: Instant,
    quiet: bool,
    /// With several builders each line begins with the builder's name.
    named: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lines: Lines,
    /// When a transfer was last told of, by builder and what it is.
    told: BTreeMap<(String, String), Instant>,
}

impl Plain {
    pub(crate) fn new(named: bool) -> Self {
        Self { began: Instant::now(), quiet: false, named, state: Mutex::default() }
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Output { stream, bytes } => {
                for line in state.lines.push(builder, *stream, bytes) {
                    self.write(builder, &format!("  {line}"));
                }
            }
            Event::Progress { what, done, total } => {
                let told = state.told.entry((builder.to_owned(), what.clone())).or_insert_with(Instant::now);
                if told.elapsed() >= PROGRESS_INTERVAL {
                    *told = Instant::now();
                    self.write(builder, &progress(what, *done, *total));
                }
            }
            event => {
                for line in state.lines.finish(builder) {
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

fn progress(what: &str, done: u64, total: Option<u64>) -> String {
    let done_words = text::bytes(done);
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let percent = u128::from(done) * 100 / u128::from(total);
            format!("{what}: {done_words} of {} ({percent} %)", text::bytes(total))
        }
        None => format!("{what}: {done_words}"),
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

#[cfg(test)]
mod tests {
    use dsimg_machine::Phase;

    use super::*;

    #[test]
    fn events_are_said_in_words() {
        let stage = |label: &str| Event::StageStarted {
            number: 2,
            count: 5,
            label: label.to_owned(),
            provisioner: "pip".to_owned(),
        };
        assert_eq!(describe(&stage("pip")).unwrap(), "stage 2 of 5: pip …");
        assert_eq!(describe(&stage("science")).unwrap(), "stage 2 of 5: science (pip) …");
        let ended = Event::PhaseEnded { phase: Phase::Write, elapsed: Duration::from_millis(61_500) };
        assert_eq!(describe(&ended).unwrap(), "write image: 1m 01s");
        assert_eq!(describe(&Event::Message { level: Level::Debug, text: "x".to_owned() }), None);
    }

    #[test]
    fn progress_is_said_with_what_is_known() {
        assert_eq!(progress("base.qcow2", 1 << 20, Some(4 << 20)), "base.qcow2: 1.0 MiB of 4.0 MiB (25 %)");
        assert_eq!(progress("index", 10, None), "index: 10 bytes");
        assert_eq!(progress("empty", 0, Some(0)), "empty: 0 bytes");
    }
}
