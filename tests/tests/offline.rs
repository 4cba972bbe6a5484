//! A bundle, and a build of it where there is no network and nothing is in the cache.

use std::fs;
use std::path::Path;

use dsimg_tests::{
    SmallTemplate, assert_same_content, differences, dsimg, read_manifest, read_tree, run, without_network,
};
use serde_json::Value;

const HEAD: &str = "seal = true\n[variables]\ngreeting = \"hello\"\npassword = { sensitive = true, required = false }\n\
    [network]\nca = \"host\"\n";
const STAGES: &str = "[[provision]]\nname = \"tools\"\ntype = \"apt\"\npackages = [\"hello\"]\n\
    [[provision]]\nname = \"python\"\ntype = \"pip\"\nvenv = \"/opt/venv\"\npackages = [\"six\"]\n\
    [[provision]]\nname = \"files\"\ntype = \"file\"\nsource = \"files\"\ndestination = \"/opt/files\"\n\
    [[provision]]\nname = \"own\"\ntype = \"shell\"\ninline = [\"echo {{ greeting }} >/opt/greeting\"]\n";

#[test]
fn a_bundle_gives_the_same_image_without_network_and_cache() {
    let template = SmallTemplate::new("offline");
    template.write_text(HEAD, STAGES);
    fs::create_dir_all(template.folder().join("files/empty")).unwrap();
    fs::write(template.folder().join("files/note"), "a note").unwrap();
    let path = template.path().to_string_lossy().into_owned();
    let bundle = template.folder().join("offline.bundle").to_string_lossy().into_owned();
    let variables = ["--var", "greeting=good day", "--var", "password=hunter22"];

    run(dsimg(&["lock", "--progress", "plain", &path]).args(variables)).expect_success();
    template.build(&[&variables[..], &["--no-cache"]].concat()).expect_success();
    let online = read_manifest(&template.image_folder("offline-1"));
    let packed = run(dsimg(&["bundle", &path, "-o", &bundle]).args(variables)).expect_success();
    assert!(packed.stdout.contains("dsimg build --offline"), "{packed:?}");

    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    let build = ["build", "--progress", "plain", "--offline", &bundle];
    without_network(&build, place.path()).expect_failure(2, &["sensitive variable `password`", "DSIMG_VAR_password"]);
    let build = [&build[..], &["--var", "password=hunter22"]].concat();
    without_network(&build, place.path()).expect_success();
    let offline = read_manifest(&place.path().join("images/offline-1"));
    assert_same_content(&offline, &online);
    let level = &offline["build"]["reproducibility"];
    let tree = |manifest: &Value| manifest["build"]["reproducibility"]["tree"].clone();
    assert!(tree(&offline).is_string(), "{level}");
    if tree(&offline) != tree(&online) {
        let read = |folder: &Path| read_tree(&folder.join("offline-1.qcow2"));
        let (online, offline) =
            (read(&template.image_folder("offline-1")), read(&place.path().join("images/offline-1")));
        panic!("{level}: {:#?}", differences(&online, &offline));
    }
    // The lock remembers the first image that was made from it.
    assert_eq!(level["level"], "R4", "{level}");
    let disk = |manifest: &Value| manifest["build"]["artifacts"][0]["sha256"].clone();
    assert_eq!(disk(&offline), disk(&online), "sealed, it is the same file");
    // What the bundle had is used up or kept for the next build.
    assert_eq!(fs::read_dir(place.path().join("cache/bundles")).unwrap().count(), 0);
}
