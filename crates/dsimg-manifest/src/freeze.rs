//! What freeze scripts print → packages, and which stage brought each.

use std::collections::BTreeMap;

use crate::manifest::{BASE, Package};

/// The package list of the machine at one moment.
pub type Frozen = Vec<Package>;

/// Reads lines of `ecosystem name version architecture origin requested`, with tabs between. An origin `venv:PATH` or
/// `library:PATH` is a location. There may be a seventh field: name and version of the source package, with a space between.
///
/// # Errors
/// A line that has another form, by its number.
pub fn parse_frozen(text: &str) -> Result<Frozen, String> {
    let mut packages = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let fields: Vec<_> = line.split('\t').collect();
        let ([ecosystem, name, version, architecture, origin, requested]
        | [ecosystem, name, version, architecture, origin, requested, _]) = fields[..]
        else {
            return Err(format!("line {}: {} fields instead of 6: `{line}`", index + 1, fields.len()));
        };
        if ecosystem.is_empty() || name.is_empty() || version.is_empty() || !matches!(requested, "0" | "1") {
            return Err(format!("line {}: a field is empty or wrong: `{line}`", index + 1));
        }
        let (location, origin) = match origin.split_once(':') {
            Some(("venv" | "library" | "system", place)) => match place.split_once(' ') {
                Some((location, origin)) => (location, origin),
                None => (place, ""),
            },
            _ => ("", origin),
        };
        packages.push(Package {
            ecosystem: ecosystem.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            location: location.to_owned(),
            origin: origin.to_owned(),
            source: fields.get(6).copied().unwrap_or_default().to_owned(),
            requested: requested == "1",
            stage: BASE.to_owned(),
        });
    }
    packages.sort();
    packages.dedup();
    Ok(packages)
}

/// Marks what is new or of another version since `before` as brought by `stage`. Where a package is from is known only
/// as long as its repository's list is there, so it is kept from before.
#[must_use]
pub fn attribute(before: &Frozen, mut after: Frozen, stage: &str) -> Frozen {
    let known: BTreeMap<_, _> = before.iter().map(|package| (identity(package), package)).collect();
    for package in &mut after {
        let before = known.get(&identity(package));
        let brought_by = before.map_or(stage, |before| &before.stage).to_owned();
        if let Some(before) = before.filter(|_| package.origin.is_empty()) {
            package.origin.clone_from(&before.origin);
        }
        package.stage = brought_by;
    }
    after
}

/// What makes a package the same one at two moments.
fn identity(package: &Package) -> (&str, &str, &str, &str, &str) {
    (&package.ecosystem, &package.name, &package.version, &package.architecture, &package.location)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stage_that_brought_a_version_is_known() {
        let base = parse_frozen("deb\tgit\t1\tamd64\t\t1\n").unwrap();
        let first =
            attribute(&base, parse_frozen("deb\tgit\t1\tamd64\t\t1\ndeb\ttmux\t3\tamd64\t\t1").unwrap(), "tools");
        let text = "deb\tgit\t2\tamd64\t\t1\ndeb\ttmux\t3\tamd64\t\t0\npypi\tnumpy\t2.5\t\tvenv:/opt/ds\t1";
        let second = attribute(&first, parse_frozen(text).unwrap(), "python");
        let stages: Vec<_> = second.iter().map(|package| (&*package.name, &*package.stage)).collect();
        assert_eq!(stages, [("git", "python"), ("tmux", "tools"), ("numpy", "python")]);
        assert_eq!(second[2].location, "/opt/ds");
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error = parse_frozen("deb\tgit\t1\tamd64\t\t1\ndeb git 1\n").unwrap_err();
        assert!(error.starts_with("line 2: 1 fields"), "{error}");
        assert!(parse_frozen("deb\tgit\t\tamd64\t\t1").is_err());
        assert!(parse_frozen("deb\tgit\t1\tamd64\t\tyes").is_err());
    }
}
