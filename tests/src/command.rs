//! dsimg's binary, run as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How a run of dsimg ended.
#[derive(Debug)]
pub struct Outcome {
    /// Minus one when a signal ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// # Panics
    /// The run did not succeed.
    pub fn expect_success(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// # Panics
    /// The exit code is another, or stderr lacks one of the texts.
    pub fn expect_failure(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        for text in texts {
            assert!(self.stderr.contains(text), "no `{text}` in:\n{}", self.stderr);
        }
    }
}

/// The checkout.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").to_owned()
}

/// What is kept between test runs.
///
/// # Panics
/// The folder can't be made.
#[must_use]
pub fn cache_folder() -> PathBuf {
    let folder =
        std::env::var_os("DSIMG_TEST_CACHE").map_or_else(|| PathBuf::from("/var/tmp/dsimg-tests"), PathBuf::from);
    std::fs::create_dir_all(&folder).expect("the test cache can be made");
    folder
}

/// dsimg with the tests' cache and state folders, in the checkout.
#[must_use]
pub fn dsimg(arguments: &[&str]) -> Command {
    let binary = repository().join("target/debug/dsimg");
    assert!(binary.exists(), "{} is missing: run `cargo build -p dsimg`", binary.display());
    let mut command = Command::new(binary);
    command.args(arguments).current_dir(repository()).stdin(Stdio::null());
    command.env("DSIMG_CACHE_DIR", cache_folder().join("cache")).env("DSIMG_STATE_DIR", cache_folder().join("state"));
    // All tests of one run fit into this; what older runs left must not fill the disk.
    command.env("DSIMG_CACHE_BUDGET", "12GiB").env("NO_COLOR", "1");
    command
}

/// Of an address of loopback.
pub(crate) fn free_port(address: &str) -> u16 {
    let listener = std::net::TcpListener::bind((address, 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Runs a command to its end.
///
/// # Panics
/// It can't be started.
pub fn run(command: &mut Command) -> Outcome {
    let output = command.output().expect("the program can be started");
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Builds a template into `output`; its progress goes to the test's log as it comes.
///
/// # Panics
/// The build fails.
pub fn build_image(template: &Path, output: &Path) {
    let (template, output) = (template.to_string_lossy(), output.to_string_lossy());
    let mut command = dsimg(&["build", "--force", "--progress", "plain", "--output", &output, &template]);
    let status = command.status().expect("dsimg can be started");
    assert!(status.success(), "the build of {template} ended with {status}");
}

/// Asks every 100 ms until the answer is yes.
///
/// # Panics
/// The limit passes.
pub fn wait_for(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < limit, "{what} did not happen within {limit:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
