//! Licence names of Debian's copyright files → SPDX.

use crate::names::{gnu, identifier};

/// Of `GPL-2+ or Artistic, and Expat`: `and` binds more than `or`, and a comma before one of them makes it bind less.
/// `None` for nothing, or a sentence that is none.
pub(crate) fn expression(text: &str) -> Option<String> {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = format!(" {words}").replace(" AND ", " and ").replace(" OR ", " or ").replace(" WITH ", " with ");
    // The two kinds may follow each other; then they count from the left.
    let mut parts: Vec<(&str, &str)> = Vec::new();
    let mut rest = words.trim();
    while let Some((at, joint)) = [", and ", ", or "].iter().filter_map(|joint| Some((rest.find(joint)?, *joint))).min()
    {
        parts.push((&rest[..at], joint));
        rest = &rest[at + joint.len()..];
    }
    let mut expression = alternatives(parts.first().map_or(rest, |(part, _)| part))?;
    for (index, (_, joint)) in parts.iter().enumerate() {
        let next = alternatives(parts.get(index + 1).map_or(rest, |(part, _)| part))?;
        expression = match *joint {
            ", and " => format!("{} AND {}", in_brackets(expression), in_brackets(next)),
            _ => format!("{expression} OR {next}"),
        };
    }
    Some(expression)
}

fn alternatives(text: &str) -> Option<String> {
    let all = |part: &str| part.split(" and ").map(term).collect::<Option<Vec<_>>>().map(|terms| terms.join(" AND "));
    let parts = text.split(" or ").map(all).collect::<Option<Vec<_>>>()?;
    Some(parts.join(" OR "))
}

fn in_brackets(expression: String) -> String {
    if expression.contains(" OR ") { format!("({expression})") } else { expression }
}

/// What SPDX does not list, or not for certain, keeps its name.
fn term(text: &str) -> Option<String> {
    let text = text.trim().trim_end_matches(',');
    if text.is_empty() {
        return None;
    }
    let listed = match text.split_once(" with ") {
        Some((licence, exception)) => listed(licence)
            .zip(known_exception(exception))
            .map(|(licence, exception)| format!("{licence} WITH {exception}")),
        None => listed(text).map(ToOwned::to_owned),
    };
    Some(listed.unwrap_or_else(|| reference(text)))
}

fn listed(name: &str) -> Option<&'static str> {
    let lower = name.trim().to_ascii_lowercase();
    let known = match lower.as_str() {
        "expat" => "MIT",
        "cc0" => "CC0-1.0",
        "boost-1.0" => "BSL-1.0",
        "psf-2" => "PSF-2.0",
        "sil-1.1" => "OFL-1.1",
        // The list's own names for these mean other texts, or several.
        "artistic" | "perl" | "bsd" | "gpl" | "lgpl" | "python" => return None,
        _ => return listed_gnu(&lower).or_else(|| identifier(&lower)).or_else(|| identifier(&format!("{lower}.0"))),
    };
    Some(known)
}

/// `gpl-2+`, `lgpl-2.1`, `gfdl-niv-1.3+`.
fn listed_gnu(lower: &str) -> Option<&'static str> {
    let (rest, or_later) = match lower.strip_suffix('+') {
        Some(rest) => (rest, true),
        None => (lower, false),
    };
    let (family, version) = rest.rsplit_once('-')?;
    match family {
        "gpl" => gnu("GPL", version, or_later),
        "lgpl" => gnu("LGPL", version, or_later),
        "agpl" => gnu("AGPL", version, or_later),
        "gfdl" => gnu("GFDL", version, or_later),
        "gfdl-niv" => {
            let end = if or_later { "or-later" } else { "only" };
            identifier(&format!("GFDL-{version}-no-invariants-{end}"))
        }
        _ => None,
    }
}

/// Those of which there is one version.
fn known_exception(words: &str) -> Option<&'static str> {
    let words = words.to_ascii_lowercase();
    match words.trim_end_matches("exception").trim_end_matches([' ', '-']) {
        "classpath" => Some("Classpath-exception-2.0"),
        "font" => Some("Font-exception-2.0"),
        "libtool" => Some("Libtool-exception"),
        _ => None,
    }
}

fn reference(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    format!("LicenseRef-debian-{}", plain.trim_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_grammar_become_spdx() {
        let cases = [
            ("Expat", "MIT"),
            ("GPL-2", "GPL-2.0-only"),
            ("GPL-2+", "GPL-2.0-or-later"),
            ("LGPL-2.1+", "LGPL-2.1-or-later"),
            ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
            ("BSD-3-clause", "BSD-3-Clause"),
            ("Apache-2.0", "Apache-2.0"),
            ("Apache-2", "Apache-2.0"),
            ("ISC", "ISC"),
            ("zlib", "Zlib"),
            ("public-domain", "LicenseRef-debian-public-domain"),
            ("GPL-2+ with OpenSSL exception", "LicenseRef-debian-GPL-2--with-OpenSSL-exception"),
            ("GPL-2+ with Font exception", "GPL-2.0-or-later WITH Font-exception-2.0"),
            ("GPL-1+ or Expat and ISC", "GPL-1.0-or-later OR MIT AND ISC"),
            ("GPL-2 or MPL-2.0, and BSD-3-clause", "(GPL-2.0-only OR MPL-2.0) AND BSD-3-Clause"),
            ("Expat, and GPL-2 or MPL-1.1", "MIT AND (GPL-2.0-only OR MPL-1.1)"),
            ("Expat and ISC, or GPL-2", "MIT AND ISC OR GPL-2.0-only"),
            ("BSD", "LicenseRef-debian-BSD"),
        ];
        for (text, expected) in cases {
            let found = expression(text).unwrap();
            assert_eq!(found, expected, "{text}");
            assert!(crate::names::is_expression(&found), "{found}");
        }
        assert_eq!(expression(""), None);
        assert_eq!(expression("Expat and "), Some("LicenseRef-debian-Expat-and".to_owned()));
    }
}
