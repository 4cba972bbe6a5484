use serde_json::Value;

use crate::place::{Place, template};

#[test]
fn init_writes_a_template_that_is_sound() {
    let place = Place::new();
    let names = place.dsimg(&["init", "--list"]).out;
    let names: Vec<_> = names.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert!(names.contains(&"quickstart") && names.contains(&"team"), "{names:?}");
    for name in names {
        let file = format!("{name}.toml");
        let ran = place.dsimg(&["init", &file, "--template", name]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let ran = place.dsimg(&["validate", &file]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), format!("{file}: no problems\n").as_str()), "{}", ran.out);
    }
}

#[test]
fn init_takes_a_folder_and_replaces_nothing_unasked() {
    let place = Place::new();
    std::fs::create_dir(place.path("there")).unwrap();
    let ran = place.dsimg(&["init", "there"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.out.starts_with("wrote there/template.toml\n"), "{ran:?}");
    place.write("there/template.toml", "mine");
    let ran = place.dsimg(&["init", "there"]);
    assert_eq!(ran.code, Some(2));
    assert_eq!(
        ran.err,
        "error: `there/template.toml` is there already\nhint: name another file, or replace it with `--force`\n"
    );
    assert_eq!(place.read("there/template.toml"), "mine");
    assert_eq!(place.dsimg(&["init", "there", "--force"]).code, Some(0));
    assert!(place.read("there/template.toml").starts_with('#'));
    let ran = place.dsimg(&["init", "no/such/folder.toml"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("there is no such folder"), "{ran:?}");
}

#[test]
fn init_knows_the_nearest_name() {
    let ran = Place::new().dsimg(&["init", "--template", "quikstart"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("hint: did you mean `quickstart`?"), "{ran:?}");
}

#[test]
fn a_bad_template_is_reported_with_its_places() {
    let place = Place::new();
    place.write("bad.toml", &template(&place).replace("inline", "inlin").replace("256MiB", "256"));
    for command in ["validate", "plan", "build"] {
        let ran = place.dsimg(&[command, "bad.toml"]);
        assert_eq!(ran.code, Some(2), "{command}");
        let said = format!("{}{}", ran.out, ran.err);
        for expected in ["bad.toml:15:10", "bad.toml:21:1", "unknown key `inlin`", "did you mean `inline`?", "3 errors"]
        {
            assert!(said.contains(expected), "{command}: {expected}: {said}");
        }
    }
    place.assert_nothing_left();
}

#[test]
fn a_report_for_programs_has_lines_and_columns() {
    let place = Place::new();
    place.write("bad.toml", &template(&place).replace("inline", "inlin"));
    place.write("good.toml", &template(&place));
    let ran = place.dsimg(&["validate", "good.toml", "bad.toml", "--format", "json"]);
    assert_eq!(ran.code, Some(2));
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    insta::assert_json_snapshot!(report);
}

#[test]
fn a_template_that_is_not_there_is_told_with_the_next_step() {
    let ran = Place::new().dsimg(&["plan", "none.toml"]);
    assert_eq!(ran.code, Some(2));
    assert_eq!(
        ran.err,
        "error: cannot read the template `none.toml`\n  caused by: there is no such file\n\
         hint: `dsimg init` writes a template to start from\n"
    );
}

#[test]
fn warnings_are_shown_and_stop_nothing() {
    let place = Place::new();
    let script = "curl -sSf https://example.org/install.sh | sh";
    place.write("t.toml", &template(&place).replace("echo hello", script));
    let ran = place.dsimg(&["validate", "t.toml"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(format!("{}{}", ran.out, ran.err).contains("1 warning"), "{ran:?}");
    assert_eq!(place.dsimg(&["plan", "t.toml"]).code, Some(0));
}

#[test]
fn a_plan_says_what_will_be_done() {
    let place = Place::new();
    place.write("t.toml", &template(&place));
    let ran = place.dsimg(&["plan", "t.toml"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let shown = without_digests(&ran.out);
    // How many scripts a provisioner is made of is its own business.
    let is_count = |line: &&str| !line.ends_with(" files of the provisioner");
    insta::assert_snapshot!(shown.lines().filter(is_count).collect::<Vec<_>>().join("\n"));
}

/// Sixty-four or twelve hex digits in a row say nothing to a reader of snapshots.
fn without_digests(text: &str) -> String {
    let is_digest = |word: &str| matches!(word.len(), 12 | 64) && word.chars().all(|c| c.is_ascii_hexdigit());
    let replace = |word: &str| if is_digest(word) { "[DIGEST]".to_owned() } else { word.to_owned() };
    text.lines().map(|line| line.split(' ').map(replace).collect::<Vec<_>>().join(" ") + "\n").collect()
}

#[test]
fn a_plan_for_programs_is_the_same_every_time_and_knows_no_secret() {
    let place = Place::new();
    place.write("t.toml", &template(&place));
    let plan = || place.dsimg(&["plan", "t.toml", "--format", "json", "--var", "token=hunter22hunter22"]);
    let (first, second) = (plan(), plan());
    assert_eq!(first.code, Some(0), "{first:?}");
    assert_eq!(first.out, second.out);
    assert!(!first.out.contains("hunter22"), "{first:?}");
    let plans: Value = serde_json::from_str(&first.out).unwrap();
    let labels: Vec<_> =
        plans["plans"][0]["plan"]["stages"].as_array().unwrap().iter().map(|stage| &stage["label"]).collect();
    assert_eq!(labels, ["first", "hygiene"]);
    // Another value is another machine.
    let other = place.dsimg(&["plan", "t.toml", "--format", "json", "--var", "token=another-secret"]);
    assert_ne!(first.out, other.out);
}

#[test]
fn variables_come_from_flags_files_and_the_environment_in_this_order() {
    let place = Place::new();
    let text = template(&place).replace("[variables]\n", "[variables]\nword = \"default\"\n");
    place.write("t.toml", &text.replace("echo hello", "echo is-{{ word }}"));
    place.write("values.toml", "word = \"from-file\"\n");
    let plan = |arguments: &[&str], environment: Option<&str>| {
        let mut command = place.command(&["plan", "t.toml", "--format", "json"]);
        command.args(arguments).envs(environment.map(|value| ("DSIMG_VAR_word", value)));
        place.ran(command.output().unwrap()).out
    };
    assert!(plan(&[], None).contains("is-default"));
    assert!(plan(&[], Some("from-environment")).contains("is-from-environment"));
    assert!(plan(&["--var-file", "values.toml"], Some("from-environment")).contains("is-from-file"));
    let all = plan(&["--var", "word=from-flag", "--var-file", "values.toml"], Some("from-environment"));
    assert!(all.contains("is-from-flag"));
}

/// Of `large` and `r` only the one or the other.
fn with_matrix(text: &str) -> String {
    let variables = "[variables]\nr = true\nset = \"small\"\n";
    let matrix =
        "[matrix]\nset = [\"small\", \"large\"]\nr = [true, false]\nexclude = [{ set = \"large\", r = true }]\n";
    let text = text.replace("[variables]\n", variables).replace("[base]\n", &format!("{matrix}\n[base]\n"));
    text.replace("echo hello", "echo {{ set }}{% if r %} with R{% endif %}")
}

#[test]
fn a_matrix_gives_a_plan_for_each_combination() {
    let place = Place::new();
    place.write("t.toml", &with_matrix(&template(&place)));
    let heads = |arguments: &[&str]| {
        let ran = place.dsimg(&[&["plan", "t.toml"], arguments].concat());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
        let heads = ran.out.lines().filter(|line| line.starts_with("ds-") || line.starts_with("  matrix"));
        heads.map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    let all = [
        "ds-small-r 1 on `kvm`",
        "matrix    set=small,r=true",
        "ds-small-no-r 1 on `kvm`",
        "matrix    set=small,r=false",
        "ds-large-no-r 1 on `kvm`",
        "matrix    set=large,r=false",
    ];
    assert_eq!(heads(&[]), all);
    assert_eq!(heads(&["--only", "kvm"]), all);
    assert_eq!(heads(&["--var", "set=large"]), all[4..]);
    let ran = place.dsimg(&["plan", "t.toml", "--var", "set=huge"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("its values: `small`, `large`"), "{ran:?}");
    let plans: Value = serde_json::from_str(&place.dsimg(&["plan", "t.toml", "--format", "json"]).out).unwrap();
    assert_eq!(plans["plans"].as_array().unwrap().len(), 3);
    assert_eq!(plans["plans"][2]["plan"]["cell"]["name"], "set=large,r=false");
    // What is wrong in all is said once.
    place.write("t.toml", &with_matrix(&template(&place)).replace("inline", "inlin"));
    let ran = place.dsimg(&["validate", "t.toml"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert_eq!(ran.err.matches("unknown key `inlin`").count(), 1, "{ran:?}");
}

#[test]
fn a_builder_that_is_not_there_is_refused() {
    let place = Place::new();
    place.write("t.toml", &template(&place));
    for command in ["plan", "build"] {
        let ran = place.dsimg(&[command, "t.toml", "--only", "kvn"]);
        assert_eq!(ran.code, Some(2));
        assert!(ran.err.contains("`--only kvn`") && ran.err.contains("kvm"), "{ran:?}");
    }
}

#[test]
fn a_builder_on_request_waits_for_its_name() {
    let place = Place::new();
    let text = template(&place);
    let second = "[[builder]]\nname = \"second\"\ntype = \"qemu\"\non_request = true\n\n[[builder]]";
    place.write("t.toml", &text.replacen("[[builder]]", second, 1));
    let ran = place.dsimg(&["plan", "t.toml"]);
    assert!(ran.out.contains(" on `kvm`") && !ran.out.contains(" on `second`"), "{ran:?}");
    assert!(ran.out.ends_with("on request, with `--only`: second\n"), "{ran:?}");
    let ran = place.dsimg(&["plan", "t.toml", "--only", "second"]);
    assert!(ran.out.contains(" on `second`") && !ran.out.contains(" on `kvm`"), "{ran:?}");
    // The one that is built unasked keeps the plain name, the other one has its own in any case.
    for (only, folder) in [("kvm", "images/ds-1"), ("second", "images/ds-1-second")] {
        place.write(&format!("{folder}/thesis.tex"), "mine");
        let ran = place.dsimg(&["build", "t.toml", "--only", only]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains(&format!("{folder}` is there already")), "{ran:?}");
    }
}

#[test]
fn where_all_builders_are_on_request_one_is_to_be_named() {
    let place = Place::new();
    place.write("t.toml", &template(&place).replace("[[builder]]", "[[builder]]\non_request = true"));
    assert_eq!(place.dsimg(&["validate", "t.toml"]).code, Some(0));
    for command in ["plan", "build", "shell"] {
        let ran = place.dsimg(&[command, "t.toml"]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains("`on_request`") && ran.err.contains("`--only`: kvm"), "{ran:?}");
    }
    assert_eq!(place.dsimg(&["plan", "t.toml", "--only", "kvm"]).code, Some(0));
}

#[test]
fn the_shipped_quickstart_says_what_it_does_on_aws() {
    let place = Place::new();
    place.write("t.toml", include_str!("../../../../templates/quickstart.toml"));
    let ran = place.dsimg(&["plan", "t.toml", "--only", "aws"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("base      the newest AMI debian-13-amd64-* of 136693071363\n"), "{ran:?}");
    let machine = "machine   t3.large in eu-west-1, a disk of 20GiB; becomes the AMI quickstart-1.0\n";
    assert!(ran.out.contains(machine), "{ran:?}");
}

#[test]
fn a_plan_says_where_the_image_goes() {
    let place = Place::new();
    let publish = "\n[[publish]]\ntype = \"aws-ami\"\nregions = [\"eu-west-1\", \"eu-central-1\"]\n";
    place.write("t.toml", &(template(&place) + publish));
    let ran = place.dsimg(&["plan", "t.toml"]);
    let said = "publish aws-ami: as the AMI ds-1 in eu-west-1, with a copy in eu-central-1\n";
    assert!(ran.out.contains(said), "{ran:?}");
}

#[test]
fn a_provisioner_beside_the_template_comes_first() {
    let place = Place::new();
    let own = "name = \"motd\"\nversion = 1\nsummary = \"A greeting\"\n[parameters.text]\ntype = \"string\"\n\
               summary = \"It\"\nrequired = true\n[[step]]\nrun = \"install.sh\"\n";
    place.write("provisioners/motd/provisioner.toml", own);
    place.write("provisioners/motd/install.sh", "echo \"$text\" >/etc/motd\n");
    place.write("t.toml", &(template(&place) + "\n[[provision]]\ntype = \"motd\"\ntext = \"hi\"\n"));
    let ran = place.dsimg(&["plan", "t.toml"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("stage 2 of 3: motd"), "{}", ran.out);
    let schema: Value = serde_json::from_str(&place.dsimg(&["schema", "t.toml"]).out).unwrap();
    assert!(schema["$defs"]["provision-motd"].is_object());

    place.write("provisioners/motd/provisioner.toml", &own.replace("summary = \"A", "sumary = \"A"));
    let ran = place.dsimg(&["plan", "t.toml"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("provisioners/motd/provisioner.toml:3:1"), "{ran:?}");
}

#[test]
fn the_schema_is_of_the_shipped_provisioners() {
    let ran = Place::new().dsimg(&["schema"]);
    assert_eq!(ran.code, Some(0));
    let schema: Value = serde_json::from_str(&ran.out).unwrap();
    for name in ["apt", "file", "pip", "reboot", "shell"] {
        assert!(schema["$defs"][format!("provision-{name}")].is_object(), "{name}");
    }
}
