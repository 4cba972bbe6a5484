//! The plan: everything a build will do, as a value that can be printed, hashed and kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use dsimg_template::template::{Bootstrap, BuilderTable, Image, ImageSource, Network};
use dsimg_template::units::Timeout;

use crate::digest::Digest;

/// What one builder will do for one template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of this form; 1.
    pub format: u32,
    pub image: Image,
    /// The `name` of the `[[builder]]`.
    pub builder: String,
    /// Of it, only the disk's size and the firmware are part of the stages' keys.
    pub machine: BuilderTable,
    pub base: PlannedBase,
    /// What the disk holds before the first stage.
    pub disk_key: Digest,
    pub network: Network,
    /// The last one is the hygiene stage.
    pub stages: Vec<Stage>,
}

/// What is booted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlannedBase {
    Bootstrap(Bootstrap),
    Image(ImageSource),
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
    /// What the key is made of but for the stages before it, as people read it: to say later what has changed.
    pub inputs: serde_json::Value,
    /// Whether it may come from a checkpoint.
    pub cache: bool,
    /// A checkpoint that is older is not used.
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
    /// sha256 over the plan's JSON; the manifest records it.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest::of_value(self)
    }

    /// The login that is made for the build, or the one that the template names.
    #[must_use]
    pub fn build_user(&self) -> &str {
        let BuilderTable::Qemu(qemu) = &self.machine;
        qemu.ssh_user.as_deref().unwrap_or(crate::make::BUILD_USER)
    }
}
