//! ed25519 keys made for one machine: one lets dsimg in, the other is the machine's own.

use std::fmt;
use std::sync::Arc;

use russh::keys::key::safe_rng;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey};

/// A key pair that lives as long as the machine it was made for.
#[derive(Clone)]
pub struct TemporaryKey(Arc<PrivateKey>);

impl TemporaryKey {
    #[must_use]
    pub fn generate() -> Self {
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519);
        Self(Arc::new(key.expect("ed25519 keys can always be made")))
    }

    /// Reads a key that [`Self::private_openssh`] wrote; `None` when the text is no unencrypted ed25519 key.
    #[must_use]
    pub fn parse(private_openssh: &str) -> Option<Self> {
        let key = PrivateKey::from_openssh(private_openssh).ok()?;
        (key.algorithm() == Algorithm::Ed25519 && !key.is_encrypted()).then(|| Self(Arc::new(key)))
    }

    /// One line as in `authorized_keys`, without a comment and a line end.
    #[must_use]
    pub fn public_openssh(&self) -> String {
        self.public().to_string()
    }

    /// The private key as OpenSSH writes it to a file, with a line end at its end. A secret.
    #[must_use]
    pub fn private_openssh(&self) -> String {
        self.0.to_openssh(LineEnding::LF).expect("an unencrypted ed25519 key can always be encoded").to_string()
    }

    /// The half that may be seen.
    #[must_use]
    pub fn public(&self) -> HostKey {
        HostKey(self.0.public_key().clone())
    }

    pub(crate) fn private(&self) -> Arc<PrivateKey> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for TemporaryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TemporaryKey({})", self.public().fingerprint())
    }
}

/// The public key by which a machine is known.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey(PublicKey);

impl HostKey {
    /// Reads `ssh-ed25519 AAAA…`; a comment after it is passed over. `None` when it is something else.
    #[must_use]
    pub fn parse(openssh: &str) -> Option<Self> {
        let mut key = PublicKey::from_openssh(openssh.trim()).ok()?;
        key.set_comment("");
        (key.algorithm() == Algorithm::Ed25519).then_some(Self(key))
    }

    /// `SHA256:` and base64, as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.0)
    }

    /// The comment is no part of a key.
    pub(crate) fn is(&self, offered: &PublicKey) -> bool {
        self.0.key_data() == offered.key_data()
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_openssh().expect("an ed25519 public key can always be encoded"))
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({})", self.fingerprint())
    }
}

pub(crate) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text() {
        let key = TemporaryKey::generate();
        let read = TemporaryKey::parse(&key.private_openssh()).unwrap();
        assert_eq!(read.public(), key.public());
        assert!(key.private_openssh().ends_with("-----END OPENSSH PRIVATE KEY-----\n"));
        assert!(key.public_openssh().starts_with("ssh-ed25519 AAAA"));
        assert_eq!(HostKey::parse(&format!("{} me@host\n", key.public_openssh())), Some(key.public()));
    }

    #[test]
    fn two_keys_differ_and_debug_shows_no_secret() {
        let (one, two) = (TemporaryKey::generate(), TemporaryKey::generate());
        assert_ne!(one.public(), two.public());
        assert_eq!(format!("{one:?}"), format!("TemporaryKey({})", one.public().fingerprint()));
    }

    #[test]
    fn other_kinds_of_keys_are_not_taken() {
        assert_eq!(HostKey::parse("ssh-ed25519 nonsense"), None);
        assert_eq!(HostKey::parse(""), None);
        assert!(TemporaryKey::parse("-----BEGIN RSA PRIVATE KEY-----").is_none());
    }
}
