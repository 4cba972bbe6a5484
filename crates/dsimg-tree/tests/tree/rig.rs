//! Small images with known trees.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dsimg_tree::{Digest, Disk, Times, Tree, TreeError, read_tree};

/// 2026-11-21.
pub(crate) const EPOCH: u32 = 1_795_219_200;

pub(crate) struct Rig {
    folder: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tree")).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// In the folder that file systems are made of.
    pub(crate) fn file(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path("tree").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    }

    pub(crate) fn link(&self, path: &str, target: &str) {
        let path = self.path("tree").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if path.is_symlink() {
            fs::remove_file(&path).unwrap();
        }
        symlink(target, path).unwrap();
    }

    /// A raw image that is one file system of the folder, 32 MiB, with `options` for mke2fs; then debugfs does what
    /// `commands` say. All owners are root, and all times from mke2fs become one.
    pub(crate) fn image(&self, name: &str, options: &[&str], commands: &str) -> PathBuf {
        let image = self.path(name);
        run(Command::new("find").arg(self.path("tree")).args(["-exec", "touch", "-h", "-d", "@1700000000", "{}", "+"]));
        run(Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-E", "root_owner=0:0"])
            .args(options)
            .arg("-d")
            .arg(self.path("tree"))
            .arg(&image)
            .arg("32M"));
        self.debugfs(&image, commands);
        image
    }

    pub(crate) fn debugfs(&self, image: &Path, commands: &str) {
        let script = self.path("commands");
        fs::write(&script, commands).unwrap();
        let output = run(Command::new("debugfs").args(["-w", "-f"]).arg(script).arg(image));
        // It has no other way to say that it failed.
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said.lines().skip(1).collect::<Vec<_>>(), [""; 0], "{commands}");
    }
}

/// A tree with one of each.
pub(crate) fn full_tree(rig: &Rig) -> String {
    rig.file("etc/hosts", "127.0.0.1 localhost\n");
    rig.file("etc/empty", "");
    rig.file("odd name\n\\x", "odd");
    rig.file("usr/bin/ping", vec![0x7f; 70_000]);
    rig.file("opt/inline", "few bytes");
    rig.file("opt/inline2", [b'i'; 100]);
    rig.link("bin", "usr/bin");
    rig.link("opt/long", &"long/".repeat(40));
    let sparse = rig.file("var/sparse", "");
    let file = fs::OpenOptions::new().write(true).open(sparse).unwrap();
    for place in 0..12_u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, b"island", place * 40_000).unwrap();
    }
    file.set_len(600_000).unwrap();
    for number in 0..900 {
        rig.file(&format!("many/a name that is long enough to fill blocks {number:04}"), "");
    }
    fs::write(rig.path("capability"), b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0").unwrap();
    fs::write(rig.path("long value"), vec![b'v'; 300]).unwrap();
    format!(
        "cd usr/bin\nmknod pipe p\nmknod tty c 4 5\nmknod disk b 259 30000\n\
         ea_set -f {} ping security.capability\nea_set ping user.z last\nea_set -f \"{}\" ping user.long\n\
         sif ping mode 0104755\nsif ping mtime_extra 0x3b9ac9fc\nsif tty gid 100000\nsif tty uid 70000\n\
         cd /etc\nln hosts hosts2\nsif hosts links_count 2\nsif empty flags 0x80010\nsif hosts mtime @946684800\n\
         ea_set empty user.none \"\"\n",
        rig.path("capability").display(),
        rig.path("long value").display(),
    )
}

pub(crate) fn tree(image: &Path) -> Result<Tree, TreeError> {
    read_tree(&Disk::open(image)?.root()?)
}

pub(crate) fn digest(image: &Path) -> Digest {
    tree(image).unwrap().digest(Times::Included)
}

pub(crate) fn run(command: &mut Command) -> Output {
    // Where a user's `PATH` does not look.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = command.env("PATH", path).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

pub(crate) fn sha256sum(path: &Path) -> String {
    let output = run(Command::new("sha256sum").arg(path));
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

pub(crate) fn check_clean(image: &Path) {
    let output = Command::new("/usr/sbin/e2fsck").args(["-fn"]).arg(image).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}
