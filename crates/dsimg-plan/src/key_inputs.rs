//! What keys are made of, as people read it: when a stage is not in the cache, the difference to the last one says why.
//!
//! Whatever changes a key changes its inputs; `tests/inputs.rs` goes through all of it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use dsimg_template::definition::{Definition, Parameter, ParameterKind};
use dsimg_template::secret;
use dsimg_template::template::aws::{AmiSource, AwsEbsTable};
use dsimg_template::template::{
    Bootstrap, BuilderTable, Checksum, Firmware, ImageSource, Network, ParameterValue, ProvisionEntry,
};
use dsimg_template::units::ByteSize;

use crate::digest::Digest;
use crate::make::{build_user, named_secrets};
use crate::parameters::parameters_script;
use crate::plan::{FileKind, PlannedBase, PlannedFile, SecretDigests, Step};

/// The names that are taken; a parameter of such a name is listed as `parameter NAME`.
const OWN_NAMES: [&str; 8] = ["provisioner", "version", "timeout", "retries", "steps", "scripts", "files", "secrets"];

/// What the disk holds before the first stage. Host paths, cpus, memory and proxies are not in it.
#[derive(Debug, Serialize)]
pub(crate) struct DiskKey<'a> {
    format: u32,
    base: BaseKey<'a>,
    disk: ByteSize,
    #[serde(skip_serializing_if = "Option::is_none")]
    firmware: Option<Firmware>,
    /// On AWS: what else decides what the disks hold, and where they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    aws: Option<AwsKey<'a>>,
    /// A machine that goes on is logged in to as the one before.
    login: &'a str,
    kept_network: Option<&'a Network>,
}

#[derive(Debug, Serialize)]
enum BaseKey<'a> {
    Bootstrap(&'a Bootstrap),
    Image(&'a Checksum),
    Ami(&'a AmiSource),
}

#[derive(Debug, Serialize)]
struct AwsKey<'a> {
    region: &'a str,
    /// By device: EC2 does not mind their order.
    volumes: BTreeMap<&'a str, ByteSize>,
    /// What cloud-init does with it is on the disk before the first stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_data: Option<&'a Digest>,
}

impl<'a> AwsKey<'a> {
    fn new(table: &'a AwsEbsTable, user_data: Option<&'a Digest>) -> Self {
        let volumes = table.instance.volumes.iter().map(|extra| (extra.device.as_str(), extra.volume.size)).collect();
        Self { region: &table.account.region, volumes, user_data }
    }
}

impl<'a> DiskKey<'a> {
    pub(crate) fn new(
        base: &'a PlannedBase,
        machine: &'a BuilderTable,
        user_data: Option<&'a Digest>,
        network: &'a Network,
    ) -> Self {
        let login = build_user(machine, matches!(base, PlannedBase::Bootstrap(_)));
        let base = match base {
            PlannedBase::Bootstrap(bootstrap) => BaseKey::Bootstrap(bootstrap),
            PlannedBase::Image(ImageSource { checksum, .. }) => BaseKey::Image(checksum),
            PlannedBase::Ami(ami) => BaseKey::Ami(ami),
        };
        let (disk, firmware, aws) = match machine {
            BuilderTable::Qemu(qemu) => (qemu.disk, Some(qemu.firmware), None),
            BuilderTable::AwsEbs(table) => (table.instance.root.size, None, Some(AwsKey::new(table, user_data))),
        };
        let kept_network = network.keep.then_some(network);
        Self { format: 1, base, disk, firmware, aws, login, kept_network }
    }

    pub(crate) fn inputs(&self) -> Value {
        let mut inputs = Map::new();
        match self.base {
            BaseKey::Bootstrap(bootstrap) => inputs.insert("bootstrap".to_owned(), without_empty(json!(bootstrap))),
            BaseKey::Image(checksum) => inputs.insert("image".to_owned(), json!(checksum)),
            BaseKey::Ami(ami) => inputs.insert("ami".to_owned(), without_empty(json!(ami))),
        };
        inputs.insert("disk".to_owned(), readable_size(self.disk));
        if let Some(firmware) = self.firmware {
            inputs.insert("firmware".to_owned(), json!(firmware));
        }
        if let Some(aws) = &self.aws {
            inputs.insert("region".to_owned(), json!(aws.region));
            if !aws.volumes.is_empty() {
                let volumes = aws.volumes.iter().map(|(device, size)| ((*device).to_owned(), readable_size(*size)));
                inputs.insert("volumes".to_owned(), Value::Object(volumes.collect()));
            }
            if let Some(user_data) = aws.user_data {
                inputs.insert("user_data".to_owned(), json!(user_data.short()));
            }
        }
        inputs.insert("login".to_owned(), json!(self.login));
        if let Some(network) = self.kept_network {
            inputs.insert("network".to_owned(), without_empty(json!(network)));
        }
        readable(Value::Object(inputs))
    }
}

/// In bytes where words would be rounded.
fn readable_size(size: ByteSize) -> Value {
    let words = size.to_string();
    if words.parse() == Ok(size) { json!(words) } else { json!(size.0) }
}

fn without_empty(mut value: Value) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| !is_empty(value));
    }
    value
}

/// Parameters by their names, scripts and files by their digests, and what the steps do with them.
pub(crate) fn stage_inputs(
    entry: &ProvisionEntry,
    definition: &Definition,
    steps: &[Step],
    secrets: &SecretDigests,
) -> Value {
    let mut inputs = Map::new();
    inputs.insert("provisioner".to_owned(), json!(definition.name));
    inputs.insert("version".to_owned(), json!(definition.version));
    if steps.iter().any(|step| matches!(step, Step::Run { .. })) {
        inputs.insert("timeout".to_owned(), json!(entry.timeout.to_string()));
        inputs.insert("retries".to_owned(), json!(entry.retries));
    }
    inputs.insert("steps".to_owned(), steps.iter().filter_map(describe_step).collect());
    let secrets = named_secrets(steps, secrets);
    let secrets = secrets.iter().map(|(name, digest)| (name.clone(), json!(digest.short()))).collect();
    for (name, group) in [("scripts", scripts(definition, steps)), ("files", files(steps)), ("secrets", secrets)] {
        if !group.is_empty() {
            inputs.insert(name.to_owned(), Value::Object(group));
        }
    }
    for (name, parameter) in &definition.parameters {
        if let Some(value) = parameter_json(parameter, entry.parameters.get(name)) {
            let is_taken = OWN_NAMES.contains(&name.as_str());
            let name = if is_taken { format!("parameter {name}") } else { name.clone() };
            inputs.insert(name, value);
        }
    }
    readable(Value::Object(inputs))
}

/// As scripts see it: nothing is the same as an empty text or list, and of a boolean the same as false.
fn parameter_json(parameter: &Parameter, value: Option<&ParameterValue>) -> Option<Value> {
    match value {
        None if parameter.kind == ParameterKind::Boolean => Some(json!(false)),
        None => None,
        Some(value @ ParameterValue::Boolean(_)) => Some(value.to_json()),
        Some(value) => value.is_set().then(|| value.to_json()),
    }
}

/// What is done, without what scripts, files and the stage's own keys say already.
fn describe_step(step: &Step) -> Option<String> {
    match step {
        Step::Write { .. } => None,
        Step::Upload { .. } => Some("upload".to_owned()),
        Step::Run { script, may_reboot, .. } => {
            let reboot = if *may_reboot { ", may reboot" } else { "" };
            Some(format!("run {}{reboot}", in_stage_folder(script)))
        }
        Step::Fetch { from, to } => Some(format!("fetch {from} as {}", to.display())),
        Step::Reboot => Some("reboot".to_owned()),
    }
}

/// The texts that the plan carries, by their names in the stage's folder.
fn scripts(definition: &Definition, steps: &[Step]) -> Map<String, Value> {
    let texts = steps.iter().filter_map(|step| match step {
        Step::Write { to, content, mode } => Some((in_stage_folder(to), content, *mode)),
        _ => None,
    });
    let digest = |(name, content, mode): (&str, &String, u32)| {
        // The parameters' values are listed by themselves; what is left are their names and kinds.
        let nothing = || parameters_script(definition, &BTreeMap::new(), &|_, _| String::new());
        let content = if name == "params.sh" { nothing() } else { content.clone() };
        (name.to_owned(), json!(Digest::of_value(&(content, mode)).short()))
    };
    texts.map(digest).collect()
}

/// What is uploaded: files by where they come from, all else by where it goes.
fn files(steps: &[Step]) -> Map<String, Value> {
    let mut named = Map::new();
    let uploads = steps.iter().filter_map(|step| match step {
        Step::Upload { files } => Some(files),
        _ => None,
    });
    for file in uploads.flatten() {
        let place = in_stage_folder(&file.path);
        let name = match (&file.source, &file.kind) {
            (Some(source), FileKind::File { .. } | FileKind::Rendered { .. }) => source.display().to_string(),
            _ => place.to_owned(),
        };
        // One file may go to several places.
        let name = if named.contains_key(&name) { format!("{name} to {place}") } else { name };
        let content = PlannedFile { source: None, path: place.to_owned(), kind: file.kind.clone() };
        named.insert(name, json!(Digest::of_value(&content).short()));
    }
    named
}

/// `/run/dsimg/stage-2/install.sh` is `install.sh`: the number is the stage's place, not its content.
fn in_stage_folder(path: &str) -> &str {
    let below = path.strip_prefix(crate::make::GUEST_FOLDER).and_then(|rest| rest.strip_prefix("/stage-"));
    below.and_then(|rest| Some(rest.split_once('/')?.1)).unwrap_or(path)
}

/// Secrets by their names as the template writes them.
fn readable(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(secret::describe(&text)),
        Value::Array(items) => items.into_iter().map(readable).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (secret::describe(&name), readable(value))).collect()
        }
        other => other,
    }
}
