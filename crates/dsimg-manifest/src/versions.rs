//! Which of two versions is the newer one, by the rules of their ecosystem.

use std::cmp::Ordering;
use std::str::FromStr as _;

/// `None`: a version is not of the ecosystem's form, or the ecosystem is unknown.
#[must_use]
pub fn compare(ecosystem: &str, a: &str, b: &str) -> Option<Ordering> {
    match ecosystem {
        "deb" => compare_debian(a, b),
        "pypi" => {
            let (a, b) = (pep440_rs::Version::from_str(a).ok()?, pep440_rs::Version::from_str(b).ok()?);
            Some(a.cmp(&b))
        }
        "cran" => Some(r_numbers(a)?.cmp(&r_numbers(b)?)),
        _ => None,
    }
}

/// The numbers of an R version: at least one, with `.` or `-` between. `1.0-2` and `1.0.2` are the same; `1.0` comes
/// before `1.0.0`. Source: `?package_version`.
fn r_numbers(version: &str) -> Option<Vec<u64>> {
    version.split(['.', '-']).map(number).collect()
}

fn number(digits: &str) -> Option<u64> {
    // `parse` would take a sign.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// As `dpkg --compare-versions`; source: deb-version(7). Written here because the crate `debversion` takes `1.0a` for
/// older than `1.0a0`, which dpkg takes for equal.
fn compare_debian(a: &str, b: &str) -> Option<Ordering> {
    let (a, b) = (DebianVersion::parse(a)?, DebianVersion::parse(b)?);
    Some(
        a.epoch
            .cmp(&b.epoch)
            .then_with(|| compare_part(a.upstream, b.upstream))
            .then_with(|| compare_part(a.revision, b.revision)),
    )
}

struct DebianVersion<'a> {
    epoch: u64,
    upstream: &'a [u8],
    revision: &'a [u8],
}

impl<'a> DebianVersion<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (epoch, rest) = match text.split_once(':') {
            Some((epoch, rest)) if !epoch.is_empty() => (number(epoch)?, rest),
            Some(_) => return None,
            None => (0, text),
        };
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".+-:~".contains(&byte);
        let is_version = !upstream.is_empty() && rest.bytes().all(is_allowed);
        is_version.then_some(Self { epoch, upstream: upstream.as_bytes(), revision: revision.as_bytes() })
    }
}

/// Runs of non-digits and of digits in turn, from the left.
fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (text_a, text_b) =
            (split_run(&mut a, |byte| !byte.is_ascii_digit()), split_run(&mut b, |byte| !byte.is_ascii_digit()));
        let (digits_a, digits_b) = (split_run(&mut a, u8::is_ascii_digit), split_run(&mut b, u8::is_ascii_digit));
        let order = compare_text(text_a, text_b).then_with(|| compare_digits(digits_a, digits_b));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// Takes what fulfils the condition from the front.
fn split_run<'a>(text: &mut &'a [u8], condition: impl Fn(&u8) -> bool) -> &'a [u8] {
    let end = text.iter().position(|byte| !condition(byte)).unwrap_or(text.len());
    let (run, rest) = text.split_at(end);
    *text = rest;
    run
}

/// `~` before the end, the end before letters, letters before all else.
fn compare_text(a: &[u8], b: &[u8]) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    };
    let length = a.len().max(b.len());
    (0..length)
        .map(|at| weight(a.get(at)).cmp(&weight(b.get(at))))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Of any length; none at all is 0.
fn compare_digits(a: &[u8], b: &[u8]) -> Ordering {
    let significant = |digits: &[u8]| digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
    let (a, b) = (&a[significant(a)..], &b[significant(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// In their order; those on one line are equal.
    const DEBIAN: &[&[&str]] = &[
        &["0~~", "0:0~~"],
        &["0~~a"],
        &["0~"],
        &["0", "00", "0-0", "0:0"],
        &["0a", "0a0"],
        &["0+b1"],
        &["1.0~beta1~svn1245-1"],
        &["1.0~rc1-1~bpo12+1"],
        &["1.0~rc1-1"],
        &["1.0-1~deb12u1"],
        &["1.0-1"],
        &["1.0-1+b1"],
        &["1.0-1.1"],
        &["1.0-10"],
        &["1.0a-1"],
        &["1.0+dfsg-1"],
        &["1.0.1-1"],
        &["1.9-1"],
        &["1.10-1", "1.010-01"],
        &["20241001", "20241001-0"],
        &["99999999999999999999999999"],
        &["1:0.1-1"],
        &["1:2.47.3-0+deb13u1"],
        &["2:1-2-3"],
        &["2:1:4-3"],
    ];

    #[test]
    fn debian_versions_are_in_dpkgs_order() {
        for (left, a) in DEBIAN.iter().enumerate().flat_map(|(at, line)| line.iter().map(move |a| (at, *a))) {
            for (right, b) in DEBIAN.iter().enumerate().flat_map(|(at, line)| line.iter().map(move |b| (at, *b))) {
                assert_eq!(compare("deb", a, b), Some(left.cmp(&right)), "{a} and {b}");
            }
        }
    }

    /// The table above against the program itself, where there is one.
    #[test]
    fn dpkg_agrees_with_the_table() {
        if Command::new("dpkg").arg("--version").output().is_err() {
            eprintln!("skipped: no dpkg here");
            return;
        }
        let says = |a: &str, relation: &str, b: &str| {
            Command::new("dpkg").args(["--compare-versions", a, relation, b]).status().unwrap().success()
        };
        for line in DEBIAN {
            assert!(line.iter().all(|other| says(line[0], "eq", other)), "{line:?}");
        }
        for pair in DEBIAN.windows(2) {
            assert!(says(pair[0][0], "lt", pair[1][0]), "{pair:?}");
        }
    }

    #[test]
    fn python_and_r_have_their_own_orders() {
        let rising = [
            ("pypi", "1.0.dev1", "1.0a1"),
            ("pypi", "1.0rc1", "1.0"),
            ("pypi", "1.0", "1.0.post1"),
            ("pypi", "9.0", "10.0"),
            ("pypi", "2025.1", "1!0.1"),
            ("cran", "0.6.9", "0.6.37"),
            ("cran", "1.0", "1.0.0"),
            ("cran", "1.95-4.9", "1.95-4.12"),
            ("cran", "3.4-1", "3.5"),
        ];
        for (ecosystem, older, newer) in rising {
            assert_eq!(compare(ecosystem, older, newer), Some(Ordering::Less), "{older} {newer}");
            assert_eq!(compare(ecosystem, newer, older), Some(Ordering::Greater), "{newer} {older}");
        }
        assert_eq!(compare("pypi", "1.0", "1.0.0"), Some(Ordering::Equal));
        assert_eq!(compare("cran", "1.0-2", "1.0.2"), Some(Ordering::Equal));
    }

    #[test]
    fn what_is_no_version_has_no_order() {
        for (ecosystem, wrong) in [
            ("deb", ""),
            ("deb", "a:1"),
            ("deb", ":1"),
            ("deb", "1_2"),
            ("deb", "1 2"),
            ("deb", "1:"),
            ("pypi", "one"),
            ("cran", "1.x"),
            ("cran", "1..2"),
            ("cran", "+1.2"),
            ("conda", "1"),
        ] {
            assert_eq!(compare(ecosystem, wrong, wrong), None, "{ecosystem} {wrong}");
        }
    }
}
