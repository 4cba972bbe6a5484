/// Why a key can't be used. The caller knows its file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it is no Ed25519 {kind} key in PEM: {reason}")]
    Pem { kind: &'static str, reason: String },
    #[error("it is an encrypted PEM key, which can't be used as it is")]
    EncryptedPem,
    #[error("it is no {kind} key of minisign: {reason}")]
    Minisign { kind: &'static str, reason: String },
    #[error("it is protected by a password, and none was given")]
    PasswordMissing,
    #[error("the password does not fit the key")]
    PasswordWrong,
    #[error("signing failed: {0}")]
    Signing(String),
}

impl KeyError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Pem { kind: "public", .. } => {
                "`openssl pkey -in key.pem -pubout` writes the public key of a private one"
            }
            Self::Pem { .. } => "`openssl genpkey -algorithm ed25519 -out key.pem` makes one",
            Self::EncryptedPem => {
                "use a minisign key with a password, or decrypt it: `openssl pkey -in key.pem -out decrypted.pem`"
            }
            Self::Minisign { .. } => "`minisign -G -p key.pub -s key` makes a pair",
            Self::PasswordMissing | Self::PasswordWrong => "give the password that the key was made with",
            Self::Signing(_) => "try again; if it stays so, make a new key",
        }
    }
}
