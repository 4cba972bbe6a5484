//! systemd's credentials: how a machine on a base of dsimg's own is let in without waiting for cloud-init.
//!
//! systemd of version 256 and later takes units and drop-ins from the firmware's tables (SMBIOS type 11;
//! systemd.system-credentials(7)). On any other base, and with an older systemd, they do nothing, and cloud-init
//! reads the seed.

use std::io;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::seed::{Seed, write_private};

/// A service that only dsimg's own bases have, and the images made from them.
const MARK: &str = "/etc/systemd/system/dsimg-host-key.service";

/// Left out where the mark is, for the boots of the build alone.
const LEFT_OUT: [&str; 17] = [
    // All that cloud-init starts at boot, by its names before and after version 24.3.
    "cloud-init-main",
    "cloud-init-local",
    "cloud-init-network",
    "cloud-init",
    "cloud-config",
    "cloud-final",
    // The rest of the boot would wait for an address, as cloud-init's units stand in between even when left out.
    "systemd-networkd-wait-online",
    // The emulated clock is the host's.
    "systemd-timesyncd",
    // Tells grub that the boot went well.
    "grub-common",
    // A manager of the login's own services, which takes a second and a half of a first login to start; scripts run
    // as root and never see it.
    "user@",
    // Nobody logs in at the console, or runs programs of other processors.
    "getty@tty1",
    "serial-getty@ttyS0",
    "systemd-binfmt",
    // A machine without a screen, a memory of crashes, or file systems of its users.
    "modprobe@drm",
    "modprobe@efi_pstore",
    "modprobe@fuse",
    "modprobe@configfs",
];

const FIRST_BOOT: &str = include_str!("first_boot.sh");

/// Writes one file for each credential into the folder, as SMBIOS strings for QEMU. They hold the machine's host key.
pub(crate) fn write(seed: &Seed<'_>, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let credentials = credentials(seed);
    let files = credentials.iter().enumerate().map(|(number, (name, content))| {
        let path = folder.join(format!("credential-{number}"));
        let text = format!("io.systemd.credential.binary:{name}={}", BASE64_STANDARD.encode(content));
        write_private(&path, text.as_bytes()).map(|()| path)
    });
    files.collect()
}

fn credentials(seed: &Seed<'_>) -> Vec<(String, String)> {
    let skipped = format!("[Unit]\nConditionPathExists=!{MARK}\n");
    let mut credentials: Vec<_> =
        LEFT_OUT.iter().map(|name| (format!("systemd.unit-dropin.{name}.service"), skipped.clone())).collect();
    credentials.push(("dsimg.first-boot".to_owned(), script(seed)));
    credentials.push(("systemd.extra-unit.dsimg-first-boot.service".to_owned(), unit()));
    let wanted = "[Unit]\nWants=dsimg-first-boot.service\nAfter=dsimg-first-boot.service\n";
    credentials.push(("systemd.unit-dropin.ssh.service".to_owned(), wanted.to_owned()));
    credentials
}

fn unit() -> String {
    format!(
        "[Unit]\nDescription=Let the build in\nDefaultDependencies=no\nConditionPathExists={MARK}\n\
         After=systemd-remount-fs.service\nBefore=dsimg-host-key.service systemd-networkd.service ssh.service\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart=/bin/sh /run/credentials/@system/dsimg.first-boot\n"
    )
}

fn script(seed: &Seed<'_>) -> String {
    let values = [
        ("user", seed.user),
        ("authorized_key", seed.authorized_key),
        ("host_key", seed.host_key),
        ("host_key_public", seed.host_key_public),
    ];
    let lines: String = values.iter().map(|(name, value)| format!("{name}={}\n", quoted(value))).collect();
    format!("{lines}{FIRST_BOOT}")
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Seed<'_> = Seed {
        instance_id: "dsimg-1",
        user: "dsimg",
        authorized_key: "ssh-ed25519 AAAA1 dsimg",
        host_key: "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blb\n-----END OPENSSH PRIVATE KEY-----\n",
        host_key_public: "ssh-ed25519 AAAA2",
    };

    #[test]
    fn each_credential_is_a_private_file_of_one_string() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let files = write(&SEED, folder.path()).unwrap();
        assert_eq!(files.len(), LEFT_OUT.len() + 3);
        for file in files {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            let text = std::fs::read_to_string(file).unwrap();
            assert!(text.starts_with("io.systemd.credential.binary:") && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn nothing_is_done_but_on_bases_with_the_mark() {
        for (name, content) in credentials(&SEED) {
            let conditional = content.contains(MARK);
            assert!(conditional || name == "dsimg.first-boot" || content.contains("Wants="), "{name}");
        }
    }

    #[test]
    fn the_script_names_the_machines_card() {
        assert!(FIRST_BOOT.contains(&format!("MACAddress={}\n", crate::arguments::MAC_ADDRESS)));
    }

    #[test]
    fn the_script_is_sound_shell() {
        let checked = std::process::Command::new("sh").args(["-n", "-c", &script(&SEED)]).status().unwrap();
        assert!(checked.success());
    }
}
