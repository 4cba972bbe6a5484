//! What an image was made of, as a statement that can be signed, and the verification of an image's folder.

pub mod checksums;
pub mod envelope;
mod error;
mod key;
mod minisign_key;
pub mod statement;
pub mod verify;

pub use envelope::{Envelope, sign};
pub use error::KeyError;
pub use key::{PublicKey, SigningKey};
pub use minisign_key::{MinisignPublicKey, MinisignSecretKey};
pub use statement::{Build, Statement, Subject};
pub use verify::{Findings, Keys, verify_folder};
