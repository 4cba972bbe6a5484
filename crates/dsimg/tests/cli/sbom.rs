use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use dsimg_manifest::LockFile;
use dsimg_manifest::lock::write_lock;
use serde_json::Value;

use crate::place::Place;
use crate::sample;

fn written(place: &Place) {
    let runs = BTreeMap::from([("kvm".to_owned(), sample::lock())]);
    let lock = write_lock(&LockFile { runs });
    let manifest = sample::manifest(&sample::lock()).to_json();
    place.write("team.lock", &lock);
    place.write("images/plain/manifest.json", &manifest);
    place.write("images/locked/manifest.json", &manifest);
    place.write("images/locked/image.lock", &lock);
}

fn bom(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn purls(bom: &Value) -> BTreeSet<&str> {
    let components = bom["components"].as_array().unwrap().iter();
    components.map(|component| component["purl"].as_str().unwrap().split('?').next().unwrap()).collect()
}

#[test]
fn a_bill_is_written_of_an_image_a_manifest_and_a_lock() {
    let place = Place::new();
    written(&place);
    let of = |image: &str| {
        let ran = place.dsimg(&["sbom", image]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        bom(&ran.out)
    };
    let (lock, plain, locked) = (of("team.lock"), of("images/plain"), of("images/locked"));
    assert_eq!(of("images/plain/manifest.json"), plain);
    assert_eq!(purls(&plain).len(), 5);
    assert_eq!(purls(&lock), purls(&locked));
    assert_eq!(lock["metadata"]["component"]["name"], "team");
    let hashed = |bom: &Value| bom["components"].to_string().contains("SHA-256");
    assert!(hashed(&lock) && hashed(&locked) && !hashed(&plain), "the digests are the lock's");
    assert!(lock["components"].to_string().contains("GPL-2.0-or-later AND MIT"), "and so are licences");
    let file = place.dsimg(&["sbom", "team.lock", "--only", "kvm", "-o", "team.cdx.json"]);
    assert_eq!((file.code, file.out.as_str()), (Some(0), ""));
    assert_eq!(bom(&place.read("team.cdx.json")), lock);
    std::fs::write(place.path("disk.raw"), [0; 4096]).unwrap();
    let disk = place.dsimg(&["sbom", "disk.raw"]);
    assert_eq!(disk.code, Some(2));
    assert!(disk.err.contains("hint: give the image's folder, its `manifest.json` or its lock"), "{disk:?}");
}

/// The official schema and reader, see `tests/sbom`.
#[test]
#[ignore = "makes a Python environment with packages from PyPI"]
fn cyclonedx_takes_what_the_command_writes() {
    let place = Place::new();
    written(&place);
    for (image, file) in [("team.lock", "a.json"), ("images/plain", "b.json"), ("images/locked", "c.json")] {
        assert_eq!(place.dsimg(&["sbom", image, "-o", file]).code, Some(0));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sbom/check.sh");
        let output = Command::new(script).arg(place.path(file)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains(": 6 components"), "{said}");
    }
}
