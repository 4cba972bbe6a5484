//! What those who deploy an image want of its manifest: ids and files, as JSON and as variables for Terraform.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::manifest::{Ami, Artifact, Manifest};

/// The file's name in the image's folder.
pub const OUTPUTS: &str = "dsimg-outputs.json";

impl Manifest {
    /// The text of [`OUTPUTS`].
    #[must_use]
    pub fn outputs(&self) -> String {
        let file = |file: &Artifact| json!({"file": file.file, "format": file.format, "sha256": file.sha256});
        let ami = |ami: &Ami| {
            let mut value = json!({"id": ami.id, "name": ami.name, "snapshots": ami.snapshots});
            if let Some(parameter) = &ami.parameter {
                value["parameter"] = json!(parameter);
            }
            (ami.region.clone(), value)
        };
        let build = &self.build;
        text(&json!({
            "format": 1,
            "image": self.image.name,
            "version": self.image.version,
            "files": build.artifacts.iter().map(file).collect::<Vec<_>>(),
            "amis": build.amis.iter().map(ami).collect::<BTreeMap<_, _>>(),
        }))
    }

    /// For Terraform, which reads files of this name by itself: `ds-hub.auto.tfvars.json` sets `ds_hub_amis`, an id for
    /// each region, and `ds_hub_version`.
    #[must_use]
    pub fn terraform_variables(&self) -> (String, String) {
        let name = &self.image.name;
        let mut prefix: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        // Names of variables begin with a letter.
        if prefix.starts_with(|c: char| c.is_ascii_digit()) {
            prefix.insert_str(0, "image_");
        }
        let amis: BTreeMap<_, _> = self.build.amis.iter().map(|ami| (&ami.region, &ami.id)).collect();
        let variables = json!({format!("{prefix}_amis"): amis, format!("{prefix}_version"): self.image.version});
        (format!("{name}.auto.tfvars.json"), text(&variables))
    }
}

fn text(value: &Value) -> String {
    format!("{value:#}\n")
}
