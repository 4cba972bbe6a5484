//! Why a build did not end with an image.

use std::path::PathBuf;

use dsimg_machine::{MachineError, SessionError};

use crate::lock::Differing;

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A command of a stage ended with a status that is not success.
    #[error("stage `{stage}` failed: `{script}` {status}")]
    Stage {
        stage: String,
        script: String,
        /// `exited with 1`
        status: String,
        /// The last lines it printed.
        tail: Vec<String>,
    },
    /// A stage was cut short by something else than its own command.
    #[error("stage `{stage}` was cut short")]
    StageCut { stage: String, source: Box<BuildError> },
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The link or the machine went away; `trouble` and `console` say what is known of it.
    #[error("the machine went away{}", trouble.as_ref().map_or_else(String::new, |trouble| format!(": {trouble}")))]
    Gone { source: SessionError, trouble: Option<String>, console: String },
    #[error("`{}` changed since the plan was made", path.display())]
    Changed { path: PathBuf },
    #[error("`{}` is there already", path.display())]
    OutputExists { path: PathBuf },
    #[error("`{}` is not a folder that dsimg made, so it is not replaced", path.display())]
    OutputForeign { path: PathBuf },
    #[error("{action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    /// The guest's answer has not the form it should have.
    #[error("cannot read what is installed in the machine: {why}")]
    Freeze { why: String },
    #[error("a secret in stage `{stage}` was changed by a filter, so it can't be put in")]
    MangledSecret { stage: String },
    #[error(transparent)]
    Store(#[from] dsimg_checkpoint::StoreError),
    #[error(transparent)]
    Packages(#[from] dsimg_store::StoreError),
    #[error(transparent)]
    Mirror(#[from] dsimg_mirror::MirrorError),
    #[error("the lock is of another base: of sha256 {}…, and {description} has {}…", &locked[..12.min(locked.len())], found.short())]
    OtherBase { locked: String, found: dsimg_plan::Digest, description: String },
    #[error("the lock's base (sha256 {}…) is neither on this host nor in the bundle", sha256.short())]
    NoBase { sha256: dsimg_plan::Digest },
    #[error("the machine has other packages than the lock:{}", listed(differing))]
    DiffersFromLock { differing: Vec<Differing> },
    #[error("cancelled")]
    Cancelled,
}

/// So many packages are listed.
const LISTED: usize = 12;

fn listed(differing: &[Differing]) -> String {
    let mut text: String = differing.iter().take(LISTED).map(|one| format!("\n  {one}")).collect();
    if differing.len() > LISTED {
        text.push_str(&format!("\n  and {} more", differing.len() - LISTED));
    }
    text
}

impl BuildError {
    #[must_use]
    pub fn file(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::File { action, path: path.into(), source }
    }

    /// What to do next, when something is known that helps.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Machine(error) => error.hint().map(str::to_owned),
            Self::StageCut { source, .. } => source.hint(),
            Self::Changed { .. } => Some("run the build again; files must stay as they are while it runs".to_owned()),
            Self::OutputExists { .. } => {
                Some("give the image another version, or replace it with `--force`".to_owned())
            }
            Self::OutputForeign { .. } => Some("move it away, or choose another folder with `--output`".to_owned()),
            Self::Stage { tail, .. } => hint_from_output(tail),
            Self::Packages(error) => error.hint().map(str::to_owned),
            Self::Mirror(error) => error.hint().map(str::to_owned),
            Self::OtherBase { .. } => Some(
                "take a bundle of the host that made the lock (`dsimg bundle`), or make the lock anew with `dsimg lock --upgrade`"
                    .to_owned(),
            ),
            Self::NoBase { .. } => Some("make the bundle anew, with the lock that is kept to".to_owned()),
            Self::DiffersFromLock { .. } => Some(
                "a stage installs something by itself, past dsimg: see the stages that used the network; or make the lock \
                 anew with `dsimg lock --upgrade`"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Cancelled | Self::Machine(MachineError::Cancelled) => true,
            Self::Machine(MachineError::Session(SessionError::Cancelled)) => true,
            Self::StageCut { source, .. } => source.is_cancelled(),
            _ => false,
        }
    }
}

/// What the last lines of a failed command give away about the cause.
fn hint_from_output(tail: &[String]) -> Option<String> {
    let says = |words: &[&str]| tail.iter().any(|line| words.iter().any(|word| line.contains(word)));
    if says(&["No space left on device"]) {
        return Some(
            "the machine's disk or memory-backed folder is full: raise `disk` or `memory` of the builder".to_owned(),
        );
    }
    if says(&[
        "certificate verify failed",
        "CERTIFICATE_VERIFY_FAILED",
        "UnknownIssuer",
        "certificate verification failed",
        "unable to get local issuer certificate",
    ]) {
        return Some("a proxy seems to re-sign TLS: set `ca = \"host\"` (or a PEM file) in `[network]`".to_owned());
    }
    if says(&["Temporary failure resolving", "Could not resolve", "dns error", "failed to lookup address"]) {
        return Some("the machine can't resolve a host's name: set `proxy` or mirrors in `[network]`".to_owned());
    }
    if says(&["Killed", "Cannot allocate memory", "MemoryError"]) {
        return Some("the machine may have run out of memory: raise `memory` of the builder".to_owned());
    }
    None
}
