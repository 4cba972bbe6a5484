//! Where this host keeps UEFI firmware for guests.

use std::path::{Path, PathBuf};

use dsimg_machine::MachineError;

/// The firmware's code, and the variables that a new machine starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UefiFirmware {
    pub(crate) code: PathBuf,
    pub(crate) variables: PathBuf,
}

/// Code and variables belong together: 4 MiB ones first. Without Secure Boot, as it asks for a signed kernel
/// and for more of the machine (SMM) than a build needs.
const PLACES: [(&str, &str, &str); 7] = [
    // Debian, Ubuntu
    ("/usr/share/OVMF", "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF", "OVMF_CODE.fd", "OVMF_VARS.fd"),
    // Arch Linux
    ("/usr/share/edk2/x64", "OVMF_CODE.4m.fd", "OVMF_VARS.4m.fd"),
    // Fedora, RHEL
    ("/usr/share/edk2/ovmf", "OVMF_CODE.fd", "OVMF_VARS.fd"),
    // openSUSE
    ("/usr/share/qemu", "ovmf-x86_64-4m-code.bin", "ovmf-x86_64-4m-vars.bin"),
    ("/usr/share/qemu", "ovmf-x86_64-code.bin", "ovmf-x86_64-vars.bin"),
    // QEMU built from source
    ("/usr/local/share/qemu", "edk2-x86_64-code.fd", "edk2-i386-vars.fd"),
];

/// # Errors
/// None is there; the hint names the package.
pub(crate) fn find_uefi() -> Result<UefiFirmware, MachineError> {
    find_below(Path::new("/")).ok_or_else(|| {
        MachineError::host(
            "the template asks for `firmware = \"uefi\"`, and this host has no UEFI firmware for guests",
            "install it (Debian, Ubuntu: `apt-get install ovmf`; Fedora: `dnf install edk2-ovmf`), \
             or set `firmware = \"bios\"`",
        )
    })
}

fn find_below(root: &Path) -> Option<UefiFirmware> {
    PLACES.iter().find_map(|(folder, code, variables)| {
        let folder = root.join(folder.trim_start_matches('/'));
        let firmware = UefiFirmware { code: folder.join(code), variables: folder.join(variables) };
        (firmware.code.is_file() && firmware.variables.is_file()).then_some(firmware)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_variables_are_found_together() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(find_below(root.path()), None);
        let folder = root.path().join("usr/share/OVMF");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["OVMF_CODE_4M.fd", "OVMF_CODE.fd", "OVMF_VARS.fd"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let found = find_below(root.path()).unwrap();
        assert_eq!(found.code, folder.join("OVMF_CODE.fd"));
        assert_eq!(found.variables, folder.join("OVMF_VARS.fd"));
        std::fs::write(folder.join("OVMF_VARS_4M.fd"), "").unwrap();
        assert_eq!(find_below(root.path()).unwrap().code, folder.join("OVMF_CODE_4M.fd"));
    }
}
