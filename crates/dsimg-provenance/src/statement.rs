//! What an image was made of: an in-toto statement with SLSA provenance.
//! Sources: <https://in-toto.io/Statement/v1>, <https://slsa.dev/spec/v1.0/provenance>.

use std::collections::{BTreeMap, BTreeSet};

use dsimg_manifest::Manifest;
use dsimg_manifest::lock::{AptIndex, Lock};
use serde::{Deserialize, Serialize};

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";

/// Described in docs/provenance.md.
pub const BUILD_TYPE: &str = "urn:dsimg:build-type:image:v1";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    #[serde(rename = "_type")]
    pub kind: String,
    /// The files that it is about.
    pub subject: Vec<Resource>,
    pub predicate_type: String,
    pub predicate: Predicate,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Predicate {
    pub build_definition: BuildDefinition,
    pub run_details: RunDetails,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildDefinition {
    pub build_type: String,
    pub external_parameters: Parameters,
    pub resolved_dependencies: Vec<Resource>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameters {
    pub template: Resource,
    /// Which of the template's builds: `kvm`, `kvm+python-3.12`.
    pub run: String,
    pub variables: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDetails {
    pub builder: Builder,
    pub metadata: Metadata,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub byproducts: Vec<Resource>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builder {
    pub id: String,
    pub version: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub invocation_id: String,
    pub started_on: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_on: Option<String>,
}

/// in-toto's `ResourceDescriptor`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resource {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uri: String,
    pub digest: BTreeMap<String, String>,
}

/// A file and its sha256, 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub name: String,
    pub sha256: String,
}

/// What is known of a build.
#[derive(Debug, Clone)]
pub struct Build<'a> {
    pub manifest: &'a Manifest,
    pub lock: Option<&'a Lock>,
    /// The template's file.
    pub template: Subject,
    pub run: String,
    /// As they were given, without those that are sensitive.
    pub variables: BTreeMap<String, String>,
    /// Who vouches for the machine that built: a URI, such as that of a CI job's definition.
    pub builder_id: String,
    /// The manifest's and the lock's files, the SBOM's. The image's own are in the manifest.
    pub documents: Vec<Subject>,
    /// Of less weight: the log.
    pub byproducts: Vec<Subject>,
}

impl Statement {
    /// Of everything that went into the image.
    #[must_use]
    pub fn of_build(build: &Build<'_>) -> Self {
        let facts = &build.manifest.build;
        let files = facts.artifacts.iter().map(|file| Resource::file(&file.file, &file.sha256));
        let subjects: BTreeSet<_> = files.chain(build.documents.iter().map(Resource::of)).collect();
        Self {
            kind: STATEMENT_TYPE.to_owned(),
            subject: subjects.into_iter().collect(),
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: Predicate {
                build_definition: BuildDefinition {
                    build_type: BUILD_TYPE.to_owned(),
                    external_parameters: Parameters {
                        template: Resource::of(&build.template),
                        run: build.run.clone(),
                        variables: build.variables.clone(),
                    },
                    resolved_dependencies: dependencies(build),
                },
                run_details: RunDetails {
                    builder: Builder {
                        id: build.builder_id.clone(),
                        version: BTreeMap::from([("dsimg".to_owned(), facts.dsimg.clone())]),
                    },
                    metadata: Metadata {
                        invocation_id: facts.id.clone(),
                        started_on: facts.started.clone(),
                        finished_on: finished(&facts.started, facts.durations.total_ms),
                    },
                    byproducts: build.byproducts.iter().map(Resource::of).collect(),
                },
            },
        }
    }

    /// # Errors
    /// It is something else.
    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let statement: Self = serde_json::from_slice(bytes).map_err(|cause| cause.to_string())?;
        match (statement.kind.as_str(), statement.predicate_type.as_str()) {
            (STATEMENT_TYPE, PREDICATE_TYPE) => Ok(statement),
            (STATEMENT_TYPE, other) | (other, _) => Err(format!("its type is `{other}`")),
        }
    }
}

impl Resource {
    fn file(name: &str, sha256: &str) -> Self {
        let digest = BTreeMap::from([("sha256".to_owned(), sha256.to_owned())]);
        Self { name: name.to_owned(), uri: String::new(), digest }
    }

    fn of(subject: &Subject) -> Self {
        Self::file(&subject.name, &subject.sha256)
    }

    fn at(uri: &str, name: &str, sha256: &str) -> Self {
        Self { uri: uri.to_owned(), ..Self::file(name, sha256) }
    }
}

/// The base first, then all that the lock holds, each once.
fn dependencies(build: &Build<'_>) -> Vec<Resource> {
    let mut all = vec![base(build.manifest)];
    if let Some(lock) = build.lock {
        let artifacts =
            lock.artifacts().map(|artifact| Resource::at(&artifact.url, artifact.file_name(), &artifact.sha256));
        let indexes = lock.indexes.iter().map(signed_index);
        all.extend(artifacts.chain(indexes).collect::<BTreeSet<_>>());
    }
    all
}

/// An AMI has no bytes that a digest could be of; the manifest's is of the facts that name it.
fn base(manifest: &Manifest) -> Resource {
    let base = &manifest.base;
    let algorithm = if base.kind == "ami" { "dsimgAmiFacts" } else { "sha256" };
    let uri = match &base.id {
        Some(id) => format!("urn:dsimg:ami:{id}"),
        None if base.source.contains("://") => base.source.clone(),
        None => String::new(),
    };
    Resource { name: base.source.clone(), uri, digest: BTreeMap::from([(algorithm.to_owned(), base.sha256.clone())]) }
}

fn signed_index(index: &AptIndex) -> Resource {
    let AptIndex { uri, suite, component, in_release, .. } = index;
    let uri = uri.trim_end_matches('/');
    let place = if component.is_empty() {
        format!("{uri}/{}/InRelease", suite.trim_matches('/'))
    } else {
        format!("{uri}/dists/{suite}/InRelease")
    };
    Resource::at(&place, "InRelease", in_release)
}

fn finished(started: &str, total_ms: u64) -> Option<String> {
    let started: jiff::Timestamp = started.parse().ok()?;
    let end = started.as_millisecond().checked_add(i64::try_from(total_ms).ok()?)?;
    Some(jiff::Timestamp::from_second(end / 1000).ok()?.to_string())
}
