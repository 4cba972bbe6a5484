//! The first ten minutes: `templates/quickstart.toml` is built, and its image does what it says, on BIOS and UEFI.

use std::path::{Path, PathBuf};
use std::process::Command;

use dsimg_tests::{Booted, Firmware, assert_packages, build_image, cache_folder, dsimg, repository, run};
use serde_json::Value;

/// Built once for all tests of this file, and from the sources as they are now.
fn quickstart() -> PathBuf {
    static FOLDER: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let output = cache_folder().join("images");
        build_image(&repository().join("templates/quickstart.toml"), &output);
        output.join("quickstart-1.0")
    });
    folder.clone()
}

fn image() -> PathBuf {
    quickstart().join("quickstart-1.0.qcow2")
}

fn manifest() -> Value {
    let text = std::fs::read_to_string(quickstart().join("manifest.json")).expect("a build writes a manifest");
    serde_json::from_str(&text).expect("a manifest is JSON")
}

#[test]
fn the_image_boots_from_bios_and_is_what_the_manifest_says() {
    let machine = Booted::start(&image(), Firmware::Bios, "14G");
    machine.wait_for_first_boot();
    languages_work(&machine);
    root_has_grown(&machine);
    assert_packages(machine.login(), &manifest());
    nothing_of_the_build_is_left(&machine);
}

#[test]
fn the_image_boots_from_uefi() {
    let machine = Booted::start(&image(), Firmware::Uefi, "12G");
    assert_eq!(machine.read("test -d /sys/firmware/efi && echo uefi").trim(), "uefi");
    languages_work(&machine);
}

#[test]
fn checksums_and_inspection_agree_with_the_files() {
    let folder = quickstart();
    run(Command::new("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&folder)).expect_success();
    let inspected = run(&mut dsimg(&["inspect", &folder.to_string_lossy()])).expect_success().stdout;
    for text in ["quickstart 1.0", "Debian GNU/Linux 13", "deb", "pypi", "boot to ssh"] {
        assert!(inspected.contains(text), "no `{text}` in:\n{inspected}");
    }
    let left: Vec<_> =
        std::fs::read_dir(folder.parent().expect("a folder in a folder")).expect("it is there").collect();
    assert!(left.iter().flatten().all(|entry| !entry.file_name().to_string_lossy().contains(".partial")), "{left:?}");
}

/// A finished image as the base of another, with files in and out, a reboot, and a provisioner of the user's own.
#[test]
fn the_image_serves_as_a_base() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    write(&folder.path().join("notes/greeting.txt"), "Hello from {{ image.name }}\n");
    let own = folder.path().join("provisioners/motd");
    write(
        &own.join("provisioner.toml"),
        "name = \"motd\"\nversion = 1\nsummary = \"A message at login\"\n[parameters.text]\ntype = \"string\"\n\
         summary = \"What is shown\"\n[[step]]\nrun = \"install.sh\"\n",
    );
    write(&own.join("install.sh"), "set -euo pipefail\n. ./params.sh\nprintf '%s\\n' \"$text\" >/etc/motd\n");
    let sum = run(Command::new("sha256sum").arg(image())).expect_success().stdout;
    let template = folder.path().join("second.toml");
    write(
        &template,
        &format!(
            r#"
[image]
name = "second"
version = "1"
[variables]
token = {{ type = "string", sensitive = true }}
[base]
image = {{ path = "{}", checksum = "sha256:{}" }}
[[builder]]
name = "small"
type = "qemu"
memory = "1GiB"
disk = "10GiB"
[[provision]]
type = "file"
source = "notes"
destination = "/srv/notes"
template = true
[[provision]]
type = "motd"
text = "it's $HOME; `id`"
[[provision]]
name = "restart"
type = "shell"
inline = ["cat /proc/sys/kernel/random/boot_id >/srv/boot-before"]
reboots = true
[[provision]]
name = "look"
type = "shell"
env = {{ TOKEN = "{{{{ token }}}}" }}
inline = [
    "! cmp /proc/sys/kernel/random/boot_id /srv/boot-before",
    "test ${{#TOKEN}} = 14",
    "echo the token is $TOKEN",
    "cat /srv/notes/greeting.txt /etc/motd >/srv/report",
]
[[provision]]
type = "file"
fetch = "/srv/report"
to = "reports/look.txt"
"#,
            image().display(),
            sum.split_whitespace().next().expect("sha256sum prints the sum first"),
        ),
    );
    let output = folder.path().join("images");
    // What a stage says is looked for, and one from an earlier run's checkpoint says nothing.
    let mut command = dsimg(&["build", "--no-cache", "--progress", "plain", "--output", &output.to_string_lossy()]);
    let built = run(command.arg(&template).env("DSIMG_VAR_token", "sesame-open-42")).expect_success();

    let fetched = std::fs::read_to_string(output.join("second-1/reports/look.txt")).expect("the file was fetched");
    assert_eq!(fetched, "Hello from second\nit's $HOME; `id`\n");
    let log = std::fs::read_to_string(output.join("second-1/build.log")).expect("the log is beside the image");
    for text in [&built.stdout, &built.stderr, &log] {
        assert!(!text.contains("sesame-open-42"), "a secret is in:\n{text}");
    }
    assert!(log.contains("the token is ***"), "{log}");
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("the folder is ours");
    std::fs::write(path, text).expect("the folder is ours");
}

fn languages_work(machine: &Booted) {
    machine.ssh("/opt/ds/bin/python -c 'import numpy, pandas'").expect_success();
    let r = machine.read("Rscript -e 'library(jsonlite); cat(toJSON(1:3))'");
    assert_eq!(r.trim(), "[1,2,3]");
}

fn root_has_grown(machine: &Booted) {
    let bytes: u64 = machine.read("df --output=size -B1 / | tail -n 1").trim().parse().expect("df prints a number");
    assert!(bytes > 12 << 30, "root has {bytes} bytes on a disk of 14 GiB");
}

/// What hygiene promises, seen from inside a fresh boot.
fn nothing_of_the_build_is_left(machine: &Booted) {
    let absent = [
        "/home/dsimg",
        "/etc/sudoers.d/dsimg",
        "/usr/sbin/policy-rc.d",
        "/root/.cache",
        "/root/.bash_history",
        "/var/cache/dsimg",
        "/etc/apt/apt.conf.d/99dsimg",
        "/opt/ds/bin/uv",
    ];
    for path in absent {
        assert_eq!(machine.ssh(&format!("sudo test ! -e {path}")).code, 0, "{path} is in the image");
    }
    machine.ssh("! getent passwd dsimg").expect_success();
    assert_eq!(machine.read("find / -xdev -name 'uv' -type f 2>/dev/null | head").trim(), "");
    // What keeps services from starting while packages are installed.
    assert_eq!(machine.read("dpkg --verify dpkg 2>&1").trim(), "");
    // Not from this host's trust, which the build used.
    let authorities = machine.read("ls /usr/local/share/ca-certificates | wc -l");
    assert_eq!(authorities.trim(), "0");
    let id = machine.read("cat /etc/machine-id");
    assert_eq!(id.trim().len(), 32, "{id}");
}

#[test]
fn the_finished_disk_has_no_identity() {
    // Read from the file itself: what a boot writes is not yet in it.
    let look = |script: &str| guestfs(&image(), script);
    assert_eq!(look("cat /etc/machine-id"), "");
    assert_eq!(look("ls /etc/ssh | grep -c ssh_host_ || true").trim(), "0");
    // `scripts` is the package's own, for the user's scripts.
    assert_eq!(look("ls -A /var/lib/cloud | grep -v '^scripts$' || true").trim(), "");
    assert_eq!(look("find /var/lib/cloud /root/.ssh /home -type f 2>/dev/null || true").trim(), "");
    assert_eq!(
        look("ls -A /var/lib/apt/lists /var/cache/apt/archives 2>/dev/null | grep -c '\\.deb$\\|Packages' || true")
            .trim(),
        "0"
    );
    assert_eq!(look("test -e /var/lib/systemd/random-seed && echo seed || true").trim(), "");
    assert_eq!(look("grep -rl 'dsimg' /home /root /etc/ssh 2>/dev/null || true").trim(), "");
}

/// Runs a script with the image's root partition as `/`, mounted read-only, without a boot.
fn guestfs(image: &Path, script: &str) -> String {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let raw = folder.path().join("disk.raw");
    run(Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(image).arg(&raw)).expect_success();
    let program = "set -eu; raw=$1 folder=$2 script=$3\n\
        start=$(sfdisk -J \"$raw\" | python3 -c 'import json,sys; t=json.load(sys.stdin)[\"partitiontable\"]; \
        p=max(t[\"partitions\"], key=lambda p: p[\"size\"]); print(p[\"start\"]*512, p[\"size\"]*512)')\n\
        set -- $start; mkdir \"$folder/root\"\n\
        mount -o ro,noload,loop,offset=$1,sizelimit=$2 \"$raw\" \"$folder/root\"\n\
        trap 'umount \"$folder/root\"' EXIT\n\
        chroot \"$folder/root\" /bin/sh -c \"$script\"";
    let mut command = as_root();
    command.args(["bash", "-c", program, "look"]).arg(&raw).arg(folder.path()).arg(script);
    run(&mut command).expect_success().stdout
}

fn as_root() -> Command {
    let is_root = run(Command::new("id").arg("-u")).stdout.trim() == "0";
    Command::new(if is_root { "env" } else { "sudo" })
}
