//! A finished image booted as a user would: plain QEMU, a larger disk, a NoCloud seed that dsimg did not make,
//! OpenSSH with the user's own key.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::command::{Outcome, free_port, run, wait_for};
use crate::login::{Login, make_key};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    Bios,
    Uefi,
}

/// A running copy of an image; it ends with the value.
#[derive(Debug)]
pub struct Booted {
    qemu: Child,
    folder: tempfile::TempDir,
    login: Login,
}

/// The login that the seed asks for.
const USER: &str = "scientist";

/// Booting is emulated and other work may be going on.
const BOOT_LIMIT: Duration = Duration::from_secs(600);

impl Booted {
    /// Boots an overlay over the image on a disk of `disk` (as qemu-img takes sizes) and waits for the login.
    ///
    /// # Panics
    /// The machine does not come up; its console is printed.
    #[must_use]
    pub fn start(image: &Path, firmware: Firmware, disk: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("dsimg-booted").tempdir_in("/var/tmp").expect("a folder");
        let key = make_key(folder.path());
        make_seed(folder.path());
        make_overlay(image, &folder.path().join("disk.qcow2"), disk);
        let port = free_port("127.0.0.1");
        let qemu = start_qemu(folder.path(), firmware, port);
        let login = Login { user: USER, address: "127.0.0.1".to_owned(), port, key };
        let mut booted = Self { qemu, folder, login };
        booted.wait_for_login();
        booted
    }

    #[must_use]
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// Runs a command as the user, by ssh.
    pub fn ssh(&self, command: &str) -> Outcome {
        self.login.ssh(command)
    }

    /// stdout of a command that must succeed.
    ///
    /// # Panics
    /// The command fails.
    #[must_use]
    pub fn read(&self, command: &str) -> String {
        self.login.read(command)
    }

    fn wait_for_login(&mut self) {
        let started = std::time::Instant::now();
        loop {
            let died = self.qemu.try_wait().expect("the child can be asked");
            let is_late = started.elapsed() > BOOT_LIMIT;
            if died.is_some() || is_late {
                let console = std::fs::read_to_string(self.folder.path().join("console")).unwrap_or_default();
                let tail: Vec<_> = console.lines().rev().take(40).collect();
                let tail: Vec<_> = tail.into_iter().rev().collect();
                panic!("the image did not come up (QEMU: {died:?}); its console:\n{}", tail.join("\n"));
            }
            if self.ssh("true").code == 0 {
                return;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Waits until cloud-init is through with the first boot.
    ///
    /// # Panics
    /// It does not end well.
    pub fn wait_for_first_boot(&self) {
        wait_for("the end of cloud-init", BOOT_LIMIT, || self.ssh("test -e /run/cloud-init/result.json").code == 0);
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        let ended = self.qemu.kill().and_then(|()| self.qemu.wait());
        if let Err(error) = ended {
            eprintln!("QEMU could not be ended: {error}");
        }
    }
}

fn make_seed(folder: &Path) {
    let key = std::fs::read_to_string(folder.join("key.pub")).expect("ssh-keygen wrote it");
    let user_data = format!(
        "#cloud-config\nusers:\n  - name: {USER}\n    sudo: ALL=(ALL) NOPASSWD:ALL\n    shell: /bin/bash\n    \
         ssh_authorized_keys:\n      - {}\n",
        key.trim()
    );
    write(&folder.join("user-data"), &user_data);
    write(&folder.join("meta-data"), "instance-id: a-user-of-the-image\nlocal-hostname: workbench\n");
    let mut command = Command::new("genisoimage");
    command.args(["-quiet", "-volid", "cidata", "-joliet", "-rock", "-output"]).arg(folder.join("seed.iso"));
    command.arg(folder.join("user-data")).arg(folder.join("meta-data"));
    run(&mut command).expect_success();
}

fn make_overlay(image: &Path, overlay: &Path, disk: &str) {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(image).arg(overlay).arg(disk);
    run(&mut command).expect_success();
}

fn start_qemu(folder: &Path, firmware: Firmware, port: u16) -> Child {
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2G", "-display", "none"]);
    qemu.args(["-machine", "q35", "-serial", &format!("file:{}", path("console"))]);
    qemu.args(["-drive", &format!("file={},if=virtio,format=qcow2,cache=unsafe", path("disk.qcow2"))]);
    qemu.args(["-drive", &format!("file={},if=virtio,format=raw,readonly=on", path("seed.iso"))]);
    qemu.args(["-netdev", &format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22")]);
    qemu.args(["-device", "virtio-net-pci,netdev=net", "-device", "virtio-rng-pci"]);
    if firmware == Firmware::Uefi {
        let variables = folder.join("variables.fd");
        std::fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &variables).expect("the package ovmf is installed");
        qemu.args(["-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"]);
        qemu.args(["-drive", &format!("if=pflash,format=raw,file={}", variables.display())]);
    }
    qemu.stdin(Stdio::null()).spawn().expect("QEMU is installed")
}

fn write(path: &PathBuf, text: &str) {
    std::fs::write(path, text).expect("the folder is ours");
}
