//! What runs the guest's instructions.

use serde::{Deserialize, Serialize};

/// The processor itself, or a translator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accelerator {
    Kvm(KvmCpu),
    Tcg,
}

/// What a guest on KVM sees of the host's processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KvmCpu {
    /// All that it can.
    Host,
    /// All but one register of hints that some hosts, themselves machines in a machine, refuse to set: there QEMU
    /// aborts with "failed to set MSR 0x10a".
    HostWithoutArchCapabilities,
}

impl Accelerator {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Kvm(_) => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// For `-accel`.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Kvm(_) => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }

    /// For `-cpu`: never QEMU's default, on which today's numpy and pyarrow die with SIGILL.
    pub(crate) fn cpu_model(self) -> &'static str {
        match self {
            Self::Kvm(KvmCpu::Host) => "host",
            Self::Kvm(KvmCpu::HostWithoutArchCapabilities) => "host,arch-capabilities=off",
            // A processor with fast string instructions is sent long `rep movsb` and `rep stosb`, which are translated
            // byte by byte: clearing a page takes half the time without. Nested machines would be machines to the
            // third power, and the guest's kernel loads a driver for them at each boot. With `la57` each walk through
            // the page tables has a fifth level, and `smap` ends a translated block twice at each copy to or from a
            // process: without both a boot is 5 % shorter.
            Self::Tcg => "max,erms=off,fsrm=off,svm=off,la57=off,smap=off",
        }
    }

    /// What limits that were set for a machine with KVM are multiplied by.
    pub(crate) fn slowness(self) -> u32 {
        match self {
            Self::Kvm(_) => 1,
            Self::Tcg => 4,
        }
    }
}
