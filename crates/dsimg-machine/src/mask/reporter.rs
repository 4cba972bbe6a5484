//! A reporter through which nothing passes uncovered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::{Event, OutputStream, Reporter};

use super::{MaskedStream, Masker};

/// Covers secrets in every event before another reporter sees it.
pub struct MaskingReporter {
    masker: Arc<Masker>,
    inner: Arc<dyn Reporter>,
    /// By builder and stream.
    streams: Mutex<BTreeMap<(String, OutputStream), MaskedStream>>,
}

impl std::fmt::Debug for MaskingReporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MaskingReporter").finish_non_exhaustive()
    }
}

impl MaskingReporter {
    #[must_use]
    pub fn new(masker: Arc<Masker>, inner: Arc<dyn Reporter>) -> Self {
        Self { masker, inner, streams: Mutex::new(BTreeMap::new()) }
    }

    /// Passes on what was held back of a builder's output: the beginning of a secret that did not go on.
    pub fn finish(&self, builder: &str) {
        for (stream, bytes) in self.take_held(builder) {
            self.inner.report(builder, &Event::Output { stream, bytes });
        }
    }

    fn take_held(&self, builder: &str) -> Vec<(OutputStream, Vec<u8>)> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let own = streams.iter_mut().filter(|((of, _), _)| of == builder);
        own.map(|((_, stream), held)| (*stream, held.finish())).filter(|(_, bytes)| !bytes.is_empty()).collect()
    }

    fn push(&self, builder: &str, stream: OutputStream, bytes: &[u8]) -> Vec<u8> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let held = streams.entry((builder.to_owned(), stream)).or_insert_with(|| self.masker.stream());
        held.push(bytes)
    }

    fn text(&self, text: &str) -> String {
        self.masker.mask_text(text)
    }

    /// Every text of an event that is not output.
    fn masked(&self, event: &Event) -> Event {
        match event {
            Event::StageStarted { number, count, label, provisioner } => Event::StageStarted {
                number: *number,
                count: *count,
                label: self.text(label),
                provisioner: provisioner.clone(),
            },
            Event::StageEnded { number, count, label, elapsed } => {
                Event::StageEnded { number: *number, count: *count, label: self.text(label), elapsed: *elapsed }
            }
            Event::Progress { what, done, total } => {
                Event::Progress { what: self.text(what), done: *done, total: *total }
            }
            Event::ProgressEnded { what } => Event::ProgressEnded { what: self.text(what) },
            Event::Message { level, text } => Event::Message { level: *level, text: self.text(text) },
            Event::PhaseStarted { .. } | Event::PhaseEnded { .. } | Event::Output { .. } => event.clone(),
        }
    }
}

impl Reporter for MaskingReporter {
    fn report(&self, builder: &str, event: &Event) {
        match event {
            Event::Output { stream, bytes } => {
                let bytes = self.push(builder, *stream, bytes);
                if !bytes.is_empty() {
                    self.inner.report(builder, &Event::Output { stream: *stream, bytes });
                }
            }
            event => {
                // A part of a build that begins or ends is also the end of what was printed in the one before.
                let is_border =
                    !matches!(event, Event::Message { .. } | Event::Progress { .. } | Event::ProgressEnded { .. });
                if is_border {
                    self.finish(builder);
                }
                self.inner.report(builder, &self.masked(event));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Level;

    #[derive(Default)]
    struct Seen(Mutex<Vec<Event>>);

    impl Reporter for Seen {
        fn report(&self, _: &str, event: &Event) {
            self.0.lock().unwrap().push(event.clone());
        }
    }

    fn output(bytes: &[u8]) -> Event {
        Event::Output { stream: OutputStream::Stdout, bytes: bytes.to_owned() }
    }

    #[test]
    fn output_and_messages_are_covered() {
        let seen = Arc::new(Seen::default());
        let reporter = MaskingReporter::new(Arc::new(Masker::new(["s3cret"])), seen.clone());
        reporter.report("kvm", &output(b"token s3c"));
        reporter.report("kvm", &output(b"ret, and s3"));
        reporter.report("aws", &output(b"cret"));
        reporter.report("kvm", &Event::Message { level: Level::Info, text: "with s3cret".to_owned() });
        reporter.report("kvm", &Event::ProgressEnded { what: "http://u:s3cret@x".to_owned() });
        let end = Event::StageEnded { number: 1, count: 2, label: "s3cret".to_owned(), elapsed: Default::default() };
        reporter.report("kvm", &end);
        let covered_end =
            Event::StageEnded { number: 1, count: 2, label: "***".to_owned(), elapsed: Default::default() };
        let expected = [
            output(b"token "),
            output(b"***, and "),
            output(b"cret"),
            Event::Message { level: Level::Info, text: "with ***".to_owned() },
            Event::ProgressEnded { what: "http://u:***@x".to_owned() },
            output(b"s3"),
            covered_end,
        ];
        assert_eq!(*seen.0.lock().unwrap(), expected);
    }
}
