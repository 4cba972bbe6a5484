//! Progress at a terminal: what is being done and for how long, the last lines of its output, bars for downloads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use dsimg_machine::{Event, Level, Reporter};

use crate::ui::lines::Lines;
use crate::ui::plain::describe;
use crate::ui::{Screen, output, text};

/// How many lines of output are shown below what is being done.
const TAIL: usize = 3;
/// How often the elapsed time is drawn anew.
const TICK: Duration = Duration::from_millis(200);

/// Draws on standard error; what ended stays above as a line of text.
#[derive(Debug)]
pub(crate) struct Terminal {
    bars: MultiProgress,
    named: bool,
    coloured: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lines: Lines,
    builders: BTreeMap<String, Area>,
}

/// What is drawn for one builder.
#[derive(Debug)]
struct Area {
    bars: MultiProgress,
    status: ProgressBar,
    /// How a line of output looks.
    line: &'static str,
    tail: Vec<ProgressBar>,
    shown: VecDeque<String>,
    /// By what they show the progress of.
    transfers: BTreeMap<String, ProgressBar>,
}

impl Terminal {
    pub(crate) fn new(builders: &[String]) -> Self {
        Self::on(ProgressDrawTarget::stderr(), builders, !crate::environment::no_colour())
    }

    fn on(target: ProgressDrawTarget, builders: &[String], coloured: bool) -> Self {
        let bars = MultiProgress::with_draw_target(target);
        Self { bars, named: builders.len() > 1, coloured, state: Mutex::default() }
    }

    fn area<'a>(&self, state: &'a mut State, builder: &str) -> &'a mut Area {
        state.builders.entry(builder.to_owned()).or_insert_with(|| self.new_area(builder))
    }

    fn new_area(&self, builder: &str) -> Area {
        let name = if self.named { format!("{builder}: ") } else { String::new() };
        let status = self.bars.add(ProgressBar::new_spinner());
        status.set_style(style(&format!("{{spinner}} {}{{wide_msg}} {{elapsed_precise}}", escape(&name))));
        status.enable_steady_tick(TICK);
        let line = if self.coloured { "  {wide_msg:.dim}" } else { "  {wide_msg}" };
        let bars = self.bars.clone();
        Area { bars, status, line, tail: Vec::new(), shown: VecDeque::new(), transfers: BTreeMap::new() }
    }

    /// A line that stays, above all that moves.
    fn keep(&self, builder: &str, mark: &str, line: &str) {
        let name = if self.named && !builder.is_empty() { format!("{builder}: ") } else { String::new() };
        let text = format!("{mark} {name}{}", text::printable(line));
        // Fails where standard error is closed: there is nobody to tell.
        if self.bars.is_hidden() {
            output::say(&format!("{text}\n"));
        } else {
            drop(self.bars.println(text));
        }
    }
}

impl Reporter for Terminal {
    fn report(&self, builder: &str, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Output { stream, bytes } => {
                let lines = state.lines.push(builder, *stream, bytes);
                self.area(&mut state, builder).show(lines);
            }
            Event::PhaseStarted { .. } | Event::StageStarted { .. } => {
                let words = describe(event).unwrap_or_default();
                self.area(&mut state, builder).begin(words.trim_end_matches(" …"));
            }
            Event::PhaseEnded { .. } | Event::StageEnded { .. } => {
                state.lines.finish(builder);
                self.area(&mut state, builder).end();
                // Freezing comes after each stage, and nobody waits for it.
                if !is_short(event) {
                    self.keep(builder, "✓", &describe(event).unwrap_or_default());
                }
            }
            Event::Progress { what, done, total } => {
                self.area(&mut state, builder).progress(what, *done, *total);
            }
            Event::ProgressEnded { what } => {
                if let Some(bar) = self.area(&mut state, builder).transfers.remove(what) {
                    bar.finish_and_clear();
                    self.bars.remove(&bar);
                }
            }
            Event::Message { level: Level::Debug, .. } => {}
            Event::Message { level: Level::Info, text } => self.keep(builder, "·", text),
            Event::Message { level: Level::Warning, text } => self.keep(builder, "!", &format!("warning: {text}")),
        }
    }
}

impl Screen for Terminal {
    fn say(&self, text: &str) {
        self.bars.suspend(|| output::say(text));
    }

    fn image(&self, text: &str) {
        self.bars.suspend(|| drop(output::print(text)));
    }

    fn end(&self, builder: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(area) = state.builders.remove(builder) {
            area.remove();
        }
    }

    fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.builders).into_values().for_each(Area::remove);
        drop(self.bars.clear());
    }
}

impl Area {
    fn remove(self) {
        for bar in self.transfers.into_values().chain(self.tail).chain([self.status]) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn begin(&mut self, words: &str) {
        self.status.reset_elapsed();
        self.status.set_message(text::printable(words));
        self.clear_tail();
    }

    fn end(&mut self) {
        self.status.set_message("");
        self.clear_tail();
    }

    fn clear_tail(&mut self) {
        self.shown.clear();
        for bar in self.tail.drain(..) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    /// The area grows with the first lines.
    fn show(&mut self, lines: Vec<String>) {
        let fit = lines.iter().map(|line| text::printable(line)).filter(|line| !line.trim().is_empty());
        self.shown.extend(fit);
        while self.shown.len() > TAIL {
            self.shown.pop_front();
        }
        while self.tail.len() < self.shown.len() {
            let last = self.tail.last().unwrap_or(&self.status);
            let bar = ProgressBar::new_spinner().with_style(style(self.line));
            self.tail.push(self.bars.insert_after(last, bar));
        }
        self.shown.iter().zip(&self.tail).for_each(|(line, bar)| bar.set_message(line.clone()));
    }

    /// Bytes.
    fn progress(&mut self, what: &str, done: u64, total: Option<u64>) {
        let bar = self.transfers.entry(what.to_owned()).or_insert_with(|| {
            let bar = self.bars.insert_after(&self.status, ProgressBar::no_length());
            bar.set_style(style(transfer_style(total)));
            bar.set_message(text::printable(what));
            bar
        });
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
    }
}

fn transfer_style(total: Option<u64>) -> &'static str {
    match total {
        Some(_) => "  {msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
        None => "  {msg} {binary_bytes}, {binary_bytes_per_sec}",
    }
}

fn is_short(event: &Event) -> bool {
    let limit = Duration::from_secs(2);
    matches!(event, Event::PhaseEnded { elapsed, .. } if *elapsed < limit)
}

/// Braces have a meaning in styles.
fn escape(name: &str) -> String {
    name.replace('{', "{{").replace('}', "}}")
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the templates of this file are sound");
    style.progress_chars("=> ").tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}

#[cfg(test)]
mod tests;
