//! The image's folder: it appears whole, by rename, or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dsimg_machine::{Resource, RunContext};
use dsimg_manifest::Manifest;
use dsimg_manifest::manifest::Artifact;
use dsimg_plan::{Plan, Stage};
use jiff::Timestamp;

use crate::error::BuildError;

/// The file that marks a folder as one that dsimg made and may replace.
const MANIFEST: &str = "manifest.json";

/// The folder in which the image is put together, beside the place where it will be.
#[derive(Debug)]
pub(crate) struct OutputFolder {
    partial: PathBuf,
    target: PathBuf,
    force: bool,
}

impl OutputFolder {
    /// Makes the temporary folder.
    ///
    /// # Errors
    /// The target is there already and may not be replaced, or the folder can't be made.
    pub(crate) fn reserve(target: &Path, force: bool, run: &RunContext) -> Result<Self, BuildError> {
        check_target(target, force)?;
        let parent = target.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(|error| BuildError::file("cannot make", parent, error))?;
        let parent = parent.canonicalize().map_err(|error| BuildError::file("cannot find", parent, error))?;
        let name = target.file_name().and_then(|name| name.to_str()).unwrap_or("image");
        let partial = parent.join(format!(".{name}.{}.partial", run.build_id));
        run.ledger
            .will_make(Resource::Folder { path: partial.clone() })
            .map_err(|error| BuildError::file("cannot write", run.ledger.path(), error))?;
        fs::create_dir(&partial).map_err(|error| BuildError::file("cannot make", &partial, error))?;
        Ok(Self { partial, target: parent.join(name), force })
    }

    /// Where files are written until [`OutputFolder::publish`].
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.partial
    }

    /// Gives the folder its name. What was there before, if it may be replaced, goes away only then.
    ///
    /// # Errors
    /// The target appeared meanwhile, or the rename fails.
    pub(crate) fn publish(self, run: &RunContext) -> Result<PathBuf, BuildError> {
        check_target(&self.target, self.force)?;
        let rename = |from: &Path, to: &Path| {
            fs::rename(from, to).map_err(|error| BuildError::file("cannot rename to", to, error))
        };
        sync_folder(&self.partial)?;
        if self.target.exists() {
            let old = self.partial.with_extension("replaced");
            rename(&self.target, &old)?;
            if let Err(error) = rename(&self.partial, &self.target) {
                rename(&old, &self.target)?;
                return Err(error);
            }
            fs::remove_dir_all(&old).map_err(|error| BuildError::file("cannot remove", &old, error))?;
        } else {
            rename(&self.partial, &self.target)?;
        }
        if let Some(parent) = self.target.parent() {
            sync_folder(parent)?;
        }
        self.strike(run)?;
        Ok(self.target)
    }

    /// Takes away what was written.
    ///
    /// # Errors
    /// The folder can't be removed; the ledger keeps it for the next run.
    pub(crate) fn discard(self, run: &RunContext) -> Result<(), BuildError> {
        match fs::remove_dir_all(&self.partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(BuildError::file("cannot remove", &self.partial, error));
            }
            _ => {}
        }
        self.strike(run)
    }

    fn strike(&self, run: &RunContext) -> Result<(), BuildError> {
        run.ledger
            .is_gone(Resource::Folder { path: self.partial.clone() })
            .map_err(|error| BuildError::file("cannot write", run.ledger.path(), error))
    }
}

/// The manifest of an image that is there already and is just what this plan gives: the same plan, files as long as they
/// were written, and no stage that wants to be made again.
#[must_use]
pub fn unchanged(target: &Path, plan: &Plan, now: Timestamp) -> Option<Manifest> {
    let manifest = Manifest::from_json(&fs::read_to_string(target.join(MANIFEST)).ok()?).ok()?;
    let made: Timestamp = manifest.build.started.parse().ok()?;
    let is_fresh = |stage: &Stage| {
        let age = now.duration_since(made).unsigned_abs();
        stage.cache && stage.refresh.is_none_or(|limit| age <= limit.as_duration())
    };
    let is_whole =
        |artifact: &Artifact| fs::metadata(target.join(&artifact.file)).is_ok_and(|file| file.len() == artifact.size);
    let same = manifest.plan == plan.hash().as_str()
        && plan.stages.iter().all(is_fresh)
        && manifest.build.artifacts.iter().all(is_whole);
    same.then_some(manifest)
}

/// Asked before anything is started, too: an hour's build must not end with a refusal.
fn check_target(target: &Path, force: bool) -> Result<(), BuildError> {
    if fs::symlink_metadata(target).is_err() {
        return Ok(());
    }
    if !force {
        return Err(BuildError::OutputExists { path: target.to_owned() });
    }
    let is_ours = target.is_dir() && !target.is_symlink() && target.join(MANIFEST).is_file();
    if is_ours { Ok(()) } else { Err(BuildError::OutputForeign { path: target.to_owned() }) }
}

fn sync_folder(path: &Path) -> Result<(), BuildError> {
    let sync = || fs::File::open(path)?.sync_all();
    sync().map_err(|error| BuildError::file("cannot write to disk", path, error))
}
