//! The keys that each table of a template may have: read by [`crate::reader`], listed by [`crate::schema`].

pub(crate) mod aws;

use serde_json::{Value as Json, json};

use crate::definition::{Parameter, ParameterKind};
use crate::template::{DiskFormat, ParameterValue};

/// One key: its name, what it takes, and what it is for.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) summary: String,
    pub(crate) required: bool,
    /// As TOML and JSON write it; for people and editors, the reader does not use it.
    pub(crate) default: Option<Json>,
    /// Whether a sensitive variable may be part of the value.
    pub(crate) may_be_secret: bool,
    /// What it is called in other tools, for those who come from there.
    pub(crate) other_names: &'static [&'static str],
}

/// What a key takes.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Text,
    Choice(Vec<String>),
    Texts,
    Choices(Vec<String>),
    Integer {
        least: i64,
        most: i64,
    },
    Integers,
    Boolean,
    Duration,
    Size,
    /// Strings by name.
    Map,
    /// `http://…` or `https://…`
    Url,
    /// A file or folder beside the template.
    Path,
    Paths,
    /// A boolean, or an expression that gives one.
    Condition,
    Table(Vec<Key>),
    Tables(Vec<Key>),
    /// Read by code of its own.
    Own,
    /// Known by name, not there in this version.
    NotYet,
}

impl Key {
    pub(crate) fn new(name: &str, shape: Shape, summary: &str) -> Self {
        Self {
            name: name.to_owned(),
            shape,
            summary: summary.to_owned(),
            required: false,
            default: None,
            may_be_secret: false,
            other_names: &[],
        }
    }

    pub(crate) fn required(mut self) -> Self {
        self.required = true;
        self
    }

    fn default(mut self, default: impl Into<Json>) -> Self {
        self.default = Some(default.into());
        self
    }

    fn may_be_secret(mut self) -> Self {
        self.may_be_secret = true;
        self
    }

    fn known_elsewhere_as(mut self, names: &'static [&'static str]) -> Self {
        self.other_names = names;
        self
    }

    /// A parameter of a provisioner as a key of its `[[provision]]` table.
    pub(crate) fn of_parameter(name: &str, parameter: &Parameter) -> Self {
        let shape = match &parameter.kind {
            ParameterKind::Text if parameter.choices.is_empty() => Shape::Text,
            ParameterKind::Text => Shape::Choice(parameter.choices.clone()),
            ParameterKind::Texts => Shape::Texts,
            ParameterKind::Integer => Shape::Integer { least: i64::MIN, most: i64::MAX },
            ParameterKind::Integers => Shape::Integers,
            ParameterKind::Boolean => Shape::Boolean,
            ParameterKind::Duration => Shape::Duration,
            ParameterKind::Map => Shape::Map,
            ParameterKind::Path => Shape::Path,
            ParameterKind::Paths => Shape::Paths,
            ParameterKind::Tables(fields) => Shape::Tables(Self::of_parameters(fields)),
        };
        Self {
            required: parameter.required,
            default: parameter.default.as_ref().map(ParameterValue::to_json),
            may_be_secret: true,
            ..Self::new(name, shape, &parameter.summary)
        }
    }

    pub(crate) fn of_parameters<'a>(parameters: impl IntoIterator<Item = (&'a String, &'a Parameter)>) -> Vec<Self> {
        parameters.into_iter().map(|(name, parameter)| Self::of_parameter(name, parameter)).collect()
    }
}

/// The tables of the template itself.
pub(crate) fn template() -> Vec<Key> {
    vec![
        Key::new("image", Shape::Table(image()), "What the result is called").required(),
        Key::new("variables", Shape::Own, "Values to be set with --var, --var-file or DSIMG_VAR_name"),
        Key::new("matrix", Shape::Own, "Several images from one template: for each variable the values it takes"),
        Key::new("base", Shape::Table(base()), "What is booted; Debian trixie from its mirror when absent"),
        Key::new("network", Shape::Table(network()), "How the build reaches the outside; not kept in the image"),
        Key::new("builder", Shape::Own, "A machine to build on; one of type qemu when there is none"),
        Key::new("provision", Shape::Own, "A stage of the build, carried out in the order of the file"),
        Key::new("test", Shape::NotYet, "Tests of the finished image"),
        Key::new("publish", Shape::Own, "Where the finished image goes"),
    ]
}

pub(crate) fn image() -> Vec<Key> {
    vec![
        Key::new("name", Shape::Text, "Lower-case letters, digits, `.`, `_` and `-`; becomes a file name").required(),
        Key::new("version", Shape::Text, "Letters, digits, `.`, `_`, `+`, `~` and `-`, such as 2026.11").required(),
        Key::new("summary", Shape::Text, "One line for people"),
    ]
}

pub(crate) fn base() -> Vec<Key> {
    vec![
        Key::new("bootstrap", Shape::Table(bootstrap()), "A base made from an apt mirror"),
        Key::new("image", Shape::Table(base_image()), "A disk image by file or URL"),
        Key::new("ami", Shape::Table(aws::ami_source()), "A machine image of AWS, for builders of type aws-ebs"),
    ]
}

pub(crate) fn bootstrap() -> Vec<Key> {
    vec![
        Key::new("distro", Shape::Choice(words(&["debian", "ubuntu"])), "The distribution").default("debian"),
        Key::new("suite", Shape::Text, "Its release by code name, such as trixie; required for ubuntu")
            .default("trixie"),
        Key::new("arch", Shape::Choice(words(&["amd64"])), "The architecture by Debian's name").default("amd64"),
        Key::new("mirror", Shape::Url, "Used for the bootstrap and kept in the image's apt sources"),
        Key::new("components", Shape::Texts, "Such as main, contrib, non-free; the distribution's usual when absent"),
        Key::new("packages", Shape::Texts, "Packages beyond those every base has"),
    ]
}

pub(crate) fn base_image() -> Vec<Key> {
    vec![
        Key::new("url", Shape::Url, "Where to download the image; or else `path`"),
        Key::new("path", Shape::Text, "The image as a file beside the template; or else `url`"),
        Key::new("checksum", Shape::Text, "sha256:…, sha512:…, or file: and the path or URL of a checksum file")
            .required(),
        Key::new("format", Shape::Choice(formats()), "Taken from the file's name when absent"),
        Key::new("user", Shape::Text, "The login that the image offers"),
    ]
}

pub(crate) fn network() -> Vec<Key> {
    vec![
        Key::new("proxy", Shape::Url, "The proxy for HTTP and HTTPS").may_be_secret(),
        Key::new("no_proxy", Shape::Texts, "Hosts that are reached without the proxy"),
        Key::new("ca", Shape::Text, "`host` to trust what this host trusts, or a PEM file"),
        Key::new("apt", Shape::Url, "An apt mirror in place of the distribution's hosts").may_be_secret(),
        Key::new("pip", Shape::Url, "A Python package index, such as https://pypi.corp.example/simple").may_be_secret(),
        Key::new("cran", Shape::Url, "A CRAN mirror").may_be_secret(),
        Key::new("keep", Shape::Boolean, "Leave all this in the finished image").default(false),
    ]
}

/// Keys that every `[[builder]]` has.
pub(crate) fn builder() -> Vec<Key> {
    vec![
        Key::new("type", Shape::Choice(words(&["qemu", "aws-ebs"])), "The kind of builder").required(),
        Key::new("name", Shape::Text, "For `only`, `except` and file names; the type when absent"),
        Key::new("on_request", Shape::Boolean, "Build with it only when `--only` names it").default(false),
    ]
}

pub(crate) fn qemu() -> Vec<Key> {
    vec![
        Key::new("cpus", Shape::Integer { least: 1, most: 256 }, "Processors during the build").default(2),
        Key::new("memory", Shape::Size, "Memory during the build").default("2GiB"),
        Key::new("disk", Shape::Size, "Virtual size of the image's disk").default("20GiB"),
        Key::new("firmware", Shape::Choice(words(&["bios", "uefi"])), "What the build boots with").default("bios"),
        Key::new("formats", Shape::Choices(formats()), "The files to write").default(json!(["qcow2"])),
        Key::new("compression", Shape::Choice(words(&["zstd", "zlib", "none"])), "How a qcow2 is compressed")
            .default("zstd"),
        Key::new("accelerator", Shape::Choice(words(&["auto", "kvm", "tcg"])), "KVM where it works, else TCG: `auto`")
            .default("auto"),
        Key::new("ssh_user", Shape::Text, "Log in as this user; the base's own when absent"),
        Key::new("boot_timeout", Shape::Duration, "How long a boot may take until ssh answers").default("5m"),
        Key::new("qemu_args", Shape::Texts, "Appended to QEMU's command line as they are"),
    ]
}

/// Keys that every `[[provision]]` has beside its provisioner's parameters.
pub(crate) fn provision() -> Vec<Key> {
    vec![
        Key::new("type", Shape::Text, "The provisioner").required(),
        Key::new("name", Shape::Text, "What the stage is called; the type when absent"),
        Key::new("when", Shape::Condition, "The stage is left out when this is false"),
        Key::new("only", Shape::Texts, "Names of the builders it is for; all when absent"),
        Key::new("except", Shape::Texts, "Names of the builders it is not for"),
        Key::new("timeout", Shape::Duration, "For each of its commands").default("1h"),
        Key::new("retries", Shape::Integer { least: 0, most: 100 }, "How often a failed command is tried again")
            .default(0),
        Key::new("cache", Shape::Boolean, "Whether the stage, and those after it, may come from a checkpoint")
            .default(true),
        Key::new("refresh", Shape::Duration, "A checkpoint of the stage that is older than this is not used"),
    ]
}

/// Keys that every `[[publish]]` has.
pub(crate) fn publish() -> Vec<Key> {
    vec![
        Key::new("type", Shape::Choice(words(&["aws-ami"])), "Where it goes").required(),
        Key::new("name", Shape::Text, "For screens and logs; the type when absent"),
        Key::new("only", Shape::Texts, "Names of the builders whose disks it takes; all that make one when absent"),
    ]
}

/// `[variables]` in its table form.
pub(crate) fn variable() -> Vec<Key> {
    vec![
        Key::new("type", Shape::Choice(words(&["string", "integer", "boolean", "strings"])), "What its value is")
            .default("string"),
        Key::new("default", Shape::Own, "Its value when none is given"),
        Key::new("sensitive", Shape::Boolean, "Never shown, never written to a file").default(false),
        Key::new("required", Shape::Boolean, "Without a default: whether one must be given").default(true),
        Key::new("summary", Shape::Text, "One line for people"),
    ]
}

pub(crate) fn names(keys: &[Key]) -> Vec<&str> {
    keys.iter().map(|key| key.name.as_str()).collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn formats() -> Vec<String> {
    DiskFormat::ALL.iter().map(|format| format.as_str().to_owned()).collect()
}
