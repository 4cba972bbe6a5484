//! What is wrong with a template, and where.

use std::ops::Range;

/// One thing that is wrong, with its place in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// A sentence without a full stop: ``unknown key `pakages` ``.
    pub message: String,
    /// Bytes of the text that it is about; empty at 0 when it is about the whole file.
    pub span: Range<usize>,
    /// What to do: ``did you mean `packages`? ``
    pub help: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is built.
    Error,
    /// The build goes on; `validate` shows it.
    Warning,
}
