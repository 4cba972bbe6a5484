//! What a machine is readied with, gathered on the host before it starts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dsimg_machine::RunContext;
use dsimg_plan::Digest;
use dsimg_template::secret;
use dsimg_template::template::CertificateAuthorities;

use crate::error::BuildError;
use crate::execute::Job;
use crate::guest::Preparation;
use crate::network::{certificate_files, preparation_script};
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
    let script = preparation_script(&job.plan.network, certificates.is_some());
    let mangled = || BuildError::MangledSecret { stage: "network".to_owned() };
    let script = secret::reveal(&script, job.sources.secrets).ok_or_else(mangled)?;
    let archive = run.work.join("prepare.tar");
    let tools = gather_tools(job, run).await?;
    let content = pack(&archive, &tools, certificates.as_deref(), job);
    let content = content.map_err(|error| BuildError::file("cannot write", &archive, error))?;
    Ok(Preparation { script, archive, content })
}

/// The PEM text that the guest is to trust while it is built.
fn read_certificates(job: &Job<'_>) -> Result<Option<String>, BuildError> {
    let path = match &job.plan.network.ca {
        None => return Ok(None),
        Some(CertificateAuthorities::File(path)) => job.sources.folder.join(path),
        Some(CertificateAuthorities::Host) => {
            let found = HOST_BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file());
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
    let mut tools = Vec::new();
    for name in names {
        let path = tools::find(name, &job.plan.network, job.access, &run.cache, run).await?;
        tools.push((name.clone(), path));
    }
    Ok(tools)
}

/// Certificates, tools and freeze scripts as they will lie in the build's folder of the guest, and a mark that says so:
/// the digest of all of it, which is given back.
fn pack(
    archive: &Path,
    tools: &[(String, PathBuf)],
    certificates: Option<&str>,
    job: &Job<'_>,
) -> std::io::Result<Digest> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in certificates.map(certificate_files).into_iter().flatten() {
        append_bytes(&mut tar, name, 0o644, content.as_bytes())?;
    }
    append_folder(&mut tar, "tools", 0o755)?;
    for (name, path) in tools {
        append_bytes(&mut tar, &format!("tools/{name}"), 0o755, &std::fs::read(path)?)?;
    }
    append_folder(&mut tar, "freeze", 0o755)?;
    for provisioner in job.catalog.iter() {
        let definition = &provisioner.definition;
        let Some(content) = definition.freeze.as_ref().and_then(|script| provisioner.files.get(script)) else {
            continue;
        };
        append_folder(&mut tar, &format!("freeze/{}", definition.name), 0o755)?;
        append_bytes(&mut tar, &format!("freeze/{}/freeze.sh", definition.name), 0o755, content)?;
    }
    let digest = Digest::of_bytes(tar.get_ref());
    append_bytes(&mut tar, MARK, 0o644, digest.as_str().as_bytes())?;
    std::fs::write(archive, tar.into_inner()?)?;
    Ok(digest)
}
