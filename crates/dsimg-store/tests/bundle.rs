//! Bundles: the same bytes each time, and not one that could be changed unseen.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use dsimg_plan::Digest;
use dsimg_store::{BundleBlob, BundleError, Members, Store, Usage, pack, unpack};

struct Rig {
    folder: tempfile::TempDir,
    store: Store,
    members: Members,
    blobs: BTreeSet<BundleBlob>,
}

fn rig() -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("one")).unwrap();
    let put = |name: &str, bytes: &[u8], compress| {
        let digest = store.put_bytes(bytes).unwrap().digest;
        BundleBlob { digest, name: name.to_owned(), compress, file: None }
    };
    let blobs = BTreeSet::from([
        put("git_2.47_amd64.deb", b"deb", false),
        put("numpy.whl", &[7; 512], false),
        put("base.raw", &[0; 100_000], true),
        put("empty", b"", false),
    ]);
    let members =
        Members::from([("image.toml".to_owned(), b"a".to_vec()), ("sub/x.lock".to_owned(), b"lock".to_vec())]);
    Rig { folder, store, members, blobs }
}

impl Rig {
    fn pack(&self, name: &str) -> PathBuf {
        let out = self.folder.path().join(name);
        pack(&self.store, &out, &self.members, &self.blobs).unwrap();
        out
    }

    fn other_store(&self) -> Store {
        Store::open(&self.folder.path().join("other")).unwrap()
    }
}

#[test]
fn what_is_packed_is_unpacked_elsewhere() {
    let rig = rig();
    let out = rig.pack("bundle");
    let other = rig.other_store();
    assert_eq!(unpack(&out, &other).unwrap(), rig.members);
    for blob in &rig.blobs {
        let path = other.verified(&blob.digest).unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(other.usage().unwrap().blobs, 4);
    assert_eq!(fs::read_dir(other.folder().join(".incoming")).unwrap().count(), 0);
    // Once more does no harm, and heals.
    let blob = rig.blobs.first().unwrap();
    fs::write(other.find(&blob.digest).unwrap(), "damaged").unwrap();
    unpack(&out, &other).unwrap();
    other.verified(&blob.digest).unwrap();
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    let rig = rig();
    let (one, two) = (rig.pack("one.tar"), rig.pack("two.tar"));
    assert_eq!(fs::read(one).unwrap(), fs::read(two).unwrap());
}

#[test]
fn it_is_a_tar_of_an_oci_layout() {
    let rig = rig();
    let mut archive = tar::Archive::new(fs::File::open(rig.pack("bundle")).unwrap());
    let to = rig.folder.path().join("oci");
    archive.unpack(&to).unwrap();
    let json = |path: &Path| serde_json::from_slice::<serde_json::Value>(&fs::read(path).unwrap()).unwrap();
    let blob = |descriptor: &serde_json::Value| {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
        let path = to.join("blobs/sha256").join(&digest);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(
            (Digest::of_bytes(&bytes).as_str(), bytes.len() as u64),
            (digest.as_str(), descriptor["size"].as_u64().unwrap())
        );
        path
    };
    assert_eq!(json(&to.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
    let manifest = json(&blob(&json(&to.join("index.json"))["manifests"][0]));
    blob(&manifest["config"]);
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().for_each(|layer| drop(blob(layer)));
    assert_eq!(layers[0]["annotations"]["org.opencontainers.image.title"], "image.toml");
    let of = |name: &str| layers.iter().find(|layer| layer["annotations"]["dev.dsimg.name"] == name).unwrap();
    assert_eq!(of("git_2.47_amd64.deb")["mediaType"], "application/vnd.debian.binary-package");
    let packed = of("base.raw");
    assert_eq!(packed["mediaType"], "application/octet-stream+zstd");
    assert!(packed["size"].as_u64().unwrap() < 1000);
}

#[test]
fn no_byte_can_be_changed_unseen() {
    let rig = rig();
    let whole = fs::read(rig.pack("bundle")).unwrap();
    let changed = rig.folder.path().join("changed");
    let other = rig.other_store();
    // Every eleventh, since each try writes files; all of them were tried when this was written.
    for at in (0..whole.len()).step_by(11) {
        let mut bytes = whole.clone();
        bytes[at] ^= if at % 2 == 0 { 1 } else { 0x80 };
        fs::write(&changed, bytes).unwrap();
        let error = unpack(&changed, &other).unwrap_err();
        assert!(error.to_string().contains("damaged"), "byte {at}: {error}");
    }
    for length in (0..whole.len()).step_by(97) {
        fs::write(&changed, &whole[..length]).unwrap();
        unpack(&changed, &other).unwrap_err();
    }
    fs::write(&changed, [whole.as_slice(), b"x"].concat()).unwrap();
    assert!(unpack(&changed, &other).unwrap_err().to_string().contains("its end was changed"));
    assert_eq!(other.usage().unwrap(), Usage::default());
    assert_eq!(fs::read_dir(other.folder().join(".incoming")).unwrap().count(), 0);
}

#[test]
fn what_was_changed_is_named() {
    let rig = rig();
    let whole = fs::read(rig.pack("bundle")).unwrap();
    let digest = Digest::of_bytes(b"deb");
    let name = format!("blobs/sha256/{digest}");
    let header = whole.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
    let changed = rig.folder.path().join("changed");
    let told = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&changed, bytes).unwrap();
        unpack(&changed, &rig.other_store()).unwrap_err().to_string()
    };
    let shown = format!("`git_2.47_amd64.deb` (sha256:{digest})");
    assert!(told(header + 120).ends_with(&format!("the header of {shown} was changed")));
    assert!(told(header + 512).ends_with(&format!("{shown} was changed")));
    assert!(told(header + 600).ends_with(&format!("the gap after {shown} was changed")));
    let packed = whole.windows(4).position(|window| window == [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
    assert!(told(packed + 8).contains("`base.raw` (sha256:"), "{}", told(packed + 8));
}

#[test]
fn hostile_tars_are_no_bundles() {
    let rig = rig();
    let other = rig.other_store();
    let hostile = rig.folder.path().join("hostile");
    let mut archive = tar::Builder::new(fs::File::create(&hostile).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    archive.append_link(&mut header, "oci-layout", "/etc/passwd").unwrap();
    archive.finish().unwrap();
    assert!(matches!(unpack(&hostile, &other), Err(BundleError::NotABundle { .. })));
    // A manifest of somebody's own is followed no further than a good one.
    for (name, told) in
        [("../../x", "can't be the name"), ("/etc/x", "can't be the name"), ("a/../b", "can't be the name")]
    {
        let members = Members::from([(name.to_owned(), Vec::new())]);
        let error = pack(&rig.store, &hostile, &members, &BTreeSet::new()).unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
    }
    // Written by hand, past the check of whoever packs.
    let good = Members::from([("aa/aa/x".to_owned(), b"x".to_vec())]);
    pack(&rig.store, &hostile, &good, &BTreeSet::new()).unwrap();
    let bytes = forge(&fs::read(&hostile).unwrap(), "aa/aa/x", "../../x");
    fs::write(&hostile, bytes).unwrap();
    let error = unpack(&hostile, &other).unwrap_err();
    assert!(matches!(error, BundleError::Name { .. }), "{error}");
    assert_eq!(other.usage().unwrap(), Usage::default());
}

/// Changes the manifest, and all that is told about it.
fn forge(bundle: &[u8], from: &str, to: &str) -> Vec<u8> {
    let find = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).position(|window| window == text);
    let start = find(bundle, b"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest").unwrap();
    let length = bundle[start..].iter().position(|byte| *byte == 0).unwrap();
    let old = String::from_utf8(bundle[start..start + length].to_vec()).unwrap();
    let new = old.replace(from, to);
    let (before, after) = (Digest::of_bytes(old.as_bytes()), Digest::of_bytes(new.as_bytes()));
    let mut bytes = bundle.to_vec();
    while let Some(at) = find(&bytes, before.as_str().as_bytes()) {
        bytes[at..at + 64].copy_from_slice(after.as_str().as_bytes());
    }
    bytes[start..start + length].copy_from_slice(new.as_bytes());
    let header = start - 512;
    let sum: u32 = (0..512).map(|at| if (148..156).contains(&at) { 32 } else { u32::from(bytes[header + at]) }).sum();
    bytes[header + 148..header + 156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
    bytes
}

#[test]
fn a_missing_or_damaged_blob_is_named_and_no_bundle_appears() {
    let mut rig = rig();
    let out = rig.folder.path().join("out.tar");
    let digest = Digest::of_bytes(b"deb");
    fs::write(rig.store.find(&digest).unwrap(), b"deB").unwrap();
    let error = pack(&rig.store, &out, &rig.members, &rig.blobs).unwrap_err().to_string();
    assert!(error.starts_with("git_2.47_amd64.deb: blob ") && error.contains(digest.as_str()), "{error}");
    rig.blobs = BTreeSet::from([BundleBlob { digest, name: "git".to_owned(), compress: false, file: None }]);
    let error = pack(&rig.store, &out, &rig.members, &rig.blobs).unwrap_err().to_string();
    assert!(error.starts_with("git: the package store has no blob"), "{error}");
    assert!(!out.exists());
}

/// Files beside the store, one with the bytes of a member and one with those of the empty configuration.
#[test]
fn files_go_along_from_where_they_are() {
    let mut rig = rig();
    for (name, bytes, compress) in
        [("a.json", "{}", false), ("b.txt", "lock", false), ("c.raw", "other", true), ("d.txt", "one", false)]
    {
        let path = rig.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let digest = Digest::of_bytes(bytes.as_bytes());
        rig.blobs.insert(BundleBlob { digest, name: name.to_owned(), compress, file: Some(path) });
    }
    let other = rig.other_store();
    unpack(&rig.pack("bundle"), &other).unwrap();
    for bytes in ["{}", "lock", "other", "one"] {
        assert_eq!(other.read(&Digest::of_bytes(bytes.as_bytes())).unwrap(), bytes.as_bytes());
    }
    for name in ["c.raw", "d.txt"] {
        let path = rig.folder.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace('o', "0")).unwrap();
        let error = pack(&rig.store, &rig.folder.path().join("out"), &rig.members, &rig.blobs).unwrap_err();
        assert!(matches!(&error, BundleError::Changed { path: told, .. } if *told == path), "{error}");
        fs::write(&path, text).unwrap();
    }
}

#[test]
fn a_packed_blob_can_t_be_larger_than_it_says() {
    let rig = rig();
    let whole = fs::read(rig.pack("bundle")).unwrap();
    let bytes =
        forge(&whole, "\"dev.dsimg.uncompressed.size\":\"100000\"", "\"dev.dsimg.uncompressed.size\":\"000100\"");
    let changed = rig.folder.path().join("changed");
    fs::write(&changed, bytes).unwrap();
    let error = unpack(&changed, &rig.other_store()).unwrap_err().to_string();
    assert!(error.contains("there is more in it than it says"), "{error}");
}
