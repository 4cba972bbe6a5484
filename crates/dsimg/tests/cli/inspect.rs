use std::process::Stdio;

use crate::place::Place;

/// As small as a manifest can be, with one package.
const MANIFEST: &str = r#"{
  "format": 1,
  "image": {"name": "ds", "version": "1", "summary": "For \u001b[31mtests"},
  "plan": "1111111111111111111111111111111111111111111111111111111111111111",
  "base": {"kind": "image", "source": "disk.qcow2",
    "sha256": "2222222222222222222222222222222222222222222222222222222222222222"},
  "system": {"os": "Debian GNU/Linux 13 (trixie)", "os_id": "debian", "os_version": "13.2",
    "kernel": "6.12.57+deb13-cloud-amd64", "architecture": "amd64"},
  "stages": [],
  "packages": [{"ecosystem": "deb", "name": "bash", "version": "5.2.37-2", "requested": false, "stage": "base"}],
  "build": {"id": "1", "started": "2026-11-21T10:15:00Z", "dsimg": "0.1.0", "builder": "kvm",
    "host": {"hypervisor": "qemu 10.0.2", "accelerator": "tcg", "cpus": 2, "os": "Debian GNU/Linux 13 (trixie)"},
    "artifacts": [], "durations": {"total_ms": 1000, "phases": [], "stages": []}}
}"#;

#[test]
fn an_images_folder_or_its_manifest_is_read() {
    let place = Place::new();
    place.write("images/ds-1/manifest.json", MANIFEST);
    let folder = place.dsimg(&["inspect", "images/ds-1"]);
    assert_eq!(folder.code, Some(0), "{folder:?}");
    assert!(folder.out.starts_with("ds 1\nFor tests\n"), "control sequences are left out: {}", folder.out);
    assert_eq!(folder.out, place.dsimg(&["inspect", "images/ds-1/manifest.json"]).out);
    let packages = place.dsimg(&["inspect", "images/ds-1", "--packages"]);
    assert_eq!(packages.out, "deb   bash  5.2.37-2  pulled in  base\n");
    let json = place.dsimg(&["inspect", "images/ds-1", "--format", "json"]).out;
    let as_value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(as_value(&json), as_value(MANIFEST));
}

#[test]
fn what_is_no_image_is_told_in_words() {
    let place = Place::new();
    place.write("images/ds-1/manifest.json", MANIFEST);
    place.write("newer.json", &MANIFEST.replace("\"format\": 1", "\"format\": 2"));
    place.write("text.json", "hello");
    let wrong = |path: &str| {
        let ran = place.dsimg(&["inspect", path]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
        ran.err
    };
    assert!(wrong("none").contains("there is no `none`\nhint: the image here is `images/ds-1`"));
    assert!(wrong("images").contains("did you mean `images/ds-1`?"));
    assert!(wrong("newer.json").contains("its format is 2, and this version of dsimg reads format 1"));
    assert!(wrong("text.json").contains("it is not JSON"));
}

/// `dsimg inspect … | head -1`
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::new();
    let package = r#"{"ecosystem": "deb", "name": "bash", "version": "5", "requested": false, "stage": "base"}"#;
    let many = [package; 50_000].join(",\n");
    place.write("manifest.json", &MANIFEST.replace("\"packages\": [", &format!("\"packages\": [{many},")));
    let mut command = place.command(&["inspect", "manifest.json", "--packages"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ran = place.ran(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}
