//! Problems as people and as programs read them.

use std::path::Path;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use crate::problem::{Problem, Severity};

/// Whether a report has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Coloured,
}

/// One problem as `validate --format json` prints it. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    pub severity: Severity,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Absent when it is about the whole file.
    #[serde(flatten)]
    pub place: Option<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    pub line: usize,
    pub column: usize,
    pub end_line: usize,
    pub end_column: usize,
}

/// Draws the problems of one file, each with its line and a mark under the place; ends with a newline.
///
/// What looks like a password in a line that is shown is covered with asterisks.
#[must_use]
pub fn report(problems: &[Problem], text: &str, path: &Path, style: Style) -> String {
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Coloured => Renderer::styled(),
    };
    let shown = printable(text);
    // A byte order mark has no width.
    let unmarked = shown.trim_start_matches('\u{FEFF}');
    let mark = shown.len() - unmarked.len();
    let path = path.to_string_lossy();
    let mut report = String::new();
    for problem in problems {
        let span = problem.span.start.saturating_sub(mark)..problem.span.end.saturating_sub(mark);
        let shifted = if is_about_the_file(problem) { problem.clone() } else { Problem { span, ..problem.clone() } };
        report.push_str(&draw(&shifted, unmarked, &path, &renderer));
        report.push_str("\n\n");
    }
    report.push_str(&summary(problems));
    report.push('\n');
    report
}

/// `2 errors, 1 warning`
#[must_use]
pub fn summary(problems: &[Problem]) -> String {
    let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let words = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    };
    match (count(Severity::Error), count(Severity::Warning)) {
        (0, 0) => "no problems".to_owned(),
        (errors, 0) => words(errors, "error"),
        (0, warnings) => words(warnings, "warning"),
        (errors, warnings) => format!("{}, {}", words(errors, "error"), words(warnings, "warning")),
    }
}

/// The problems for programs.
#[must_use]
pub fn records(problems: &[Problem], text: &str) -> Vec<Record> {
    problems
        .iter()
        .map(|problem| Record {
            severity: problem.severity,
            message: problem.message.clone(),
            help: problem.help.clone(),
            place: place(problem, text),
        })
        .collect()
}

fn place(problem: &Problem, text: &str) -> Option<Place> {
    if is_about_the_file(problem) {
        return None;
    }
    let (line, column) = line_and_column(text, problem.span.start);
    let (end_line, end_column) = line_and_column(text, problem.span.end);
    Some(Place { line, column, end_line, end_column })
}

fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..boundary_before(text, at)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].trim_start_matches('\u{FEFF}').chars().count() + 1)
}

fn is_about_the_file(problem: &Problem) -> bool {
    problem.span == (0..0)
}

fn draw(problem: &Problem, text: &str, path: &str, renderer: &Renderer) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(problem.message.as_str());
    let mut group = if is_about_the_file(problem) {
        title.element(Origin::path(path))
    } else {
        let annotation = AnnotationKind::Primary.span(shown_span(text, problem));
        title.element(Snippet::source(text).path(path).annotation(annotation))
    };
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(annotate_snippets::normalize_untrusted_str(help)));
    }
    renderer.render(&[group])
}

/// The place in the text that is shown; of several lines the first.
fn shown_span(text: &str, problem: &Problem) -> std::ops::Range<usize> {
    let start = boundary_before(text, problem.span.start);
    let end = boundary_before(text, problem.span.end).max(start);
    let end = text[start..end].find(['\n', '\r']).map_or(end, |newline| start + newline);
    start..end
}

/// A place inside a character is that character's.
fn boundary_before(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The text as it is shown, of the same length: passwords covered.
fn printable(text: &str) -> String {
    let mut shown = text.to_owned();
    for range in crate::lint::secrets::in_text(text) {
        let cover = |byte: u8| if byte == b'\n' || byte == b'\r' { char::from(byte) } else { '*' };
        let covered: String = text[range.clone()].bytes().map(cover).collect();
        shown.replace_range(range, &covered);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_the_line_and_the_help() {
        let text = "[[provision]]\ntype = \"apt\"\npakages = []\n";
        let problem = Problem::error(27..34, "unknown key `pakages`").with_help("did you mean `packages`?");
        let drawn = report(std::slice::from_ref(&problem), text, Path::new("x.toml"), Style::Plain);
        assert_eq!(
            drawn,
            "error: unknown key `pakages`
 --> x.toml:3:1
  |
3 | pakages = []
  | ^^^^^^^
  |
  = help: did you mean `packages`?

1 error
"
        );
        let record = serde_json::to_value(&records(&[problem], text)[0]).unwrap();
        assert_eq!(record["line"], 3);
        assert_eq!(record["end_column"], 8);
    }

    #[test]
    fn a_problem_of_the_whole_file_has_no_line() {
        let problem = Problem::error(0..0, "missing table `[image]`");
        let drawn = report(std::slice::from_ref(&problem), "", Path::new("x.toml"), Style::Plain);
        assert_eq!(drawn, "error: missing table `[image]`\n--> x.toml\n\n1 error\n");
        assert_eq!(records(&[problem], "")[0].place, None);
    }

    #[test]
    fn byte_order_marks_and_windows_line_ends_shift_nothing() {
        let text = "\u{FEFF}a = 1\r\nb = 2\r\n";
        let at = text.find('b').unwrap();
        let drawn = report(&[Problem::error(at..at + 1, "x")], text, Path::new("x.toml"), Style::Plain);
        assert!(drawn.contains("x.toml:2:1") && drawn.contains("2 | b = 2\n"), "{drawn:?}");
    }
}
