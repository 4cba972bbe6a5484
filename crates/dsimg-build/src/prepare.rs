//! What a machine is readied with, gathered on the host before it starts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dsimg_machine::RunContext;
use dsimg_plan::Digest;
use dsimg_plan::inputs::hash_file;
use dsimg_template::secret;
use dsimg_template::template::CertificateAuthorities;

use crate::error::BuildError;
use crate::execute::Job;
use crate::network::{Served, preparation_script};
use crate::tools;
use crate::upload::{append_bytes, append_folder};

/// In the build's folder of a guest that has all of the archive.
const MARK: &str = "prepared";

/// Where Linux distributions keep the certificates that the host trusts, as one PEM file.
const HOST_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The script, tools and freeze scripts for the job's machine.
///
/// # Errors
/// Certificates or a tool can't be had, or the work folder can't be written.
pub(crate) async fn prepare(job: &Job<'_>, run: &RunContext) -> Result<Preparation, BuildError> {
    let certificates = read_certificates(job)?;
    let served = match &job.repositories {
        None => Served::Nothing,
        Some(repositories) if repositories.pins.is_none() => Served::Open,
        Some(_) => Served::Locked,
    };
    let script = preparation_script(&job.plan.network, certificates.is_some(), served);
    let mangled = || BuildError::MangledSecret { stage: "network".to_owned() };
    let script = secret::reveal(&script, job.sources.secrets).ok_or_else(mangled)?;
    let archive = run.work.join("prepare.tar");
    let tools = gather_tools(job, run).await?;
    let contents = contents(&tools, certificates.as_deref(), job);
    let facts: std::io::Result<Vec<_>> = contents.iter().map(Content::facts).collect();
    let facts = facts.map_err(|error| BuildError::file("cannot read the tools for", &archive, error))?;
    let mark = Digest::of_value(&facts);
    Ok(Preparation { script, contents, mark, archive })
}

/// The PEM text that the guest is to trust while it is built.
fn read_certificates(job: &Job<'_>) -> Result<Option<String>, BuildError> {
    let path = match &job.plan.network.ca {
        None => return Ok(None),
        Some(CertificateAuthorities::File(path)) => job.sources.folder.join(path),
        Some(CertificateAuthorities::Host) => {
            let found = HOST_BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file());
            if found.is_none() && job.offline.is_some() {
                // There is nobody to be trusted.
                return Ok(None);
            }
            found.ok_or_else(|| {
                let why = std::io::Error::other("no bundle of certificates is where distributions keep them");
                BuildError::file("cannot find this host's certificates, such as", HOST_BUNDLES[0], why)
            })?
        }
    };
    std::fs::read_to_string(&path).map(Some).map_err(|error| BuildError::file("cannot read", &path, error))
}

/// Each tool that a stage asks for, once.
async fn gather_tools(job: &Job<'_>, run: &RunContext) -> Result<Vec<(String, PathBuf)>, BuildError> {
    let names: BTreeSet<_> = job.plan.stages.iter().flat_map(|stage| &stage.tools).collect();
    let source = if job.offline.is_some() { tools::Source::Offline } else { tools::Source::Outside(job.access) };
    let mut tools = Vec::new();
    for name in names {
        let path = tools::find(name, &job.plan.network, source, &run.cache, run).await?;
        tools.push((name.clone(), path));
    }
    Ok(tools)
}

/// Certificates, tools and freeze scripts as they will lie in the build's folder of the guest.
fn contents(tools: &[(String, PathBuf)], certificates: Option<&str>, job: &Job<'_>) -> Vec<Content> {
    let mut contents = Vec::new();
    if let Some(bundle) = certificates {
        contents.push(Content::Bytes("ca.pem".to_owned(), 0o644, bundle.as_bytes().to_owned()));
    }
    // Their folder is made by the script: it lies on the disk.
    contents.extend(tools.iter().map(|(name, path)| Content::File(format!("tools/{name}"), 0o755, path.clone())));
    contents.push(Content::Folder("freeze".to_owned()));
    for provisioner in job.catalog.iter() {
        let definition = &provisioner.definition;
        let Some(script) = definition.freeze.as_ref().and_then(|script| provisioner.files.get(script)) else {
            continue;
        };
        contents.push(Content::Folder(format!("freeze/{}", definition.name)));
        contents.push(Content::Bytes(format!("freeze/{}/freeze.sh", definition.name), 0o755, script.to_vec()));
    }
    contents
}

/// What goes into the guest, by its path there.
#[derive(Debug, Clone)]
enum Content {
    Folder(String),
    Bytes(String, u32, Vec<u8>),
    File(String, u32, PathBuf),
}

impl Content {
    /// Whatever makes it another one.
    fn facts(&self) -> std::io::Result<(&str, u32, Option<Digest>)> {
        Ok(match self {
            Self::Folder(path) => (path, 0, None),
            Self::Bytes(path, mode, bytes) => (path, *mode, Some(Digest::of_bytes(bytes))),
            Self::File(path, mode, from) => (path, *mode, Some(hash_file(from)?.0)),
        })
    }
}

/// What a freshly booted guest is readied with, again after each reboot.
#[derive(Debug, Clone)]
pub(crate) struct Preparation {
    /// Run by bash, from stdin: it holds the proxy's password where there is one. It prints the mark that the guest has.
    pub(crate) script: String,
    contents: Vec<Content>,
    /// Over the contents; the guest keeps it as a mark that it has them.
    pub(crate) mark: Digest,
    archive: PathBuf,
}

impl Preparation {
    /// Writes the contents and the mark into a tar file. A guest that goes on from a checkpoint has them already.
    ///
    /// # Errors
    /// A file can't be read, or the archive not be written.
    pub(crate) fn pack(&self) -> Result<&Path, BuildError> {
        let write = || {
            let mut tar = tar::Builder::new(std::fs::File::create(&self.archive)?);
            for content in &self.contents {
                match content {
                    Content::Folder(path) => append_folder(&mut tar, path, 0o755)?,
                    Content::Bytes(path, mode, bytes) => append_bytes(&mut tar, path, *mode, bytes)?,
                    Content::File(path, mode, from) => append_bytes(&mut tar, path, *mode, &std::fs::read(from)?)?,
                }
            }
            append_bytes(&mut tar, MARK, 0o644, self.mark.as_str().as_bytes())?;
            tar.into_inner().map(drop)
        };
        write().map_err(|error| BuildError::file("cannot write", &self.archive, error))?;
        Ok(&self.archive)
    }
}
