//! Signatures in the form of minisign, which one small program checks: <https://jedisct1.github.io/minisign/>.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign::{PublicKey as SignerPublicKey, SecretKey, SecretKeyBox};

use crate::{KeyError, PublicKey, SigningKey};

/// A private key. Never printed.
#[derive(Clone)]
pub struct MinisignSecretKey(SecretKey);

/// A public key.
#[derive(Debug, Clone)]
pub struct MinisignPublicKey {
    key: minisign_verify::PublicKey,
    /// As minisign shows it: 16 upper-case hex digits.
    id: String,
}

impl MinisignSecretKey {
    /// Reads minisign's key file. Deriving the key from a password takes about a second and up to 1 GiB of memory.
    ///
    /// # Errors
    /// It is none, or the password is missing or wrong.
    pub fn from_text(text: &str, password: Option<&str>) -> Result<Self, KeyError> {
        let wrong = |reason: String| KeyError::Minisign { kind: "secret", reason };
        let line = text.lines().nth(1).ok_or_else(|| wrong("it has no second line".to_owned()))?;
        let bytes = STANDARD.decode(line.trim()).map_err(|cause| wrong(cause.to_string()))?;
        // sig_alg, kdf_alg, cksum_alg (2 bytes each), salt (32), opslimit (8), memlimit (8), key number (8), key (64),
        // checksum (32).
        if bytes.len() != 158 || bytes[..2] != *b"Ed" || bytes[4..6] != *b"B2" {
            return Err(wrong("its second line has another form".to_owned()));
        }
        let read = match (&bytes[2..4], password) {
            ([0, 0], _) => {
                // minisign writes no checksum into such a key. It holds its public half too, which must fit.
                let pair = bytes[62..126].first_chunk().map(ed25519_dalek::SigningKey::from_keypair_bytes);
                match pair {
                    Some(Ok(_)) => SecretKey::from_bytes(&bytes).map_err(|cause| wrong(cause.to_string())),
                    _ => Err(wrong("its two halves do not fit each other".to_owned())),
                }
            }
            (b"Sc", Some(password)) => {
                let key = SecretKeyBox::from(text.to_owned()).into_secret_key(Some(password.to_owned()));
                key.map_err(|_| KeyError::PasswordWrong)
            }
            (b"Sc", None) => Err(KeyError::PasswordMissing),
            _ => Err(wrong("it is encrypted in a way that is not known here".to_owned())),
        };
        read.map(Self)
    }

    /// Of a key in PEM, so that one key signs everything. The key's number is the beginning of its id.
    ///
    /// # Errors
    /// None that can be expected.
    pub fn from_signing_key(key: &SigningKey) -> Result<Self, KeyError> {
        let mut bytes = Vec::with_capacity(158);
        bytes.extend_from_slice(b"Ed\0\0B2");
        bytes.extend_from_slice(&[0; 32 + 8 + 8]);
        bytes.extend_from_slice(&key.public().digest()[..8]);
        bytes.extend_from_slice(&key.to_keypair_bytes());
        // The checksum guards what is read from a file.
        bytes.extend_from_slice(&[0; 32]);
        SecretKey::from_bytes(&bytes).map(Self).map_err(|cause| KeyError::Signing(cause.to_string()))
    }

    /// # Errors
    /// None that can be expected.
    pub fn public(&self) -> Result<MinisignPublicKey, KeyError> {
        let key = SignerPublicKey::from_secret_key(&self.0);
        let text = key.and_then(|key| key.to_box()).map_err(|cause| KeyError::Signing(cause.to_string()))?;
        MinisignPublicKey::from_text(&text.into_string())
    }

    /// The text of a `.minisig` file. `comment` is signed too, and is one line.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn sign(&self, content: &[u8], comment: &str) -> Result<String, KeyError> {
        let comment = comment.replace(char::is_control, " ");
        let signature =
            minisign::sign(None, &self.0, content, Some(comment.trim()), Some("signature from a dsimg key"));
        signature.map(|signature| signature.into_string()).map_err(|cause| KeyError::Signing(cause.to_string()))
    }
}

/// The crate's own `Debug` prints the key.
impl fmt::Debug for MinisignSecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MinisignSecretKey({})", number(self.0.keynum()))
    }
}

impl MinisignPublicKey {
    /// Reads minisign's `.pub` file, or its second line alone, as people pass it on.
    ///
    /// # Errors
    /// It is none.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let wrong = |reason: String| KeyError::Minisign { kind: "public", reason };
        let line = text.trim().lines().last().unwrap_or_default().trim();
        let bytes = STANDARD.decode(line).map_err(|cause| wrong(cause.to_string()))?;
        let key = minisign_verify::PublicKey::from_base64(line).map_err(|cause| wrong(cause.to_string()))?;
        let id = number(bytes.get(2..10).unwrap_or_default());
        Ok(Self { key, id })
    }

    /// The same key in minisign's form.
    ///
    /// # Errors
    /// None that can be expected.
    pub fn from_public_key(key: &PublicKey) -> Result<Self, KeyError> {
        Self::from_text(&Self::text_of(key))
    }

    /// The text of a `.pub` file of minisign for a key in PEM, for those who have minisign alone.
    #[must_use]
    pub fn text_of(key: &PublicKey) -> String {
        let mut bytes = b"Ed".to_vec();
        bytes.extend_from_slice(&key.digest()[..8]);
        bytes.extend_from_slice(&key.to_bytes());
        format!("untrusted comment: minisign public key {}\n{}\n", number(&key.digest()[..8]), STANDARD.encode(bytes))
    }

    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The signed comment, if the signature is this key's of this content.
    pub(crate) fn verify(&self, content: &[u8], signature: &str) -> Result<String, String> {
        let signature = minisign_verify::Signature::decode(signature).map_err(|cause| cause.to_string())?;
        self.key.verify(content, &signature, false).map_err(|cause| cause.to_string())?;
        Ok(signature.trusted_comment().to_owned())
    }
}

/// Little-endian, as minisign shows it.
fn number(bytes: &[u8]) -> String {
    bytes.iter().rev().map(|byte| format!("{byte:02X}")).collect()
}
