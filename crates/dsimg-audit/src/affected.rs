//! Whether a version is one that a record is about. Source: "Evaluation" in <https://ossf.github.io/osv-schema/>.

use std::cmp::Ordering;

use dsimg_manifest::{normal_name, versions};

use crate::names::Subject;
use crate::osv::{Affected, Event, Range, Record};

/// What a record says of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    NotAffected,
    Affected {
        /// The next version that is not, where the record knows one.
        fixed: Option<String>,
    },
    /// The record is about this package, and its versions can't be read.
    Unclear(String),
}

pub(crate) fn answer(record: &Record, subject: &Subject) -> Answer {
    let mut result = Answer::NotAffected;
    for affected in record.affected.iter().filter(|affected| is_about(affected, subject)) {
        match answer_of(affected, subject, record.is_malicious()) {
            found @ Answer::Affected { .. } => return found,
            unclear @ Answer::Unclear(_) => result = unclear,
            Answer::NotAffected => {}
        }
    }
    result
}

pub(crate) fn is_about(affected: &Affected, subject: &Subject) -> bool {
    let package = affected.package.as_ref();
    package.is_some_and(|package| is_named(&package.ecosystem, &package.name, subject))
}

/// A record that names no release is about all.
pub(crate) fn is_named(ecosystem: &str, name: &str, subject: &Subject) -> bool {
    let Subject { ecosystem: asked, name: asked_name, .. } = subject;
    let is_name = if asked.order == "pypi" { normal_name(name) == *asked_name } else { name == asked_name };
    is_name && (ecosystem == asked.family || asked.names.iter().any(|name| name == ecosystem))
}

fn answer_of(affected: &Affected, subject: &Subject, is_malicious: bool) -> Answer {
    let ranges: Vec<_> = affected.ranges.iter().filter(|range| range.kind != "GIT").collect();
    let order = |a: &str, b: &str| versions::compare(subject.ecosystem.order, a, b);
    let is_listed = affected.versions.iter().any(|version| {
        // Debian's own lists are long, and their versions stand there as they are.
        *version == subject.version
            || (subject.ecosystem.order != "deb" && order(version, &subject.version) == Some(Ordering::Equal))
    });
    let mut unclear = None;
    for range in &ranges {
        match is_in(range, &subject.version, &order) {
            Ok(true) => return Answer::Affected { fixed: fixed_in(range, &subject.version, &order) },
            Ok(false) => {}
            Err(version) => unclear = Some(format!("its range has a version of another form: `{version}`")),
        }
    }
    if is_listed {
        return Answer::Affected { fixed: None };
    }
    if ranges.is_empty() && affected.versions.is_empty() {
        // Of what is harmful as a whole, no version need be named.
        return if is_malicious {
            Answer::Affected { fixed: None }
        } else {
            Answer::Unclear("it names no versions, or commits alone".to_owned())
        };
    }
    unclear.map_or(Answer::NotAffected, Answer::Unclear)
}

/// Where in its order an event stands. `0` comes before every version.
#[derive(Debug, Clone, Copy)]
enum Edge<'a> {
    Introduced(&'a str),
    Fixed(&'a str),
    LastAffected(&'a str),
}

impl<'a> Edge<'a> {
    fn of(event: &'a Event) -> Option<Self> {
        let Event { introduced, fixed, last_affected, .. } = event;
        let introduced = introduced.as_deref().map(Self::Introduced);
        introduced.or(fixed.as_deref().map(Self::Fixed)).or(last_affected.as_deref().map(Self::LastAffected))
    }

    fn version(self) -> &'a str {
        match self {
            Self::Introduced(version) | Self::Fixed(version) | Self::LastAffected(version) => version,
        }
    }
}

/// # Errors
/// The version of an event that has no place in the order.
fn is_in<'a>(
    range: &'a Range,
    version: &str,
    order: &impl Fn(&str, &str) -> Option<Ordering>,
) -> Result<bool, &'a str> {
    // How `version` stands to another, where it does.
    let against = |other: &'a str| order(version, other).ok_or(other);
    let limits: Vec<_> = range.events.iter().filter_map(|event| event.limit.as_deref()).collect();
    let is_below_limits = limits.is_empty() || limits.contains(&"*") || {
        let below: Result<Vec<_>, _> = limits.iter().map(|limit| against(limit).map(Ordering::is_lt)).collect();
        below?.contains(&true)
    };
    if !is_below_limits {
        return Ok(false);
    }
    // Of the events at or before the version, the last one counts.
    let mut last: Option<(&str, bool)> = None;
    for edge in range.events.iter().filter_map(Edge::of) {
        let at = edge.version();
        let is_beginning = matches!(edge, Edge::Introduced("0"));
        let is_reached = is_beginning
            || match edge {
                Edge::Introduced(at) | Edge::Fixed(at) => against(at)?.is_ge(),
                Edge::LastAffected(at) => against(at)?.is_gt(),
            };
        if !is_reached {
            continue;
        }
        let is_later = match last {
            None => true,
            Some(("0", true)) => true,
            Some(_) if is_beginning => false,
            // What is fixed where something else begins is affected again.
            Some((before, _)) => match order(at, before).ok_or(at)? {
                Ordering::Less => false,
                Ordering::Equal => matches!(edge, Edge::Introduced(_)),
                Ordering::Greater => true,
            },
        };
        if is_later {
            last = Some((at, matches!(edge, Edge::Introduced(_))));
        }
    }
    Ok(last.is_some_and(|(_, is_affected)| is_affected))
}

/// The lowest fixed version above this one.
fn fixed_in(range: &Range, version: &str, order: &impl Fn(&str, &str) -> Option<Ordering>) -> Option<String> {
    let fixes = range.events.iter().filter_map(|event| event.fixed.as_deref());
    let above = fixes.filter(|fix| order(fix, version) == Some(Ordering::Greater));
    above.min_by(|a, b| order(a, b).unwrap_or(Ordering::Equal)).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_affected(order: &'static str, events: &[(&str, &str)], version: &str) -> Result<bool, String> {
        let events = events.iter().map(|(kind, at)| {
            let at = Some((*at).to_owned());
            match *kind {
                "introduced" => Event { introduced: at, ..Event::default() },
                "fixed" => Event { fixed: at, ..Event::default() },
                "last" => Event { last_affected: at, ..Event::default() },
                "limit" => Event { limit: at, ..Event::default() },
                other => panic!("{other}"),
            }
        });
        let range = Range { kind: "ECOSYSTEM".to_owned(), events: events.collect() };
        is_in(&range, version, &|a, b| versions::compare(order, a, b)).map_err(ToOwned::to_owned)
    }

    #[test]
    fn the_last_event_at_or_before_a_version_counts() {
        type Events = &'static [(&'static str, &'static str)];
        const FIXED: Events = &[("introduced", "0"), ("fixed", "1:2.5-1+deb13u2")];
        // In any order, with a gap.
        const TWICE: Events = &[("fixed", "3.0"), ("introduced", "2.0"), ("introduced", "0"), ("fixed", "1.0")];
        let cases: &[(&str, Events, &[&str], &[&str])] = &[
            (
                "deb",
                FIXED,
                &["0~~", "99.0-1", "1:2.5-1+deb13u1", "1:2.5-1+deb13u2~bpo12+1"],
                &["1:2.5-1+deb13u2", "2:0"],
            ),
            ("pypi", TWICE, &["0.9", "1.0rc1", "2.0", "2.9.post1"], &["1.0", "1.5", "2.0.dev1", "3.0", "1!0"]),
            (
                "cran",
                &[("introduced", "1.2"), ("last", "1.10-3")],
                &["1.2", "1.9", "1.10-3", "1.10.3"],
                &["1.1", "1.10-4"],
            ),
            ("cran", &[("introduced", "0"), ("limit", "2.0")], &["1.9.9"], &["2.0", "3.0"]),
            ("pypi", &[("introduced", "0"), ("limit", "*")], &["1"], &[]),
            ("pypi", &[("fixed", "1.0"), ("introduced", "1.0"), ("fixed", "1.1")], &["1.0"], &["0.9", "1.1"]),
            ("pypi", &[], &[], &["1"]),
        ];
        for (order, events, inside, outside) in cases {
            for version in *inside {
                assert_eq!(is_affected(order, events, version), Ok(true), "{version} in {events:?}");
            }
            for version in *outside {
                assert_eq!(is_affected(order, events, version), Ok(false), "{version} in {events:?}");
            }
        }
    }

    #[test]
    fn an_event_of_no_version_is_not_passed_over() {
        let events = [("introduced", "0"), ("fixed", "one")];
        assert_eq!(is_affected("pypi", &events, "1.0"), Err("one".to_owned()));
    }
}
