//! Builds go on from checkpoints, and what comes out is what a build that ran through gives.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dsimg_tests::{Outcome, cache_folder, dsimg, run, wait_for};
use serde_json::Value;

const BUILDER: &str = "[[builder]]\nname = \"small\"\ntype = \"qemu\"\nmemory = \"1GiB\"\ndisk = \"8GiB\"\n";
/// Draws a number that is another one in each run of the stage.
const FIRST: &str = "uuid=$(cat /proc/sys/kernel/random/uuid); echo $uuid >/opt/first; echo first=$uuid";
const SECOND: &str =
    "echo kept=$(cat /opt/first) now=$(date +%s) random=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' ')";

struct Template {
    folder: tempfile::TempDir,
    name: String,
    /// The first stage, which no other run has made.
    first: String,
}

impl Template {
    /// `name` is the image's, so that tests do not find each other's checkpoints.
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let first = format!("{FIRST}; : {}", folder.path().display());
        Self { folder, name: name.to_owned(), first }
    }

    fn write(&self, head: &str, stages: &[(&str, &str)]) {
        let mut text = format!("[image]\nname = \"{}\"\nversion = \"1\"\n{head}\n{BUILDER}\n", self.name);
        for (name, line) in stages {
            let line = line.replace('"', "\\\"");
            text.push_str(&format!("[[provision]]\nname = \"{name}\"\ntype = \"shell\"\ninline = [\"{line}\"]\n"));
        }
        fs::write(self.folder.path().join("template.toml"), text).expect("the folder is ours");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let output = self.folder.path().join("images").to_string_lossy().into_owned();
        let template = self.folder.path().join("template.toml").to_string_lossy().into_owned();
        let mut all = vec!["build", "--progress", "plain", "--force", "--output", &output, &template];
        all.extend(arguments);
        dsimg(&all)
    }

    fn build(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command(arguments))
    }

    fn manifest(&self, image: &str) -> Value {
        let path = self.folder.path().join("images").join(image).join("manifest.json");
        serde_json::from_slice(&fs::read(path).expect("the manifest is there")).expect("it is JSON")
    }
}

/// The word after `name=` in what a build printed.
fn told(outcome: &Outcome, name: &str) -> String {
    let start = format!("{name}=");
    let words = outcome.stderr.split_whitespace();
    words
        .filter_map(|word| word.strip_prefix(&start))
        .next_back()
        .unwrap_or_else(|| panic!("{name}: {outcome:?}"))
        .to_owned()
}

fn checkpoints() -> Vec<PathBuf> {
    let store = fs::read_dir(cache_folder().join("cache/checkpoints")).into_iter().flatten().flatten();
    store.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).map(|entry| entry.path()).collect()
}

/// Of the stage with this label, by what is written in the record.
fn checkpoint_of(image: &str, label: &str) -> PathBuf {
    let is_it = |path: &PathBuf| {
        let record: Value =
            serde_json::from_slice(&fs::read(path.join("checkpoint.json")).expect("the cache is the tests' own"))
                .expect("the cache is the tests' own");
        record["checkpoint"]["image"] == image && record["checkpoint"]["label"] == label
    };
    checkpoints().into_iter().find(is_it).unwrap_or_else(|| panic!("no checkpoint of {image} after {label}"))
}

fn flip_a_bit(file: &Path, at: u64) {
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("the cache is the tests' own");
    let mut file = fs::OpenOptions::new().read(true).write(true).open(file).expect("the cache is the tests' own");
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).expect("the cache is the tests' own");
    file.read_exact(&mut byte).expect("the cache is the tests' own");
    file.seek(SeekFrom::Start(at)).expect("the cache is the tests' own");
    file.write_all(&[byte[0] ^ 4]).expect("the cache is the tests' own");
}

fn drop_build_part(mut manifest: Value) -> Value {
    manifest.as_object_mut().expect("a manifest is a table").remove("build");
    manifest
}

#[test]
fn a_changed_stage_goes_on_from_the_one_before_it() {
    let template = Template::new("changed");
    template.write("", &[("first", &template.first), ("second", SECOND)]);
    let straight = template.build(&[]).expect_success();
    let first = told(&straight, "first");
    assert_eq!(told(&straight, "kept"), first);
    let manifest = drop_build_part(template.manifest("changed-1"));

    let again = template.build(&[]).expect_success();
    assert!(again.stdout.contains("nothing changed") || again.stderr.contains("nothing changed"), "{again:?}");

    let mut randoms = Vec::new();
    for word in ["one", "two"] {
        template.write("", &[("first", &template.first), ("second", &format!("{SECOND}; : {word}"))]);
        let resumed = template.build(&[]).expect_success();
        assert!(resumed.stderr.contains("stage `second` runs: inline: "), "{resumed:?}");
        assert!(resumed.stderr.contains("come from the checkpoint after `first`"), "{resumed:?}");
        assert_eq!(told(&resumed, "kept"), first);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let guests: u64 = told(&resumed, "now").parse().unwrap();
        assert!(now.abs_diff(guests) < 60, "the guest's clock is at {guests}, the host's at {now}");
        randoms.push(told(&resumed, "random"));
    }
    assert_ne!(randoms[0], randoms[1], "two machines from one checkpoint drew the same random numbers");

    template.write("", &[("first", &template.first), ("second", SECOND)]);
    template.build(&["--from", "second"]).expect_success();
    assert_eq!(drop_build_part(template.manifest("changed-1")), manifest);
}

#[test]
fn a_failed_stage_is_mended_where_it_failed() {
    let template = Template::new("mended");
    template.write("", &[("first", &template.first), ("second", "exit 3")]);
    let failed = template.build(&[]);
    failed.expect_failure(1, &["stage `second` failed"]);
    let first = told(&failed, "first");
    template.write("", &[("first", &template.first), ("second", SECOND)]);
    let mended = template.build(&[]).expect_success();
    assert_eq!(told(&mended, "kept"), first);
}

#[test]
fn what_is_damaged_is_never_built_on() {
    let template = Template::new("damaged");
    template.write("", &[("first", &template.first), ("second", SECOND)]);
    let first = told(&template.build(&[]).expect_success(), "first");

    let memory = checkpoint_of("damaged", "first").join("memory");
    let length = memory.metadata().unwrap().len();
    flip_a_bit(&memory, length / 2);
    template.write("", &[("first", &template.first), ("second", &format!("{SECOND}; : memory"))]);
    let booted = template.build(&[]).expect_success();
    assert!(booted.stderr.contains("memory of checkpoint"), "{booted:?}");
    assert!(booted.stderr.contains("booting from its disk"), "{booted:?}");
    assert_eq!(told(&booted, "kept"), first);

    flip_a_bit(&checkpoint_of("damaged", "first").join("disk.qcow2"), 300_000);
    template.write("", &[("first", &template.first), ("second", &format!("{SECOND}; : disk"))]);
    let rebuilt = template.build(&[]).expect_success();
    assert!(rebuilt.stderr.contains("disk.qcow2 of checkpoint"), "{rebuilt:?}");
    assert_ne!(told(&rebuilt, "kept"), first, "the damaged layer was used");
}

#[test]
fn the_combinations_of_a_matrix_share_what_they_have_in_common() {
    let template = Template::new("matrix");
    let head = "[variables]\nset = \"a\"\n[matrix]\nset = [\"a\", \"b\"]\n";
    let tail = format!("{SECOND}; echo {{{{ set }}}} >/opt/set");
    template.write(head, &[("first", &template.first), ("second", &tail)]);
    let shared = template.build(&[]).expect_success();
    assert_eq!(shared.stderr.matches("first=").count(), 1, "{shared:?}");
    assert_eq!(shared.stderr.matches("kept=").count(), 2, "{shared:?}");
    for image in ["matrix-a-1", "matrix-b-1"] {
        assert_eq!(template.manifest(image)["format"], 1);
    }
}

#[test]
fn a_build_that_is_killed_leaves_no_torn_checkpoint() {
    let template = Template::new("killed");
    let stages = [("first", template.first.as_str()), ("second", SECOND), ("third", "sleep 1"), ("fourth", "sleep 1")];
    template.write("", &stages);
    for turn in 0..4_u64 {
        let before = checkpoints().len();
        let mut build = template.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Around the moments in which checkpoints are written and published.
        wait_for("a checkpoint or an end", Duration::from_secs(300), || {
            checkpoints().len() > before || build.try_wait().unwrap().is_some()
        });
        std::thread::sleep(Duration::from_millis(turn * 700));
        build.kill().unwrap();
        build.wait().unwrap();
        for folder in checkpoints() {
            assert!(folder.join("checkpoint.json").exists(), "{}", folder.display());
        }
    }
    let built = template.build(&[]).expect_success();
    assert!(!built.stderr.contains("set aside"), "{built:?}");
    let work = fs::read_dir(cache_folder().join("cache/work")).into_iter().flatten().count();
    assert_eq!(work, 0, "work folders are left");
}
