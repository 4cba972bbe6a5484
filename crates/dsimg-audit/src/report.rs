//! What an audit found, in its three forms.

mod sarif;
mod text;

use std::collections::BTreeSet;
use std::path::PathBuf;

use dsimg_manifest::inventory::Entry;
use serde::Serialize;

use crate::Severity;

/// The result of an audit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was audited.
    pub title: String,
    pub verdict: Verdict,
    pub databases: Vec<Database>,
    /// How many packages advisories were asked about.
    pub checked: usize,
    /// Malicious first, then by falling severity.
    pub findings: Vec<Finding>,
    /// Packages, or an advisory on one, of which nothing is known.
    pub unchecked: Vec<Unchecked>,
    pub missing: Vec<Missing>,
    /// For people: suppressions that ended or fit nothing.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub passed: bool,
    /// How many findings are malicious, or as severe as the threshold.
    pub found: usize,
    /// Why not.
    pub reasons: Vec<String>,
}

/// A file or folder of advisories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Database {
    /// `Debian:13`
    pub ecosystem: String,
    pub file: PathBuf,
    /// About this ecosystem.
    pub records: usize,
    /// When the newest record was changed, RFC 3339.
    pub newest: Option<String>,
    pub age_days: Option<i64>,
}

/// An advisory that is about an installed version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    pub id: String,
    /// What else it is called.
    pub also: BTreeSet<String>,
    pub is_malicious: bool,
    pub summary: String,
    /// `None`: nobody says.
    pub severity: Option<Severity>,
    /// CVSS base score, 0 to 10.
    pub score: Option<f64>,
    pub ecosystem: String,
    /// Of Debian and Ubuntu, the source package.
    pub name: String,
    pub version: String,
    /// The next version without it.
    pub fixed: Option<String>,
    /// What is installed of it.
    pub packages: Vec<String>,
    pub suppressed: Option<Suppressed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suppressed {
    pub reason: String,
    /// The last day.
    pub until: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unchecked {
    pub ecosystem: String,
    pub name: String,
    pub version: String,
    pub why: String,
}

/// An ecosystem without advisories.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Missing {
    pub ecosystem: String,
    /// How many packages could not be checked for that.
    pub packages: usize,
}

impl Report {
    pub(crate) fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            verdict: Verdict { passed: false, found: 0, reasons: Vec::new() },
            databases: Vec::new(),
            checked: 0,
            findings: Vec::new(),
            unchecked: Vec::new(),
            missing: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn sort(&mut self) {
        self.findings.sort_by(|a, b| {
            // What says nothing may be anything.
            let badness = |finding: &Finding| (finding.is_malicious, finding.severity.is_none(), finding.severity);
            badness(b).cmp(&badness(a)).then_with(|| (&a.name, &a.id).cmp(&(&b.name, &b.id)))
        });
        self.unchecked.sort();
    }

    /// For people, in columns.
    #[must_use]
    pub fn to_text(&self) -> String {
        text::write(self)
    }

    /// With a line end at the end.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a report is plain data");
        text.push('\n');
        text
    }

    /// SARIF 2.1.0, for what collects the results of checks. `file` is what was audited, as others find it.
    #[must_use]
    pub fn to_sarif(&self, file: &str) -> String {
        sarif::write(self, file)
    }
}

impl Finding {
    /// Of the same package, and one of the names in common that stand for one thing.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        // Of any release of the distribution.
        let family = |finding: &Self| finding.ecosystem.split(':').next().map(ToOwned::to_owned);
        let is_package = self.name == other.name && family(self) == family(other);
        is_package && (self.id == other.id || self.also.contains(&other.id) || other.also.contains(&self.id))
    }
}

impl Unchecked {
    pub(crate) fn of(entry: &Entry, why: &str) -> Self {
        let package = &entry.package;
        Self {
            ecosystem: package.ecosystem.clone(),
            name: package.name.clone(),
            version: package.version.clone(),
            why: why.to_owned(),
        }
    }
}
