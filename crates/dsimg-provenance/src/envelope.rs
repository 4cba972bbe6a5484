//! A signed statement: DSSE. Source: <https://github.com/secure-systems-lab/dsse/blob/master/envelope.md>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::{PublicKey, SigningKey, Statement};

/// The file's name in the image's folder.
pub const PROVENANCE: &str = "provenance.dsse.json";

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Envelope {
    pub payload_type: String,
    /// Base64.
    pub payload: String,
    pub signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// [`PublicKey::id`].
    pub keyid: String,
    /// Base64.
    pub sig: String,
}

/// Why a statement is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("it is no DSSE envelope: {0}")]
    Form(String),
    #[error("it holds `{0}` and not an in-toto statement")]
    Type(String),
    #[error("no signature is of the keys that were given; it was signed by {0}")]
    OtherKey(String),
    #[error("the signature does not fit the content")]
    Signature,
    #[error("what was signed is no statement of SLSA provenance: {0}")]
    Statement(String),
}

/// Signs a statement.
#[must_use]
pub fn sign(statement: &Statement, key: &SigningKey) -> Envelope {
    let payload = serde_json::to_vec(statement).expect("a statement is plain data");
    let signature = key.sign(&pre_authentication(PAYLOAD_TYPE, &payload));
    Envelope {
        payload_type: PAYLOAD_TYPE.to_owned(),
        payload: STANDARD.encode(&payload),
        signatures: vec![Signature { keyid: key.public().id(), sig: STANDARD.encode(signature) }],
    }
}

/// What is signed: lengths before contents, so that no other split gives the same bytes.
fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl Envelope {
    /// The text of [`PROVENANCE`].
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("an envelope is plain data");
        text.push('\n');
        text
    }

    /// # Errors
    /// It has another form.
    pub fn from_json(text: &str) -> Result<Self, EnvelopeError> {
        serde_json::from_str(text).map_err(|cause| EnvelopeError::Form(cause.to_string()))
    }

    /// The statement and the id of the key that signed it, if one of the keys did. Nothing of the payload is looked at
    /// before.
    ///
    /// # Errors
    /// Another type, no signature of these keys, a signature that does not fit, or a payload that is no statement.
    pub fn verify(&self, keys: &[PublicKey]) -> Result<(Statement, String), EnvelopeError> {
        if self.payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::Type(self.payload_type.clone()));
        }
        let decode =
            |text: &str| STANDARD.decode(text).map_err(|cause| EnvelopeError::Form(format!("base64: {cause}")));
        let payload = decode(&self.payload)?;
        let message = pre_authentication(&self.payload_type, &payload);
        let mut was_tried = false;
        for signature in &self.signatures {
            let bytes = decode(&signature.sig)?;
            for key in keys.iter().filter(|key| key.id() == signature.keyid) {
                was_tried = true;
                if key.verifies(&message, &bytes) {
                    let statement = Statement::from_json(&payload).map_err(EnvelopeError::Statement)?;
                    return Ok((statement, key.id()));
                }
            }
        }
        if was_tried {
            return Err(EnvelopeError::Signature);
        }
        let signers: Vec<_> = self.signatures.iter().map(|signature| signature.keyid.clone()).collect();
        Err(EnvelopeError::OtherKey(if signers.is_empty() { "nobody".to_owned() } else { signers.join(", ") }))
    }
}
