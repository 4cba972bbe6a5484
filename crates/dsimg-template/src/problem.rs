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

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is built.
    Error,
    /// The build goes on; `validate` shows it.
    Warning,
}

impl Problem {
    #[must_use]
    pub fn error(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), span, help: None }
    }

    #[must_use]
    pub fn warning(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, message: message.into(), span, help: None }
    }

    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Whether any of them stops the build.
#[must_use]
pub fn has_errors(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}

/// By place in the text; errors before warnings where two share a place.
pub(crate) fn sort(problems: &mut Vec<Problem>) {
    problems.sort_by(|a, b| {
        (a.span.start, a.severity, a.span.end, &a.message).cmp(&(b.span.start, b.severity, b.span.end, &b.message))
    });
    problems.dedup();
}
