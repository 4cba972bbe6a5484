//! What goes from a template to an image, a lock or a bundle.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Format, Progress, Variables};

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

impl Build {
    /// For commands that plan and carry out as a build does, and make no image.
    pub(crate) fn without_image(
        template: PathBuf,
        variables: Variables,
        only: Vec<String>,
        progress: Progress,
    ) -> Self {
        Self {
            template,
            variables,
            only,
            output: PathBuf::new(),
            force: false,
            no_publish: true,
            sign: None,
            builder_id: None,
            locked: false,
            offline: false,
            no_cache: false,
            from: None,
            on_error: OnError::Cleanup,
            json: false,
            progress,
        }
    }
}

#[derive(Debug, Clone, Args)]
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

#[derive(Debug, Clone, Args)]
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
