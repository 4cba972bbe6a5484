//! What is in a stage's key is in its readable inputs as well, and what is not in it is not in them.

// The allowance for tests covers only functions marked `#[test]`, not those they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use dsimg_plan::{InputError, Plan, gather_inputs, make_plans};
use dsimg_template::report::{Style, report};
use dsimg_template::{
    Catalog, GivenVariable, PathKind, Surroundings, VariableSource, has_errors, parse_template, read_provisioners,
};

const TEMPLATE: &str = r#"
[image]
name = "ds"
version = "1"

[variables]
token = { sensitive = true, required = false }
other = { sensitive = true, required = false }
word = "small"

[base]
bootstrap = { suite = "trixie", packages = ["less"] }

[network]
proxy = "http://proxy.corp.example:3128"

[[builder]]
name = "kvm"
type = "qemu"
disk = "20GiB"

[[provision]]
type = "own"
text = "a"
texts = ["a", "b"]
number = 1
numbers = [1, 2]
flag = true
time = "10m"
map = { A = "a" }
path = "folder"
to = "/srv"
rendered = "motd"
rendered_to = "/etc/"
is_rendered = true
fetched = "/var/log/x"
fetched_to = "x.log"
scripts = ["a.sh", "b.sh"]
tables = [{ name = "a", keep = true }]

[[provision]]
name = "shell"
type = "shell"
scripts = ["a.sh", "b.sh"]
env = { TOKEN = "{{ token }}" }
"#;

const DEFINITION: &str = r#"
name = "own"
version = 1
summary = "All kinds of parameters"
[parameters]
text = { type = "string", summary = "x" }
texts = { type = "strings", summary = "x" }
number = { type = "integer", summary = "x", default = 3 }
numbers = { type = "integers", summary = "x" }
flag = { type = "boolean", summary = "x" }
time = { type = "duration", summary = "x" }
map = { type = "map", summary = "x" }
path = { type = "path", summary = "x" }
to = { type = "string", summary = "x" }
rendered = { type = "path", summary = "x" }
rendered_to = { type = "string", summary = "x" }
is_rendered = { type = "boolean", summary = "x" }
fetched = { type = "string", summary = "x" }
fetched_to = { type = "string", summary = "x" }
scripts = { type = "paths", summary = "x" }
reboots = { type = "boolean", summary = "x" }
version = { type = "string", summary = "A name of its own in the inputs" }
[parameters.tables]
type = "tables"
summary = "x"
[parameters.tables.fields]
name = { type = "string", summary = "x" }
keep = { type = "boolean", summary = "x", default = false }
[[step]]
upload = "path"
to = "to"
[[step]]
upload = "rendered"
to = "rendered_to"
render = "is_rendered"
[[step]]
upload = "scripts"
[[step]]
run = "install.sh"
reboots = "reboots"
[[step]]
fetch = "fetched"
to = "fetched_to"
"#;

/// What a plan is made from.
struct Setup {
    template: String,
    /// Below the template's folder, by path.
    files: BTreeMap<String, String>,
    executable: Vec<String>,
    links: Vec<(String, String)>,
    secrets: BTreeMap<String, String>,
}

impl Setup {
    fn new() -> Self {
        let files = [
            ("folder/one", "1"),
            ("motd", "the {{ word }} one"),
            ("a.sh", "echo a"),
            ("b.sh", "echo b"),
            ("provisioners/own/provisioner.toml", DEFINITION),
            ("provisioners/own/install.sh", "echo install"),
        ];
        Self {
            template: TEMPLATE.to_owned(),
            files: files.map(|(path, text)| (path.to_owned(), text.to_owned())).into(),
            executable: Vec::new(),
            links: vec![("folder/link".to_owned(), "one".to_owned())],
            secrets: BTreeMap::from([("token".to_owned(), "hunter22".to_owned())]),
        }
    }

    /// Puts `new` in the place of a text of the template that is there once.
    fn template(mut self, old: &str, new: &str) -> Self {
        assert_eq!(self.template.matches(old).count(), 1, "{old}");
        self.template = self.template.replace(old, new);
        self
    }

    fn file(mut self, path: &str, old: &str, new: &str) -> Self {
        let text = self.files.entry(path.to_owned()).or_default();
        assert!(text.contains(old), "{path}: {old}");
        *text = text.replacen(old, new, 1);
        self
    }

    fn plan(&self) -> Plan {
        self.plans(&[]).remove(0)
    }

    fn plans(&self, only: &[String]) -> Vec<Plan> {
        self.try_plans(only).unwrap()
    }

    fn try_plans(&self, only: &[String]) -> Result<Vec<Plan>, InputError> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in &self.files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        for path in &self.executable {
            fs::set_permissions(folder.path().join(path), fs::Permissions::from_mode(0o755)).unwrap();
        }
        for (path, target) in &self.links {
            symlink(target, folder.path().join(path)).unwrap();
        }
        let given = |value: &String| GivenVariable { value: value.clone(), source: VariableSource::Flag };
        let surroundings = Surroundings {
            environment: BTreeMap::new(),
            variables: self.secrets.iter().map(|(name, value)| (name.clone(), given(value))).collect(),
            build: BTreeMap::new(),
            probe: &PathKind::on_disk,
        };
        let (catalog, path) = (catalog(folder.path()), folder.path().join("t.toml"));
        let (templates, problems) = parse_template(&self.template, &path, &catalog, &surroundings);
        assert!(!has_errors(&problems), "{}", report(&problems, &self.template, &path, Style::Plain));
        let inputs = gather_inputs(&templates, &catalog, b"key")?;
        Ok(make_plans(&templates, &catalog, &inputs, only).unwrap())
    }
}

/// The shipped provisioners and those of a folder.
fn catalog(folder: &Path) -> Catalog {
    let mut catalog = Catalog::default();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../provisioners");
    for folder in [shipped, folder.join("provisioners")] {
        let (provisioners, rejected) = read_provisioners(&folder);
        assert!(rejected.is_empty(), "{rejected:?}");
        provisioners.into_iter().for_each(|provisioner| catalog.add(provisioner));
    }
    catalog
}

#[test]
fn a_stage_that_brings_a_file_out_of_the_machine_runs_each_time() {
    let cached = |setup: Setup| setup.plan().stages.iter().map(|stage| stage.cache).collect::<Vec<_>>();
    let (fetching, other) = (cached(Setup::new()), cached(Setup::new().template("fetched = \"/var/log/x\"", "")));
    assert_eq!((fetching.iter().filter(|cache| !**cache).count(), other.contains(&false)), (1, false));
}

#[test]
fn whatever_changes_a_key_changes_its_inputs() {
    let own = "provisioners/own/provisioner.toml";
    let script = "provisioners/own/install.sh";
    let new = Setup::new;
    let image =
        format!("image = {{ url = \"https://example.org/a.qcow2\", checksum = \"sha256:{}\" }}", "a".repeat(64));
    let bootstrap = "bootstrap = { suite = \"trixie\", packages = [\"less\"] }";
    let network = "[network]\n";
    let mut changes = vec![
        ("the suite", new().template("suite = \"trixie\"", "suite = \"bookworm\"")),
        ("the mirror", new().template("packages = [\"less\"]", "mirror = \"https://m.example/d\"")),
        ("the base's packages", new().template("[\"less\"]", "[\"less\", \"jq\"]")),
        ("the components", new().template("packages = [\"less\"]", "components = [\"main\"]")),
        ("another kind of base", new().template(bootstrap, &image)),
        ("the disk", new().template("20GiB", "30GiB")),
        ("the disk, by little", new().template("20GiB", "21474836992B")),
        ("the firmware", new().template("disk = ", "firmware = \"uefi\"\ndisk = ")),
        ("a network that stays", new().template(network, "[network]\nkeep = true\n")),
        ("the provisioner's version", new().file(own, "version = 1", "version = 2")),
        ("a script", new().file(script, "install", "instal")),
        ("a script more", new().file("provisioners/own/freeze.sh", "", "echo")),
        ("a parameter that is not set", new().file(own, "[parameters]", "[parameters]\nzero = { type = \"string\" }")),
        ("a parameter's kind", new().file(own, "version = { type = \"string\"", "version = { type = \"strings\"")),
        ("a step more", new().file(own, "[[step]]", "[[step]]\nreboot = true\n[[step]]")),
        (
            "the order of steps",
            new().file(own, "[[step]]\nrun = \"install.sh\"\nreboots = \"reboots\"\n", "").file(
                own,
                "[[step]]",
                "[[step]]\nrun = \"install.sh\"\nreboots = \"reboots\"\n[[step]]",
            ),
        ),
        ("a text", new().template("text = \"a\"", "text = \"b\"")),
        ("no text", new().template("text = \"a\"", "")),
        ("the order of texts", new().template("texts = [\"a\", \"b\"]", "texts = [\"b\", \"a\"]")),
        ("texts that look alike", new().template("texts = [\"a\", \"b\"]", "texts = [\"a, b\"]")),
        ("an integer", new().template("number = 1", "number = 2")),
        ("a default instead", new().template("number = 1", "")),
        ("integers", new().template("[1, 2]", "[1, 3]")),
        ("a boolean", new().template("flag = true", "flag = false")),
        ("no boolean", new().template("flag = true", "")),
        ("a duration", new().template("time = \"10m\"", "time = \"10m1s\"")),
        ("a value of a map", new().template("map = { A = \"a\" }", "map = { A = \"b\" }")),
        ("a key of a map", new().template("map = { A = \"a\" }", "map = { B = \"a\" }")),
        ("a field of a table", new().template("keep = true", "keep = false")),
        ("a table more", new().template("tables = [", "tables = [{ name = \"b\" }, ")),
        ("a parameter with the name of an input", new().template("text = \"a\"", "text = \"a\"\nversion = \"2\"")),
        ("where a folder goes", new().template("to = \"/srv\"", "to = \"/opt\"")),
        ("where a file goes", new().template("\"/etc/\"", "\"/usr/\"")),
        ("a file's content", new().file("folder/one", "1", "2")),
        ("a file more", new().file("folder/two", "", "2")),
        ("a folder more", new().file("folder/a/two", "", "2")),
        ("a rendered file", new().file("motd", "one", "two")),
        ("a rendered file's variable", new().template("word = \"small\"", "word = \"large\"")),
        ("a file that is not rendered", new().template("is_rendered = true", "")),
        (
            "the order of uploads",
            new().template("scripts = [\"a.sh\", \"b.sh\"]\ntables", "scripts = [\"b.sh\", \"a.sh\"]\ntables"),
        ),
        (
            "one file twice",
            new().template("scripts = [\"a.sh\", \"b.sh\"]\ntables", "scripts = [\"a.sh\", \"a.sh\"]\ntables"),
        ),
        (
            "the order of scripts",
            new().template("scripts = [\"a.sh\", \"b.sh\"]\nenv", "scripts = [\"b.sh\", \"a.sh\"]\nenv"),
        ),
        ("what is fetched", new().template("\"/var/log/x\"", "\"/var/log/y\"")),
        ("where it is fetched to", new().template("\"x.log\"", "\"y.log\"")),
        ("nothing fetched", new().template("fetched = \"/var/log/x\"", "")),
        ("a script that may reboot", new().template("text = \"a\"", "text = \"a\"\nreboots = true")),
        ("the time-out", new().template("text = \"a\"", "text = \"a\"\ntimeout = \"2h\"")),
        ("the retries", new().template("text = \"a\"", "text = \"a\"\nretries = 1")),
        (
            "another provisioner",
            new().template(
                "name = \"shell\"\ntype = \"shell\"\nscripts = [\"a.sh\", \"b.sh\"]\nenv = { TOKEN = \"{{ token }}\" }",
                "type = \"reboot\"",
            ),
        ),
        ("another secret", new().template("{{ token }}", "{{ other }}")),
        ("a text instead of a secret", new().template("\"{{ token }}\"", "\"{% raw %}{{ token }}{% endraw %}\"")),
        ("the build's login", new().template("disk = ", "ssh_user = \"ada\"\ndisk = ")),
    ];
    let mut change = |what, change: &dyn Fn(&mut Setup)| {
        let mut setup = Setup::new();
        change(&mut setup);
        changes.push((what, setup));
    };
    change("an executable file", &|setup| setup.executable.push("folder/one".to_owned()));
    change("an executable rendered file", &|setup| setup.executable.push("motd".to_owned()));
    change("a link's target", &|setup| setup.links[0].1 = "two".to_owned());
    change("a link's name", &|setup| setup.links[0].0 = "folder/other".to_owned());
    change("a secret's value", &|setup| drop(setup.secrets.insert("token".to_owned(), "hunter23".to_owned())));

    let before = Setup::new().plan();
    for (what, setup) in &changes {
        assert_is_explained(what, &before, &setup.plan());
    }
    // Networks and images of two plans that both differ from the first.
    let kept = new().template(network, "[network]\nkeep = true\n");
    let other = new().template("[network]\nproxy = \"http://proxy", "[network]\nkeep = true\nproxy = \"http://praxy");
    assert_is_explained("the proxy of a network that stays", &kept.plan(), &other.plan());
    let other = image.replace(&"a".repeat(64), &"b".repeat(64));
    let (one, other) = (new().template(bootstrap, &image), new().template(bootstrap, &other));
    assert_is_explained("the checksum", &one.plan(), &other.plan());
}

/// The same on an instance, with user data.
fn on_aws() -> Setup {
    let base = "bootstrap = { suite = \"trixie\", packages = [\"less\"] }";
    let ami = "ami = { owner = \"136693071363\", name = \"debian-13-*\" }";
    let aws = "type = \"aws-ebs\"\nregion = \"eu-west-1\"\nuser_data = \"user-data\"\n\
               volumes = [{ device = \"/dev/sdf\", size = \"9GiB\" }]";
    Setup::new().template(base, ami).template("type = \"qemu\"", aws).file("user-data", "", "#!/bin/sh\ntrue\n")
}

#[test]
fn whatever_changes_the_disks_of_an_instance_changes_the_key_and_its_inputs() {
    let changes = [
        ("the owner", on_aws().template("owner = \"136693071363\"", "owner = \"self\"")),
        ("the name", on_aws().template("debian-13-*", "debian-12-*")),
        ("an id", on_aws().template("owner = \"136693071363\", name = \"debian-13-*\"", "id = \"ami-1a2b3c4d\"")),
        ("a filter", on_aws().template("name = \"debian-13-*\"", "name = \"debian-13-*\", filters = { a = \"b\" }")),
        ("the region", on_aws().template("eu-west-1", "eu-west-2")),
        ("the disk", on_aws().template("20GiB", "30GiB")),
        ("a volume's size", on_aws().template("9GiB", "10GiB")),
        ("a volume's device", on_aws().template("/dev/sdf", "/dev/sdg")),
        ("no volumes", on_aws().template("volumes = [{ device = \"/dev/sdf\", size = \"9GiB\" }]", "")),
        ("the user data", on_aws().file("user-data", "true", "false")),
        ("no user data", on_aws().template("user_data = \"user-data\"", "")),
        ("the build's login", on_aws().template("disk = ", "ssh_user = \"admin\"\ndisk = ")),
    ];
    let before = on_aws().plan();
    for (what, setup) in &changes {
        let after = setup.plan();
        assert_ne!(before.disk_key, after.disk_key, "{what}");
        assert_is_explained(what, &before, &after);
    }
    insta::assert_json_snapshot!(before.disk_inputs);
}

#[test]
fn how_an_instance_is_reached_and_paid_for_is_in_no_key() {
    let with = |keys: &str| on_aws().template("disk = ", &format!("{keys}\ndisk = "));
    let changes = [
        with("instance_type = \"m7i.large\""),
        with("spot = true"),
        with("profile = \"other\""),
        with("tags = { team = \"ds\" }"),
        with("allow_from = [\"10.0.0.0/8\"]"),
        with("availability_zones = [\"eu-west-1a\"]"),
        with("ami_name = \"golden\"\nregions = [\"eu-north-1\"]"),
        with("checkpoint = \"each\""),
        with("on_request = false"),
        on_aws().template(
            "disk = ",
            "bastion = { host = \"b\", user = \"ada\", key = \"a.sh\", host_key = \"ssh-ed25519 \
                 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\" }\ndisk = ",
        ),
        // Another file of the same content.
        on_aws().file("other", "", "#!/bin/sh\ntrue\n").template("\"user-data\"", "\"other\""),
    ];
    let before = on_aws().plan();
    for setup in changes {
        let after = setup.plan();
        assert_eq!(
            (&before.disk_key, &before.disk_inputs),
            (&after.disk_key, &after.disk_inputs),
            "{}",
            setup.template
        );
    }
}

#[test]
fn the_plan_says_what_the_user_data_must_hold() {
    let plan = on_aws().plan();
    assert_eq!(plan.user_data, Some(dsimg_plan::Digest::of_bytes(b"#!/bin/sh\ntrue\n")));
    assert_eq!(Setup::new().plan().user_data, None);
    let wrong = |content: &str| {
        let setup = on_aws().file("user-data", "#!/bin/sh\ntrue\n", content);
        setup.try_plans(&[]).unwrap_err().to_string()
    };
    assert!(
        wrong("echo hello\n").contains("builder `kvm`: the user data `user-data` is nothing that cloud-init knows")
    );
    assert!(wrong(&format!("#!/bin/sh\n{}", "#".repeat(16 << 10))).contains("is larger than 16 KiB"));
}

#[test]
fn builders_on_request_are_planned_when_they_are_named() {
    let mut setup = Setup::new();
    setup.template = setup
        .template
        .replace("[[builder]]", "[[builder]]\nname = \"second\"\ntype = \"qemu\"\non_request = true\n[[builder]]");
    let planned = |only: &[&str]| {
        let only: Vec<_> = only.iter().map(|name| (*name).to_owned()).collect();
        setup.plans(&only).into_iter().map(|plan| plan.builder).collect::<Vec<_>>()
    };
    assert_eq!(planned(&[]), ["kvm"]);
    assert_eq!(planned(&["second"]), ["second"]);
    assert_eq!(planned(&["kvm", "second"]), ["second", "kvm"]);
}

/// The first key that differs must have other inputs; those before it, the same.
fn assert_is_explained(what: &str, before: &Plan, after: &Plan) {
    let parts = |plan: &Plan| {
        let stages = plan.stages.iter().map(|stage| (stage.key.clone(), stage.inputs.clone()));
        [(plan.disk_key.clone(), plan.disk_inputs.clone())].into_iter().chain(stages).collect::<Vec<_>>()
    };
    for (old, new) in parts(before).iter().zip(&parts(after)) {
        if old.0 != new.0 {
            assert_ne!(old.1, new.1, "{what}: the key has changed and its inputs have not");
            return;
        }
        assert_eq!(old.1, new.1, "{what}: the inputs have changed and the key has not");
    }
    panic!("{what}: no key has changed");
}

#[test]
fn what_is_in_no_key_is_in_no_inputs() {
    let new = Setup::new;
    let text = "text = \"a\"";
    let changes = [
        ("cache", new().template(text, "text = \"a\"\ncache = false")),
        ("refresh", new().template(text, "text = \"a\"\nrefresh = \"7d\"")),
        ("the name", new().template("name = \"shell\"", "name = \"another\"")),
        ("when", new().template(text, "text = \"a\"\nwhen = \"word == 'small'\"")),
        ("the memory", new().template("disk = ", "memory = \"4GiB\"\ndisk = ")),
        ("the network", new().template("proxy.corp.example", "other.example")),
        ("a default, written", new().template("number = 1", "number = 1\nreboots = false")),
        ("the image's name", new().template("name = \"ds\"", "name = \"other\"")),
    ];
    let before = new().plan();
    for (what, setup) in changes {
        let after = setup.plan();
        let keys = |plan: &Plan| plan.stages.iter().map(|stage| stage.key.clone()).collect::<Vec<_>>();
        let inputs = |plan: &Plan| plan.stages.iter().map(|stage| stage.inputs.clone()).collect::<Vec<_>>();
        assert_eq!((&before.disk_key, keys(&before)), (&after.disk_key, keys(&after)), "{what}");
        assert_eq!((&before.disk_inputs, inputs(&before)), (&after.disk_inputs, inputs(&after)), "{what}");
    }
}

#[test]
fn the_hash_is_of_all_but_the_inputs() {
    let plan = Setup::new().plan();
    let mut other = plan.clone();
    other.disk_inputs = serde_json::json!("x");
    other.stages[0].inputs = serde_json::json!({});
    assert_eq!(plan.hash(), other.hash());
    other.stages[0].cache = !plan.stages[0].cache;
    assert_ne!(plan.hash(), other.hash());
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
}

#[test]
fn the_inputs_are_for_people() {
    let plan = Setup::new().plan();
    assert!(!format!("{:?}", plan.stages[1].inputs).contains("hunter22"));
    let inputs: Vec<_> = plan.stages.iter().take(2).map(|stage| without_digests(&stage.inputs)).collect();
    insta::assert_json_snapshot!((&plan.disk_inputs, inputs));
}

fn without_digests(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) if text.len() == 12 && text.chars().all(|c| c.is_ascii_hexdigit()) => "[DIGEST]".into(),
        Value::Array(items) => items.iter().map(without_digests).collect(),
        // How many scripts the shipped provisioners are made of is their own business.
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(name, _)| !name.starts_with("common/"));
            Value::Object(fields.map(|(name, value)| (name.clone(), without_digests(value))).collect())
        }
        other => other.clone(),
    }
}

#[test]
fn every_combination_of_a_matrix_has_its_plan_and_shares_what_it_can() {
    let mut setup = Setup::new();
    setup.template = setup
        .template
        .replace("[base]", "[matrix]\nword = [\"small\", \"large\"]\nflag = [true, false]\n[base]")
        .replace("word = \"small\"\n", "word = \"small\"\nflag = true\n")
        .replace("flag = true\ntime", "time")
        .replace("[[builder]]", "[[builder]]\nname = \"second\"\ntype = \"qemu\"\n[[builder]]")
        .replace("name = \"shell\"", "when = \"flag\"\nname = \"shell\"");
    let plans = setup.plans(&[]);
    let names: Vec<_> = plans.iter().map(|plan| (plan.run_name(), plan.image.name.as_str())).collect();
    let names: Vec<_> = names.iter().map(|(run, image)| (run.as_str(), *image)).collect();
    assert_eq!(
        names,
        [
            ("second+small-flag", "ds-small-flag"),
            ("kvm+small-flag", "ds-small-flag"),
            ("second+small-no-flag", "ds-small-no-flag"),
            ("kvm+small-no-flag", "ds-small-no-flag"),
            ("second+large-flag", "ds-large-flag"),
            ("kvm+large-flag", "ds-large-flag"),
            ("second+large-no-flag", "ds-large-no-flag"),
            ("kvm+large-no-flag", "ds-large-no-flag"),
        ]
    );
    assert_eq!(plans[1].cell.as_ref().unwrap().name, "word=small,flag=true");
    assert_eq!(plans[1].stages[0].key, plans[3].stages[0].key, "what comes before a difference is shared");
    assert_ne!(plans[1].stages[0].key, plans[5].stages[0].key);
    assert_eq!(setup.plans(&["kvm".to_owned()]).len(), 4);
}
