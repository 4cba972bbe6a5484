//! A difference as people read it in a terminal.

use std::fmt::Write as _;

use super::{Difference, PackageChange, count_in_words};

pub(super) fn write(difference: &Difference) -> String {
    let Difference { before, after, system, stages, files, not_compared, .. } = difference;
    let mut text = format!("{before} → {after}\n");
    if difference.is_empty() {
        text.push_str("\nno difference\n");
    }
    let facts =
        system.iter().map(|fact| vec![fact.name.to_owned(), arrow(&shortened(&fact.before), &shortened(&fact.after))]);
    section(&mut text, "system", facts.collect());
    let changed = stages.iter().map(|stage| vec![stage.label.clone(), stage.change.clone()]);
    section(&mut text, "stages", changed.collect());
    write_packages(difference, &mut text);
    let rows =
        files.iter().map(|file| vec![file.path.clone(), file.change.clone(), file.package.clone().unwrap_or_default()]);
    section(&mut text, &format!("files: {}", files.len()), rows.collect());
    section(&mut text, "not compared", not_compared.iter().map(|note| vec![note.clone()]).collect());
    text.chars().map(printable).collect()
}

fn write_packages(difference: &Difference, text: &mut String) {
    let places = difference.places();
    if places.is_empty() {
        return;
    }
    let counts = places.iter().map(|((ecosystem, location), changes)| {
        vec![(*ecosystem).to_owned(), (*location).to_owned(), count_in_words(changes.iter().copied())]
    });
    section(text, &format!("packages: {}", count_in_words(&difference.packages)), counts.collect());
    for ((ecosystem, location), changes) in places {
        let title = if location.is_empty() { ecosystem.to_owned() } else { format!("{ecosystem} in {location}") };
        section(text, &title, changes.into_iter().map(package_row).collect());
    }
}

fn package_row(change: &PackageChange) -> Vec<String> {
    let files = match change.files {
        0 => String::new(),
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    };
    vec![change.kind.word().to_owned(), name_of(change), versions(change), change.stage().to_owned(), files]
}

/// With the architecture, as apt writes it.
pub(super) fn name_of(change: &PackageChange) -> String {
    match change.architecture.as_str() {
        "" | "all" => change.name.clone(),
        architecture => format!("{}:{architecture}", change.name),
    }
}

fn versions(change: &PackageChange) -> String {
    match (&change.before, &change.after) {
        (Some(before), Some(after)) if before.version == after.version => {
            format!("{} (sha256 {} → {})", after.version, short(&before.sha256), short(&after.sha256))
        }
        (Some(before), Some(after)) => arrow(&before.version, &after.version),
        (before, after) => before.as_ref().or(after.as_ref()).map(|side| side.version.clone()).unwrap_or_default(),
    }
}

fn short(digest: &Option<String>) -> String {
    digest.as_deref().map_or_else(|| "unknown".to_owned(), shortened)
}

/// Of a digest as much as people compare.
fn shortened(value: &str) -> String {
    let is_digest = value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_digest { value.chars().take(12).collect() } else { value.to_owned() }
}

fn arrow(before: &str, after: &str) -> String {
    let or_none = |value: &str| if value.is_empty() { "none".to_owned() } else { value.to_owned() };
    format!("{} → {}", or_none(before), or_none(after))
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
        let cells = row.iter().zip(&widths).filter(|(_, width)| **width > 0);
        let line = cells.fold(String::new(), |line, (cell, width)| format!("{line}  {cell:<width$}"));
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// Names come from outside, and a terminal obeys control characters.
fn printable(character: char) -> char {
    if character.is_control() && character != '\n' { '\u{fffd}' } else { character }
}
