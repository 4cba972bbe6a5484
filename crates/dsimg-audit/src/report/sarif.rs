//! A report as SARIF 2.1.0. Source: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Finding, Report};
use crate::Severity;

pub(super) fn write(report: &Report, file: &str) -> String {
    let rules: BTreeMap<_, _> = report.findings.iter().map(|finding| (finding.id.as_str(), rule(finding))).collect();
    let order: BTreeMap<_, _> = rules.keys().enumerate().map(|(index, id)| (*id, index)).collect();
    let results = report.findings.iter().map(|finding| result(finding, order[finding.id.as_str()], file));
    let document = json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "dsimg audit",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules.values().collect::<Vec<_>>(),
            }},
            "invocations": [{
                "executionSuccessful": true,
                "exitCode": i32::from(!report.verdict.passed),
                "toolExecutionNotifications": notifications(report),
            }],
            "results": results.collect::<Vec<_>>(),
        }],
    });
    format!("{document:#}\n")
}

fn rule(finding: &Finding) -> Value {
    let summary = if finding.summary.is_empty() { &finding.id } else { &finding.summary };
    let kind = if finding.is_malicious { "malicious" } else { "vulnerability" };
    let mut properties = json!({"tags": ["security", kind]});
    if let Some(score) = number(finding) {
        properties["security-severity"] = json!(format!("{score:.1}"));
    }
    json!({
        "id": finding.id,
        "shortDescription": {"text": summary},
        "helpUri": format!("https://osv.dev/vulnerability/{}", finding.id),
        "properties": properties,
    })
}

/// What viewers sort by: the score, or the lowest one of its range.
fn number(finding: &Finding) -> Option<f64> {
    let lowest = |severity| match severity {
        Severity::Low => 0.1,
        Severity::Medium => 4.0,
        Severity::High => 7.0,
        Severity::Critical => 9.0,
    };
    if finding.is_malicious { Some(10.0) } else { finding.score.or(finding.severity.map(lowest)) }
}

fn result(finding: &Finding, rule: usize, file: &str) -> Value {
    let level = match finding.severity {
        _ if finding.is_malicious => "error",
        Some(Severity::Low) => "note",
        Some(Severity::Medium) => "warning",
        Some(Severity::High | Severity::Critical) | None => "error",
    };
    let Finding { id, ecosystem, name, version, packages, .. } = finding;
    let fixed = finding.fixed.as_ref().map_or_else(String::new, |fixed| format!("; fixed in {fixed}"));
    let installed = if packages == std::slice::from_ref(name) {
        String::new()
    } else {
        format!(" (installed: {})", packages.join(", "))
    };
    let mut result = json!({
        "ruleId": id,
        "ruleIndex": rule,
        "level": level,
        "message": {"text": format!("{name} {version}{installed}: {id}{fixed}")},
        "locations": [{
            "physicalLocation": {"artifactLocation": {"uri": uri(file)}},
            "logicalLocations": [{"name": name, "fullyQualifiedName": format!("{ecosystem}/{name}@{version}")}],
        }],
        "partialFingerprints": {"advisoryAndPackage/v1": format!("{id} {ecosystem} {name}")},
    });
    if let Some(suppressed) = &finding.suppressed {
        let justification = format!("until {}: {}", suppressed.until, suppressed.reason);
        result["suppressions"] = json!([{"kind": "external", "status": "accepted", "justification": justification}]);
    }
    result
}

/// What could not be checked.
fn notifications(report: &Report) -> Vec<Value> {
    let missing = report.missing.iter().map(|missing| {
        format!("no advisories for {}: {} packages were not checked", missing.ecosystem, missing.packages)
    });
    let unchecked = report.unchecked.iter().map(|unchecked| {
        let super::Unchecked { ecosystem, name, version, why } = unchecked;
        format!("{ecosystem} {name} {version} was not checked: {why}")
    });
    missing.chain(unchecked).map(|text| json!({"level": "warning", "message": {"text": text}})).collect()
}

/// A path as a relative reference.
fn uri(file: &str) -> String {
    file.bytes().fold(String::new(), |mut uri, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b'+' => {
                uri.push(char::from(byte));
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
        uri
    })
}
