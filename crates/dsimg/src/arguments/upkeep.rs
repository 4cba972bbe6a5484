//! What looks after the host and the account.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use dsimg_template::units::{ByteSize, Timeout};

use super::{Format, Variables};

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
