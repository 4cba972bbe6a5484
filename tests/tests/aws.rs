//! AMIs made of `templates/quickstart.toml`, on an instance and from the local disk, in an EC2 where machines are real.
//!
//! The machines are emulated where there is no KVM, so these run when asked for: `make test-aws-machines`.

use std::path::{Path, PathBuf};
use std::process::Command;

use dsimg_tests::{
    Rig, assert_clean, assert_packages, cache_folder, differences, dsimg, only_ami, read_raw_tree, read_tree,
    repository, run,
};
use serde_json::Value;

const REGION: &str = "eu-west-1";

#[test]
#[ignore = "emulated machines: make test-aws-machines"]
fn the_quickstart_is_built_on_an_instance_and_boots() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let base = base(folder.path());
    let rig = Rig::start(REGION);
    let source = rig.import("debian-13-amd64-20261101-1", &base);
    // An emulated guest, with other work going on, takes longer to come up than any of AWS.
    let region = format!("region = \"{REGION}\"");
    let template = template(folder.path(), |text| text.replace(&region, &format!("{region}\nboot_timeout = \"30m\"")));
    build(&rig, &template, folder.path(), &["--only", "aws"]);

    let manifest = manifest(&folder.path().join("quickstart-1.0-aws"));
    let (ami, snapshot) = only_ami(&manifest);
    assert_eq!(manifest["build"]["amis"][0]["source"], source.as_str());
    let alive = rig.alive();
    assert_eq!(alive.keys().collect::<Vec<_>>(), ["images", "snapshots"], "{alive:?}");
    assert_eq!((&alive["images"], &alive["snapshots"]), (&vec![ami.clone()], &vec![snapshot]));

    let instance = rig.launch(&ami);
    instance.login.ssh("/opt/ds/bin/python -c 'import numpy, pandas'").expect_success();
    assert_packages(&instance.login, &manifest);
    // Of the build's login and its timer.
    instance.login.ssh("! getent passwd dsimg && ! systemctl list-timers --all | grep dsimg").expect_success();
}

/// One disk, published plain and encrypted: both boot, and hold what the local image holds.
#[test]
#[ignore = "emulated machines: make test-aws-machines"]
fn the_local_quickstart_is_published_and_boots() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let rig = Rig::start(REGION);
    let publish = |encrypted: bool| {
        let name = name(encrypted);
        format!(
            "[[publish]]\ntype = \"aws-ami\"\nname = \"{name}\"\nregions = [\"{REGION}\"]\nami_name = \"{name}\"\nencrypted = {encrypted}\n"
        )
    };
    let template = template(folder.path(), |text| format!("{text}\n{}{}", publish(false), publish(true)));
    build(&rig, &template, folder.path(), &[]);
    let image = folder.path().join("quickstart-1.0/quickstart-1.0.qcow2");
    let raw = folder.path().join("disk.raw");
    run(Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(&image).arg(&raw)).expect_success();
    let tree = read_tree(&image);

    let manifest = manifest(&folder.path().join("quickstart-1.0"));
    for encrypted in [false, true] {
        let amis = manifest["build"]["amis"].as_array().expect("AMIs");
        let ami = amis.iter().find(|ami| ami["name"] == name(encrypted)).expect("one of the name");
        let text = |value: &Value| value.as_str().expect("an id").to_owned();
        let disk = folder.path().join("downloaded");
        download(&rig, &text(&ami["snapshots"][0]), &disk);
        run(Command::new("cmp").arg(&raw).arg(&disk)).expect_success();
        if encrypted {
            fill_holes(&disk);
        }
        assert_clean(&disk);
        assert_eq!(differences(&tree, &read_raw_tree(&disk)), [].into());
        std::fs::remove_file(&disk).expect("the folder is ours");

        let instance = rig.launch(&text(&ami["id"]));
        instance.login.ssh("/opt/ds/bin/python -c 'import numpy, pandas'").expect_success();
        assert_packages(&instance.login, &manifest);
    }
}

fn name(encrypted: bool) -> &'static str {
    if encrypted { "quickstart-encrypted" } else { "quickstart-plain" }
}

/// The quickstart's, with a change.
fn template(folder: &Path, change: impl Fn(&str) -> String) -> PathBuf {
    let text = std::fs::read_to_string(repository().join("templates/quickstart.toml")).expect("it is there");
    let changed = change(&text);
    assert_ne!(changed, text);
    let path = folder.join("quickstart.toml");
    std::fs::write(&path, changed).expect("the folder is ours");
    path
}

/// Its progress goes to the test's log as it comes.
fn build(rig: &Rig, template: &Path, output: &Path, more: &[&str]) {
    let (template, output) = (template.to_string_lossy(), output.to_string_lossy());
    let arguments = [&["build", "--progress", "plain", "--output", &output, &template], more].concat();
    let status = rig.dsimg(&arguments).status().expect("dsimg can be started");
    assert!(status.success(), "the build ended with {status}");
}

fn manifest(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("manifest.json")).expect("a build writes a manifest");
    serde_json::from_str(&text).expect("a manifest is JSON")
}

/// A Debian that dsimg made, copied: one that is in the cache, or else that of a local build.
fn base(folder: &Path) -> PathBuf {
    let find = || {
        let bases = std::fs::read_dir(cache_folder().join("cache/bases")).ok()?.flatten();
        let made = bases.map(|entry| entry.path()).filter(|path| !path.to_string_lossy().contains("sha256-"));
        made.map(|path| path.join("base.qcow2")).find(|path| path.exists())
    };
    let found = find().or_else(|| {
        let arguments = ["build", "--output", &folder.to_string_lossy(), "templates/quickstart.toml"];
        run(&mut dsimg(&arguments)).expect_success();
        find()
    });
    let copy = folder.join("base.qcow2");
    std::fs::copy(found.expect("a local build leaves its base"), &copy).expect("there is room");
    copy
}

/// By coldsnap, which knows nothing of dsimg or of the rig. The volume of this image is as large as its disk.
fn download(rig: &Rig, snapshot: &str, disk: &Path) {
    let program = std::env::var("COLDSNAP").unwrap_or_else(|_| "coldsnap".to_owned());
    let mut coldsnap = rig.command(&program);
    coldsnap.args(["--endpoint", rig.url(), "--region", REGION, "download", "--no-progress", snapshot]).arg(disk);
    let found = coldsnap.status();
    assert!(found.as_ref().is_ok_and(|status| status.success()), "{program}: {found:?}; `cargo install coldsnap`");
}

/// What was never put reads as garbage on an encrypted volume. Holes are filled whole: a file of many small pieces takes
/// minutes to remove where the file system discards each of them.
fn fill_holes(disk: &Path) {
    let program = "import os, sys\n\
        disk = os.open(sys.argv[1], os.O_RDWR)\n\
        end, at, garbage = os.fstat(disk).st_size, 0, os.urandom(1 << 20)\n\
        while at < end:\n    \
            try: data = os.lseek(disk, at, os.SEEK_DATA)\n    \
            except OSError: data = end\n    \
            for hole in range(at, data, 1 << 20): os.pwrite(disk, garbage[:data - hole], hole)\n    \
            at = os.lseek(disk, data, os.SEEK_HOLE) if data < end else end\n";
    run(Command::new("python3").args(["-c", program]).arg(disk)).expect_success();
}
