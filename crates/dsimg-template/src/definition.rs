//! What a `provisioner.toml` says: a provisioner's parameters and steps.

use std::collections::BTreeMap;

use crate::template::ParameterValue;

/// A provisioner as its directory describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    pub name: String,
    /// Raised when the same parameters would now do something else.
    pub version: u32,
    pub summary: String,
    pub parameters: BTreeMap<String, Parameter>,
    pub steps: Vec<StepDefinition>,
    /// Programs that dsimg puts into the machine for the time of the build, such as `uv`.
    pub tools: Vec<String>,
    /// The script of the directory that lists what is installed.
    pub freeze: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    pub kind: ParameterKind,
    pub summary: String,
    pub required: bool,
    pub default: Option<ParameterValue>,
    /// The only values allowed, for a string; empty: any.
    pub choices: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ParameterKind {
    /// `type = "string"`
    Text,
    /// `type = "strings"`
    Texts,
    /// `type = "integer"`
    Integer,
    /// `type = "integers"`
    Integers,
    /// `type = "boolean"`
    Boolean,
    /// `type = "duration"`
    Duration,
    /// `type = "map"`: strings by name
    Map,
    /// `type = "path"`: a file or folder beside the template
    Path,
    /// `type = "paths"`
    Paths,
    /// `type = "tables"`, with `fields`
    Tables(BTreeMap<String, Parameter>),
}

/// One `[[step]]`; `when` names the parameter that must be true or not empty.
#[derive(Debug, Clone, PartialEq)]
pub struct StepDefinition {
    pub when: Option<String>,
    pub action: StepAction,
}

#[derive(Debug, Clone, PartialEq)]
pub enum StepAction {
    /// Puts the files of a parameter into the machine: where the parameter `to` says, or else
    /// into the stage's own folder. `render` names a boolean parameter: treat them as templates.
    Upload {
        parameter: String,
        to: Option<String>,
        render: Option<String>,
    },
    /// Runs a script of the directory. `reboots` names a boolean parameter: the script may reboot the machine.
    Run {
        script: String,
        reboots: Option<String>,
    },
    /// Brings the guest's file named by the parameter `fetch` to the path named by the parameter `to`,
    /// below the folder of the finished image.
    Fetch {
        parameter: String,
        to: String,
    },
    Reboot,
}

/// A provisioner's directory: its definition and its files, `provisioner.toml` left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Provisioner {
    pub definition: Definition,
    /// By path relative to the directory, with `/` between the parts.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// All provisioners that a template may name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    provisioners: BTreeMap<String, Provisioner>,
    /// Shell functions that every provisioner's scripts find in `common/`, by path.
    common: BTreeMap<String, Vec<u8>>,
}

impl Catalog {
    /// Adds one; a provisioner of the same name that came before is replaced.
    pub fn add(&mut self, provisioner: Provisioner) {
        self.provisioners.insert(provisioner.definition.name.clone(), provisioner);
    }

    /// Adds a file of `provisioners/common/`.
    pub fn add_common(&mut self, path: String, content: Vec<u8>) {
        self.common.insert(path, content);
    }

    #[must_use]
    pub fn common(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.common
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Provisioner> {
        self.provisioners.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.provisioners.keys().map(String::as_str)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Provisioner> {
        self.provisioners.values()
    }
}
