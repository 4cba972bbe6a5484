//! The EC2 rig of tests/ec2 with real machines, and instances in it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::command::{dsimg, repository, run};
use crate::login::{Login, make_key};

/// An emulated instance's first boot, with other work going on.
const BOOT_LIMIT: Duration = Duration::from_secs(900);

/// A rig with an empty account; it ends with the value, or else with this process.
#[derive(Debug)]
pub struct Rig {
    environment: BTreeMap<String, String>,
}

impl Rig {
    /// `region` is where SDKs look unless they are told otherwise.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(region: &str) -> Self {
        let parent = format!("--with-parent={}", std::process::id());
        let mut start = script();
        // A guest under emulation takes long enough with two processors.
        start.args(["start", &parent, "--memory", "2048", "--cpus", "2"]).stderr(Stdio::inherit());
        let printed = run(&mut start).expect_success().stdout;
        let exports = printed.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        let mut environment: BTreeMap<_, _> =
            exports.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
            environment.insert(name.to_owned(), region.to_owned());
        }
        // As the rig's firewall sees this host.
        environment.insert("DSIMG_CALLER_ADDRESS".to_owned(), "127.0.0.1".to_owned());
        Self { environment }
    }

    #[must_use]
    pub fn url(&self) -> &str {
        &self.environment["AWS_ENDPOINT_URL"]
    }

    /// dsimg with this rig for AWS.
    #[must_use]
    pub fn dsimg(&self, arguments: &[&str]) -> Command {
        let mut command = dsimg(arguments);
        command.envs(&self.environment);
        command
    }

    /// Any program with this rig for AWS.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.envs(&self.environment);
        command
    }

    /// A disk image as a public AMI of Debian's account; its id.
    ///
    /// # Panics
    /// The rig does not take it.
    #[must_use]
    pub fn import(&self, name: &str, disk: &Path) -> String {
        let mut import = script();
        import.envs(&self.environment).args(["import", name]).arg(disk);
        run(&mut import).expect_success().stdout.trim().to_owned()
    }

    /// Ids of what there is, by kind, without empty kinds.
    ///
    /// # Panics
    /// The rig does not answer.
    #[must_use]
    pub fn alive(&self) -> BTreeMap<String, Vec<String>> {
        let mut ask = self.command("curl");
        ask.args(["--silent", "--fail", "--noproxy", "*", &format!("{}/_rig/alive", self.url())]);
        let text = run(&mut ask).expect_success().stdout;
        let all: BTreeMap<String, Vec<String>> = serde_json::from_str(&text).expect("lists of ids");
        all.into_iter().filter(|(_, ids)| !ids.is_empty()).collect()
    }

    /// A new instance of an AMI, when its own user can log in and its first boot is over.
    ///
    /// # Panics
    /// It does not come up.
    #[must_use]
    pub fn launch(&self, ami: &str) -> Instance {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let key = make_key(folder.path());
        let mut launch = script();
        launch.envs(&self.environment).args(["run", ami]).arg(key.with_extension("pub"));
        let told = run(&mut launch).expect_success().stdout;
        let (_, address) = told.trim().split_once(' ').expect("an id and an address");
        let login = Login { user: "debian", address: address.to_owned(), port: 22, key };
        let began = Instant::now();
        let is_up = "test -e /run/cloud-init/result.json";
        loop {
            let seen = login.ssh(is_up);
            if seen.code == 0 {
                return Instance { login, _folder: folder };
            }
            assert!(began.elapsed() < BOOT_LIMIT, "{told} did not come up: {}", seen.stderr);
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let port = self.url().rsplit(':').next().unwrap_or_default().to_owned();
        if let Err(error) = script().args(["stop", &port]).status() {
            eprintln!("the rig could not be ended: {error}");
        }
    }
}

/// It is powered off with the value; what is left of it goes with its rig.
#[derive(Debug)]
pub struct Instance {
    pub login: Login,
    _folder: tempfile::TempDir,
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The connection may end before the answer.
        let _ended = self.login.ssh("sudo systemctl poweroff --force");
    }
}

/// The AMI of a manifest that names one, and its snapshot.
///
/// # Panics
/// The manifest names another number of AMIs than one.
#[must_use]
pub fn only_ami(manifest: &Value) -> (String, String) {
    let amis = manifest["build"]["amis"].as_array().expect("the manifest names AMIs");
    let [ami] = &amis[..] else { panic!("{amis:?}") };
    let text = |value: &Value| value.as_str().expect("an id").to_owned();
    (text(&ami["id"]), text(&ami["snapshots"][0]))
}

fn script() -> Command {
    Command::new(repository().join("tests/ec2/rig.sh"))
}
