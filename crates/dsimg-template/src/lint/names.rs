//! Wrong names of packages, and the same package from two sides.

use super::known_names::{APT, Fate, KnownName, NOT_IN_DEBIAN, PIP, R};
use super::{Subject, place_of};
use crate::problem::{Problem, Severity};
use crate::provision::Stage;
use crate::reader::Reader;
use crate::values::Piece;

pub(super) fn check_wrong_names(reader: &mut Reader<'_>, subject: &Subject<'_>) {
    check_pip(reader, subject);
    check_apt(reader, subject);
    check_r(reader, subject);
}

fn check_pip(reader: &mut Reader<'_>, subject: &Subject<'_>) {
    for stage in subject.stages_of("pip") {
        let own_index = stage.values.get("index").is_some() || !stage.values.texts("extra_indexes").is_empty();
        for piece in stage.values.texts("packages") {
            let Some(name) = pip_name(&piece.text) else { continue };
            let Some(known) = PIP.iter().find(|known| known.name == name) else { continue };
            // An index of one's own may have the name, or a smaller build of it.
            let severity = match known.fate {
                Fate::Heavy if own_index => continue,
                Fate::Fails if !own_index && subject.network.pip.is_none() => Severity::Error,
                _ => Severity::Warning,
            };
            report(reader, piece, known, severity);
        }
    }
}

fn check_apt(reader: &mut Reader<'_>, subject: &Subject<'_>) {
    let plain_debian = subject.is_plain_debian();
    for stage in subject.stages_of("apt") {
        let own_repositories = stage.values.get("repositories").is_some();
        for piece in stage.values.texts("packages") {
            let name = apt_name(&piece.text);
            if let Some(known) = APT.iter().find(|known| known.name == name) {
                let certain = known.fate == Fate::Fails && !own_repositories;
                report(reader, piece, known, if certain { Severity::Error } else { Severity::Warning });
            }
            if plain_debian && let Some((_, instead)) = NOT_IN_DEBIAN.iter().find(|(known, _)| *known == name) {
                let place = place_of(reader, piece, name);
                reader.report(Problem::warning(place, format!("`{name}` is not in Debian")).with_help(*instead));
            }
        }
    }
}

fn check_r(reader: &mut Reader<'_>, subject: &Subject<'_>) {
    for stage in subject.stages_of("r") {
        for (key, piece) in stage.values.pieces() {
            if key == "packages"
                && let Some(known) = R.iter().find(|known| known.name == piece.text)
            {
                report(reader, piece, known, Severity::Warning);
            }
            if piece.text.split('@').next() == Some("IRkernel/IRkernel") {
                let problem = Problem::warning(
                    piece.span.clone(),
                    "`IRkernel/IRkernel` from GitHub is not needed: Debian and CRAN have it",
                );
                reader.report(problem.with_help("put `IRkernel` into `packages`"));
            }
        }
    }
}

fn report(reader: &mut Reader<'_>, piece: &Piece, known: &KnownName, severity: Severity) {
    let written = piece.text.get(..known.name.len()).unwrap_or(known.name);
    let place = place_of(reader, piece, written);
    reader.report(Problem {
        severity,
        message: format!("`{written}` {}", known.because),
        span: place,
        help: Some(known.instead.to_owned()),
    });
}

/// `python3-pandas` from apt, and `pandas` from pip into an environment that does not see it.
pub(super) fn check_apt_beside_pip(reader: &mut Reader<'_>, subject: &Subject<'_>) {
    let own: Vec<&Stage> =
        subject.stages_of("pip").filter(|stage| stage.values.boolean("system_site_packages") != Some(true)).collect();
    let from_pip = |name: &str| {
        let pieces = own.iter().flat_map(|stage| stage.values.texts("packages"));
        pieces.into_iter().find(|piece| pip_name(&piece.text).as_deref() == Some(name)).cloned()
    };
    let mut found = Vec::new();
    for piece in subject.stages_of("apt").flat_map(|stage| stage.values.texts("packages")) {
        let name = apt_name(&piece.text);
        if let Some(module) = name.strip_prefix("python3-")
            && let Some(other) = from_pip(module)
        {
            found.push((name.to_owned(), piece, pip_name(&other.text).unwrap_or_default()));
        }
    }
    for (name, piece, other) in found {
        let problem = Problem::warning(
            place_of(reader, piece, &name),
            format!("`{name}` from apt stands beside `{other}` from pip"),
        );
        let help = "the virtual environment does not see the one from apt: remove it from this list";
        reader.report(problem.with_help(help));
    }
}

/// The name of a requirement as PyPI compares it; `None` for options, files and URLs.
pub(super) fn pip_name(requirement: &str) -> Option<String> {
    let requirement = requirement.trim();
    let end = requirement
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.'))
        .unwrap_or(requirement.len());
    let name = &requirement[..end];
    let is_file =
        requirement.ends_with(".whl") || requirement.ends_with(".tar.gz") || requirement[end..].starts_with('/');
    if is_file || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || requirement[end..].starts_with(':') {
        return None;
    }
    let parts: Vec<&str> = name.split(['-', '_', '.']).filter(|part| !part.is_empty()).collect();
    Some(parts.join("-").to_lowercase())
}

/// The name in `git`, `git=1:2.47`, `git/trixie-backports`, `git:amd64`.
pub(super) fn apt_name(package: &str) -> &str {
    package.split(['=', '/', ':']).next().unwrap_or(package).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_requirements() {
        assert_eq!(pip_name("Scikit_Learn>=1.2").as_deref(), Some("scikit-learn"));
        assert_eq!(pip_name("dask[array, dataframe]").as_deref(), Some("dask"));
        assert_eq!(pip_name("name @ https://example.org/x.whl"), None);
        assert_eq!(pip_name("./local/wheel.whl"), None);
        assert_eq!(pip_name("--no-deps"), None);
        assert_eq!(apt_name("git=1:2.47"), "git");
        assert_eq!(apt_name("git/trixie-backports"), "git");
    }
}
