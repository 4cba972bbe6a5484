//! Licences of Debian packages: `usr/share/doc/*/copyright` in its machine-readable form, DEP 5.
//! Source: <https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/>.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::Licence;
use crate::archive::{by_name, find_in_tar};
use crate::debian_names::expression;
use crate::fields::{Fields, paragraphs};
use crate::names::is_expression;

/// The text of the file; `None` if the package has none of its own.
pub(crate) fn copyright(file: &Path) -> io::Result<Option<String>> {
    text_in(file, "data.tar", is_copyright)
}

/// What lists of packages are made of.
pub(crate) fn control(file: &Path) -> io::Result<Option<String>> {
    text_in(file, "control.tar", |path| path == "control")
}

/// Of the first file that is the one in an archive of the package.
fn text_in(file: &Path, archive: &str, is_it: impl Fn(&str) -> bool) -> io::Result<Option<String>> {
    let mut source = BufReader::new(File::open(file)?);
    let mut magic = [0; 8];
    source.read_exact(&mut magic)?;
    if magic != *b"!<arch>\n" {
        return Err(io::Error::other("it is no Debian package"));
    }
    while let Some((name, size)) = next_member(&mut source)? {
        if name.starts_with(archive) {
            let unpacked = by_name(&name, source.take(size))?;
            return find_in_tar(unpacked, is_it);
        }
        // Members begin at even places.
        let skipped = io::copy(&mut source.by_ref().take(size + size % 2), &mut io::sink())?;
        if skipped < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Err(io::Error::other(format!("it has no {archive}")))
}

fn is_copyright(path: &str) -> bool {
    let package = path.strip_prefix("usr/share/doc/").and_then(|rest| rest.strip_suffix("/copyright"));
    package.is_some_and(|package| !package.contains('/'))
}

/// Name and size from a header of ar(5): name (16), time (12), owner (6), group (6), mode (8), size (10), magic (2).
fn next_member(source: &mut impl Read) -> io::Result<Option<(String, u64)>> {
    let mut header = [0; 60];
    match source.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let text = |from: usize, to: usize| String::from_utf8_lossy(&header[from..to]).trim_end().to_owned();
    let size = text(48, 58).parse().map_err(|_| io::Error::other("a member of it has no size"))?;
    if header[58..] != *b"`\n" {
        return Err(io::Error::other("a member of it has another form"));
    }
    Ok(Some((text(0, 16).trim_end_matches('/').to_owned(), size)))
}

/// Of all files but those of the packaging, which are not installed. `None`: it is not in the machine-readable form.
pub(crate) fn licence(copyright: &str) -> Option<Licence> {
    let paragraphs = paragraphs(copyright);
    let head = paragraphs.first()?;
    let format = head.get("format").or_else(|| head.get("format-specification"))?;
    if !format.contains("copyright-format") && !format.contains("dep5") && !format.contains("DEP5") {
        return None;
    }
    let of_files: Vec<_> = paragraphs.iter().filter(|paragraph| paragraph.get("files").is_some()).collect();
    let installed: Vec<_> = of_files.iter().copied().filter(|paragraph| !is_packaging(paragraph)).collect();
    let counted = if installed.is_empty() { of_files } else { installed };
    let names = counted.iter().filter_map(|paragraph| first_line(paragraph)).chain(first_line(head));
    let terms: BTreeSet<_> = names.map(expression).collect::<Option<_>>()?;
    let is_one = terms.len() == 1;
    let wrapped = terms.into_iter().map(|term| {
        // `OR` binds less than `AND`.
        if !is_one && term.contains(" OR ") { format!("({term})") } else { term }
    });
    let expression = wrapped.collect::<Vec<_>>().join(" AND ");
    is_expression(&expression).then_some(Licence::Expression(expression))
}

/// The licence's name; its text comes in the lines below.
fn first_line(paragraph: &Fields) -> Option<&str> {
    paragraph.get("license")?.lines().next().map(str::trim).filter(|line| !line.is_empty())
}

fn is_packaging(paragraph: &Fields) -> bool {
    let patterns = || paragraph.get("files").unwrap_or_default().split_whitespace();
    patterns().next().is_some() && patterns().all(|pattern| pattern.starts_with("debian/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n";

    #[test]
    fn licences_of_all_installed_files_are_joined() {
        let files = |pattern: &str, licence: &str| format!("Files: {pattern}\nCopyright: x\nLicense: {licence}\n\n");
        let cases = [
            (files("*", "Expat"), "MIT"),
            (files("*", "GPL-2+\n On Debian systems …\n .\n more"), "GPL-2.0-or-later"),
            (files("*", "Expat") + &files("debian/*", "GPL-3+"), "MIT"),
            (files("debian/*", "GPL-3+"), "GPL-3.0-or-later"),
            (files("*", "Expat") + &files("lib/*", "BSD-3-clause") + &files("x", "Expat"), "BSD-3-Clause AND MIT"),
            (
                files("*", "GPL-1+ or Artistic") + &files("x", "Expat"),
                "(GPL-1.0-or-later OR LicenseRef-debian-Artistic) AND MIT",
            ),
            // Definitions at the end add nothing.
            (files("*", "Expat") + "License: GPL-2\n the text\n", "MIT"),
        ];
        for (text, expected) in cases {
            let found = licence(&format!("{HEAD}{text}"));
            assert_eq!(found, Some(Licence::Expression(expected.to_owned())), "{text}");
        }
    }

    #[test]
    fn other_texts_say_nothing() {
        for text in [
            "This package was debianized by …\n\nIt is under the GPL.\n",
            "Format: see below\n\nFiles: *\nLicense: MIT\n",
            HEAD,
            "",
        ] {
            assert_eq!(licence(text), None, "{text}");
        }
    }
}
