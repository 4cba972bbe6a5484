// To the other writer: see crates/dsimg/TWO-WRITERS.md
//! Secrets are covered with asterisks in everything that leaves the program, in the forms that programs give them,
//! also where a secret is cut by the border of two pieces.

mod forms;
mod reporter;

use std::collections::BTreeSet;
use std::sync::Arc;

use aho_corasick::AhoCorasick;

pub use reporter::MaskingReporter;

/// A shorter secret can't be covered: what looks like it is in every line.
pub const SHORTEST_SECRET: usize = 4;

const COVER: &[u8] = b"***";

/// Knows all forms of some secrets.
pub struct Masker {
    /// Absent where there is nothing to cover.
    search: Option<AhoCorasick>,
    /// Sorted; for the look at what may be the beginning of one.
    patterns: Vec<Vec<u8>>,
    longest: usize,
}

impl std::fmt::Debug for Masker {
    /// The patterns are the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masker").field("patterns", &self.patterns.len()).finish_non_exhaustive()
    }
}

impl Masker {
    /// Secrets of fewer than [`SHORTEST_SECRET`] bytes are not covered; the caller refuses them.
    #[must_use]
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let secrets = secrets.into_iter().filter(|secret| secret.len() >= SHORTEST_SECRET);
        let patterns: BTreeSet<Vec<u8>> = secrets.flat_map(forms::all).collect();
        let patterns: Vec<_> = patterns.into_iter().collect();
        let longest = patterns.iter().map(Vec::len).max().unwrap_or(0);
        let search = (!patterns.is_empty())
            .then(|| AhoCorasick::new(&patterns).expect("a few short patterns fit into an automaton"));
        Self { search, patterns, longest }
    }

    /// A whole text with all secrets covered.
    #[must_use]
    pub fn mask(&self, bytes: &[u8]) -> Vec<u8> {
        let mut covered = Vec::with_capacity(bytes.len());
        let mut at = 0;
        for (start, end) in self.covered_ranges(bytes) {
            covered.extend_from_slice(&bytes[at..start]);
            covered.extend_from_slice(COVER);
            at = end;
        }
        covered.extend_from_slice(&bytes[at..]);
        covered
    }

    /// As [`Masker::mask`].
    #[must_use]
    pub fn mask_text(&self, text: &str) -> String {
        // A pattern is a piece of text or ASCII, so what stays between two covers is text as well.
        String::from_utf8_lossy(&self.mask(text.as_bytes())).into_owned()
    }

    /// For bytes that come in pieces.
    #[must_use]
    pub fn stream(self: &Arc<Self>) -> MaskedStream {
        MaskedStream { masker: Arc::clone(self), held: Vec::new(), covered: 0 }
    }

    /// What matches cover, in order; ranges that overlap are one.
    fn covered_ranges(&self, bytes: &[u8]) -> Vec<(usize, usize)> {
        let Some(search) = &self.search else { return Vec::new() };
        let mut found: Vec<_> = search.find_overlapping_iter(bytes).map(|found| (found.start(), found.end())).collect();
        found.sort_unstable();
        let mut ranges: Vec<(usize, usize)> = Vec::with_capacity(found.len());
        for (start, end) in found {
            match ranges.last_mut() {
                Some(last) if start < last.1 => last.1 = last.1.max(end),
                _ => ranges.push((start, end)),
            }
        }
        ranges
    }

    /// Where the part begins that more bytes could make a secret of; the length where there is none.
    fn undecided_from(&self, bytes: &[u8]) -> usize {
        let first = bytes.len().saturating_sub(self.longest.saturating_sub(1));
        (first..bytes.len()).find(|&at| self.begins_a_pattern(&bytes[at..])).unwrap_or(bytes.len())
    }

    /// Whether a longer pattern begins with these bytes. Among the sorted patterns it would stand behind them.
    fn begins_a_pattern(&self, bytes: &[u8]) -> bool {
        let next = self.patterns.partition_point(|pattern| pattern.as_slice() <= bytes);
        self.patterns.get(next).is_some_and(|pattern| pattern.starts_with(bytes))
    }
}

/// Covers secrets in a stream. Bytes are held back only while they could be the beginning of a secret.
#[derive(Debug)]
pub struct MaskedStream {
    masker: Arc<Masker>,
    held: Vec<u8>,
    /// So many of the held bytes belong to a secret for which the asterisks are out already.
    covered: usize,
}

impl MaskedStream {
    /// Takes a piece, and gives what is safe to show by now.
    #[must_use]
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let until = self.masker.undecided_from(&self.held);
        self.release(until)
    }

    /// The stream has ended, or what was held back can't go on: gives the rest.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        self.release(self.held.len())
    }

    fn release(&mut self, until: usize) -> Vec<u8> {
        let mut shown = Vec::with_capacity(until);
        // The asterisks of a match that began in bytes that are gone are out.
        let mut at = self.covered;
        for (start, end) in self.masker.covered_ranges(&self.held) {
            if start >= at {
                if start >= until {
                    break;
                }
                shown.extend_from_slice(&self.held[at..start]);
                shown.extend_from_slice(COVER);
            }
            at = at.max(end);
        }
        if at < until {
            shown.extend_from_slice(&self.held[at..until]);
            at = until;
        }
        self.covered = at - until;
        self.held.drain(..until);
        shown
    }
}

#[cfg(test)]
mod tests;
