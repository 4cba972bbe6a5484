//! Package URLs. Source: <https://github.com/package-url/purl-spec>.

use packageurl::PackageUrl;

use crate::inventory::{Entry, Origin};
use crate::manifest::{Package, SystemFacts};

/// `None` where a part has characters that no package URL may have.
pub(super) fn of(entry: &Entry, system: &SystemFacts) -> Option<String> {
    let Entry { package, artifact, from, .. } = entry;
    let purl = match (from, package.ecosystem.as_str()) {
        (Origin::Repository | Origin::OtherApt, "deb") => debian(package, system),
        (Origin::Repository, "pypi") => {
            let file = artifact.as_ref().map(|artifact| decoded(artifact.file_name()));
            PackageUrl::new("pypi", package.name.as_str())
                .and_then(|purl| complete(purl, None, &package.version, &[("file_name", file)]))
        }
        (Origin::Repository, "cran") => {
            PackageUrl::new("cran", package.name.as_str()).and_then(|purl| complete(purl, None, &package.version, &[]))
        }
        (Origin::GitHub(commit), _) => return github(commit),
        // There is no type for Bioconductor, and a file of one's own is in no repository.
        _ => {
            let url = artifact.as_ref().map(|artifact| artifact.url.clone());
            PackageUrl::new("generic", package.name.as_str())
                .and_then(|purl| complete(purl, None, &package.version, &[("download_url", url)]))
        }
    };
    purl.ok()
}

fn debian(package: &Package, system: &SystemFacts) -> packageurl::Result<String> {
    let distribution = distribution(system);
    let arch = (!package.architecture.is_empty()).then(|| package.architecture.clone());
    let vendor = if system.os_id.is_empty() { "debian" } else { &system.os_id };
    let qualifiers = [("arch", arch), ("distro", distribution)];
    complete(PackageUrl::new("deb", package.name.as_str())?, Some(vendor), &package.version, &qualifiers)
}

/// `debian-13`, `ubuntu-24.04`. Point releases of Debian are the same distribution.
fn distribution(system: &SystemFacts) -> Option<String> {
    let SystemFacts { os_id, os_version, .. } = system;
    let version = match os_id.as_str() {
        "debian" => os_version.split('.').next().unwrap_or_default(),
        _ => os_version,
    };
    (!os_id.is_empty() && !version.is_empty()).then(|| format!("{os_id}-{version}"))
}

/// Of `owner/name@commit`.
fn github(commit: &str) -> Option<String> {
    let (owner, rest) = commit.split_once('/')?;
    let (name, commit) = rest.split_once('@')?;
    // Names there have no case.
    complete(PackageUrl::new("github", name.to_lowercase()).ok()?, Some(&owner.to_lowercase()), commit, &[]).ok()
}

fn complete(
    mut purl: PackageUrl<'_>,
    namespace: Option<&str>,
    version: &str,
    qualifiers: &[(&'static str, Option<String>)],
) -> packageurl::Result<String> {
    if let Some(namespace) = namespace {
        purl.with_namespace(namespace.to_owned())?;
    }
    purl.with_version(version.to_owned())?;
    for (key, value) in qualifiers {
        if let Some(value) = value {
            purl.add_qualifier(*key, value.clone())?;
        }
    }
    Ok(purl.to_string())
}

/// An index may write `+` of a local version as `%2B`, and the package URL would encode it once more.
fn decoded(file: &str) -> String {
    file.replace("%2B", "+").replace("%2b", "+")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Artifact;

    fn entry(ecosystem: &str, name: &str, version: &str, from: Origin) -> Entry {
        let package = Package {
            ecosystem: ecosystem.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: if ecosystem == "deb" { "amd64".to_owned() } else { String::new() },
            location: String::new(),
            source: String::new(),
            origin: String::new(),
            requested: true,
            stage: "x".to_owned(),
        };
        Entry { package, source: None, licence: None, artifact: None, from }
    }

    fn system(os_id: &str, os_version: &str) -> SystemFacts {
        SystemFacts { os_id: os_id.to_owned(), os_version: os_version.to_owned(), ..SystemFacts::default() }
    }

    #[test]
    fn each_ecosystem_has_its_form() {
        let debian = system("debian", "13.2");
        let repository = |ecosystem, name, version| entry(ecosystem, name, version, Origin::Repository);
        let with_url = |mut entry: Entry, url: &str| {
            entry.artifact = Some(Artifact { url: url.to_owned(), sha256: "ab".repeat(32), size: 1 });
            entry
        };
        let torch = "https://files.example.org/torch-2.9.0%2Bcpu-cp313-cp313-linux_x86_64.whl#sha256=ab";
        let limma = "https://bioconductor.org/packages/3.21/bioc/src/contrib/limma_3.64.0.tar.gz";
        let github = Origin::GitHub("Owner/Repo@0123abcd".to_owned());
        let cases = [
            (
                repository("deb", "libc6", "2.41-12+deb13u4"),
                "pkg:deb/debian/libc6@2.41-12%2Bdeb13u4?arch=amd64&distro=debian-13",
            ),
            (
                repository("deb", "git", "1:2.47.3-0~bpo1"),
                "pkg:deb/debian/git@1:2.47.3-0~bpo1?arch=amd64&distro=debian-13",
            ),
            (
                with_url(repository("pypi", "torch", "2.9.0+cpu"), torch),
                "pkg:pypi/torch@2.9.0%2Bcpu?file_name=torch-2.9.0%2Bcpu-cp313-cp313-linux_x86_64.whl",
            ),
            (repository("pypi", "Typing_Extensions", "4.1"), "pkg:pypi/typing-extensions@4.1"),
            (repository("cran", "R6", "2.6.1"), "pkg:cran/R6@2.6.1"),
            (entry("cran", "repo", "0.1", github), "pkg:github/owner/repo@0123abcd"),
            (
                with_url(entry("cran", "limma", "3.64.0", Origin::Bioconductor), limma),
                "pkg:generic/limma@3.64.0?download_url=\
                 https:%2F%2Fbioconductor.org%2Fpackages%2F3.21%2Fbioc%2Fsrc%2Fcontrib%2Flimma_3.64.0.tar.gz",
            ),
            (entry("deb", "own-tool", "1.0", Origin::Local), "pkg:generic/own-tool@1.0"),
        ];
        for (entry, expected) in cases {
            assert_eq!(of(&entry, &debian).as_deref(), Some(expected));
        }
        let git = repository("deb", "git", "1");
        assert_eq!(
            of(&git, &system("ubuntu", "24.04")).unwrap(),
            "pkg:deb/ubuntu/git@1?arch=amd64&distro=ubuntu-24.04"
        );
        assert_eq!(of(&git, &system("", "")).unwrap(), "pkg:deb/debian/git@1?arch=amd64");
    }
}
