//! The part of OSV's records that an audit reads. Source: <https://ossf.github.io/osv-schema/>.

use std::borrow::Cow;

use serde::Deserialize;

/// As little of a record as tells whether it is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Head<'a> {
    #[serde(borrow, default)]
    pub(crate) modified: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) affected: Vec<HeadAffected<'a>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct HeadAffected<'a> {
    #[serde(borrow, default)]
    pub(crate) package: Option<HeadPackage<'a>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct HeadPackage<'a> {
    #[serde(borrow)]
    pub(crate) ecosystem: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) withdrawn: Option<String>,
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    /// What a distribution's advisory is about: `CVE-…`.
    #[serde(default)]
    pub(crate) upstream: Vec<String>,
    #[serde(default)]
    pub(crate) summary: Option<String>,
    #[serde(default)]
    pub(crate) details: Option<String>,
    #[serde(default)]
    pub(crate) severity: Vec<Score>,
    #[serde(default)]
    pub(crate) affected: Vec<Affected>,
    #[serde(default)]
    pub(crate) database_specific: serde_json::Value,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Score {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) score: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Affected {
    #[serde(default)]
    pub(crate) package: Option<Package>,
    #[serde(default)]
    pub(crate) severity: Vec<Score>,
    #[serde(default)]
    pub(crate) ranges: Vec<Range>,
    #[serde(default)]
    pub(crate) versions: Vec<String>,
    #[serde(default)]
    pub(crate) ecosystem_specific: serde_json::Value,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) ecosystem: String,
    pub(crate) name: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Range {
    /// `ECOSYSTEM`, `SEMVER`, or `GIT`, whose events are commits.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) events: Vec<Event>,
}

/// One of the four.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Event {
    #[serde(default)]
    pub(crate) introduced: Option<String>,
    #[serde(default)]
    pub(crate) fixed: Option<String>,
    #[serde(default)]
    pub(crate) last_affected: Option<String>,
    #[serde(default)]
    pub(crate) limit: Option<String>,
}

impl Record {
    /// Of a package that was published to do harm: <https://github.com/ossf/malicious-packages>.
    pub(crate) fn is_malicious(&self) -> bool {
        self.names().any(|name| name.starts_with("MAL-"))
    }

    /// The record's id and what others call the same thing.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.id.as_str()).chain(self.aliases.iter().map(String::as_str))
    }

    /// One line.
    pub(crate) fn headline(&self) -> String {
        let text = self.summary.as_deref().filter(|summary| !summary.trim().is_empty()).or(self.details.as_deref());
        let line = text.unwrap_or_default().trim().lines().next().unwrap_or_default();
        let short: String = line.chars().take(160).collect();
        if short.len() < line.len() { format!("{}…", short.trim_end()) } else { short }
    }
}
