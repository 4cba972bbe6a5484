//! How a machine is logged in to: the keys that were made for it, kept beside its checkpoints.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde::{Deserialize, Serialize};

use dsimg_machine::MachineError;
use dsimg_ssh::{SshTarget, TemporaryKey};

use crate::seed::Seed;

/// Both keys, the login, and what the machine was told it is.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) instance_id: String,
    pub(crate) user: String,
    pub(crate) key: TemporaryKey,
    pub(crate) host_key: TemporaryKey,
}

/// As it is written to a file that only its owner may read.
#[derive(Serialize, Deserialize)]
struct Written {
    instance_id: String,
    user: String,
    key: String,
    host_key: String,
}

impl Access {
    pub(crate) fn generate(instance_id: String, user: &str) -> Self {
        let (key, host_key) = (TemporaryKey::generate(), TemporaryKey::generate());
        Self { instance_id, user: user.to_owned(), key, host_key }
    }

    /// # Errors
    /// The file can't be read or holds something else.
    pub(crate) fn read(path: &Path) -> Result<Self, MachineError> {
        let unreadable = |error| MachineError::file("cannot read", path, error);
        let written: Written = serde_json::from_slice(&std::fs::read(path).map_err(unreadable)?)
            .map_err(|error| unreadable(error.into()))?;
        let keys = (TemporaryKey::parse(&written.key), TemporaryKey::parse(&written.host_key));
        let (Some(key), Some(host_key)) = keys else {
            return Err(unreadable(std::io::Error::other("it holds no keys")));
        };
        Ok(Self { instance_id: written.instance_id, user: written.user, key, host_key })
    }

    /// # Errors
    /// The file is there or can't be written.
    pub(crate) fn write(&self, path: &Path) -> Result<(), MachineError> {
        let written = Written {
            instance_id: self.instance_id.clone(),
            user: self.user.clone(),
            key: self.key.private_openssh(),
            host_key: self.host_key.private_openssh(),
        };
        let text = serde_json::to_string(&written).map_err(std::io::Error::from);
        text.and_then(|text| crate::seed::write_private(path, text.as_bytes()))
            .map_err(|error| MachineError::file("cannot write", path, error))
    }

    /// Calls `with` with the seed that tells the machine of these keys.
    pub(crate) fn with_seed<T>(&self, with: impl FnOnce(&Seed<'_>) -> T) -> T {
        with(&Seed {
            instance_id: &self.instance_id,
            user: &self.user,
            authorized_key: &self.key.public_openssh(),
            host_key: &self.host_key.private_openssh(),
            host_key_public: &self.host_key.public_openssh(),
        })
    }

    pub(crate) fn target(&self, port: u16) -> SshTarget {
        SshTarget {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            user: self.user.clone(),
            key: self.key.clone(),
            host_key: self.host_key.public(),
            elevate: self.user != "root",
            via: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.json");
        let access = Access::generate("dsimg-1".to_owned(), "dsimg");
        access.write(&path).unwrap();
        let read = Access::read(&path).unwrap();
        assert_eq!(read.key.public(), access.key.public());
        assert_eq!(read.host_key.public(), access.host_key.public());
        assert_eq!((read.instance_id, read.user), (access.instance_id, access.user));
        std::fs::write(&path, "{}").unwrap();
        assert!(Access::read(&path).unwrap_err().to_string().contains("access.json"));
    }
}
