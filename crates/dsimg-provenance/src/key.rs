//! Ed25519 keys as `openssl genpkey -algorithm ed25519` writes them.

use std::fmt;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _};
use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::KeyError;

/// A private key. It is wiped from memory at its end and never printed.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl SigningKey {
    /// Reads PEM of PKCS#8.
    ///
    /// # Errors
    /// It is none, of another kind, or encrypted.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
            return Err(KeyError::EncryptedPem);
        }
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(text.trim());
        key.map(Self).map_err(|cause| KeyError::Pem { kind: "private", reason: cause.to_string() })
    }

    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// Seed and public key, as minisign and NaCl keep them.
    pub(crate) fn to_keypair_bytes(&self) -> [u8; 64] {
        self.0.to_keypair_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({})", self.public().id())
    }
}

impl PublicKey {
    /// Reads PEM of SPKI, as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// It is none, or of another kind.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_public_key_pem(text.trim());
        key.map(Self).map_err(|cause| KeyError::Pem { kind: "public", reason: cause.to_string() })
    }

    #[must_use]
    pub fn to_pem(&self) -> String {
        self.0.to_public_key_pem(LineEnding::LF).expect("an Ed25519 key always has this form")
    }

    /// sha256 of the key's SPKI in DER: 64 lower-case hex digits.
    #[must_use]
    pub fn id(&self) -> String {
        crate::checksums::hex(&self.digest())
    }

    pub(crate) fn digest(&self) -> [u8; 32] {
        let der = self.0.to_public_key_der().expect("an Ed25519 key always has this form");
        Sha256::digest(der.as_bytes()).into()
    }

    pub(crate) fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Refuses weak keys and signatures that have a second form too.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let signature = Signature::from_slice(signature);
        signature.is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }
}
