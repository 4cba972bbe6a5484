//! How bad an advisory says that it is.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use cvss::Cvss;
use serde::{Deserialize, Serialize};

use crate::osv::{Affected, Record, Score};

/// In rising order, as CVSS names its ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// Of a CVSS base score.
    fn of_score(score: f64) -> Self {
        match score {
            score if score >= 9.0 => Self::Critical,
            score if score >= 7.0 => Self::High,
            score if score >= 4.0 => Self::Medium,
            _ => Self::Low,
        }
    }

    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

impl FromStr for Severity {
    type Err = String;

    /// Also what GitHub (`MODERATE`), Ubuntu (`negligible`) and Debian (`unimportant`) call them.
    fn from_str(word: &str) -> Result<Self, String> {
        match word.to_ascii_lowercase().as_str() {
            "low" | "negligible" | "unimportant" => Ok(Self::Low),
            "medium" | "moderate" => Ok(Self::Medium),
            "high" | "important" => Ok(Self::High),
            "critical" => Ok(Self::Critical),
            _ => Err(format!("`{word}` is none of low, medium, high, critical")),
        }
    }
}

/// What a record says, for the package that it is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rating {
    /// `None`: it does not say.
    pub(crate) severity: Option<Severity>,
    /// CVSS base score, 0 to 10.
    pub(crate) score: Option<f64>,
}

/// The highest score of the CVSS vectors; without one, the words of the database.
pub(crate) fn rating(record: &Record, affected: &Affected) -> Rating {
    let scores = record.severity.iter().chain(&affected.severity);
    let score = scores.clone().filter_map(base_score).max_by(f64::total_cmp);
    if let Some(score) = score {
        return Rating { severity: Some(Severity::of_score(score)), score: Some(score) };
    }
    let words = [
        record.database_specific.get("severity").and_then(serde_json::Value::as_str),
        scores.clone().find(|score| score.kind == "Ubuntu").map(|score| score.score.as_str()),
        affected.ecosystem_specific.get("urgency").and_then(serde_json::Value::as_str),
    ];
    Rating { severity: words.into_iter().flatten().find_map(|word| word.parse().ok()), score: None }
}

/// The metrics that a vector must have.
const BASE_V3: [&str; 8] = ["AV", "AC", "PR", "UI", "S", "C", "I", "A"];
const BASE_V4: [&str; 11] = ["AV", "AC", "AT", "PR", "UI", "VC", "VI", "VA", "SC", "SI", "SA"];

fn base_score(score: &Score) -> Option<f64> {
    if !score.kind.starts_with("CVSS_V") {
        return None;
    }
    // An incomplete vector would be scored 0.
    let keys: BTreeSet<_> = score.score.split('/').filter_map(|metric| metric.split(':').next()).collect();
    let base: &[&str] = if score.score.starts_with("CVSS:4") { &BASE_V4 } else { &BASE_V3 };
    if !base.iter().all(|key| keys.contains(key)) {
        return None;
    }
    match score.score.parse().ok()? {
        Cvss::CvssV30(vector) | Cvss::CvssV31(vector) => Some(vector.base_score().value()),
        Cvss::CvssV40(vector) => Some(vector.score().value()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rated(kind: &str, vector: &str) -> Option<f64> {
        base_score(&Score { kind: kind.to_owned(), score: vector.to_owned() })
    }

    /// Scores as the calculators of FIRST give them.
    #[test]
    fn base_scores_are_worked_out() {
        let cases = [
            ("CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
            ("CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0),
            ("CVSS_V3", "CVSS:3.0/AV:L/AC:H/PR:L/UI:R/S:U/C:L/I:N/A:N", 2.2),
            ("CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
            ("CVSS_V3", "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 7.8),
            ("CVSS_V4", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 9.3),
            ("CVSS_V4", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:H/SC:N/SI:N/SA:N", 8.7),
        ];
        for (kind, vector, expected) in cases {
            let found = rated(kind, vector).unwrap();
            assert!((found - expected).abs() < 1e-9, "{vector}: {found} instead of {expected}");
        }
        assert_eq!(rated("CVSS_V3", "CVSS:3.1/AV:N"), None);
        assert_eq!(rated("Ubuntu", "medium"), None);
    }

    #[test]
    fn severities_have_an_order_and_words() {
        assert!(Severity::Critical > Severity::High && Severity::Medium > Severity::Low);
        assert_eq!("MODERATE".parse(), Ok(Severity::Medium));
        assert!("not yet assigned".parse::<Severity>().is_err());
        assert_eq!(Severity::of_score(6.9), Severity::Medium);
        assert_eq!(Severity::of_score(7.0), Severity::High);
    }
}
