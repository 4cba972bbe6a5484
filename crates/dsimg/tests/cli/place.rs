//! A folder to run dsimg in, with a home and programs of its own, and what came of a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Gone with all that is in it when it is dropped.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

/// How a run ended, with the folder's own path left out of what was printed.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("dsimg-cli-").tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Puts a bash script in front of the programs of this host.
    pub(crate) fn program(&self, name: &str, script: &str) {
        // Written by another process: were it open for writing here, the fork of another test could keep it open,
        // and a file that is open for writing can't be run.
        let text = format!("#!/bin/bash\n{script}\n");
        let written = Command::new("sh")
            .args(["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""])
            .arg(self.path("bin").join(name))
            .arg(text)
            .status();
        assert!(written.unwrap().success());
    }

    /// Knows of this host's environment nothing but the programs.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        // Who started the tests may ignore the hang-up, as nohup does; dsimg would do the same.
        let mut command = Command::new("/usr/bin/env");
        command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_dsimg")]);
        let host = std::env::var("PATH").unwrap();
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", format!("{}:{host}", self.path("bin").display()))
            .env("HOME", self.path("home"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn dsimg(&self, arguments: &[&str]) -> Ran {
        self.ran(self.command(arguments).output().unwrap())
    }

    pub(crate) fn ran(&self, output: Output) -> Ran {
        let shown = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            text.replace(&self.folder.path().display().to_string(), "[PLACE]")
        };
        Ran { code: output.status.code(), out: shown(output.stdout), err: shown(output.stderr) }
    }

    /// Every file below a folder of this place, by its path; none when the folder is not there.
    pub(crate) fn files(&self, folder: &str) -> Vec<String> {
        fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { collect(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        collect(&self.path(folder), &mut found);
        let root = self.path(folder);
        found.iter().map(|path| path.strip_prefix(&root).unwrap().display().to_string()).collect()
    }

    /// The only log that is kept.
    pub(crate) fn log(&self) -> String {
        let logs = self.files("home/.local/state/dsimg/logs");
        assert_eq!(logs.len(), 1, "{logs:?}");
        self.read(&format!("home/.local/state/dsimg/logs/{}", logs[0]))
    }

    /// Whatever happened: no work folder, no ledger, no half of an image.
    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(self.files("home/.cache/dsimg/work"), [""; 0]);
        assert_eq!(self.files("home/.local/state/dsimg/ledger"), [""; 0]);
        assert_eq!(self.files("images"), [""; 0]);
    }
}

/// With a base that is a file of this place, and one stage that needs a machine.
pub(crate) fn template(place: &Place) -> String {
    let disk = place.path("disk.qcow2");
    if !disk.exists() {
        let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("1G").status();
        assert!(made.unwrap().success(), "these tests need qemu-img (Debian: qemu-utils)");
    }
    let (digest, _) = dsimg_plan::inputs::hash_file(&disk).unwrap();
    format!(
        r#"[image]
name = "ds"
version = "1"

[variables]
token = {{ sensitive = true, required = false }}

[base]
image = {{ path = "disk.qcow2", checksum = "sha256:{digest}" }}

[[builder]]
name = "kvm"
type = "qemu"
accelerator = "tcg"
memory = "256MiB"
disk = "2GiB"

[[provision]]
name = "first"
type = "shell"
inline = ["echo hello"]
env = {{ TOKEN = "{{{{ token }}}}" }}
"#
    )
}

/// A QEMU that says its version, and otherwise does what the script says.
pub(crate) fn qemu(script: &str) -> String {
    format!("if [[ $1 == --version ]]; then echo 'QEMU emulator version 10.0.2 (test)'; exit; fi\n{script}")
}
