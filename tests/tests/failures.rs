//! What goes wrong says what, where and what to do, and leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dsimg_tests::{Outcome, cache_folder, dsimg, run, wait_for};

/// A machine that is small and boots from the cached base.
const BUILDER: &str = "[[builder]]\nname = \"small\"\ntype = \"qemu\"\nmemory = \"1GiB\"\ndisk = \"8GiB\"\n";

/// A template in a folder of its own.
struct Template {
    folder: tempfile::TempDir,
}

impl Template {
    fn new(base: &str, stages: &str) -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let text = format!("[image]\nname = \"failing\"\nversion = \"1\"\n{base}\n{BUILDER}\n{stages}\n");
        fs::write(folder.path().join("template.toml"), text).expect("the folder is ours");
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn build_command(&self) -> Command {
        let output = self.path().join("images");
        let template = self.path().join("template.toml");
        dsimg(&["build", "--progress", "plain", "--output", &output.to_string_lossy(), &template.to_string_lossy()])
    }

    fn build(&self) -> Outcome {
        run(&mut self.build_command())
    }

    /// No image, no half of one, no machine, no work folder.
    fn assert_nothing_left(&self) {
        let images = self.path().join("images");
        let left: Vec<_> =
            fs::read_dir(images).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(work_folders().is_empty(), "{:?}", work_folders());
        assert!(machines().is_empty(), "{:?}", machines());
    }
}

fn work_folders() -> Vec<PathBuf> {
    let work = cache_folder().join("cache/work");
    fs::read_dir(work).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The process numbers of QEMUs whose disks lie in the tests' cache.
fn machines() -> Vec<String> {
    let pattern = format!("qemu-system.*{}", cache_folder().join("cache/work").display());
    let found = run(Command::new("pgrep").args(["-f", &pattern])).stdout;
    found.lines().map(str::to_owned).collect()
}

#[test]
fn a_failing_command_is_named_with_its_stage_status_and_last_lines() {
    let stages = "[[provision]]\nname = \"works\"\ntype = \"shell\"\ninline = [\"echo fine\"]\n\
                  [[provision]]\nname = \"breaks\"\ntype = \"shell\"\n\
                  inline = [\"echo before the fall\", \"exit 42\"]\n";
    let template = Template::new("", stages);
    let outcome = template.build();
    outcome.expect_failure(1, &["stage `breaks` failed", "42", "before the fall", "log: "]);
    let log = outcome.stderr.lines().find_map(|line| line.trim().strip_prefix("log: ")).expect("the log is named");
    assert!(fs::read_to_string(log.trim()).expect("the log is there").contains("before the fall"));
    template.assert_nothing_left();
}

#[test]
fn a_cancelled_build_leaves_nothing_and_says_130() {
    let template = Template::new("", "[[provision]]\ntype = \"shell\"\ninline = [\"sleep 3600\"]\n");
    let mut build = start(&template);
    wait_for("a machine", Duration::from_secs(300), || !machines().is_empty());
    signal(&build, "INT");
    let status = build.wait().expect("dsimg ends");
    assert_eq!(status.code(), Some(130));
    template.assert_nothing_left();
}

#[test]
fn a_killed_build_takes_its_machine_along_and_the_next_run_cleans_up() {
    let template = Template::new("", "[[provision]]\ntype = \"shell\"\ninline = [\"sleep 3600\"]\n");
    let mut build = start(&template);
    wait_for("a machine", Duration::from_secs(300), || !machines().is_empty());
    signal(&build, "KILL");
    build.wait().expect("dsimg is dead");
    wait_for("the end of QEMU", Duration::from_secs(1), || machines().is_empty());
    assert!(!work_folders().is_empty(), "a killed build can't clean up");

    // A template that is refused cleans nothing; a build that starts does.
    let next = Template::new(&image_base("absent.qcow2", &"0".repeat(64), template.path()), "");
    next.build().expect_failure(2, &["sha256"]);
    template.assert_nothing_left();
}

fn start(template: &Template) -> Child {
    template.build_command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("dsimg can be started")
}

fn signal(child: &Child, name: &str) {
    run(Command::new("kill").args([&format!("-{name}"), &child.id().to_string()])).expect_success();
}

/// `[base]` with an image that is made by qemu-img and then spoilt by the caller.
fn image_base(name: &str, sha256: &str, folder: &Path) -> String {
    let path = folder.join(name);
    if !path.exists() {
        qemu_img(&["create", "-q", "-f", "qcow2", &path.to_string_lossy(), "1G"]);
    }
    format!("[base]\nimage = {{ path = \"{}\", checksum = \"sha256:{sha256}\" }}\n", path.display())
}

fn qemu_img(arguments: &[&str]) {
    run(Command::new("qemu-img").args(arguments)).expect_success();
}

fn sha256(path: &Path) -> String {
    let sum = run(Command::new("sha256sum").arg(path)).expect_success().stdout;
    sum.split_whitespace().next().expect("sha256sum prints the sum first").to_owned()
}

#[test]
fn a_wrong_checksum_is_refused_with_both_sums() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let wrong = "0".repeat(64);
    let base = image_base("plain.qcow2", &wrong, folder.path());
    let right = sha256(&folder.path().join("plain.qcow2"));
    Template::new(&base, "").build().expect_failure(2, &["plain.qcow2", &wrong, &right]);
}

#[test]
fn an_image_that_leans_on_another_file_is_refused() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let path = folder.path().join("leaning.qcow2");
    qemu_img(&["create", "-q", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", &path.to_string_lossy(), "1M"]);
    let base = image_base("leaning.qcow2", &sha256(&path), folder.path());
    Template::new(&base, "").build().expect_failure(2, &["leaning.qcow2", "backing file"]);
}

#[test]
fn an_image_that_is_cut_short_is_refused() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let base = image_base("cut.qcow2", &"0".repeat(64), folder.path());
    let path = folder.path().join("cut.qcow2");
    let whole = sha256(&path);
    fs::File::options().write(true).open(&path).and_then(|file| file.set_len(1000)).expect("the file is ours");
    let base = base.replace(&"0".repeat(64), &whole);
    Template::new(&base, "").build().expect_failure(2, &["cut.qcow2", &whole]);
}
