//! Builds go on from checkpoints, and what comes out is what a build that ran through gives.

// The allowance for tests covers only functions marked `#[test]`, not those they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dsimg_tests::{
    SmallTemplate, cache_folder, checkpoint_of, checkpoints, checkpoints_of, differences, dsimg, read_tree, repository,
    run, told, wait_for,
};

const SECOND: &str =
    "echo kept=$(cat /opt/first) now=$(date +%s) random=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' ')";

/// In the paths of what two builds of one template never have in common, as docs/checkpoints.md says.
const DIFFERENT: &str = "/var/log/";

fn flip_a_bit(file: &Path, at: u64) {
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("the cache is the tests' own");
    let mut file = fs::OpenOptions::new().read(true).write(true).open(file).expect("the cache is the tests' own");
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).expect("the cache is the tests' own");
    file.read_exact(&mut byte).expect("the cache is the tests' own");
    file.seek(SeekFrom::Start(at)).expect("the cache is the tests' own");
    file.write_all(&[byte[0] ^ 4]).expect("the cache is the tests' own");
}

#[test]
fn a_changed_stage_goes_on_from_the_one_before_it() {
    let template = SmallTemplate::new("changed");
    template.write("", &[("first", &template.first), ("second", SECOND)]);
    let straight = template.build(&[]).expect_success();
    let first = told(&straight, "first");
    assert_eq!(told(&straight, "kept"), first);
    let manifest = template.manifest("changed-1");

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
    assert_eq!(template.manifest("changed-1"), manifest);

    let elsewhere = template.folder().join("cache");
    run(Command::new("cp").arg("-al").arg(cache_folder().join("cache")).arg(&elsewhere)).expect_success();
    template.write("", &[("first", &template.first), ("second", &format!("{SECOND}; : moved"))]);
    let moved = run(template.command(&[]).env("DSIMG_CACHE_DIR", &elsewhere)).expect_success();
    assert!(moved.stderr.contains("come from the checkpoint after `first`"), "{moved:?}");
    assert_eq!(told(&moved, "kept"), first);
}

#[test]
fn a_failed_stage_is_mended_where_it_failed() {
    let template = SmallTemplate::new("mended");
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
    let template = SmallTemplate::new("damaged");
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
    let template = SmallTemplate::new("matrix");
    let head = "[variables]\nset = \"a\"\n[matrix]\nset = [\"a\", \"b\"]\n";
    let tail = format!("{SECOND}; echo {{{{ set }}}} >/opt/set");
    template.write(head, &[("first", &template.first), ("second", &tail)]);
    // The boot is in common, too.
    run(&mut dsimg(&["cache", "prune", "--all"])).expect_success();
    let shared = template.build(&[]).expect_success();
    assert_eq!(shared.stderr.matches("first=").count(), 1, "{shared:?}");
    assert_eq!(shared.stderr.matches("kept=").count(), 2, "{shared:?}");
    for image in ["matrix-a-1", "matrix-b-1"] {
        assert_eq!(template.manifest(image)["format"], 1);
    }
}

#[test]
fn a_build_that_is_killed_leaves_no_torn_checkpoint() {
    let template = SmallTemplate::new("killed");
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

#[test]
fn shells_leave_a_checkpoint_as_it_was() {
    let template = SmallTemplate::new("shells");
    template.write("", &[("first", &template.first), ("second", SECOND)]);
    let first = told(&template.build(&[]).expect_success(), "first");
    let folder = checkpoint_of("shells", "first");
    let before = digests(&folder);
    for side_by_side in [1, 2, 2] {
        let shells: Vec<_> = (0..side_by_side).map(|_| open_shell(&template, "first")).collect();
        for shell in shells {
            let ended = shell.wait_with_output().unwrap();
            let printed = String::from_utf8_lossy(&ended.stdout);
            assert!(ended.status.success() && printed.contains(&format!("was={first}")), "{ended:?}");
        }
    }
    assert_eq!(digests(&folder), before);
    template.write("", &[("first", &template.first), ("second", &format!("{SECOND}; : again"))]);
    assert_eq!(told(&template.build(&[]).expect_success(), "kept"), first);
}

/// One in which a file is written over.
fn open_shell(template: &SmallTemplate, stage: &str) -> Child {
    let mut shell = dsimg(&["shell", &template.path().to_string_lossy(), "--at", stage])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let commands = "echo was=$(cat /opt/first)\necho changed >/opt/first\nsync\nexit\n";
    shell.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    shell
}

fn digests(folder: &Path) -> BTreeMap<String, String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let digest = |name: &String| run(Command::new("sha256sum").arg(folder.join(name))).expect_success().stdout;
    names.map(|name| (name.clone(), digest(&name))).collect()
}

#[test]
fn an_interrupted_build_makes_the_image_of_one_that_ran_through() {
    let template = SmallTemplate::new("interrupted");
    // Packages that no other test installs: from its checkpoints nothing would be left to interrupt.
    let stages = format!(
        "[[provision]]\nname = \"tools\"\ntype = \"apt\"\npackages = [\"jq\", \"tree\"]\n\
         [[provision]]\nname = \"python\"\ntype = \"pip\"\nvenv = \"/opt/venv\"\npackages = [\"idna\"]\n\
         [[provision]]\nname = \"settings\"\ntype = \"shell\"\n\
         inline = [\"jq -n '{{a: 1}}' >/etc/a.json; : {}\"]\n",
        template.folder().display()
    );
    template.write_text("[network]\nca = \"host\"\n", &stages);

    for stage in ["tools", "python"] {
        let mut build = template.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for("a checkpoint", Duration::from_secs(600), || {
            checkpoints_of("interrupted").iter().any(|(label, _)| label == stage) || build.try_wait().unwrap().is_some()
        });
        build.kill().unwrap();
        build.wait().unwrap();
    }
    let resumed = template.build(&[]).expect_success();
    assert!(resumed.stderr.contains("come from the checkpoint after `python`"), "{resumed:?}");
    let manifest = template.manifest("interrupted-1");
    let tree = read_tree(&template.image_folder("interrupted-1").join("interrupted-1.qcow2"));
    assert!(tree.len() > 10_000, "{} files", tree.len());

    template.build(&["--no-cache"]).expect_success();
    assert_eq!(template.manifest("interrupted-1"), manifest);
    let straight = read_tree(&template.image_folder("interrupted-1").join("interrupted-1.qcow2"));
    let other: Vec<_> = differences(&tree, &straight).iter().map(|path| format!("/{path}")).collect();
    let unexplained: Vec<_> = other.iter().filter(|path| !path.contains(DIFFERENT)).collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    let docs = fs::read_to_string(repository().join("docs/checkpoints.md")).unwrap();
    assert!(docs.contains(&format!("`{DIFFERENT}`")), "docs/checkpoints.md does not name {DIFFERENT}");
}
