//! The command line.

mod building;
mod reports;
mod upkeep;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use building::{Build, Bundle, Lock, OnError, Plan, Shell};
pub(crate) use reports::{Audit, AuditFormat, Diff, DiffFormat, Inspect, Proof, Sbom, Verify};
pub(crate) use upkeep::{Aws, AwsPolicy, Cache, CacheCommand, CacheDu, CacheLs, CachePrune, CacheRm, Gc};

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
