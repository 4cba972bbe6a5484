//! A difference as one page: for a mail, a ticket, a printer.

use std::fmt::Write as _;

use super::text::name_of;
use super::{Difference, PackageChange, PackageChangeKind, count_in_words};

const STYLE: &str = "\
:root { color-scheme: light dark; --text: #1b1b1b; --paper: #fff; --line: #d0d0d0; --faint: #666; --added: #17692b; \
--removed: #a11a1a; --changed: #7a5300; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e6e6; --paper: #16181b; --line: #3a3d42; --faint: #9a9a9a; \
--added: #6fcf86; --removed: #f08a8a; --changed: #e2b65a; } }
@media print { :root { --text: #000; --paper: #fff; --line: #bbb; --faint: #444; --added: #000; --removed: #000; \
--changed: #000; } body { max-width: none; font-size: 9pt; } h2 { break-after: avoid; } tr { break-inside: avoid; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--text); background: var(--paper); max-width: 72rem; \
margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } h2 small { font-weight: normal; color: \
var(--faint); }
table { border-collapse: collapse; width: 100%; } thead { display: table-header-group; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); \
overflow-wrap: anywhere; }
th { color: var(--faint); font-weight: normal; } td code { font: .9em ui-monospace, monospace; }
.added { color: var(--added); } .removed { color: var(--removed); } .changed { color: var(--changed); }
";

pub(super) fn write(difference: &Difference) -> String {
    let Difference { before, after, system, stages, packages, files, not_compared } = difference;
    let title = format!("{} → {}", escape(before), escape(after));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    if difference.is_empty() {
        page.push_str("<p>No difference.</p>\n");
    } else {
        let (count, stages, facts) = (count_in_words(packages), stages.len(), system.len());
        let _ = writeln!(
            page,
            "<p>Packages: {count}. Stages: {stages}. Facts about base and system: {facts}. Files: {}.</p>",
            files.len()
        );
    }
    let facts = system.iter().map(|fact| vec![escape(fact.name), code(&fact.before), code(&fact.after)]);
    table(&mut page, "Base and system", &["", "before", "after"], facts.collect());
    let rows = stages.iter().map(|stage| vec![escape(&stage.label), escape(&stage.change)]);
    table(&mut page, "Stages", &["stage", "change"], rows.collect());
    for ((ecosystem, location), changes) in difference.places() {
        let place = if location.is_empty() { String::new() } else { format!(" in <code>{}</code>", escape(location)) };
        let title = format!("{}{place} <small>{}</small>", escape(ecosystem), count_in_words(changes.iter().copied()));
        let rows = changes.into_iter().map(package_row).collect();
        table(&mut page, &title, &["change", "package", "before", "after", "stage", "files"], rows);
    }
    let rows = files
        .iter()
        .map(|file| vec![code(&file.path), escape(&file.change), escape(file.package.as_deref().unwrap_or_default())]);
    table(&mut page, &format!("Files <small>{}</small>", files.len()), &["path", "change", "package"], rows.collect());
    let rows = not_compared.iter().map(|note| vec![escape(note)]);
    table(&mut page, "Not compared", &[], rows.collect());
    page.push_str("</body>\n</html>\n");
    page
}

fn package_row(change: &PackageChange) -> Vec<String> {
    let class = match change.kind {
        PackageChangeKind::Added => "added",
        PackageChangeKind::Removed => "removed",
        _ => "changed",
    };
    let side = |side: &Option<super::packages::Version>| {
        side.as_ref().map_or_else(String::new, |side| match (&side.sha256, change.kind) {
            (Some(sha256), PackageChangeKind::Rebuilt) => {
                format!("{}<br>sha256 {}", code(&side.version), code(sha256))
            }
            _ => code(&side.version),
        })
    };
    vec![
        format!("<span class=\"{class}\">{}</span>", change.kind.word()),
        escape(&name_of(change)),
        side(&change.before),
        side(&change.after),
        escape(change.stage()),
        if change.files == 0 { String::new() } else { change.files.to_string() },
    ]
}

/// Heading, columns and cells are HTML already. Without rows there is no table.
fn table(page: &mut String, title: &str, columns: &[&str], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let _ = write!(page, "<h2>{title}</h2>\n<table>\n");
    if !columns.is_empty() {
        let cells: String = columns.iter().map(|column| format!("<th>{column}</th>")).collect();
        let _ = writeln!(page, "<thead><tr>{cells}</tr></thead>");
    }
    page.push_str("<tbody>\n");
    for row in rows {
        let cells: String = row.iter().map(|cell| format!("<td>{cell}</td>")).collect();
        let _ = writeln!(page, "<tr>{cells}</tr>");
    }
    page.push_str("</tbody>\n</table>\n");
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("<code>{}</code>", escape(text)) }
}

/// Safe in text and in quoted attributes.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other if other.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
        escaped
    })
}
