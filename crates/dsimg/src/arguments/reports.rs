//! What says something about images.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dsimg_audit::Severity;

use super::Format;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dsimg inspect images/quickstart-1.0
  dsimg inspect images/quickstart-1.0 --packages | grep numpy")]
pub(crate) struct Inspect {
    /// An image's folder, or a manifest file.
    #[arg(value_name = "DIR|FILE")]
    pub image: PathBuf,
    /// List every package.
    #[arg(long)]
    pub packages: bool,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dsimg diff images/team-1.0 images/team-1.1
  dsimg diff old/team.lock team.lock --only kvm
  dsimg diff images/team-1.0 images/team-1.1 --format html -o changes.html")]
pub(crate) struct Diff {
    /// What was: an image's folder, a manifest, a lock or a disk (qcow2, raw).
    #[arg(value_name = "A")]
    pub before: PathBuf,
    /// What is, in one of the same forms.
    #[arg(value_name = "B")]
    pub after: PathBuf,
    /// Which build of a lock that has several; given twice, of A and of B.
    #[arg(long, value_name = "BUILD")]
    pub only: Vec<String>,
    #[arg(long, value_enum, default_value_t = DiffFormat::Text)]
    pub format: DiffFormat,
    /// Write it to this file.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiffFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// One page for a mail or a ticket.
    Html,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dsimg sbom images/team-1.0 -o team.cdx.json
  dsimg sbom team.lock --only kvm")]
pub(crate) struct Sbom {
    /// An image's folder, a manifest or a lock.
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// Which build of a lock that has several.
    #[arg(long, value_name = "BUILD")]
    pub only: Option<String>,
    /// Write it to this file.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dsimg audit images/team-1.0 --update       # fetches what OSV knows today, then checks
  dsimg audit team.lock --severity critical
  dsimg audit team.lock --database /srv/osv --format sarif -o audit.sarif")]
pub(crate) struct Audit {
    /// An image's folder, a manifest or a lock.
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// Which build of a lock that has several.
    #[arg(long, value_name = "BUILD")]
    pub only: Option<String>,
    /// First fetch the advisories that the image needs.
    #[arg(long)]
    pub update: bool,
    /// Fetch them from here instead of OSV; else `DSIMG_OSV_MIRROR`.
    #[arg(long, value_name = "URL", requires = "update")]
    pub mirror: Option<String>,
    /// The folder of advisories, else `osv` in the cache.
    #[arg(long, value_name = "DIR")]
    pub database: Option<PathBuf>,
    /// Fail from this severity on: low, medium, high, critical.
    #[arg(long, value_name = "LEVEL", default_value = "high")]
    pub severity: Severity,
    /// Pass although some packages could not be checked.
    #[arg(long)]
    pub allow_unchecked: bool,
    /// Fail if the advisories are older than so many days.
    #[arg(long, value_name = "DAYS")]
    pub max_age: Option<u32>,
    /// Advisories that somebody looked at and lives with: a TOML file of `[[suppress]]`.
    #[arg(long, value_name = "FILE")]
    pub suppressions: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = AuditFormat::Text)]
    pub format: AuditFormat,
    /// Write the report to this file.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For what collects the results of checks: SARIF 2.1.0.
    Sarif,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dsimg verify images/team-1.0 --lock team.lock
  dsimg verify images/team-1.0 --lock team.lock --level R3
  dsimg verify images/team-1.0 --lock team.lock --key key.pub.pem")]
pub(crate) struct Verify {
    /// An image's folder.
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// The lock that it was built from.
    #[arg(long, value_name = "LOCK")]
    pub lock: Option<PathBuf>,
    /// Which build of a lock that has several.
    #[arg(long, value_name = "BUILD", requires = "lock")]
    pub only: Option<String>,
    /// Fail below this level; else below the one that the manifest claims.
    #[arg(long, value_enum, value_name = "LEVEL", ignore_case = true, requires = "lock")]
    pub level: Option<Proof>,
    /// It must be signed by this key, in PEM, or by another one that is given.
    #[arg(long = "key", value_name = "FILE")]
    pub keys: Vec<PathBuf>,
    /// Its checksums must be signed by this key of minisign, or by another one that is given.
    #[arg(long = "minisign-key", value_name = "FILE")]
    pub minisign_keys: Vec<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Proof {
    /// The same versions.
    R1,
    /// The same packages, byte for byte.
    R2,
    /// The same files.
    R3,
    /// The same disk.
    R4,
}
