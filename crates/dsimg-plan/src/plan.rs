//! The plan: everything a build will do, as a value that can be printed, hashed and kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use dsimg_template::template::aws::AmiSource;
use dsimg_template::template::{Bootstrap, BuilderTable, Cell, Image, ImageSource, Network, Publish};
use dsimg_template::units::Timeout;

use crate::digest::Digest;

/// What one builder will do for one template; of a template with a matrix, for one combination of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of this form; 1.
    pub format: u32,
    pub image: Image,
    /// `None` without a `[matrix]`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cell: Option<Cell>,
    /// The `name` of the `[[builder]]`.
    pub builder: String,
    /// Of it, only what decides what the disk holds is part of the stages' keys: its size and the firmware; on AWS the
    /// region and the volumes.
    pub machine: BuilderTable,
    /// Of the file that the machine names as its user data: with another content nothing is started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_data: Option<Digest>,
    pub base: PlannedBase,
    /// What the disk holds before the first stage.
    pub disk_key: Digest,
    /// What that key is made of, as people read it. Not part of the plan's hash, as [`Stage::inputs`].
    #[serde(skip_serializing_if = "serde_json::Value::is_null", default)]
    pub disk_inputs: serde_json::Value,
    pub network: Network,
    /// The last one is the hygiene stage.
    pub stages: Vec<Stage>,
    /// Where the finished image goes.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub publish: Vec<Publish>,
}

/// What is booted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlannedBase {
    Bootstrap(Bootstrap),
    Image(ImageSource),
    Ami(AmiSource),
}

/// One `[[provision]]` entry: the unit of caching.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Unique in the plan; shown to people.
    pub label: String,
    pub provisioner: String,
    pub provisioner_version: u32,
    /// Chains over all stages before it and the base.
    pub key: Digest,
    /// The key of the stage without a lock, where the other one is bound to one.
    #[serde(skip)]
    pub open_key: Option<Digest>,
    /// What the key is made of but for the stages before it, as people read it: to say later what has changed.
    #[serde(skip_serializing_if = "serde_json::Value::is_null", default)]
    pub inputs: serde_json::Value,
    /// Whether it, and all after it, may come from a checkpoint. Not part of the key.
    pub cache: bool,
    /// A checkpoint that is older is not used. Not part of the key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refresh: Option<Timeout>,
    /// Names of tools that must be in the machine, such as `uv`.
    pub tools: Vec<String>,
    pub steps: Vec<Step>,
}

/// Closed data: whatever a step does is in its fields, and all its fields are in the key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Files and folders of the host, each with its place in the guest.
    Upload {
        files: Vec<PlannedFile>,
    },
    /// A text the plan carries: generated parameters, a provisioner's script, a rendered file.
    Write {
        to: GuestPath,
        mode: u32,
        content: String,
    },
    /// A script that runs as root with bash in the stage's folder.
    Run {
        script: GuestPath,
        timeout: Timeout,
        retries: u32,
        may_reboot: bool,
    },
    /// A file or folder of the guest, to a path below the image's folder.
    Fetch {
        from: GuestPath,
        to: PathBuf,
    },
    Reboot,
}

/// An absolute path in the guest.
pub type GuestPath = String;

/// One entry of an upload, by its content: the path on the host is not part of the key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// Where it is read, relative to the template's folder.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<PathBuf>,
    /// Where it goes. While inputs are gathered: below the path that the template names, empty for that path
    /// itself; in a plan: the guest's absolute path.
    pub path: String,
    pub kind: FileKind,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// `executable` is all that is taken from the host's mode.
    File {
        sha256: Digest,
        size: u64,
        executable: bool,
    },
    Folder,
    Symlink {
        target: String,
    },
    /// A file rendered on the host; the plan carries its content.
    Rendered {
        content: String,
        executable: bool,
    },
}

/// Secrets by variable name; a keyed hash of each takes part in the keys.
pub type SecretDigests = BTreeMap<String, Digest>;

impl Plan {
    /// sha256 over the plan's JSON; the manifest records it. The readable forms of the keys' inputs, which say
    /// nothing that the rest does not, are left out; so is where the image goes, which does not change it.
    #[must_use]
    pub fn hash(&self) -> Digest {
        let mut plan = self.clone();
        plan.disk_inputs = serde_json::Value::Null;
        plan.publish.clear();
        plan.stages.iter_mut().for_each(|stage| stage.inputs = serde_json::Value::Null);
        Digest::of_value(&plan)
    }

    /// The same plan with its stages bound to locked packages: `pins` has for each stage, without the last, the digest of
    /// what the lock holds for it, or `None` where the lock does not fit.
    #[must_use]
    pub fn pinned(mut self, pins: &[Option<Digest>]) -> Self {
        for (index, stage) in self.stages.iter_mut().enumerate() {
            let pinned = pinned_key(&stage.key, &pins[..pins.len().min(index + 1)]);
            stage.open_key = Some(std::mem::replace(&mut stage.key, pinned));
        }
        self
    }

    /// What tells the plan from the others of its template, for screens and file names: the builder's name, with a
    /// matrix also the combination's.
    #[must_use]
    pub fn run_name(&self) -> String {
        match &self.cell {
            // No builder and no combination has a `+` in its name.
            Some(cell) => format!("{}+{}", self.builder, cell.slug),
            None => self.builder.clone(),
        }
    }

    /// The login that is made for the build, or the one that the template names.
    #[must_use]
    pub fn build_user(&self) -> &str {
        crate::make::build_user(&self.machine, matches!(self.base, PlannedBase::Bootstrap(_)))
    }
}

/// The key of a stage whose content, and that of all before it, is that of these packages: found out after an open build,
/// it is the same as that of a locked one.
#[must_use]
pub fn pinned_key(key: &Digest, pins: &[Option<Digest>]) -> Digest {
    Digest::of_value(&(key, pins))
}
