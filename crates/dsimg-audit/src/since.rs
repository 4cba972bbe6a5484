//! Two audits with the same advisories: what went, what came, what stayed.

use serde::Serialize;

use crate::{Finding, Report};

/// From one image to another. What is suppressed counts as found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Since {
    pub fixed: Vec<Finding>,
    pub introduced: Vec<Finding>,
    /// As they are in the later one.
    pub remaining: Vec<Finding>,
}

/// What changed from `before` to `after`. The same advisory on the same package is the same finding in any version.
#[must_use]
pub fn since(before: &Report, after: &Report) -> Since {
    let is_in = |finding: &Finding, report: &Report| report.findings.iter().any(|other| other.is_same_as(finding));
    let fixed = before.findings.iter().filter(|finding| !is_in(finding, after)).cloned().collect();
    let (remaining, introduced) = after.findings.iter().cloned().partition(|finding| is_in(finding, before));
    Since { fixed, introduced, remaining }
}

impl Since {
    /// For people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let list = |title: &str, findings: &[Finding]| {
            let lines = findings.iter().map(|finding| {
                let severity = finding.severity.map_or("unknown", crate::Severity::word);
                format!("  {severity:<8}  {}  {} {}\n", finding.id, finding.name, finding.version)
            });
            format!("{title}: {}\n{}", findings.len(), lines.collect::<String>())
        };
        let text = list("fixed", &self.fixed) + "\n" + &list("introduced", &self.introduced);
        let text = text + &format!("\nremaining: {}\n", self.remaining.len());
        text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
    }
}
