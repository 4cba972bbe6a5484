//! What every part of one build is handed: who it is, whom it tells, when it must stop.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::event::{Event, Level, Reporter};
use crate::ledger::Ledger;

/// Passed by reference, never global.
#[derive(Clone)]
pub struct RunContext {
    /// Unique among all builds: time, process and random digits.
    pub build_id: String,
    /// The `name` of the `[[builder]]`, with the matrix's combination where there is one.
    pub builder: String,
    /// Where bases, downloads and tools are kept between builds.
    pub cache: PathBuf,
    /// This build's own folder; made and removed by the build, mode 0700.
    pub work: PathBuf,
    pub ledger: Arc<Ledger>,
    pub reporter: Arc<dyn Reporter>,
    /// First Ctrl-C: stop and clean up.
    pub cancel: CancellationToken,
    /// Second Ctrl-C: clean up without the grace periods.
    pub hurry: CancellationToken,
}

impl std::fmt::Debug for RunContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunContext")
            .field("build_id", &self.build_id)
            .field("builder", &self.builder)
            .finish_non_exhaustive()
    }
}

impl RunContext {
    pub fn report(&self, event: &Event) {
        self.reporter.report(&self.builder, event);
    }

    pub fn info(&self, text: impl Into<String>) {
        self.report(&Event::Message { level: Level::Info, text: text.into() });
    }

    pub fn warn(&self, text: impl Into<String>) {
        self.report(&Event::Message { level: Level::Warning, text: text.into() });
    }

    /// For the log file only.
    pub fn debug(&self, text: impl Into<String>) {
        self.report(&Event::Message { level: Level::Debug, text: text.into() });
    }
}
