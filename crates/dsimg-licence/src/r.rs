//! `License` of an R package's DESCRIPTION. Source: "Licensing" in Writing R Extensions.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use crate::Licence;
use crate::archive::{find_in_tar, gzip};
use crate::fields::Fields;
use crate::names::{gnu, identifier, is_expression, name};

/// Of the package itself: those of test packages lie deeper.
pub(crate) fn description(file: &Path) -> io::Result<String> {
    let source = gzip(BufReader::new(File::open(file)?));
    let is_it = |path: &str| path.split_once('/').is_some_and(|(_, rest)| rest == "DESCRIPTION");
    find_in_tar(source, is_it)?.ok_or_else(|| io::Error::other("it has no DESCRIPTION"))
}

pub(crate) fn licence(description: &str) -> Option<Licence> {
    let fields = Fields::parse(description);
    let text = fields.get("license")?.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        return None;
    }
    let alternatives: Option<Vec<_>> = text.split('|').map(|part| alternative(part.trim())).collect();
    let expression = alternatives.map(|alternatives| alternatives.join(" OR "));
    Some(match expression.filter(|expression| is_expression(expression)) {
        Some(expression) => Licence::Expression(expression),
        None => name(&text),
    })
}

/// `None`: it is not certain what is meant.
fn alternative(text: &str) -> Option<&'static str> {
    // Of these, the file holds names and years alone. To others it may add terms.
    if let Some((licence, "file LICENSE" | "file LICENCE")) = text.split_once(" + ") {
        return match licence.trim() {
            "MIT" => Some("MIT"),
            "BSD_2_clause" => Some("BSD-2-Clause"),
            "BSD_3_clause" => Some("BSD-3-Clause"),
            _ => None,
        };
    }
    let (family, version) = match text.split_once('(') {
        Some((family, rest)) => (family.trim(), rest.trim_end_matches(')').trim()),
        None => (text, ""),
    };
    let (is_open, version) = match version.strip_prefix(">=") {
        Some(version) => (true, version.trim()),
        None => (false, version.strip_prefix("==").unwrap_or(version).trim()),
    };
    match (family, version, is_open) {
        // Before version 2 there was one that is another licence.
        ("Apache License", "2" | "2.0", _) | ("Apache License 2.0" | "Apache License Version 2.0", "", _) => {
            Some("Apache-2.0")
        }
        ("MPL" | "Mozilla Public License", "2" | "2.0", _) | ("Mozilla Public License 2.0", "", _) => Some("MPL-2.0"),
        ("Artistic License 2.0", "", _) | ("Artistic License", "2.0", false) => Some("Artistic-2.0"),
        ("CC0", "", _) => Some("CC0-1.0"),
        ("CC BY 4.0", "", _) => Some("CC-BY-4.0"),
        ("CC BY-SA 4.0", "", _) => Some("CC-BY-SA-4.0"),
        (family, "", _) => gnu_of_name(family).or_else(|| identifier(family)),
        (family, version, is_open) => gnu(gnu_family(family)?, version, is_open),
    }
}

/// `GPL-2`
fn gnu_of_name(name: &str) -> Option<&'static str> {
    let (family, version) = name.split_once('-')?;
    gnu(gnu_family(family)?, version, false)
}

fn gnu_family(name: &str) -> Option<&'static str> {
    match name {
        "GPL" | "GNU General Public License" => Some("GPL"),
        "LGPL" | "GNU Lesser General Public License" => Some("LGPL"),
        "AGPL" | "GNU Affero General Public License" => Some("AGPL"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_certain_is_an_expression_and_the_rest_a_name() {
        let expressions = [
            ("GPL-2 | GPL-3", "GPL-2.0-only OR GPL-3.0-only"),
            ("GPL-2|GPL-3", "GPL-2.0-only OR GPL-3.0-only"),
            ("MIT + file LICENSE", "MIT"),
            ("GPL (>= 2)", "GPL-2.0-or-later"),
            ("GPL (>= 2.0) | MIT + file LICENCE", "GPL-2.0-or-later OR MIT"),
            ("LGPL (>= 2.1)", "LGPL-2.1-or-later"),
            ("LGPL-3", "LGPL-3.0-only"),
            ("AGPL-3", "AGPL-3.0-only"),
            ("BSD_3_clause + file LICENSE", "BSD-3-Clause"),
            ("Apache License (>= 2)", "Apache-2.0"),
            ("Apache License 2.0", "Apache-2.0"),
            ("MPL-2.0", "MPL-2.0"),
            ("Artistic-2.0", "Artistic-2.0"),
            ("CC0", "CC0-1.0"),
            ("GPL (>=\n        3)", "GPL-3.0-or-later"),
            ("MIT", "MIT"),
        ];
        for (text, expected) in expressions {
            let found = licence(&format!("Package: x\nLicense: {text}\nVersion: 1\n"));
            assert_eq!(found, Some(Licence::Expression(expected.to_owned())), "{text}");
        }
        for text in [
            "GPL",
            "file LICENSE",
            "GPL-3 + file LICENSE",
            "GPL-2 | file LICENSE",
            "Unlimited",
            "GPL (>= 7)",
            "GPL (> 2)",
        ] {
            assert_eq!(licence(&format!("License: {text}")), Some(Licence::Name(text.to_owned())), "{text}");
        }
        assert_eq!(licence("Package: x\nLicense:\n"), None);
        assert_eq!(licence("Package: x\n"), None);
    }
}
