//! A report as people read it in a terminal.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Finding, Report};

/// So many names are told of the packages that could not be checked for one reason.
const NAMES_SHOWN: usize = 8;

pub(super) fn write(report: &Report) -> String {
    let Report { title, databases, checked, findings, notes, .. } = report;
    let unchecked = report.unchecked.len() + report.missing.iter().map(|missing| missing.packages).sum::<usize>();
    let mut text = format!("{title}: {checked} packages checked, {unchecked} not\n");
    let rows = databases.iter().map(|database| {
        let age = match (&database.newest, database.age_days) {
            (Some(newest), Some(age)) => format!("newest of {}, {}", newest.get(..10).unwrap_or(newest), ago(age)),
            _ => "of unknown age".to_owned(),
        };
        let advisories = if database.records == 1 { "advisory" } else { "advisories" };
        vec![database.ecosystem.clone(), format!("{} {advisories}", database.records), age]
    });
    section(&mut text, "advisories", rows.collect());
    let malicious: Vec<_> = findings.iter().filter(|finding| finding.is_malicious).map(row).collect();
    section(&mut text, "MALICIOUS", malicious);
    let others = || findings.iter().filter(|finding| !finding.is_malicious);
    let open: Vec<_> = others().filter(|finding| finding.suppressed.is_none()).map(row).collect();
    section(&mut text, &format!("found: {}", open.len()), open);
    let suppressed = others().filter_map(|finding| {
        let suppressed = finding.suppressed.as_ref()?;
        let why = format!("until {}: {}", suppressed.until, suppressed.reason);
        Some(vec![finding.id.clone(), format!("{} {}", finding.name, finding.version), why])
    });
    section(&mut text, "suppressed", suppressed.collect());
    write_unchecked(report, &mut text);
    section(&mut text, "notes", notes.iter().map(|note| vec![note.clone()]).collect());
    let verdict = if report.verdict.passed {
        "passed".to_owned()
    } else {
        format!("FAILED: {}", report.verdict.reasons.join("; "))
    };
    let _ = write!(text, "\n{verdict}\n");
    text.chars().map(printable).collect()
}

fn ago(days: i64) -> String {
    match days {
        0 => "less than a day ago".to_owned(),
        1 => "1 day ago".to_owned(),
        days => format!("{days} days ago"),
    }
}

fn row(finding: &Finding) -> Vec<String> {
    let severity = match (finding.severity, finding.score) {
        (Some(severity), Some(score)) => format!("{severity} {score:.1}"),
        (Some(severity), None) => severity.to_string(),
        (None, _) => "unknown".to_owned(),
    };
    let fixed = finding.fixed.as_ref().map_or_else(|| "no fix known".to_owned(), |fixed| format!("fixed in {fixed}"));
    let package = format!("{} {}", finding.name, finding.version);
    vec![severity, finding.id.clone(), package, fixed, finding.summary.clone()]
}

fn write_unchecked(report: &Report, text: &mut String) {
    let rows = report.missing.iter().map(|missing| {
        vec![missing.ecosystem.clone(), format!("{} packages: no advisories are there", missing.packages)]
    });
    section(text, "without advisories", rows.collect());
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for unchecked in &report.unchecked {
        reasons.entry(&unchecked.why).or_default().push(&unchecked.name);
    }
    let rows = reasons.into_iter().map(|(why, names)| {
        let shown = names.iter().take(NAMES_SHOWN).copied().collect::<Vec<_>>().join(", ");
        let more = names.len().saturating_sub(NAMES_SHOWN);
        let names = if more > 0 { format!("{shown} and {more} more") } else { shown };
        vec![format!("{why}: {names}")]
    });
    section(text, &format!("not checked: {}", report.unchecked.len()), rows.collect());
}

/// A heading and rows in columns. Without rows there is none.
fn section(text: &mut String, title: &str, rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}");
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in &rows {
        let line = row.iter().zip(&widths).fold(String::new(), |line, (cell, width)| format!("{line}  {cell:<width$}"));
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// Advisories come from outside, and a terminal obeys control characters.
fn printable(character: char) -> char {
    if character.is_control() && character != '\n' { '\u{fffd}' } else { character }
}
