//! The serial console as EC2 keeps it: the last 64 KiB, and late where the hypervisor is not Nitro.

use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use dsimg_ssh::HostKey;

use crate::account::Account;

/// For error reports.
const LINES: usize = 30;

/// Of one instance; what was read last is kept.
#[derive(Debug, Default)]
pub(crate) struct Console(Mutex<String>);

impl Console {
    /// Reads it anew; what can't be read leaves what there was.
    pub(crate) async fn refresh(&self, account: &Account, id: &str) {
        let request = account.ec2.get_console_output().instance_id(id);
        let output = match request.clone().latest(true).send().await {
            Ok(output) => Ok(output),
            // Not every instance type can be asked for what is on it now.
            Err(_) => request.send().await,
        };
        let bytes = output.ok().and_then(|output| STANDARD.decode(output.output()?).ok());
        if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
            *self.lock() = String::from_utf8_lossy(&bytes).into_owned();
        }
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> String {
        tail(&self.lock())
    }

    pub(crate) fn contains(&self, text: &str) -> bool {
        self.lock().contains(text)
    }

    /// The host key that the guest printed when it made it, if it is the one of this fingerprint.
    pub(crate) fn host_key(&self, fingerprint: &str) -> Option<HostKey> {
        host_key(&self.lock(), fingerprint)
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tail(text: &str) -> String {
    let plain = |line: &str| line.chars().filter(|c| !c.is_control() || *c == '\t').collect::<String>();
    let lines: Vec<_> = text.lines().map(plain).filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// cloud-init writes all public keys between two marks.
fn host_key(text: &str, fingerprint: &str) -> Option<HostKey> {
    let (_, keys) = text.rsplit_once("BEGIN SSH HOST KEY KEYS")?;
    let keys = keys.split("END SSH HOST KEY KEYS").next().unwrap_or_default();
    let found = keys.lines().filter_map(|line| HostKey::parse(&line[line.find("ssh-ed25519 ")?..]));
    found.into_iter().find(|key| key.fingerprint() == fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dsimg_ssh::TemporaryKey;

    #[test]
    fn a_host_key_is_taken_from_between_the_marks_only() {
        let (key, other) = (TemporaryKey::generate(), TemporaryKey::generate());
        let text = format!(
            "cloud-init: {}\n<14>ec2: -----BEGIN SSH HOST KEY KEYS-----\r\necdsa-sha2-nistp256 AAAA root@ip\r\n\
             [  12.3] ec2: {} root@ip-10-0-0-1\r\n-----END SSH HOST KEY KEYS-----\r\nlogin:",
            other.public_openssh(),
            key.public_openssh()
        );
        assert_eq!(host_key(&text, &key.public().fingerprint()), Some(key.public()));
        assert_eq!(host_key(&text, &other.public().fingerprint()), None);
        assert_eq!(host_key("no marks", &key.public().fingerprint()), None);
    }

    #[test]
    fn the_tail_is_plain_text() {
        assert_eq!(tail("\u{1b}[1mone\u{7}\r\n\r\ntwo\r\n"), "[1mone\ntwo");
    }
}
