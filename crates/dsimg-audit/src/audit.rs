//! The main job: an image's packages against the advisories of a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dsimg_manifest::Inventory;
use jiff::Timestamp;

use crate::affected::{Answer, answer, is_about};
use crate::database::{Advisories, read};
use crate::names::{Subject, Subjects, subjects};
use crate::osv::Record;
use crate::report::{Database, Finding, Missing, Report, Suppressed, Unchecked, Verdict};
use crate::severity::{Rating, rating};
use crate::{AuditError, Severity, Suppression};

/// What fails an audit.
#[derive(Debug, Clone)]
pub struct Settings {
    /// From here on; what says nothing of its severity counts as worse.
    pub threshold: Severity,
    /// What could not be checked does not fail the audit.
    pub allow_unchecked: bool,
    /// Advisories may be as old as this.
    pub max_age_days: Option<u32>,
    pub suppressions: Vec<Suppression>,
    /// For the age of the advisories and the end of suppressions.
    pub now: Timestamp,
}

/// Asks the advisories below `folder` about every package of the image.
///
/// # Errors
/// A file of advisories that can't be read or is not what it should be; its name is in the error. One that is not there
/// is in the report.
pub fn audit(inventory: &Inventory, folder: &Path, settings: &Settings) -> Result<Report, AuditError> {
    let Subjects { packages, mut unchecked } = subjects(inventory);
    let mut report = Report::new(&inventory.title);
    for (ecosystem, subjects) in by_ecosystem(&packages) {
        let advisories = read(folder, &subjects)?.filter(|advisories| advisories.count > 0);
        let names = |subject: &&Subject| packages[*subject].len();
        let Some(advisories) = advisories else {
            let packages = subjects.iter().map(names).sum();
            report.missing.push(Missing { ecosystem, packages });
            continue;
        };
        report.checked += subjects.iter().map(names).sum::<usize>();
        report.databases.push(database(&ecosystem, &advisories, settings));
        for subject in subjects {
            let (findings, unclear) = findings(subject, &packages[subject], &advisories.records);
            report.findings.extend(findings);
            unchecked.extend(unclear);
        }
    }
    report.unchecked = unchecked;
    suppress(&mut report, settings);
    report.sort();
    report.verdict = verdict(&report, settings);
    Ok(report)
}

fn by_ecosystem(packages: &BTreeMap<Subject, BTreeSet<String>>) -> BTreeMap<String, Vec<&Subject>> {
    let mut ecosystems: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for subject in packages.keys() {
        ecosystems.entry(subject.ecosystem.name().to_owned()).or_default().push(subject);
    }
    ecosystems
}

fn database(ecosystem: &str, advisories: &Advisories, settings: &Settings) -> Database {
    let newest = advisories.newest.as_ref().and_then(|text| text.parse::<Timestamp>().ok());
    Database {
        ecosystem: ecosystem.to_owned(),
        file: advisories.file.clone(),
        records: advisories.count,
        newest: newest.map(|newest| newest.to_string()),
        age_days: newest.map(|newest| (settings.now.as_second() - newest.as_second()).max(0) / 86_400),
    }
}

fn findings(subject: &Subject, packages: &BTreeSet<String>, records: &[Record]) -> (Vec<Finding>, Vec<Unchecked>) {
    let (mut findings, mut unclear) = (Vec::new(), Vec::new());
    for record in records {
        match answer(record, subject) {
            Answer::NotAffected => {}
            Answer::Unclear(why) => unclear.push(Unchecked {
                ecosystem: subject.ecosystem.name().to_owned(),
                name: subject.name.clone(),
                version: subject.version.clone(),
                why: format!("{}: {why}", record.id),
            }),
            Answer::Affected { fixed } => merge(finding(subject, packages, record, fixed), &mut findings),
        }
    }
    (findings, unclear)
}

fn finding(subject: &Subject, packages: &BTreeSet<String>, record: &Record, fixed: Option<String>) -> Finding {
    let about = record.affected.iter().filter(|affected| is_about(affected, subject));
    let ratings = about.map(|affected| rating(record, affected));
    let worst = ratings.max_by(|a, b| {
        let score = |rating: &Rating| rating.score.unwrap_or(-1.0);
        a.severity.cmp(&b.severity).then(score(a).total_cmp(&score(b)))
    });
    Finding {
        id: record.id.clone(),
        also: record.names().skip(1).chain(record.upstream.iter().map(String::as_str)).map(ToOwned::to_owned).collect(),
        is_malicious: record.is_malicious(),
        summary: record.headline(),
        severity: worst.and_then(|rating| rating.severity),
        score: worst.and_then(|rating| rating.score),
        ecosystem: subject.ecosystem.name().to_owned(),
        name: subject.name.clone(),
        version: subject.version.clone(),
        fixed,
        packages: packages.iter().cloned().collect(),
        suppressed: None,
    }
}

/// Several databases write of the same thing: `GHSA-…` and `PYSEC-…` of one `CVE-…`. They are one finding.
fn merge(new: Finding, findings: &mut Vec<Finding>) {
    let Some(known) = findings.iter_mut().find(|known| known.is_same_as(&new)) else {
        findings.push(new);
        return;
    };
    known.also.insert(new.id);
    known.also.extend(new.also);
    known.also.remove(&known.id);
    known.is_malicious |= new.is_malicious;
    if new.severity > known.severity {
        (known.severity, known.score) = (new.severity, new.score);
    }
    if known.summary.is_empty() {
        known.summary = new.summary;
    }
    known.fixed = known.fixed.take().or(new.fixed);
}

fn suppress(report: &mut Report, settings: &Settings) {
    let today = settings.now.to_zoned(jiff::tz::TimeZone::UTC).date();
    for suppression in &settings.suppressions {
        let Suppression { id, package, reason, until } = suppression;
        let hits = report.findings.iter_mut().filter(|finding| {
            let is_package =
                package.as_ref().is_none_or(|name| finding.name == *name || finding.packages.contains(name));
            is_package && (finding.id == *id || finding.also.contains(id))
        });
        let mut was_used = false;
        for finding in hits {
            was_used = true;
            // Nobody may live with what is made to do harm.
            if *until >= today && !finding.is_malicious {
                finding.suppressed = Some(Suppressed { reason: reason.clone(), until: until.to_string() });
            }
        }
        if *until < today {
            report.notes.push(format!("the suppression of {id} ended on {until}"));
        } else if !was_used {
            report.notes.push(format!("the suppression of {id} fits nothing that was found"));
        }
    }
}

fn verdict(report: &Report, settings: &Settings) -> Verdict {
    let open = || report.findings.iter().filter(|finding| finding.suppressed.is_none());
    let malicious = open().filter(|finding| finding.is_malicious).count();
    let counts = |finding: &&Finding| finding.severity.is_none_or(|severity| severity >= settings.threshold);
    let severe = open().filter(|finding| !finding.is_malicious).filter(counts).count();
    let mut reasons = Vec::new();
    if malicious > 0 {
        reasons.push(format!("{malicious} malicious"));
    }
    if severe > 0 {
        reasons.push(format!("{severe} of severity {} or above, or of none that is known", settings.threshold));
    }
    if !settings.allow_unchecked {
        let missing: Vec<_> = report.missing.iter().map(|missing| missing.ecosystem.as_str()).collect();
        if !missing.is_empty() {
            reasons.push(format!("no advisories for {}", missing.join(", ")));
        }
        if !report.unchecked.is_empty() {
            reasons.push(format!("{} could not be checked", report.unchecked.len()));
        }
    }
    reasons.extend(settings.max_age_days.into_iter().flat_map(|limit| too_old(report, limit)));
    Verdict { passed: reasons.is_empty(), found: malicious + severe, reasons }
}

fn too_old(report: &Report, limit: u32) -> Vec<String> {
    let databases = report.databases.iter();
    databases
        .filter_map(|database| match database.age_days {
            None => Some(format!("the age of the advisories for {} is not known", database.ecosystem)),
            Some(age) if age > i64::from(limit) => {
                Some(format!("the advisories for {} are {age} days old, and the limit is {limit}", database.ecosystem))
            }
            Some(_) => None,
        })
        .collect()
}
