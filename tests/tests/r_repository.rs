//! R packages from a CRAN-like repository on loopback, made from Debian's r-cran source packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use dsimg_tests::{Outcome, Served, cache_folder, dsimg, repository, run};
use serde_json::Value;

fn start_mirror() -> Served {
    let folder = cache_folder().join("cran");
    let maker = repository().join("tests/cran/make-mirror.sh");
    if !folder.join("src/contrib/PACKAGES").exists() {
        let status = Command::new(maker).arg(&folder).status().expect("the maker can be started");
        assert!(status.success(), "the mirror could not be made: {status}");
    }
    Served::start(&folder)
}

fn build(mirror: &Served, folder: &Path, stages: &str) -> Outcome {
    let template = folder.join("template.toml");
    let text = format!(
        "[image]\nname = \"r-source\"\nversion = \"1\"\n[network]\ncran = \"{}\"\n\
         [[builder]]\nname = \"small\"\ntype = \"qemu\"\nmemory = \"2GiB\"\ndisk = \"8GiB\"\n{stages}",
        mirror.url()
    );
    std::fs::write(&template, text).expect("the folder is ours");
    let output = folder.join("images");
    run(&mut dsimg(&[
        "build",
        "--progress",
        "plain",
        "--force",
        "--output",
        &output.to_string_lossy(),
        &template.to_string_lossy(),
    ]))
}

/// One build that goes well and one that can't: the second stage's package does not compile.
#[test]
fn packages_are_compiled_frozen_and_a_broken_one_fails_the_stage() {
    let mirror = start_mirror();
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let stage = |name: &str, packages: &str| {
        format!("[[provision]]\nname = \"{name}\"\ntype = \"r\"\nbinaries = \"never\"\npackages = [{packages}]\n")
    };
    let good = stage("sources", "\"R6\", \"mime\", \"base64enc\"");
    build(&mirror, folder.path(), &good).expect_success();
    let manifest = folder.path().join("images/r-source-1/manifest.json");
    let frozen = r_packages(&manifest);
    for name in ["R6", "mime", "base64enc"] {
        let package = frozen.iter().find(|package| package["name"] == name);
        let package = package.unwrap_or_else(|| panic!("no {name} in {frozen:?}"));
        assert_eq!(package["stage"], "sources");
        assert_eq!(package["requested"], true);
        assert!(!package["version"].as_str().unwrap_or_default().is_empty());
    }

    let bad = stage("broken", "\"R6\", \"brokenpkg\"");
    build(&mirror, folder.path(), &bad).expect_failure(1, &["stage `broken` failed", "brokenpkg"]);
}

fn r_packages(manifest: &PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(manifest).expect("a build writes a manifest");
    let manifest: Value = serde_json::from_str(&text).expect("a manifest is JSON");
    let packages = manifest["packages"].as_array().expect("packages are a list").clone();
    packages.into_iter().filter(|package| package["ecosystem"] == "cran").collect()
}
