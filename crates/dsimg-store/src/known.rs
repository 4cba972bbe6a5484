//! What is known about a URL.

use std::fs;
use std::path::PathBuf;

use dsimg_plan::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::store::Store;

/// What a URL gave when it was last asked, and how to ask whether that changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// Without a login.
    pub url: String,
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// As the server sent it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub content_type: Option<String>,
    /// After redirects, without a login: what relative links start from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub redirected: Option<String>,
    /// The mirror's address that was asked in its place, without a login: another mirror's marks and times say nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mirror: Option<String>,
    pub fetched: Timestamp,
}

impl Store {
    /// `None` also where the note is damaged, is of another URL, or its blob is gone: all of it means asking anew.
    #[must_use]
    pub fn known(&self, url: &str) -> Option<Known> {
        let text = fs::read(self.note_of(url)).ok()?;
        let known: Known = serde_json::from_slice(&text).ok()?;
        let blob_fits =
            Digest::parse(known.sha256.as_str()).is_some() && self.size_of(&known.sha256) == Some(known.size);
        (known.url == url && blob_fits).then_some(known)
    }

    /// Takes the place of what was known about the URL.
    ///
    /// # Errors
    /// It can't be written.
    pub fn remember(&self, known: &Known) -> Result<(), StoreError> {
        let text = serde_json::to_vec_pretty(known).expect("a note is made of texts and numbers");
        self.write_whole(&self.note_of(&known.url), &text)
    }

    fn note_of(&self, url: &str) -> PathBuf {
        self.urls().join(format!("{}.json", Digest::of_bytes(url.as_bytes())))
    }
}
