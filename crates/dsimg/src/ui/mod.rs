//! Drawing what happens: on the terminal, as lines, as JSON, and always into the log.

pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod log;
pub(crate) mod output;
pub(crate) mod plain;
pub(crate) mod terminal;
pub(crate) mod text;

use std::io::IsTerminal as _;
use std::sync::Arc;

use dsimg_machine::{Event, Reporter};

use crate::arguments::Progress;
use crate::environment;

/// What shows the progress of builds: events while they run, and words of the command itself between them.
pub(crate) trait Screen: Reporter {
    /// Lines that stay, such as what comes at the end.
    fn say(&self, text: &str);

    /// What a build gave, in words.
    fn image(&self, text: &str) {
        // Where nobody reads, the image is there all the same.
        drop(output::print(text));
    }

    /// How one builder's build ended, for programs.
    fn result(&self, _builder: &str, _fields: &serde_json::Value) {}

    /// Nothing more comes of this builder.
    fn end(&self, _builder: &str) {}

    /// Everything that moves is taken from the screen.
    fn finish(&self) {}
}

/// The screen that the arguments ask for; `builders` are the names of those that will run.
pub(crate) fn screen(json: bool, progress: Progress, builders: &[String]) -> Arc<dyn Screen> {
    let is_terminal = std::io::stderr().is_terminal() && !environment::no_movement();
    match progress {
        _ if json => Arc::new(json::JsonLines::default()),
        Progress::Quiet => Arc::new(plain::Plain::quiet()),
        Progress::Tty => Arc::new(terminal::Terminal::new(builders)),
        Progress::Auto if is_terminal => Arc::new(terminal::Terminal::new(builders)),
        Progress::Auto | Progress::Plain => Arc::new(plain::Plain::new(builders.len() > 1)),
    }
}

/// Whether reports on standard error may have colours.
pub(crate) fn colours() -> bool {
    std::io::stderr().is_terminal() && !environment::no_colour()
}

/// Passes every event to both.
pub(crate) struct Both<A: ?Sized, B: ?Sized>(pub Arc<A>, pub Arc<B>);

impl<A: Reporter + ?Sized, B: Reporter + ?Sized> Reporter for Both<A, B> {
    fn report(&self, builder: &str, event: &Event) {
        self.0.report(builder, event);
        self.1.report(builder, event);
    }
}
