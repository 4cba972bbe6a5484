//! The bill of materials of an image: CycloneDX 1.6, made of its manifest and its lock.
//!
//! Every package of the manifest is a component; the lock adds the bytes each was installed from. The same image gives
//! the same text.

mod cyclonedx;
mod purl;

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use self::cyclonedx::{
    Bom, Component, Composition, Dependency, ExternalReference, Hash, LicenceChoice, Lifecycle, Metadata, Property,
    Tools,
};
use crate::inventory::{Entry, Inventory};
use crate::lock::Lock;
use crate::manifest::{HYGIENE, Manifest, SystemFacts};

/// The file's name in the image's folder.
pub const SBOM: &str = "sbom.cdx.json";

/// Of the image itself.
const IMAGE_REF: &str = "image";

/// Stages of these bring packages and nothing else that belongs in a list of components.
const PACKAGES_ONLY: [&str; 5] = ["apt", "pip", "r", "reboot", HYGIENE];

/// The text of [`SBOM`]. Without a lock there are no digests, and the time is that of the build.
#[must_use]
pub fn sbom(manifest: &Manifest, lock: Option<&Lock>) -> String {
    let inventory = match lock {
        Some(lock) => Inventory::of_image(manifest, lock),
        None => Inventory::of_manifest(manifest),
    };
    let timestamp = lock.map_or_else(|| manifest.build.started.clone(), |lock| timestamp(lock.epoch));
    let about = About { component: image(manifest), timestamp, dsimg: &manifest.build.dsimg, system: &manifest.system };
    write(&inventory, lock, about)
}

/// Of the image that a build from the lock would give. `name` is what people call it, `dsimg` this program's version.
#[must_use]
pub fn sbom_of_lock(name: &str, (run, lock): (&str, &Lock), dsimg: &str) -> String {
    let inventory = Inventory::of_lock(run, lock);
    let base = &lock.base;
    let vendor = base.source.split(' ').next().filter(|vendor| matches!(*vendor, "debian" | "ubuntu"));
    let system = SystemFacts { os_id: vendor.unwrap_or_default().to_owned(), ..SystemFacts::default() };
    let component = Component {
        kind: "operating-system",
        bom_ref: IMAGE_REF.to_owned(),
        name: name.to_owned(),
        properties: properties(&[
            ("dsimg:base", &base.source),
            ("dsimg:base:sha256", &base.sha256),
            ("dsimg:run", run),
        ]),
        ..Component::default()
    };
    let about = About { component, timestamp: timestamp(lock.epoch), dsimg, system: &system };
    write(&inventory, Some(lock), about)
}

/// What the packages are in.
struct About<'a> {
    component: Component,
    /// RFC 3339, UTC.
    timestamp: String,
    dsimg: &'a str,
    system: &'a SystemFacts,
}

fn write(inventory: &Inventory, lock: Option<&Lock>, about: About<'_>) -> String {
    let components = components(inventory, about.system);
    let mut bom = Bom {
        schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
        bom_format: "CycloneDX",
        spec_version: "1.6",
        serial_number: String::new(),
        version: 1,
        metadata: Metadata {
            timestamp: about.timestamp,
            lifecycles: vec![Lifecycle { phase: "build" }],
            tools: Tools { components: vec![this_program(about.dsimg)] },
            component: about.component,
        },
        dependencies: vec![asked_for(inventory, &components)],
        compositions: completeness(inventory, lock, &components),
        components,
    };
    bom.serial_number = serial_number(&text_of(&bom));
    text_of(&bom)
}

fn text_of(bom: &Bom) -> String {
    let mut text = serde_json::to_string_pretty(bom).expect("a bill of materials is plain data");
    text.push('\n');
    text
}

/// Another for every other content, as CycloneDX wants it, and the same for the same.
fn serial_number(text: &str) -> String {
    // The space of names is this program's own: version 5 of "dsimg" in the space of domains.
    let space = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_DNS, b"dsimg");
    uuid::Uuid::new_v5(&space, &Sha256::digest(text.as_bytes())).urn().to_string()
}

fn timestamp(epoch: i64) -> String {
    jiff::Timestamp::from_second(epoch).unwrap_or_default().to_string()
}

fn this_program(version: &str) -> Component {
    Component { kind: "application", name: "dsimg".to_owned(), version: version.to_owned(), ..Component::default() }
}

fn image(manifest: &Manifest) -> Component {
    let Manifest { image, base, system, build, .. } = manifest;
    let file = |artifact: &crate::manifest::Artifact| ExternalReference {
        kind: "distribution",
        url: as_iri(&artifact.file),
        hashes: vec![Hash::sha256(&artifact.sha256)],
    };
    let digests: BTreeSet<_> = build.artifacts.iter().map(|artifact| artifact.sha256.as_str()).collect();
    Component {
        kind: "operating-system",
        bom_ref: IMAGE_REF.to_owned(),
        name: image.name.clone(),
        version: image.version.clone(),
        description: image.summary.clone(),
        hashes: digests.into_iter().map(Hash::sha256).collect(),
        external_references: build.artifacts.iter().map(file).collect(),
        properties: properties(&[
            ("dsimg:architecture", &system.architecture),
            ("dsimg:base", &base.source),
            ("dsimg:base:sha256", &base.sha256),
            ("dsimg:kernel", &system.kernel),
            ("dsimg:os", &system.os),
            ("dsimg:plan", &manifest.plan),
        ]),
        ..Component::default()
    }
}

fn components(inventory: &Inventory, system: &SystemFacts) -> Vec<Component> {
    let mut names = BTreeSet::new();
    let mut components = Vec::with_capacity(inventory.entries.len());
    for entry in &inventory.entries {
        let mut component = component(entry, system);
        let name = component.bom_ref.clone();
        let mut count = 1;
        while !names.insert(component.bom_ref.clone()) {
            count += 1;
            component.bom_ref = format!("{name} ({count})");
        }
        components.push(component);
    }
    components
}

fn component(entry: &Entry, system: &SystemFacts) -> Component {
    let Entry { package, source, licence, artifact, .. } = entry;
    let purl = purl::of(entry, system);
    let name = purl.clone().unwrap_or_else(|| format!("{}:{}@{}", package.ecosystem, package.name, package.version));
    // The same package may be in several places.
    let bom_ref = if package.location.is_empty() { name } else { format!("{name} in {}", package.location) };
    let hashes: Vec<_> = artifact.iter().map(|artifact| Hash::sha256(&artifact.sha256)).collect();
    let distribution = |artifact: &crate::lock::Artifact| ExternalReference {
        kind: "distribution",
        url: as_iri(&artifact.url),
        hashes: hashes.clone(),
    };
    let requested = package.requested.to_string();
    let source = source.as_ref().map(|(name, version)| format!("{name} {version}")).unwrap_or_default();
    Component {
        kind: "library",
        bom_ref,
        name: package.name.clone(),
        version: package.version.clone(),
        description: None,
        scope: Some("required"),
        licenses: licence.iter().map(|licence| licence_choice(licence)).collect(),
        purl,
        external_references: artifact.iter().map(distribution).collect(),
        hashes,
        properties: properties(&[
            ("dsimg:location", &package.location),
            ("dsimg:origin", &package.origin),
            ("dsimg:requested", &requested),
            ("dsimg:source", &source),
            ("dsimg:stage", &package.stage),
        ]),
    }
}

fn licence_choice(licence: &str) -> LicenceChoice {
    let acknowledgement = "declared";
    match spdx::Expression::parse(licence) {
        Ok(_) => LicenceChoice::Expression { expression: licence.to_owned(), acknowledgement },
        Err(_) => LicenceChoice::License { name: licence.to_owned(), acknowledgement },
    }
}

/// Without those that are empty.
fn properties(all: &[(&'static str, &str)]) -> Vec<Property> {
    let filled = all.iter().filter(|(_, value)| !value.is_empty());
    filled.map(|(name, value)| Property { name, value: (*value).to_owned() }).collect()
}

fn asked_for(inventory: &Inventory, components: &[Component]) -> Dependency {
    let both = inventory.entries.iter().zip(components);
    let requested = both.filter(|(entry, _)| entry.package.requested);
    Dependency {
        of: IMAGE_REF.to_owned(),
        depends_on: requested.map(|(_, component)| component.bom_ref.clone()).collect(),
    }
}

/// What packages need of each other is not known here. What the image is made of is known but for what scripts and
/// copied files brought.
fn completeness(inventory: &Inventory, lock: Option<&Lock>, components: &[Component]) -> Vec<Composition> {
    let brings_packages_only = inventory.stages.iter().all(|stage| PACKAGES_ONLY.contains(&stage.provisioner.as_str()));
    let parts = match lock {
        None => "unknown",
        Some(lock) if lock.unfrozen.is_empty() && brings_packages_only => "complete",
        Some(_) => "incomplete",
    };
    let all = components.iter().map(|component| component.bom_ref.clone()).collect();
    let composition = |aggregate, assemblies, dependencies| Composition { aggregate, assemblies, dependencies };
    vec![
        composition(parts, vec![IMAGE_REF.to_owned()], Vec::new()),
        composition("incomplete", Vec::new(), vec![IMAGE_REF.to_owned()]),
        composition("unknown", Vec::new(), all),
    ]
    .into_iter()
    .filter(|composition| !(composition.assemblies.is_empty() && composition.dependencies.is_empty()))
    .collect()
}

/// An address with what none may have written as `%XX`.
fn as_iri(address: &str) -> String {
    address.chars().fold(String::with_capacity(address.len()), |mut text, character| {
        match character {
            ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' | '\0'..='\x1f' | '\x7f' => {
                text.push_str(&format!("%{:02X}", u32::from(character)));
            }
            other => text.push(other),
        }
        text
    })
}
