//! What a template without errors becomes, and that no text whatever makes the reader panic.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dsimg_template::report::{Style, report};
use dsimg_template::template::{
    Base, BuilderTable, CertificateAuthorities, Checksum, DiskFormat, Distro, Firmware, Location, ParameterValue,
};
use dsimg_template::units::{ByteSize, Timeout};
use dsimg_template::{Catalog, Problem, Severity, Surroundings, Template, parse_template, secret};

/// Most of what a template may say.
const FULL: &str = r#"#! --var cpus=8
#! --var token=open-sesame
#! --var extra=tmux, jq

[image]
name = "ds-{{ flavour }}"
version = "2026.11"
summary = "Built on {{ build.date }}"

[variables]
flavour = "hub"
cpus = 2
gpu = false
extra = []
notes = { type = "string", required = false }
token = { type = "string", sensitive = true, summary = "Fetches the data" }

[base]
bootstrap = { suite = "bookworm", mirror = "https://mirror.corp.example/debian", packages = ["less"] }

[network]
proxy = "http://proxy.corp.example:3128"
no_proxy = ["localhost", "mirror.corp.example"]
ca = "host"
keep = "{{ gpu }}"

[[builder]]
name = "kvm"
type = "qemu"
cpus = "{{ cpus }}"
memory = "4GiB"
disk = "40GiB"
firmware = "uefi"
formats = ["qcow2", "raw"]
boot_timeout = "1h30m"

[[builder]]
type = "qemu"

[[provision]]
name = "system libraries"
type = "apt"
packages = ["git", "{{ extra }}"]
timeout = "10m"
retries = 2
refresh = "1w2d"

[[provision.repositories]]
name = "corp"
uri = "https://apt.corp.example/{{ image.name }}"
suite = "stable"
keep = false

[[provision]]
type = "pip"
venv = "/opt/ds"
packages = ["numpy"]
only = ["kvm"]
cache = "{{ gpu }}"

[[provision]]
type = "pip"
venv = "/opt/other"
packages = ["pandas>=2"]

[[provision]]
type = "shell"
inline = ["fetch --token {{ token }}"]
when = "not gpu and env.USER == 'ada'"

[[provision]]
type = "apt"
packages = ["nvidia-driver"]
when = "gpu"
"#;

fn read(text: &str) -> (Vec<Template>, Vec<Problem>) {
    let catalog = common::shipped_provisioners();
    parse_template(text, Path::new("templates/x.toml"), &catalog, &common::surroundings(text))
}

/// The template, or a panic with the report.
fn good(text: &str) -> Template {
    let mut templates = all(text);
    assert_eq!(templates.len(), 1);
    templates.remove(0)
}

/// The templates of all combinations, or a panic with the report.
fn all(text: &str) -> Vec<Template> {
    let (templates, problems) = read(text);
    assert!(!templates.is_empty(), "{}", report(&problems, text, Path::new("x.toml"), Style::Plain));
    templates
}

#[test]
fn a_full_template_is_read() {
    let template = good(FULL);
    assert_eq!(template.image.name, "ds-hub");
    assert_eq!(template.image.summary.as_deref(), Some("Built on 2026-11-21"));
    let bootstrap = template.base.bootstrap.as_ref().unwrap();
    assert_eq!(
        (bootstrap.distro, bootstrap.suite.as_str(), bootstrap.arch.as_str()),
        (Distro::Debian, "bookworm", "amd64")
    );
    assert_eq!(template.network.ca, Some(CertificateAuthorities::Host));
    assert!(!template.network.keep);
    assert_eq!(template.builders.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["kvm", "qemu"]);
    let BuilderTable::Qemu(kvm) = &template.builders[0].table else { panic!("a machine of QEMU") };
    assert_eq!((kvm.cpus, kvm.memory, kvm.disk), (8, ByteSize(4 << 30), ByteSize(40 << 30)));
    assert_eq!((kvm.firmware, kvm.boot_timeout), (Firmware::Uefi, Timeout { seconds: 5400 }));
    assert_eq!(kvm.formats, [DiskFormat::Qcow2, DiskFormat::Raw]);
}

#[test]
fn stages_have_their_values_and_defaults() {
    let template = good(FULL);
    let labels: Vec<&str> = template.provision.iter().map(|entry| entry.label.as_str()).collect();
    assert_eq!(labels, ["system libraries", "pip", "pip 2", "shell"]);
    let apt = &template.provision[0];
    let texts = |texts: &[&str]| ParameterValue::Texts(texts.iter().map(|text| (*text).to_owned()).collect());
    assert_eq!(apt.parameters["packages"], texts(&["git", "tmux", "jq"]));
    assert_eq!(apt.parameters["recommends"], ParameterValue::Boolean(false));
    assert_eq!((apt.timeout, apt.retries), (Timeout::from_minutes(10), 2));
    assert_eq!((apt.cache, apt.refresh), (true, Some(Timeout { seconds: 9 * 86_400 })));
    let ParameterValue::Tables(repositories) = &apt.parameters["repositories"] else { panic!("a list of tables") };
    assert_eq!(repositories[0]["uri"], ParameterValue::Text("https://apt.corp.example/ds-hub".to_owned()));
    assert_eq!(repositories[0]["keep"], ParameterValue::Boolean(false));
    let pip = &template.provision[1];
    assert_eq!(pip.only, BTreeSet::from(["kvm".to_owned()]));
    assert!(pip.applies_to("kvm") && !pip.applies_to("qemu"));
    assert_eq!(pip.timeout, Timeout::from_minutes(60));
    assert_eq!((pip.cache, pip.refresh), (false, None));
}

#[test]
fn a_sensitive_value_is_nowhere_but_among_the_secrets() {
    let template = good(FULL);
    assert_eq!(template.secrets["token"].expose(), "open-sesame");
    let ParameterValue::Texts(inline) = &template.provision[3].parameters["inline"] else { panic!("a list") };
    assert_eq!(inline[0], format!("fetch --token {}", secret::placeholder("token")));
    let everything = format!("{template:?}");
    assert!(!everything.contains("open-sesame"));
}

#[test]
fn what_is_left_out_has_a_default() {
    let template = good("[image]\nname = \"ds\"\nversion = \"1\"\n");
    let Base { bootstrap: Some(bootstrap), image: None, ami: None } = &template.base else { panic!("a bootstrap") };
    assert_eq!((bootstrap.distro, bootstrap.suite.as_str()), (Distro::Debian, "trixie"));
    assert_eq!(template.builders.len(), 1);
    assert_eq!(template.builders[0].name, "qemu");
    assert_eq!(template.provision, []);
    let given = good("[image]\nname = \"ds\"\nversion = \"1\"\n[[builder]]\ntype = \"qemu\"\n");
    assert_eq!(given.builders, template.builders);
}

#[test]
fn a_base_by_url_and_by_file() {
    let digest = "ab".repeat(32);
    let head = "[image]\nname = \"ds\"\nversion = \"1\"\n[base.image]\n";
    let url =
        good(&format!("{head}url = \"https://example.org/a.qcow2\"\nchecksum = \"sha256:{}\"", digest.to_uppercase()));
    let image = url.base.image.unwrap();
    assert_eq!(image.location, Location::Url("https://example.org/a.qcow2".to_owned()));
    assert_eq!(image.checksum, Checksum::Sha256(digest));
    assert_eq!(url.base.bootstrap, None);

    let folder = tempfile::tempdir().unwrap();
    for name in ["a.qcow2", "SHA256SUMS"] {
        std::fs::write(folder.path().join(name), "x").unwrap();
    }
    let text = format!("{head}path = \"a.qcow2\"\nchecksum = \"file:SHA256SUMS\"");
    let path = folder.path().join("x.toml");
    let (templates, problems) = parse_template(&text, &path, &Catalog::default(), &common::surroundings(&text));
    assert_eq!(problems, []);
    let image = templates[0].base.image.clone().unwrap();
    assert_eq!(image.location, Location::Path(PathBuf::from("a.qcow2")));
    assert_eq!(image.checksum, Checksum::File(Location::Path(PathBuf::from("SHA256SUMS"))));
}

#[test]
fn warnings_stop_nothing() {
    let text = "[image]\nname = \"ds\"\nversion = \"1\"\n[[provision]]\ntype = \"pip\"\npackages = [\"matplot\"]\n";
    let (templates, problems) = read(text);
    assert_eq!(templates.len(), 1);
    assert_eq!(problems.iter().map(|problem| problem.severity).collect::<Vec<_>>(), [Severity::Warning]);
}

#[test]
fn windows_line_ends_do_not_reach_the_scripts() {
    let text = "\u{FEFF}[image]\nname = \"ds\"\nversion = \"1\"\n[[provision]]\ntype = \"shell\"\n\
                inline = [\"\"\"\necho a\necho b\"\"\"]\n";
    let template = good(&text.replace('\n', "\r\n"));
    assert_eq!(template.provision[0].parameters["inline"], ParameterValue::Texts(vec!["echo a\necho b".to_owned()]));
}

#[test]
fn every_shipped_template_is_good() {
    let folder = common::repository().join("templates");
    let catalog = common::shipped_provisioners();
    for path in toml_files(&folder) {
        let text = std::fs::read_to_string(&path).unwrap();
        let (_, problems) = parse_template(&text, &path, &catalog, &common::surroundings(&text));
        assert!(problems.is_empty(), "{}", report(&problems, &text, &path, Style::Plain));
    }
}

/// Bytes left out, written twice, exchanged: whatever comes of it is read and reported without a panic.
#[test]
fn damaged_templates_are_reported_and_nothing_panics() {
    let catalog = common::shipped_provisioners();
    let mut texts = vec![FULL.to_owned(), MATRIX.to_owned()];
    texts.extend(
        toml_files(&common::repository().join("tests/bad-templates"))
            .iter()
            .map(|path| std::fs::read_to_string(path).expect("a template is text")),
    );
    let mut random = Random(0x5eed);
    for round in 0..2_000 {
        let text = &texts[if round % 2 == 0 { 0 } else { random.below(texts.len()) }];
        let damaged = damage(text, &mut random);
        let surroundings = common::surroundings(&damaged);
        // The probe does not ask the disk: the names are damaged as well.
        let surroundings = Surroundings { probe: &|_| dsimg_template::PathKind::File, ..surroundings };
        let (templates, problems) = parse_template(&damaged, Path::new("x.toml"), &catalog, &surroundings);
        assert!(!templates.is_empty() || !problems.is_empty(), "no template and no reason:\n{damaged}");
        for problem in &problems {
            assert!(problem.span.start <= problem.span.end && problem.span.end <= damaged.len(), "{problem:?}");
        }
        let drawn = report(&problems, &damaged, Path::new("x.toml"), Style::Plain);
        assert!(!drawn.is_empty());
    }
}

/// The same for `provisioner.toml`.
#[test]
fn damaged_definitions_are_reported_and_nothing_panics() {
    let folder = common::repository().join("provisioners");
    let texts: Vec<String> = ["apt", "file", "pip", "shell"]
        .iter()
        .map(|name| std::fs::read_to_string(folder.join(name).join("provisioner.toml")).expect("it is shipped"))
        .collect();
    let mut random = Random(0xd1ce);
    for _ in 0..1_000 {
        let damaged = damage(&texts[random.below(texts.len())], &mut random);
        if let Err(problems) = dsimg_template::parse_definition(&damaged, "apt", &["install.sh", "freeze.sh"]) {
            assert!(!report(&problems, &damaged, Path::new("provisioner.toml"), Style::Plain).is_empty());
        }
    }
}

fn damage(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len().max(1));
        let length = random.below(20).min(bytes.len().saturating_sub(at));
        match random.below(4) {
            0 => drop(bytes.drain(at..at + length)),
            1 => {
                let copy = bytes[at..at + length].to_vec();
                bytes.splice(at..at, copy);
            }
            2 if at < bytes.len() => bytes[at] = b"\"'[]{}=.#,\n\r\\%|0a "[random.below(18)],
            _ => {
                let other = random.below(bytes.len().max(1));
                if at < bytes.len() && other < bytes.len() {
                    bytes.swap(at, other);
                }
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// xorshift64*: the same rounds on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(value).unwrap_or(0) % limit
    }
}

fn toml_files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("its entries can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    paths
}

const MATRIX: &str = r#"
[image]
name = "ds"
version = "1"

[variables]
r = true
set = "small"
cpus = 2
packages = { type = "strings" }

[matrix]
r = [true, false]
set = ["small", "Large set"]
packages = [["numpy", "pandas"], []]
exclude = [{ r = false, set = "Large set" }, { packages = [], r = true }]

[[builder]]
type = "qemu"
cpus = "{{ cpus }}"

[[provision]]
type = "pip"
packages = "{{ packages }}"

[[provision]]
type = "shell"
inline = ["echo {{ set }} {{ image.name }}"]
when = "r"
"#;

fn names(templates: &[Template]) -> Vec<(&str, &str)> {
    templates.iter().map(|t| (t.cell.as_ref().map_or("", |cell| &cell.name), t.image.name.as_str())).collect()
}

#[test]
fn a_matrix_gives_a_template_for_each_combination() {
    let templates = all(MATRIX);
    assert_eq!(
        names(&templates),
        [
            ("r=true,set=small,packages=numpy+pandas", "ds-r-small-numpy-pandas"),
            ("r=true,set=Large set,packages=numpy+pandas", "ds-r-large-set-numpy-pandas"),
            ("r=false,set=small,packages=numpy+pandas", "ds-no-r-small-numpy-pandas"),
            ("r=false,set=small,packages=", "ds-no-r-small-no-packages"),
        ]
    );
    let texts = |texts: &[&str]| ParameterValue::Texts(texts.iter().map(|text| (*text).to_owned()).collect());
    assert_eq!(templates[1].provision[0].parameters["packages"], texts(&["numpy", "pandas"]));
    assert_eq!(
        templates[1].provision[1].parameters["inline"],
        texts(&["echo Large set ds-r-large-set-numpy-pandas"]),
        "the image's name is the combination's"
    );
    assert_eq!(templates[2].provision.len(), 1);
    assert_eq!(templates[3].provision[0].parameters["packages"], texts(&[]));
    assert_eq!(good("[image]\nname = \"ds\"\nversion = \"1\"\n").cell, None);
}

#[test]
fn names_that_tell_combinations_apart_stay_as_they_are() {
    let named = |name: &str, version: &str| {
        let text = format!(
            "[image]\nname = \"{name}\"\nversion = \"{version}\"\n[variables]\npython = \"3\"\n\
             [matrix]\npython = [\"3.11\", \"3.13\"]\n"
        );
        all(&text).into_iter().map(|template| template.image.name).collect::<Vec<_>>()
    };
    assert_eq!(named("ds", "1"), ["ds-3.11", "ds-3.13"]);
    assert_eq!(named("py{{ python }}", "1"), ["py3.11", "py3.13"]);
    assert_eq!(named("ds", "{{ python }}"), ["ds", "ds"]);
    assert_eq!(named("{{ 'ds' if python else 'x' }}", "1"), ["ds-3.11", "ds-3.13"]);
}

#[test]
fn a_given_value_leaves_the_combinations_that_have_it_under_their_names() {
    let narrowed = |values: &str| {
        let templates = all(&format!("{values}\n{MATRIX}"));
        templates.iter().map(|template| template.image.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(narrowed("#! --var r=false").len(), 2);
    let one = "#! --var r=true\n#! --var set=small\n#! --var cpus=4";
    assert_eq!(narrowed(one), ["ds-r-small-numpy-pandas"]);
    let templates = all(&format!("{one}\n{MATRIX}"));
    let BuilderTable::Qemu(qemu) = &templates[0].builders[0].table else { panic!("a machine of QEMU") };
    assert_eq!(qemu.cpus, 4, "other variables are set as ever");
    let (templates, problems) = read(&format!("#! --var r=false\n#! --var set=Large set\n{MATRIX}"));
    assert_eq!(templates, []);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].message, "the values given for `r`, `set` are of an excluded combination");
}

#[test]
fn variables_come_from_files_too() {
    let values = dsimg_template::parse_variable_file("cpus = 4\nextra = [\"a\", \"b,c\"]\nname = \"x\"\n").unwrap();
    let expected = [("cpus", "4"), ("extra", "[\"a\",\"b,c\"]"), ("name", "x")];
    assert_eq!(
        values,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect::<BTreeMap<_, _>>()
    );
    assert!(dsimg_template::parse_variable_file("[a]\nb = 1\n").is_err());
}

#[test]
fn the_schema_knows_what_the_reader_knows() {
    let schema = dsimg_template::json_schema(&common::shipped_provisioners());
    assert_eq!(schema["properties"]["builder"]["items"]["oneOf"][0]["$ref"], "#/$defs/builder-qemu");
    let apt = &schema["$defs"]["provision-apt"];
    assert_eq!(apt["properties"]["cache"]["default"], true);
    assert!(apt["properties"]["refresh"]["description"].is_string());
    assert_eq!(schema["properties"]["matrix"]["additionalProperties"]["type"], "array");
    assert_eq!(apt["properties"]["packages"]["anyOf"][0]["items"]["type"], "string");
    assert!(apt["properties"]["packages"]["description"].is_string());
    assert_eq!(apt["required"][0], "type");
    assert_eq!(schema["properties"]["test"], serde_json::Value::Null, "what is not there yet is not offered");
}
