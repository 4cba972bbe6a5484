//! The digest a file must have.

use sha2::{Digest as _, Sha256, Sha512};

/// A sha256 or sha512 as lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expected {
    Sha256(String),
    Sha512(String),
}

impl Expected {
    /// By the number of hex digits, 64 or 128; `None` when it is something else.
    #[must_use]
    pub fn parse(hex: &str) -> Option<Self> {
        if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        match hex.len() {
            64 => Some(Self::Sha256(hex.to_ascii_lowercase())),
            128 => Some(Self::Sha512(hex.to_ascii_lowercase())),
            _ => None,
        }
    }

    /// `sha256` or `sha512`.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
        }
    }

    #[must_use]
    pub fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::Sha512(hex) => hex,
        }
    }

    /// Its name in the cache.
    pub(crate) fn file_name(&self) -> String {
        format!("{}-{}", self.algorithm(), self.hex())
    }

    pub(crate) fn hasher(&self) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Self::Sha512(_) => Hasher::Sha512(Sha512::new()),
        }
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

/// Either algorithm at work.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Expected {
        match self {
            Self::Sha256(hasher) => Expected::Sha256(hex(&hasher.finalize())),
            Self::Sha512(hasher) => Expected::Sha512(hex(&hasher.finalize())),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_algorithms_are_told_apart_by_length() {
        let empty = |expected: Expected| expected.hasher().finish();
        let sha256 = Expected::parse("E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855").unwrap();
        assert_eq!(empty(sha256.clone()), sha256);
        let sha512 = empty(Expected::Sha512(String::new()));
        assert!(sha512.to_string().starts_with("sha512:cf83e1357eefb8bd"));
        assert_eq!(Expected::parse(sha512.hex()), Some(sha512));
        assert_eq!(Expected::parse("d41d8cd98f00b204e9800998ecf8427e"), None);
        assert_eq!(Expected::parse(&"g".repeat(64)), None);
    }
}
