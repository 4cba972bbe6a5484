//! An upstream that moves on: newer versions appear, and those that are locked vanish from it. What a lock says is in the image.

use std::path::Path;
use std::process::Command;

use dsimg_tests::{Booted, Firmware, Served, SmallTemplate, assert_locked_packages, repository};
use serde_json::Value;

fn publish(upstream: &Path, version: &str) {
    let publisher = repository().join("tests/upstream/publish.sh");
    let status = Command::new(publisher).arg(upstream).arg(version).status().expect("the publisher can be started");
    assert!(status.success(), "version {version} could not be published: {status}");
}

fn write(template: &SmallTemplate, upstream: &Served) {
    let url = upstream.url();
    let head = format!("seal = true\n[network]\nca = \"host\"\ncran = \"{url}\"\n");
    let stages = format!(
        "[[provision]]\nname = \"tools\"\ntype = \"apt\"\npackages = [\"moving\"]\n\
         repositories = [{{ name = \"moving\", uri = \"{url}/apt\", suite = \"./\", key = \"upstream/key.asc\" }}]\n\
         [[provision]]\nname = \"python\"\ntype = \"pip\"\nvenv = \"/opt/ds\"\npackages = [\"moving\"]\n\
         extra_indexes = [\"{url}/simple\"]\n\
         [[provision]]\nname = \"statistics\"\ntype = \"r\"\nbinaries = \"never\"\npackages = [\"moving\"]\n"
    );
    template.write_text(&head, &stages);
}

/// Of the package `moving`: each ecosystem with its version.
fn versions(manifest: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages = manifest["packages"].as_array().expect("packages are a list").iter();
    let mut found: Vec<_> = packages
        .filter(|package| package["name"] == "moving")
        .map(|package| (text(&package["ecosystem"]), text(&package["version"])))
        .collect();
    found.sort();
    found
}

fn all_of(version: &str) -> Vec<(String, String)> {
    ["cran", "deb", "pypi"].map(|ecosystem| (ecosystem.to_owned(), version.to_owned())).to_vec()
}

#[test]
fn a_lock_gives_what_upstream_has_no_more_and_moves_on_when_told() {
    let template = SmallTemplate::new("moving");
    let upstream = template.folder().join("upstream");
    std::fs::create_dir(&upstream).unwrap();
    publish(&upstream, "1.0");
    let served = Served::start(&upstream);
    write(&template, &served);
    template.lock(&[]).expect_success();

    publish(&upstream, "2.0");
    template.build(&["--locked", "--no-cache"]).expect_success();
    let locked = template.manifest("moving-1");
    assert_eq!(versions(&locked), all_of("1.0"));

    let lock_path = template.path().with_extension("lock");
    let old = std::fs::read(&lock_path).unwrap();
    template.lock(&["--upgrade", "moving"]).expect_success();
    let new = std::fs::read(&lock_path).unwrap();
    for (content, version) in [(old, "1.0"), (new, "2.0")] {
        std::fs::write(&lock_path, content).unwrap();
        let outcome = template.build(&["--locked"]).expect_success();
        let is_found = outcome.stdout.contains("nothing changed") || outcome.stderr.contains("after `statistics`");
        assert!(is_found, "the checkpoint of {version}: {outcome:?}");
        assert_eq!(versions(&template.manifest("moving-1")), all_of(version));
    }
    let moved = template.manifest("moving-1");
    assert_eq!(versions(&moved), all_of("2.0"));
    let others = |manifest: &Value| {
        let packages = manifest["packages"].as_array().unwrap().clone();
        packages.into_iter().filter(|package| package["name"] != "moving").collect::<Vec<_>>()
    };
    assert_eq!(others(&moved), others(&locked), "only what was named has moved");

    let image = template.image_folder("moving-1").join("moving-1.qcow2");
    let machine = Booted::start(&image, Firmware::Bios, "12G");
    assert_locked_packages(machine.login(), &lock_path, "small");
}
