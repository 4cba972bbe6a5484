//! OpenSSH's client with a key of its own: how a user gets into a machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{Outcome, run};

/// Where to log in, and as whom. The machine makes its host key at its first boot; nobody can know it before.
#[derive(Debug, Clone)]
pub struct Login {
    pub user: &'static str,
    pub address: String,
    pub port: u16,
    pub key: PathBuf,
}

impl Login {
    /// Runs a command as the user.
    pub fn ssh(&self, command: &str) -> Outcome {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-i"]).arg(&self.key).args(["-p", &self.port.to_string(), "-o", "BatchMode=yes"]);
        ssh.args(["-o", "ConnectTimeout=10", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        ssh.args(["-o", "LogLevel=ERROR"]).arg(format!("{}@{}", self.user, self.address)).arg(command);
        run(ssh.stdin(Stdio::null()))
    }

    /// stdout of a command that must succeed.
    ///
    /// # Panics
    /// The command fails.
    #[must_use]
    pub fn read(&self, command: &str) -> String {
        self.ssh(command).expect_success().stdout
    }
}

/// A new ed25519 key, `key` and `key.pub` in the folder; its private half's path.
///
/// # Panics
/// ssh-keygen fails.
pub(crate) fn make_key(folder: &Path) -> PathBuf {
    let key = folder.join("key");
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key)).expect_success();
    key
}
