//! Manifests of images that were built.

use std::path::Path;

use serde_json::Value;

/// Of an image's folder.
///
/// # Panics
/// There is none.
#[must_use]
pub fn read_manifest(folder: &Path) -> Value {
    let text = std::fs::read(folder.join("manifest.json")).expect("a build writes a manifest");
    serde_json::from_slice(&text).expect("a manifest is JSON")
}

/// All but how and when they were built.
///
/// # Panics
/// They differ.
pub fn assert_same_content(one: &Value, other: &Value) {
    for part in ["image", "plan", "base", "system", "stages", "packages"] {
        assert_eq!(one[part], other[part], "{part}");
    }
}
