//! Advisories that somebody looked at and lives with, for a time.

use jiff::civil::Date;
use serde::Deserialize;

use crate::AuditError;

/// An entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    /// `CVE-2026-1234`, or any other name of the advisory.
    pub id: String,
    /// Only for this package, by its own or its source package's name.
    pub package: Option<String>,
    pub reason: String,
    /// The last day on which it holds.
    pub until: Date,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    suppress: Vec<Written>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    #[serde(default)]
    package: Option<String>,
    reason: String,
    until: toml::value::Datetime,
}

/// Reads TOML: `[[suppress]]` with `id`, `reason`, `until` and, where it is about one package only, `package`.
///
/// # Errors
/// Another form, an empty reason, an `until` that is no date.
pub fn parse_suppressions(text: &str) -> Result<Vec<Suppression>, AuditError> {
    let text: Text =
        toml::from_str(text).map_err(|error| AuditError::Suppressions(error.to_string().trim_end().to_owned()))?;
    text.suppress.into_iter().map(check).collect()
}

fn check(written: Written) -> Result<Suppression, AuditError> {
    let Written { id, package, reason, until } = written;
    let error = |what: String| AuditError::Suppressions(format!("`{id}`: {what}"));
    if id.trim().is_empty() {
        return Err(AuditError::Suppressions("an entry has no `id`".to_owned()));
    }
    if reason.trim().is_empty() {
        return Err(error("its `reason` is empty".to_owned()));
    }
    let date = until.date.and_then(|date| date.to_string().parse().ok());
    let until = date.ok_or_else(|| error(format!("`until` is no date: {until}")))?;
    Ok(Suppression { id, package, reason, until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_what_why_and_how_long() {
        let text = "[[suppress]]\nid = \"CVE-2026-1\"\nreason = \"not reachable\"\nuntil = 2027-01-31\n";
        let [entry] = &parse_suppressions(text).unwrap()[..] else { panic!("one entry") };
        assert_eq!((&*entry.id, entry.until, &entry.package), ("CVE-2026-1", Date::constant(2027, 1, 31), &None));
        for (from, to, expected) in [
            ("reason = \"not reachable\"", "reason = \" \"", "`CVE-2026-1`: its `reason` is empty"),
            ("until = 2027-01-31", "until = 12:00:00", "`until` is no date"),
            ("until = 2027-01-31", "", "missing field `until`"),
            ("until", "untill", "unknown field `untill`"),
            ("CVE-2026-1", "", "an entry has no `id`"),
        ] {
            let error = parse_suppressions(&text.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
