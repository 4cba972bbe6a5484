//! The seed: what cloud-init in the guest reads at its first boot, on a small FAT image labelled CIDATA.
//!
//! Facts: cloud-init's NoCloud data source looks for a file system with that label, and for the files
//! `meta-data`, `user-data` and `network-config` on it.

use std::io::{self, Cursor, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::arguments::MAC_ADDRESS;

/// A FAT needs no more for three small files.
const SIZE: usize = 1 << 20;

/// What the guest is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seed<'a> {
    /// New for each machine: to cloud-init, another id is another machine.
    pub(crate) instance_id: &'a str,
    /// The login; `root` works too.
    pub(crate) user: &'a str,
    /// `ssh-ed25519 AAAA…`: who may log in.
    pub(crate) authorized_key: &'a str,
    /// The host key, so that ssh knows the machine from the first packet; OpenSSH's PEM form.
    pub(crate) host_key: &'a str,
    /// `ssh-ed25519 AAAA…` of the host key.
    pub(crate) host_key_public: &'a str,
}

impl Seed<'_> {
    /// Writes the image, readable by its owner only: it holds the machine's host key.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        write_private(path, &self.image()?)
    }

    fn image(&self) -> io::Result<Vec<u8>> {
        let mut disk = Cursor::new(vec![0; SIZE]);
        let options = fatfs::FormatVolumeOptions::new().volume_label(*b"CIDATA     ");
        fatfs::format_volume(&mut disk, options)?;
        let files = fatfs::FileSystem::new(&mut disk, fatfs::FsOptions::new())?;
        for (name, content) in [
            ("meta-data", json!({"instance-id": self.instance_id}).to_string()),
            ("user-data", format!("#cloud-config\n{}\n", self.user_data())),
            ("network-config", network_config().to_string()),
        ] {
            let mut file = files.root_dir().create_file(name)?;
            file.write_all(content.as_bytes())?;
            file.flush()?;
        }
        files.unmount()?;
        Ok(disk.into_inner())
    }

    /// JSON, which is YAML too and leaves no question of quoting.
    ///
    /// The lists of modules replace the image's own for this boot: what is left out would only take time
    /// in a machine that lives for one build. The finished image runs its own lists at its own first boot.
    fn user_data(&self) -> Value {
        let mut data = json!({
            "ssh_keys": {"ed25519_private": self.host_key, "ed25519_public": self.host_key_public},
            "ssh_deletekeys": true,
            "ssh_genkeytypes": ["ed25519"],
            "ssh_publish_hostkeys": {"enabled": false},
            "no_ssh_fingerprints": true,
            "ssh": {"emit_keys_to_console": false},
            "growpart": {"mode": "auto", "devices": ["/"], "ignore_growroot_disabled": false},
            "resize_rootfs": true,
            "package_update": false,
            "package_upgrade": false,
            "cloud_init_modules": ["users_groups", "ssh"],
            // The disk grows while ssh is already being answered.
            "cloud_config_modules": ["growpart", "resizefs", "apt_configure"],
            "cloud_final_modules": [],
        });
        let login = if self.user == "root" {
            // Top-level keys go to root when root's login is not disabled; no other user is made.
            json!({"disable_root": false, "users": [], "ssh_authorized_keys": [self.authorized_key]})
        } else {
            json!({"users": [{
                "name": self.user,
                "gecos": "dsimg build",
                "shell": "/bin/bash",
                "lock_passwd": true,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": [self.authorized_key],
            }]})
        };
        if let (Value::Object(data), Value::Object(login)) = (&mut data, login) {
            data.extend(login);
        }
        data
    }
}

/// A new file that its owner alone may read.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)
}

/// By hardware address: cloud-init understands patterns of names only where the guest has netplan.
/// IPv4 only, as nothing answers DHCPv6 here and some guests wait a minute for it.
fn network_config() -> Value {
    json!({
        "version": 2,
        "ethernets": {
            "build": {"match": {"macaddress": MAC_ADDRESS}, "set-name": "eth0", "dhcp4": true, "dhcp6": false},
        },
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn seed(user: &'static str) -> Seed<'static> {
        Seed {
            instance_id: "dsimg-1",
            user,
            authorized_key: "ssh-ed25519 AAAA1 dsimg",
            host_key: "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blb\n-----END OPENSSH PRIVATE KEY-----\n",
            host_key_public: "ssh-ed25519 AAAA2",
        }
    }

    #[test]
    fn the_image_has_the_label_and_the_three_files() {
        let image = seed("dsimg").image().unwrap();
        let files = fatfs::FileSystem::new(Cursor::new(image), fatfs::FsOptions::new()).unwrap();
        assert_eq!(files.volume_label(), "CIDATA");
        assert_eq!(files.read_volume_label_from_root_dir().unwrap().as_deref(), Some("CIDATA"));
        let mut names: Vec<_> = files.root_dir().iter().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["meta-data", "network-config", "user-data"]);
        let mut user_data = String::new();
        files.root_dir().open_file("user-data").unwrap().read_to_string(&mut user_data).unwrap();
        let json = user_data.strip_prefix("#cloud-config\n").unwrap();
        assert_eq!(serde_json::from_str::<Value>(json).unwrap(), seed("dsimg").user_data());
    }

    #[test]
    fn a_user_with_sudo() {
        insta::assert_json_snapshot!(seed("dsimg").user_data());
    }

    #[test]
    fn root_gets_the_key_and_no_user_is_made() {
        let data = seed("root").user_data();
        assert_eq!(data["disable_root"], false);
        assert_eq!(data["users"], json!([]));
        assert_eq!(data["ssh_authorized_keys"], json!(["ssh-ed25519 AAAA1 dsimg"]));
    }

    #[test]
    fn only_its_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed.img");
        seed("dsimg").write(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(seed("dsimg").write(&path).is_err());
    }
}
