//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dsimg_audit::Severity;
use dsimg_template::units::{ByteSize, Timeout};

/// One TOML template to a bootable machine image with everything a data-science team works with.
#[derive(Debug, Parser)]
#[command(
    name = "dsimg",
    version,
    max_term_width = 100,
    after_help = "\
Start with `dsimg init`, then `dsimg build template.toml`. Exit codes are in docs/exit-codes.md."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a template.
    Build(Build),
    /// Freeze what goes into an image: write the lock beside the template.
    Lock(Lock),
    /// Pack template, lock and packages into one file, to build where there is no network.
    Bundle(Bundle),
    /// Show what a build would do, and change nothing.
    Plan(Plan),
    /// Check templates, and report everything that is wrong with them.
    Validate(Validate),
    /// Show what is in an image: its manifest, as people read it.
    Inspect(Inspect),
    /// Show what changed from one image to another.
    Diff(Diff),
    /// Write the bill of materials of an image: CycloneDX.
    Sbom(Sbom),
    /// Hold an image's packages against known vulnerabilities and malicious packages.
    Audit(Audit),
    /// Prove that an image is what its lock says, and who signed it.
    Verify(Verify),
    /// Open a shell in a throw-away machine on a checkpoint.
    Shell(Shell),
    /// Look at what builds keep for the next ones, and take it away.
    Cache(Cache),
    /// Remove what builds that died left behind.
    Gc(Gc),
    /// Prepare an AWS account.
    #[command(subcommand)]
    Aws(Aws),
    /// Look whether this host has what builds need, and how to install what is missing.
    Doctor(Doctor),
    /// Write a commented template to start from.
    Init(Init),
    /// Print the JSON Schema of templates, for editors.
    Schema(Schema),
    /// Print completions for a shell.
    Completions(Completions),
}

/// Values for the template's variables. `DSIMG_VAR_name` in the environment comes last.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Variables {
    /// Set a variable of the template; beats files and the environment.
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub flags: Vec<(String, String)>,
    /// Read variables from a TOML file of `name = value` lines; a later file beats an earlier one.
    #[arg(long = "var-file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  dsimg build template.toml
  dsimg build team.toml --only kvm --var python=3.13 --output /srv/images
  dsimg build team.toml --on-error keep      # leaves a failed machine to look into
  dsimg build --offline team.bundle          # on a host without any network
  dsimg build team.toml --json | jq .")]
pub(crate) struct Build {
    /// The template: a TOML file, see docs/template.md. With `--offline`, a bundle.
    pub template: PathBuf,
    #[command(flatten)]
    pub variables: Variables,
    /// Build only with this `[[builder]]`, also one that is `on_request`; may be given several times.
    #[arg(long, value_name = "BUILDER")]
    pub only: Vec<String>,
    /// Where the image's folder goes.
    #[arg(long, value_name = "DIR", default_value = "images")]
    pub output: PathBuf,
    /// Replace an image's folder that is there already.
    #[arg(long)]
    pub force: bool,
    /// Leave the image on this host, whatever `[[publish]]` says.
    #[arg(long)]
    pub no_publish: bool,
    /// Refuse to differ from the lock beside the template, and refuse to build without one.
    #[arg(long)]
    pub locked: bool,
    /// Build from a bundle of `dsimg bundle`, and ask nobody outside for anything; implies `--locked` and `--no-publish`.
    #[arg(long)]
    pub offline: bool,
    /// Start from the base, whatever checkpoints there are; new ones are made.
    #[arg(long)]
    pub no_cache: bool,
    /// Run this stage and all after it, even if they have checkpoints.
    #[arg(long, value_name = "STAGE", conflicts_with = "no_cache")]
    pub from: Option<String>,
    /// Sign the image with this key: Ed25519, PKCS#8 in PEM; else `DSIMG_SIGN_KEY`.
    #[arg(long, value_name = "KEY")]
    pub sign: Option<PathBuf>,
    /// Who vouches for this host in what is signed, as a URI; else `DSIMG_BUILDER_ID`.
    #[arg(long, value_name = "URI")]
    pub builder_id: Option<String>,
    /// What happens to the machine when the build fails.
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = OnError::Cleanup)]
    pub on_error: OnError,
    /// Print one JSON event a line on standard output.
    #[arg(long, conflicts_with = "progress")]
    pub json: bool,
    /// How progress is shown.
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Progress::Auto)]
    pub progress: Progress,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dsimg lock team.toml                       # writes team.lock: what it has stays, what is new is added
  dsimg lock team.toml --upgrade             # all packages as they are published today
  dsimg lock team.toml --upgrade numpy --upgrade pandas")]
pub(crate) struct Lock {
    /// The template: a TOML file, see docs/template.md. Its lock is beside it and ends in `.lock`.
    pub template: PathBuf,
    #[command(flatten)]
    pub variables: Variables,
    /// Lock only this `[[builder]]`, also one that is `on_request`; may be given several times.
    #[arg(long, value_name = "BUILDER")]
    pub only: Vec<String>,
    /// Move this package to what is published today, or all of them.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    pub upgrade: Vec<String>,
    /// How progress is shown.
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Progress::Auto)]
    pub progress: Progress,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dsimg bundle team.toml -o team.bundle
  dsimg bundle team.toml --only kvm --var python=3.13 -o team.bundle
  dsimg build --offline team.bundle          # on the other host")]
pub(crate) struct Bundle {
    /// The template: a TOML file, see docs/template.md. The lock beside it has to fit.
    pub template: PathBuf,
    #[command(flatten)]
    pub variables: Variables,
    /// Pack only for this `[[builder]]`, also one that is `on_request`; may be given several times.
    #[arg(long, value_name = "BUILDER")]
    pub only: Vec<String>,
    /// Where the bundle goes.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace a file that is there already.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dsimg shell template.toml                  # where the last build failed, else at its last stage
  dsimg shell template.toml --at python
  echo 'pip list' | dsimg shell template.toml --at python")]
pub(crate) struct Shell {
    /// The template: a TOML file, see docs/template.md.
    pub template: PathBuf,
    #[command(flatten)]
    pub variables: Variables,
    /// The stage after which the machine was saved, or in which it failed; `boot` is what is before the first.
    #[arg(long, value_name = "STAGE")]
    pub at: Option<String>,
    /// The `[[builder]]`, where the template has several.
    #[arg(long, value_name = "BUILDER")]
    pub only: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dsimg gc                                   # on this host; every build does the same when it begins
  dsimg gc --aws --region eu-west-1 --dry-run
  dsimg gc --aws --region eu-west-1 --region us-east-1")]
pub(crate) struct Gc {
    /// Also look in an AWS account, for whatever carries dsimg's tag `dsimg:temporary`.
    #[arg(long)]
    pub aws: bool,
    /// The regions to look in, else that of `AWS_REGION`.
    #[arg(long = "region", value_name = "REGION", requires = "aws")]
    pub regions: Vec<String>,
    /// A profile of `~/.aws/config`.
    #[arg(long, value_name = "PROFILE", requires = "aws")]
    pub profile: Option<String>,
    /// Remove also what a build on another host may still need.
    #[arg(long, requires = "aws")]
    pub all: bool,
    /// Say what would go, and remove nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Aws {
    /// Print the IAM policy that a template's builds and publishers need.
    Policy(AwsPolicy),
}

#[derive(Debug, Args)]
pub(crate) struct AwsPolicy {
    /// The template: a TOML file, see docs/template.md.
    pub template: PathBuf,
    #[command(flatten)]
    pub variables: Variables,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnError {
    /// Remove it.
    Cleanup,
    /// Keep it running until Ctrl-C, and say how to log in.
    Keep,
    /// Ask at the terminal.
    Ask,
    /// Open a shell in it, as `dsimg shell` does.
    Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// Bars at a terminal, plain lines elsewhere.
    Auto,
    /// Bars, whatever standard error is.
    Tty,
    /// One line for each thing that happens, with the time.
    Plain,
    /// Warnings and the result only.
    Quiet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dsimg plan template.toml
  dsimg plan template.toml --format json > plan.json")]
pub(crate) struct Plan {
    /// The template: a TOML file, see docs/template.md.
    pub template: PathBuf,
    #[command(flatten)]
    pub variables: Variables,
    /// Plan only for this `[[builder]]`; may be given several times.
    #[arg(long, value_name = "BUILDER")]
    pub only: Vec<String>,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dsimg validate template.toml
  dsimg validate templates/*.toml --format json")]
pub(crate) struct Validate {
    /// Templates: TOML files, see docs/template.md.
    #[arg(required = true, value_name = "TEMPLATE")]
    pub templates: Vec<PathBuf>,
    #[command(flatten)]
    pub variables: Variables,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

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

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dsimg cache ls
  dsimg cache prune --budget 10GiB --older-than 2w
  dsimg cache rm 707f264094e0")]
pub(crate) struct Cache {
    #[command(subcommand)]
    pub command: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List the checkpoints, each under the one that it stands on.
    Ls(CacheLs),
    /// Show how much room each part of the cache takes.
    Du(CacheDu),
    /// Remove what is of no use, what is old, and what is over the budget.
    Prune(CachePrune),
    /// Read everything back, and set aside what is damaged.
    Verify,
    /// Remove checkpoints with all that stand on them.
    Rm(CacheRm),
}

#[derive(Debug, Args)]
pub(crate) struct CacheLs {
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct CacheDu {
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct CachePrune {
    /// What checkpoints may take on the disk, such as 10GiB; else `DSIMG_CACHE_BUDGET`, else 30GiB.
    #[arg(long, value_name = "SIZE")]
    pub budget: Option<ByteSize>,
    /// What the package store may take on the disk, such as 5GiB; else `DSIMG_PACKAGES_BUDGET`, else 20GiB.
    #[arg(long, value_name = "SIZE")]
    pub packages: Option<ByteSize>,
    /// Also remove what was not used for so long, such as 2w.
    #[arg(long, value_name = "DURATION")]
    pub older_than: Option<Timeout>,
    /// Remove all checkpoints.
    #[arg(long, conflicts_with_all = ["budget", "older_than"])]
    pub all: bool,
    /// Say what would go, and remove nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CacheRm {
    /// Checkpoints, as `dsimg cache ls` names them; the beginning or end of an id does if only one is like this.
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dsimg doctor
  dsimg doctor --format json")]
pub(crate) struct Doctor {
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dsimg init
  dsimg init team.toml --template team
  dsimg init --list")]
pub(crate) struct Init {
    /// The file to write.
    #[arg(default_value = "template.toml")]
    pub file: PathBuf,
    /// The template to start from; `dsimg init --list` names them.
    #[arg(long, value_name = "NAME", default_value = "quickstart")]
    pub template: String,
    /// Name the templates to start from, and write nothing.
    #[arg(long)]
    pub list: bool,
    /// Replace the file if it is there.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dsimg schema > dsimg.schema.json
then `#:schema ./dsimg.schema.json` in the first line of a template makes editors complete it")]
pub(crate) struct Schema {
    /// A template whose `provisioners/` folder takes part in the schema.
    #[arg(value_name = "TEMPLATE")]
    pub template: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dsimg completions bash > ~/.local/share/bash-completion/completions/dsimg")]
pub(crate) struct Completions {
    pub shell: clap_complete::Shell,
}

/// The value is not shown when it is wrong: it may be a secret.
fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as `NAME=VALUE`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_variable_is_split_at_the_first_equals_sign() {
        assert_eq!(name_and_value("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(name_and_value("=b").is_err());
        assert!(name_and_value("ab").is_err());
    }
}
