//! Programs that go into the machine for the time of the build.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use dsimg_download::{Access, Download, Expected, Small, SmallRequest, fetch, fetch_bytes};
use dsimg_machine::{MachineError, RunContext};
use dsimg_manifest::lock::{Artifact, LockedTool};
use dsimg_plan::{Digest, Stage};
use dsimg_store::Store;
use dsimg_template::template::{Location, Network};
use url::Url;

use crate::error::BuildError;

/// PyPI's page of a package with hundreds of releases has 2 MiB today.
const LARGEST_INDEX_PAGE: u64 = 64 << 20;
const LARGEST_PROGRAM: u64 = 512 << 20;
const PYPI: &str = "https://pypi.org/simple";
/// The JSON form of the simple API (PEP 691) where it is spoken, else its HTML (PEP 503).
const INDEX_TYPES: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, \
    text/html;q=0.1";

/// A program in a Python wheel: a zip archive on every Python package index, and so on every mirror of one.
struct Wheel {
    project: &'static str,
    version: &'static str,
    file: &'static str,
    sha256: &'static str,
    /// The program's path in the archive.
    member: &'static str,
}

/// The one file with no needs but glibc 2.17, which every supported distribution is newer than.
const UV: Wheel = Wheel {
    project: "uv",
    version: "0.13.8",
    file: "uv-0.13.8-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256: "e18a57b8b352eb7c8feb317b9f6f533c8f0ad9673fd6cf34bbe3cf1a9f6a8984",
    member: "uv-0.13.8.data/scripts/uv",
};

/// The version of uv that [`uv`] gives.
pub const UV_VERSION: &str = UV.version;

/// Where a tool comes from that is not in the package store.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    Outside(&'a Access),
    /// From nowhere.
    Offline,
}

/// The tool that a provisioner names.
///
/// # Errors
/// There is no such tool, or it can't be had.
pub async fn find(
    name: &str,
    network: &Network,
    source: Source<'_>,
    cache: &Path,
    run: &RunContext,
) -> Result<PathBuf, MachineError> {
    match name {
        "uv" => UV.program(network.pip.as_deref().unwrap_or(PYPI), source, cache, run).await,
        name => {
            Err(MachineError::refused(format!("there is no tool `{name}`"), "a provisioner's `tools` may name: uv"))
        }
    }
}

/// The tools of these stages as a lock has them; their packages are in the store then.
///
/// # Errors
/// There is no such tool, or it can't be had.
pub(crate) async fn locked(
    stages: &[Stage],
    network: &Network,
    access: &Access,
    run: &RunContext,
) -> Result<Vec<LockedTool>, BuildError> {
    let names: BTreeSet<_> = stages.iter().flat_map(|stage| &stage.tools).collect();
    let index = network.pip.as_deref().unwrap_or(PYPI);
    let mut tools = Vec::new();
    for wheel in names.into_iter().filter_map(|name| (name == UV.project).then_some(&UV)) {
        tools.push(wheel.locked(index, access, run).await?);
    }
    Ok(tools)
}

impl Wheel {
    async fn program(
        &self,
        index: &str,
        source: Source<'_>,
        cache: &Path,
        run: &RunContext,
    ) -> Result<PathBuf, MachineError> {
        let program = cache.join("tools").join(format!("{}-{}", self.project, self.version));
        if program.exists() {
            return Ok(program);
        }
        let wheel = match (self.in_store(cache), source) {
            (Some(wheel), _) => wheel,
            (None, Source::Offline) => {
                let what = format!("{} {} is not in the package store", self.project, self.version);
                let hint =
                    "was the bundle made by another version of dsimg? Build with that one, or make the bundle anew";
                return Err(MachineError::refused(what, hint));
            }
            (None, Source::Outside(access)) => {
                let location = Location::Url(self.find_in(index, access, run).await?);
                let expected = Expected::Sha256(self.sha256.to_owned());
                fetch(&Download { location, expected, access: access.clone() }, cache, run).await?
            }
        };
        let (member, to) = (self.member, program.clone());
        match tokio::task::spawn_blocking(move || extract(&wheel, member, &to)).await {
            Ok(Ok(())) => Ok(program),
            Ok(Err(source)) => Err(MachineError::file("cannot write", program, source)),
            Err(stopped) => Err(MachineError::file("cannot write", program, io::Error::other(stopped))),
        }
    }

    /// The package that a bundle brought, or a lock asked for.
    fn in_store(&self, cache: &Path) -> Option<PathBuf> {
        let digest = Digest::parse(self.sha256)?;
        Store::open(cache).ok()?.verified(&digest).ok()
    }

    async fn locked(&self, index: &str, access: &Access, run: &RunContext) -> Result<LockedTool, BuildError> {
        let url = self.find_in(index, access, run).await?;
        let store = Store::open(&run.cache)?;
        let path = match self.in_store(&run.cache) {
            Some(path) => path,
            None => {
                let (location, expected) = (Location::Url(url.clone()), Expected::Sha256(self.sha256.to_owned()));
                let wheel = fetch(&Download { location, expected, access: access.clone() }, &run.cache, run).await?;
                store.put_file(&wheel, &dsimg_store::Expected::default())?;
                wheel
            }
        };
        let size = std::fs::metadata(&path).map_err(|error| BuildError::file("cannot read", &path, error))?.len();
        let artifact = Artifact { url: without_login(&url), sha256: self.sha256.to_owned(), size };
        Ok(LockedTool { name: self.project.to_owned(), version: self.version.to_owned(), artifact })
    }

    /// Mirrors keep files elsewhere than PyPI does, so the index itself is asked where.
    async fn find_in(&self, index: &str, access: &Access, run: &RunContext) -> Result<String, MachineError> {
        let page_url = format!("{}/{}/", index.trim_end_matches('/'), self.project);
        let request =
            SmallRequest { location: Location::Url(page_url), accept: Some(INDEX_TYPES), access: access.clone() };
        let page = fetch_bytes(&request, LARGEST_INDEX_PAGE, run).await?;
        let link = find_link(&page, self.file).and_then(|link| complete(&link, &page.url, index));
        link.ok_or_else(|| {
            let (project, version) = (self.project, self.version);
            let hint = format!("add `{}` to it, or name an index that has it as `pip` in `[network]`", self.file);
            MachineError::refused(format!("the package index at `{}` has no {project} {version}", page.url), hint)
        })
    }
}

fn without_login(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return url.to_owned() };
    // Refused only for URLs without a host.
    let _has_host = url.set_username("").and_then(|()| url.set_password(None));
    url.into()
}

/// The link to the file, as the page has it.
fn find_link(page: &Small, file: &str) -> Option<String> {
    if page.media_type.ends_with("json") { find_in_json(&page.bytes, file) } else { find_in_html(&page.bytes, file) }
}

fn find_in_json(bytes: &[u8], file: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Page {
        files: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        filename: String,
        url: String,
    }
    let page: Page = serde_json::from_slice(bytes).ok()?;
    page.files.into_iter().find(|entry| entry.filename == file).map(|entry| entry.url)
}

/// Looks at nothing but `href="…"`: an index page has no other use for links.
fn find_in_html(bytes: &[u8], file: &str) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut rest: &str = &text;
    while let Some(start) = rest.find("href=") {
        rest = &rest[start + "href=".len()..];
        let Some(quote) = rest.chars().next().filter(|quote| matches!(quote, '"' | '\'')) else { continue };
        let Some(end) = rest[1..].find(quote) else { break };
        let link = rest[1..=end].replace("&amp;", "&").replace("&#43;", "+");
        if link_names(&link, file) {
            return Some(link);
        }
        rest = &rest[end + 1..];
    }
    None
}

fn link_names(link: &str, file: &str) -> bool {
    let path = link.split(['#', '?']).next().unwrap_or_default();
    path.rsplit('/').next() == Some(file)
}

/// Links may be relative to the page; a login that the index needs is needed for files on the same host.
fn complete(link: &str, page: &str, index: &str) -> Option<String> {
    let mut url = Url::parse(page).ok()?.join(link).ok()?;
    url.set_fragment(None);
    if let Ok(index) = Url::parse(index)
        && url.username().is_empty()
        && (url.scheme(), url.host(), url.port_or_known_default())
            == (index.scheme(), index.host(), index.port_or_known_default())
    {
        // Refused only for URLs without a host.
        let _same_host = url.set_username(index.username()).and_then(|()| url.set_password(index.password()));
    }
    Some(url.into())
}

/// Whole or not at all, and not before it may be run.
fn extract(wheel: &Path, member: &str, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = to.parent().ok_or_else(|| io::Error::other("it has no folder"))?;
    std::fs::create_dir_all(folder)?;
    let mut archive = zip::ZipArchive::new(std::fs::File::open(wheel)?).map_err(io::Error::other)?;
    let member = archive.by_name(member).map_err(io::Error::other)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    io::copy(&mut io::Read::take(member, LARGEST_PROGRAM), &mut new)?;
    new.as_file().set_permissions(std::fs::Permissions::from_mode(0o755))?;
    new.as_file().sync_all()?;
    new.persist(to).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = UV.file;

    fn page(media_type: &str, text: &str) -> Small {
        Small {
            bytes: text.as_bytes().to_vec(),
            media_type: media_type.to_owned(),
            url: "https://mirror.example.org/api/pypi/simple/uv/".to_owned(),
        }
    }

    #[test]
    fn a_link_is_found_in_html() {
        let text = format!(
            "<html><a href=\"../../files/other-{FILE}\">x</a>\n<a data-x=1 href=\"../../files/{FILE}?a=1&amp;b=2#sha256=00\" \
             data-requires-python=\"&gt;=3.8\">{FILE}</a>"
        );
        let found = page("text/html", &text);
        let link = find_link(&found, FILE).unwrap();
        let url = complete(&link, &found.url, "https://mirror.example.org/api/pypi/simple").unwrap();
        assert_eq!(url, format!("https://mirror.example.org/api/pypi/files/{FILE}?a=1&b=2"));
    }

    #[test]
    fn a_link_is_found_in_json() {
        let text = format!(
            r#"{{"meta": {{"api-version": "1.1"}}, "name": "uv", "files": [
            {{"filename": "uv-0.1.tar.gz", "url": "https://files.example.org/uv-0.1.tar.gz", "hashes": {{}}}},
            {{"filename": "{FILE}", "url": "https://files.example.org/a/{FILE}", "hashes": {{}}}}]}}"#
        );
        let found = page("application/vnd.pypi.simple.v1+json", &text);
        let url = complete(&find_link(&found, FILE).unwrap(), &found.url, PYPI).unwrap();
        assert_eq!(url, format!("https://files.example.org/a/{FILE}"));
    }

    #[test]
    fn a_page_without_the_file_or_cut_short_has_none() {
        assert_eq!(find_link(&page("text/html", "<a href=\"uv-0.13.7.whl\">"), FILE), None);
        assert_eq!(find_link(&page("text/html", "<a href=\"unclosed"), FILE), None);
        assert_eq!(find_link(&page("text/html", "<a href=é href="), FILE), None);
        assert_eq!(find_link(&page("application/json", "{}"), FILE), None);
    }

    #[test]
    fn a_login_goes_to_the_index_and_nowhere_else() {
        let index = "https://me:secret@mirror.example.org/simple";
        let page = "https://mirror.example.org/simple/uv/";
        assert_eq!(complete("../x", page, index).unwrap(), "https://me:secret@mirror.example.org/simple/x");
        assert_eq!(complete("https://cdn.example.org/x", page, index).unwrap(), "https://cdn.example.org/x");
        assert_eq!(complete("http://mirror.example.org/x", page, index).unwrap(), "http://mirror.example.org/x");
    }

    #[test]
    fn the_program_of_an_archive_can_be_run() {
        use std::io::Write;
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("a.whl");
        let mut archive = zip::ZipWriter::new(std::fs::File::create(&wheel).unwrap());
        archive.start_file(UV.member, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(b"#!/bin/sh\necho it runs\n").unwrap();
        archive.finish().unwrap();
        let program = folder.path().join("tools/uv");
        extract(&wheel, UV.member, &program).unwrap();
        assert_eq!(program.metadata().unwrap().permissions().mode() & 0o777, 0o755);
        let output = std::process::Command::new(&program).output().unwrap();
        assert_eq!(output.stdout, b"it runs\n");
        extract(&wheel, "no/such", &folder.path().join("tools/none")).unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path().join("tools")).unwrap().count(), 1);
    }
}
