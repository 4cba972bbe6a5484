//! The lock beside a template: read, held against the plans, and written.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use dsimg_build::lock::{Misfit, misfits, pins_of};
use dsimg_manifest::lock::{parse_lock, write_lock};
use dsimg_manifest::{Lock, LockFile};
use dsimg_mirror::Pins;
use dsimg_plan::{Digest, Plan};

use crate::failure::{Code, Failure};

/// What becomes of the lock in this command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Use {
    /// Kept to where it fits; what the template asks for beyond it is resolved and added.
    Keep,
    /// It has to fit, and the machine must have what it says.
    Strictly,
    /// These packages come anew; all of them, where none is named.
    Upgrade(BTreeSet<String>),
}

/// The lock file of one template.
#[derive(Debug, Clone)]
pub(crate) struct Locks {
    path: PathBuf,
    file: LockFile,
    /// Of the file's text; `None`: there is no file.
    sha256: Option<Digest>,
}

/// A plan with the lock that it is bound to.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) plan: Plan,
    pub(crate) lock: Option<Lock>,
    /// Where the lock does not fit the template; those stages are resolved anew.
    pub(crate) misfits: Vec<Misfit>,
    /// Packages that are resolved anew although the lock has them.
    pub(crate) free: BTreeSet<String>,
    /// The first stage that has to run again because of these.
    pub(crate) from: Option<String>,
}

impl Bound {
    fn open(plan: Plan) -> Self {
        Self { plan, lock: None, misfits: Vec::new(), free: BTreeSet::new(), from: None }
    }

    /// Whether the lock decides it all.
    pub(crate) fn is_kept(&self) -> bool {
        self.lock.is_some() && self.misfits.is_empty() && self.free.is_empty()
    }

    /// What the repositories of the build are bound to.
    pub(crate) fn pins(&self) -> Option<Pins> {
        let lock = self.lock.clone()?;
        Some(Pins { lock, exclusive: self.is_kept(), free: self.free.clone() })
    }
}

/// `team.toml` has its lock in `team.lock`.
pub(crate) fn path_for(template: &Path) -> PathBuf {
    template.with_extension("lock")
}

impl Locks {
    /// # Errors
    /// There is a file, and it is no lock or was changed.
    pub(crate) fn beside(template: &Path) -> Result<Self, Failure> {
        let path = path_for(template);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self { path, file: LockFile::default(), sha256: None });
            }
            Err(error) => return Err(Failure::file("cannot read the lock", &path, error)),
        };
        Self::of_text(path, &text)
    }

    /// # Errors
    /// The text is no lock or was changed.
    pub(crate) fn of_text(path: PathBuf, text: &str) -> Result<Self, Failure> {
        match parse_lock(text) {
            Ok(file) => Ok(Self { path, file, sha256: Some(Digest::of_bytes(text.as_bytes())) }),
            Err(error) => {
                let failure = Failure::new(Code::Wrong, format!("the lock `{}` can't be kept to", path.display()));
                Err(failure.with_hint(error.hint()).because(error))
            }
        }
    }

    pub(crate) fn into_file(self) -> LockFile {
        self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn sha256(&self) -> Option<&Digest> {
        self.sha256.as_ref()
    }

    pub(crate) fn get(&self, plan: &Plan) -> Option<&Lock> {
        self.file.runs.get(&plan.run_name())
    }

    /// The plan as far as the lock fits it: what a build would look for.
    pub(crate) fn pinned(&self, plan: Plan) -> Plan {
        match self.get(&plan) {
            Some(lock) => plan.clone().pinned(&pins_of(lock, &plan)),
            None => plan,
        }
    }

    /// # Errors
    /// The lock has to fit, and does not.
    pub(crate) fn bind(&self, plan: Plan, how: &Use) -> Result<Bound, Failure> {
        let Some(lock) = self.get(&plan) else {
            return match how {
                Use::Strictly => Err(self.no_lock(&plan)),
                Use::Keep | Use::Upgrade(_) => Ok(Bound::open(plan)),
            };
        };
        let misfits = misfits(lock, &plan);
        let (free, from) = match how {
            Use::Strictly if !misfits.is_empty() => return Err(self.does_not_fit(&misfits)),
            Use::Keep | Use::Strictly => (BTreeSet::new(), None),
            Use::Upgrade(names) if names.is_empty() => {
                // From the first stage on: a boot brings no packages.
                let from = plan.stages.first().map(|stage| stage.label.clone());
                return Ok(Bound { from, ..Bound::open(plan) });
            }
            Use::Upgrade(names) => (names.clone(), Some(first_stage_with(names, lock, &plan)?)),
        };
        let mut pins = pins_of(lock, &plan);
        // What moves on is found again by the new lock, never by the old one.
        let moves = plan.stages.iter().position(|stage| Some(&stage.label) == from.as_ref());
        pins.iter_mut().skip(moves.unwrap_or(usize::MAX)).for_each(|pin| *pin = None);
        let plan = plan.pinned(&pins);
        Ok(Bound { plan, lock: Some(lock.clone()), misfits, free, from })
    }

    /// Puts the lock of one build into the file.
    ///
    /// # Errors
    /// It can't be written; what was there is still there.
    pub(crate) fn update(&mut self, run_name: &str, lock: Lock) -> Result<(), Failure> {
        self.file.runs.insert(run_name.to_owned(), lock);
        let text = write_lock(&self.file);
        let write = || {
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let mut new = tempfile::Builder::new().prefix(".lock-").tempfile_in(folder)?;
            std::io::Write::write_all(&mut new, text.as_bytes())?;
            new.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
            new.as_file().sync_all()?;
            new.persist(&self.path).map_err(|error| error.error)
        };
        write().map_err(|error| Failure::file("cannot write the lock", &self.path, error))?;
        self.sha256 = Some(Digest::of_bytes(text.as_bytes()));
        Ok(())
    }

    fn no_lock(&self, plan: &Plan) -> Failure {
        let what = match self.sha256 {
            None => format!("there is no lock `{}`", self.path.display()),
            Some(_) => format!("the lock `{}` has nothing for `{}`", self.path.display(), plan.run_name()),
        };
        Failure::new(Code::Wrong, what).with_hint("make it with `dsimg lock`, and keep it beside the template")
    }

    fn does_not_fit(&self, misfits: &[Misfit]) -> Failure {
        let list: String =
            misfits.iter().map(|misfit| format!("\n  stage `{}`: {}", misfit.stage, misfit.why)).collect();
        let what = format!("the lock `{}` no longer fits the template:{list}", self.path.display());
        Failure::new(Code::Wrong, what).with_hint("bring it up to date with `dsimg lock`, or build without `--locked`")
    }
}

/// # Errors
/// The lock has none of a name.
fn first_stage_with(names: &BTreeSet<String>, lock: &Lock, plan: &Plan) -> Result<String, Failure> {
    let deb = lock.deb.iter().map(|package| (&package.name, &package.stage));
    let pypi = lock.pypi.iter().map(|package| (&package.name, &package.stage));
    let cran = lock.cran.iter().map(|package| (&package.name, &package.stage));
    let all: Vec<_> = deb.chain(pypi).chain(cran).collect();
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|(known, _)| known == name)) {
        let failure = Failure::new(Code::Wrong, format!("the lock has no package `{unknown}`"));
        return Err(match dsimg_template::nearest(unknown, all.iter().map(|(name, _)| name.as_str())) {
            Some(near) => failure.with_hint(format!("did you mean `{near}`?")),
            None => failure.with_hint("`dsimg lock --upgrade` without names moves all of them"),
        });
    }
    let has_one =
        |stage: &&dsimg_plan::Stage| all.iter().any(|(name, of)| names.contains(*name) && **of == stage.label);
    match plan.stages.iter().find(has_one) {
        Some(stage) => Ok(stage.label.clone()),
        None => {
            let failure =
                Failure::new(Code::Wrong, "these packages came with the base, which a lock does not move alone");
            Err(failure.with_hint("install them by name in an `apt` stage, or move all with `dsimg lock --upgrade`"))
        }
    }
}
