//! Locks: the same packages again, what is refused, and what no lock can bind.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use dsimg_tests::{SmallTemplate, read_manifest, run};
use serde_json::Value;

const NETWORK: &str = "[network]\nca = \"host\"\n";

fn stages(packages: &str) -> String {
    format!(
        "[[provision]]\nname = \"tools\"\ntype = \"apt\"\npackages = [{packages}]\n\
         [[provision]]\nname = \"python\"\ntype = \"pip\"\nvenv = \"/opt/venv\"\npackages = [\"idna\"]\n"
    )
}

fn lock_path(template: &SmallTemplate) -> PathBuf {
    template.path().with_extension("lock")
}

fn level(template: &SmallTemplate, image: &str) -> Value {
    read_manifest(&template.image_folder(image))["build"]["reproducibility"].clone()
}

#[test]
fn a_locked_build_installs_what_the_lock_names_and_nothing_else() {
    let template = SmallTemplate::new("locked");
    template.write_text(NETWORK, &stages("\"jq\""));
    template.build(&["--locked"]).expect_failure(2, &["there is no lock", "dsimg lock"]);
    template.build(&[]).expect_success();
    let open = template.manifest("locked-1");
    assert_eq!(level(&template, "locked-1")["level"], "R0");

    template.lock(&[]).expect_success();
    let text = fs::read_to_string(lock_path(&template)).unwrap();
    for start in ["  { name = \"jq\", version = ", "  { name = \"idna\", version = ", "  { name = \"uv\", version = "] {
        let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}"));
        assert!(line.contains("sha256 = ") && line.contains("url = \"http"), "{line}");
    }

    // What was built openly is what a locked build looks for.
    let outcome = template.build(&["--locked"]).expect_success();
    assert!(outcome.stderr.contains("come from the checkpoint after `python`"), "{outcome:?}");
    template.build(&["--locked", "--no-cache"]).expect_success();
    let locked = template.manifest("locked-1");
    assert_eq!(locked["packages"], open["packages"]);
    let level = level(&template, "locked-1");
    assert_eq!(level["level"], "R2", "{level}");

    template.write_text(NETWORK, &stages("\"jq\", \"hello\""));
    template.build(&["--locked"]).expect_failure(2, &["no longer fits", "stage `tools`", "+ hello"]);
    template.lock(&["--upgrade", "jqq"]).expect_failure(2, &["no package `jqq`", "did you mean `jq`?"]);

    let changed = text.replacen("idna", "idnb", 1);
    fs::write(lock_path(&template), changed).unwrap();
    template.build(&[]).expect_failure(2, &["template.lock", "its content is not what was written"]);
}

#[test]
fn a_sealed_image_from_a_lock_is_the_same_file_again() {
    let template = SmallTemplate::new("sealed");
    let more = "[[provision]]\nname = \"settings\"\ntype = \"shell\"\n\
        inline = [\"useradd --create-home ana; /opt/venv/bin/python -m idna --help >/dev/null || true\"]\n";
    template.write_text(&format!("seal = true\n{NETWORK}"), &(stages("\"jq\"") + more));
    template.lock(&[]).expect_success();
    template.build(&[]).expect_success();
    let (first, first_sum) = (template.manifest("sealed-1"), sum_of_disk(&template));
    assert_eq!(level(&template, "sealed-1")["level"], "R2");

    template.build(&["--locked", "--no-cache"]).expect_success();
    assert_eq!(sum_of_disk(&template), first_sum);
    let level = level(&template, "sealed-1");
    assert_eq!(level["level"], "R4", "{level}");
    assert_eq!(template.manifest("sealed-1")["packages"], first["packages"]);
}

fn sum_of_disk(template: &SmallTemplate) -> String {
    let folder = template.image_folder("sealed-1");
    run(Command::new("sha256sum").arg("sealed-1.qcow2").current_dir(folder)).expect_success().stdout
}

#[test]
fn what_a_stage_fetches_by_itself_is_told() {
    let template = SmallTemplate::new("by-itself");
    let stage = "[[provision]]\nname = \"own\"\ntype = \"shell\"\n\
        inline = [\"curl --silent --head --max-time 60 http://deb.debian.org/debian/ >/dev/null\"]\n";
    template.write_text(NETWORK, stage);
    let outcome = template.build(&[]).expect_success();
    assert!(outcome.stdout.contains("stage `own` used the network: deb.debian.org:80"), "{outcome:?}");
    template.lock(&[]).expect_success();
    let told = template.build(&["--locked"]).expect_success();
    assert!(told.stdout.contains("not reproducible: stage `own` used the network"), "{told:?}");
    assert_eq!(level(&template, "by-itself-1")["level"], "R1");
}

#[test]
fn a_machine_that_is_let_to_packages_only_reaches_nothing_else() {
    let template = SmallTemplate::new("alone");
    let stages = "[[provision]]\nname = \"tools\"\ntype = \"apt\"\npackages = [\"jq\"]\n\
        [[provision]]\nname = \"outside\"\ntype = \"shell\"\n\
        inline = [\"! curl --silent --max-time 10 http://deb.debian.org/debian/ && ! curl --silent --max-time 10 http://10.0.2.2:22\"]\n";
    template.write_text(&format!("{NETWORK}access = \"packages\"\n"), stages);
    template.build(&[]).expect_success();
    let manifest = template.manifest("alone-1");
    let packages = manifest["packages"].as_array().unwrap();
    assert!(packages.iter().any(|package| package["name"] == "jq" && package["stage"] == "tools"));
}
