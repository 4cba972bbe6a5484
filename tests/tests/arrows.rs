//! Which crate may lean on which: the picture of ARCHITECTURE.md, held against the Cargo manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use dsimg_tests::repository;

/// Each crate and those of the workspace that it may depend on.
const ARROWS: [(&str, &[&str]); 17] = [
    ("template", &[]),
    ("plan", &["template"]),
    ("manifest", &[]),
    ("tree", &[]),
    ("audit", &["manifest"]),
    ("provenance", &["manifest"]),
    ("licence", &[]),
    ("machine", &["template", "plan"]),
    ("ssh", &["template", "plan", "machine"]),
    ("download", &["template", "plan", "machine"]),
    ("qemu", &["template", "plan", "machine", "ssh", "download", "tree"]),
    ("aws", &["template", "plan", "machine", "ssh", "download"]),
    ("checkpoint", &["template", "plan"]),
    ("store", &["plan"]),
    ("mirror", &["template", "plan", "machine", "download", "licence", "manifest", "store"]),
    (
        "build",
        &["template", "plan", "machine", "download", "licence", "manifest", "checkpoint", "mirror", "store", "tree"],
    ),
    (
        "dsimg",
        &[
            "template",
            "plan",
            "machine",
            "download",
            "qemu",
            "audit",
            "aws",
            "build",
            "manifest",
            "checkpoint",
            "mirror",
            "provenance",
            "store",
            "tree",
        ],
    ),
];

#[test]
fn crates_lean_only_on_those_below_them() {
    let allowed: BTreeMap<_, BTreeSet<_>> =
        ARROWS.iter().map(|(name, below)| (*name, below.iter().copied().collect())).collect();
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(repository().join("crates")).expect("the crates are there").flatten() {
        let folder = entry.file_name().into_string().expect("crates have plain names");
        let name = folder.strip_prefix("dsimg-").unwrap_or(&folder).to_owned();
        let text = fs::read_to_string(entry.path().join("Cargo.toml")).expect("each crate has a manifest");
        let manifest: toml::Table = toml::from_str(&text).expect("a manifest is TOML");
        let dependencies = manifest["dependencies"].as_table().expect("dependencies are a table");
        let below = dependencies.keys().filter_map(|name| name.strip_prefix("dsimg-"));
        let allowed = allowed.get(name.as_str()).unwrap_or_else(|| panic!("`{name}` is not in the picture"));
        for other in below {
            assert!(allowed.contains(other), "`{name}` must not depend on `{other}`");
        }
        seen.insert(name);
    }
    assert_eq!(seen.len(), ARROWS.len(), "{seen:?}");
}
