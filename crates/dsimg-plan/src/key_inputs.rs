//! What a stage's key is made of, as people read it: when a stage is not in the cache, the difference to the last one
//! says why.

use serde_json::{Map, Value, json};

use dsimg_template::template::ProvisionEntry;

use crate::digest::Digest;
use crate::make::named_secrets;
use crate::plan::{FileKind, PlannedFile, SecretDigests, Step};

/// Parameters by their names, scripts and files by their digests; nothing that is not in the key.
pub(crate) fn key_inputs(entry: &ProvisionEntry, version: u32, steps: &[Step], secrets: &SecretDigests) -> Value {
    let mut inputs = Map::new();
    inputs.insert("provisioner".to_owned(), json!(format!("{} {version}", entry.provisioner)));
    inputs.insert("timeout".to_owned(), json!(entry.timeout.to_string()));
    inputs.insert("retries".to_owned(), json!(entry.retries));
    for (name, value) in entry.parameters.iter().filter(|(_, value)| value.is_set()) {
        inputs.insert(name.clone(), value.to_json());
    }
    let secrets = named_secrets(steps, secrets);
    let groups = [("scripts", scripts(steps)), ("files", files(steps)), ("secrets", digests(secrets.iter()))];
    for (name, group) in groups {
        if !group.is_empty() {
            inputs.insert(name.to_owned(), Value::Object(group));
        }
    }
    Value::Object(inputs)
}

fn digests<'a>(named: impl Iterator<Item = (&'a String, &'a Digest)>) -> Map<String, Value> {
    named.map(|(name, digest)| (name.clone(), json!(digest.short()))).collect()
}

/// The texts that the plan carries, by their names in the stage's folder.
fn scripts(steps: &[Step]) -> Map<String, Value> {
    let texts = steps.iter().filter_map(|step| match step {
        Step::Write { to, content, mode } => Some((to, Digest::of_value(&(content, mode)))),
        _ => None,
    });
    // The parameters are listed by themselves.
    let texts = texts.filter(|(to, _)| !to.ends_with("/params.sh"));
    // `/run/dsimg/stage-2/install.sh`: the number is the stage's place, not its content.
    let name = |to: &str| to.splitn(5, '/').nth(4).unwrap_or(to).to_owned();
    texts.map(|(to, digest)| (name(to), json!(digest.short()))).collect()
}

fn files(steps: &[Step]) -> Map<String, Value> {
    let uploads = steps.iter().filter_map(|step| match step {
        Step::Upload { files } => Some(files),
        _ => None,
    });
    let digest = |file: &PlannedFile| Digest::of_value(&PlannedFile { source: None, ..file.clone() });
    let name = |file: &PlannedFile| match (&file.source, &file.kind) {
        (Some(source), FileKind::File { .. } | FileKind::Rendered { .. }) => source.display().to_string(),
        _ => file.path.clone(),
    };
    uploads.flatten().map(|file| (name(file), json!(digest(file).short()))).collect()
}
