//! How the machine is logged in to: keys that are made on this host, and that AWS sees the public half of.

use std::path::Path;

use aws_sdk_ec2::primitives::Blob;
use aws_sdk_ec2::types::ResourceType;
use serde::{Deserialize, Serialize};

use dsimg_machine::MachineError;
use dsimg_ssh::TemporaryKey;

use crate::account::Account;
use crate::failure::{code, explain};
use crate::marks::Marks;

#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) user: String,
    pub(crate) key: TemporaryKey,
    /// The machine's own: known here before it boots.
    pub(crate) host_key: TemporaryKey,
}

/// As it is written to a file that only its owner may read.
#[derive(Serialize, Deserialize)]
struct Written {
    user: String,
    key: String,
    host_key: String,
}

impl Access {
    pub(crate) fn generate(user: &str) -> Self {
        Self { user: user.to_owned(), key: TemporaryKey::generate(), host_key: TemporaryKey::generate() }
    }

    /// # Errors
    /// The file can't be read or holds something else.
    pub(crate) fn read(path: &Path) -> Result<Self, MachineError> {
        let unreadable = |error| MachineError::file("cannot read", path, error);
        let text = std::fs::read(path).map_err(unreadable)?;
        let written: Written = serde_json::from_slice(&text).map_err(|error| unreadable(error.into()))?;
        match (TemporaryKey::parse(&written.key), TemporaryKey::parse(&written.host_key)) {
            (Some(key), Some(host_key)) => Ok(Self { user: written.user, key, host_key }),
            _ => Err(unreadable(std::io::Error::other("it holds no keys"))),
        }
    }

    /// # Errors
    /// The file can't be written.
    pub(crate) fn write(&self, path: &Path) -> Result<(), MachineError> {
        let (key, host_key) = (self.key.private_openssh(), self.host_key.private_openssh());
        let text = serde_json::to_string(&Written { user: self.user.clone(), key, host_key });
        let written = text.map_err(std::io::Error::from).and_then(|text| write_private(path, &text));
        written.map_err(|error| MachineError::file("cannot write", path, error))
    }

    /// The AMI's own login takes its key from there. The name is the machine's own: a key pair that is there already
    /// was imported by a call whose answer was lost.
    ///
    /// # Errors
    /// AWS does not take it.
    pub(crate) async fn import(&self, account: &Account, marks: &Marks) -> Result<(), MachineError> {
        let imported = account
            .ec2
            .import_key_pair()
            .key_name(&marks.name)
            .public_key_material(Blob::new(self.key.public_openssh()))
            .tag_specifications(marks.on(ResourceType::KeyPair))
            .send()
            .await;
        match imported {
            Err(error) if code(&error) != Some("InvalidKeyPair.Duplicate") => {
                Err(explain("import a key pair", account, error))
            }
            _ => Ok(()),
        }
    }
}

/// That its owner alone may read; what was there is replaced.
pub(crate) fn write_private(path: &Path, content: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.json");
        let access = Access::generate("dsimg");
        access.write(&path).unwrap();
        let read = Access::read(&path).unwrap();
        assert_eq!((read.key.public(), read.host_key.public()), (access.key.public(), access.host_key.public()));
        std::fs::write(&path, "{}").unwrap();
        assert!(Access::read(&path).unwrap_err().to_string().contains("access.json"));
    }
}
