//! What happens, as data: libraries report, the binary draws.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Takes events. One method: a new event changes one enum.
pub trait Reporter: Send + Sync {
    /// `builder` is that of the [`RunContext`](crate::RunContext) it happened for.
    fn report(&self, builder: &str, event: &Event);
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// One of the parts of a build besides the stages begins.
    PhaseStarted {
        phase: Phase,
    },
    PhaseEnded {
        phase: Phase,
        elapsed: Duration,
    },
    /// `number` counts from 1.
    StageStarted {
        number: usize,
        count: usize,
        label: String,
        provisioner: String,
    },
    StageEnded {
        number: usize,
        count: usize,
        label: String,
        elapsed: Duration,
    },
    /// Bytes of a command in the guest, or of a program on the host; not cut at line ends. Masked.
    Output {
        stream: OutputStream,
        #[serde(with = "lossy")]
        bytes: Vec<u8>,
    },
    /// A download, a conversion: `total` when known. `unit` is "B" for bytes, "%" for percent.
    Progress {
        what: String,
        done: u64,
        total: Option<u64>,
    },
    ProgressEnded {
        what: String,
    },
    Message {
        level: Level,
        text: String,
    },
}

/// The parts of a build besides its stages, for progress and for the durations in the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The base is downloaded or made, or found in the cache.
    Base,
    /// From the start of the machine until ssh answers.
    Boot,
    /// Network settings and tools go into the machine.
    Prepare,
    /// Installed versions are read back.
    Freeze,
    /// The machine is saved as it runs.
    Checkpoint,
    PowerOff,
    /// The disk becomes the image's files.
    Write,
    /// The image goes where the template wants it.
    Publish,
}

impl Phase {
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Boot => "boot",
            Self::Prepare => "prepare",
            Self::Freeze => "freeze",
            Self::Checkpoint => "checkpoint",
            Self::PowerOff => "power off",
            Self::Write => "write image",
            Self::Publish => "publish",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    Stdout,
    Stderr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For the log file only.
    Debug,
    Info,
    Warning,
}

/// Bytes as text in JSON; what is not UTF-8 becomes U+FFFD.
mod lossy {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        String::deserialize(deserializer).map(String::into_bytes)
    }
}
