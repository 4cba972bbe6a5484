//! `[network]` as the guest's scripts meet it: environment and files below `/run`, nothing on the disk.

use std::collections::BTreeMap;

use dsimg_plan::make::GUEST_FOLDER;
use dsimg_plan::parameters::quote;
use dsimg_template::secret::{self, Secret};
use dsimg_template::template::Network;

/// This host, as a guest of QEMU's user network sees it.
const GATEWAY: &str = "10.0.2.2";
const PYPI: &str = "https://pypi.org/simple";
const DEBIAN_ARCHIVES: &[&str] = &["deb.debian.org/debian", "ftp.debian.org/debian", "httpredir.debian.org/debian"];
const DEBIAN_SECURITY: &[&str] = &["deb.debian.org/debian-security", "security.debian.org/debian-security"];
const UBUNTU_ARCHIVES: &[&str] = &["archive.ubuntu.com/ubuntu", "security.ubuntu.com/ubuntu"];
const CRAN: &str = "https://cloud.r-project.org";

/// The settings with their secrets put in, for what the host itself does with them; `None` when a filter changed one.
#[must_use]
pub fn reveal(network: &Network, secrets: &BTreeMap<String, Secret>) -> Option<Network> {
    let one = |value: &Option<String>| match value {
        Some(text) => secret::reveal(text, secrets).map(Some),
        None => Some(None),
    };
    Some(Network {
        proxy: one(&network.proxy)?,
        apt: one(&network.apt)?,
        pip: one(&network.pip)?,
        cran: one(&network.cran)?,
        ..network.clone()
    })
}

/// Addresses that the guest asks for, and what this host asks for in their place: a company's mirrors.
#[must_use]
pub fn rewrites(network: &Network) -> Vec<(String, String)> {
    let mut rewrites = Vec::new();
    if let Some(mirror) = &network.apt {
        let mirror = mirror.trim_end_matches('/');
        // A mirror that ends in `/debian` has `/debian-security` beside it.
        let security =
            mirror.strip_suffix("/debian").map_or(mirror.to_owned(), |root| format!("{root}/debian-security"));
        let archives = [DEBIAN_ARCHIVES, UBUNTU_ARCHIVES].concat().into_iter().map(|archive| (archive, mirror));
        let security = DEBIAN_SECURITY.iter().map(|archive| (*archive, security.as_str()));
        for (archive, place) in archives.chain(security) {
            for scheme in ["http", "https"] {
                rewrites.push((format!("{scheme}://{archive}"), place.to_owned()));
            }
        }
    }
    for (public, mirror) in [(PYPI, &network.pip), (CRAN, &network.cran)] {
        rewrites.extend(mirror.iter().map(|mirror| (public.to_owned(), mirror.trim_end_matches('/').to_owned())));
    }
    rewrites
}

/// Stands in the preparation script for `http://ADDRESS:PORT` of the repositories that dsimg serves: it is known when the
/// machine answers.
pub(crate) const MIRROR: &str = "@MIRROR@";

/// What the guest is told about the repositories that dsimg serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// There are none: the guest asks the outside itself.
    Nothing,
    /// They have what the outside has.
    Open,
    /// They have what the lock names, and apt takes it unsigned: the lock holds its digests.
    Locked,
}

/// The environment of every script of the build.
#[must_use]
pub fn environment(network: &Network, has_certificates: bool, served: Served) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        env.insert(name.to_owned(), value.to_owned());
    };
    set("DEBIAN_FRONTEND", "noninteractive");
    set("LC_ALL", "C.UTF-8");
    set("LANG", "C.UTF-8");
    set("HOME", "/root");
    set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    set("DSIMG_TOOLS", &format!("{GUEST_FOLDER}/tools"));
    // The same bytes from the same packages: no order that a seed decides, no local time.
    set("PYTHONHASHSEED", "0");
    set("TZ", "UTC");
    if let Some(proxy) = &network.proxy {
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
            set(name, proxy);
        }
        let mut direct = vec!["localhost", "127.0.0.1", "::1", GATEWAY];
        direct.extend(network.no_proxy.iter().map(String::as_str));
        for name in ["no_proxy", "NO_PROXY"] {
            set(name, &direct.join(","));
        }
    }
    if has_certificates {
        let bundle = format!("{GUEST_FOLDER}/ca.pem");
        // OpenSSL, curl, requests, pip, git, node: each has its own name for the same thing.
        for name in [
            "SSL_CERT_FILE",
            "CURL_CA_BUNDLE",
            "REQUESTS_CA_BUNDLE",
            "PIP_CERT",
            "GIT_SSL_CAINFO",
            "NODE_EXTRA_CA_CERTS",
        ] {
            set(name, &bundle);
        }
    }
    if has_certificates || served != Served::Nothing {
        set("APT_CONFIG", &format!("{GUEST_FOLDER}/apt.conf"));
    }
    set_repositories(network, served, &mut set);
    env
}

/// Where packages of Python and R come from. What dsimg serves is asked for by the public addresses: which mirror stands
/// for them is no part of the image, and the host knows it.
fn set_repositories(network: &Network, served: Served, set: &mut impl FnMut(&str, &str)) {
    let pip = match served {
        Served::Nothing => network.pip.clone(),
        Served::Open | Served::Locked => {
            set("DSIMG_MIRROR", MIRROR);
            // pip wants TLS from all but this machine itself.
            set("PIP_TRUSTED_HOST", GATEWAY);
            Some(format!("{MIRROR}/pypi/{}", PYPI.replacen("://", "/", 1)))
        }
    };
    if let Some(index) = &pip {
        set("UV_DEFAULT_INDEX", index);
        set("PIP_INDEX_URL", index);
    }
    let public = || Some(CRAN.to_owned()).filter(|_| network.cran.is_some());
    let cran = if served == Served::Nothing { network.cran.clone() } else { public() };
    if let Some(cran) = &cran {
        set("DSIMG_CRAN", cran);
    }
    if network.keep {
        // What hygiene writes into the image.
        for (name, address) in [("DSIMG_KEEP_PIP", &network.pip), ("DSIMG_KEEP_CRAN", &network.cran)] {
            address.iter().for_each(|address| set(name, address));
        }
    }
}

/// apt's settings for the time of the build.
fn apt_settings(has_certificates: bool, served: Served) -> String {
    let mut text = String::new();
    if has_certificates {
        text.push_str(&format!("Acquire::https::CAInfo \"{GUEST_FOLDER}/ca.pem\";\n"));
    }
    if served != Served::Nothing {
        // What is at the repositories' own address is asked for there, as keys are.
        text.push_str(&format!(
            "Acquire::http::Proxy \"{MIRROR}\";\nAcquire::http::Proxy::{GATEWAY} \"DIRECT\";\n\
             Acquire::http::Proxy::127.0.0.1 \"DIRECT\";\n"
        ));
    }
    if served == Served::Locked {
        text.push_str(
            "Acquire::AllowInsecureRepositories \"true\";\n\
             Acquire::AllowDowngradeToInsecureRepositories \"true\";\nAPT::Get::AllowUnauthenticated \"true\";\n",
        );
    }
    text
}

/// The script that readies a freshly booted guest: the build's folder in memory, and what is in it. [`MIRROR`] is still
/// to be put in.
#[must_use]
pub fn preparation_script(network: &Network, has_certificates: bool, served: Served) -> String {
    let env = environment(network, has_certificates, served);
    let lines: String = env.iter().map(|(name, value)| format!("{name}={}\n", quote(value))).collect();
    let mut script = include_str!("guest/prepare.sh").replace("@FOLDER@", GUEST_FOLDER);
    // By itself, as a proxy's password may be in it; what is no secret comes in the archive.
    script.push_str(&format!("put env 600 {}\n", quote(&lines)));
    script.push_str("set_epoch\n");
    let apt = apt_settings(has_certificates, served);
    if !apt.is_empty() {
        script.push_str(&format!("put apt.conf 644 {}\n", quote(&apt)));
    }
    if let Some(mirror) = &network.apt {
        // What dsimg serves is asked for by the public addresses, so that only `keep` has a use for the mirror's.
        let function = if served == Served::Nothing { "use_apt_mirror" } else { "copy_sources_with_mirror" };
        if served == Served::Nothing || network.keep {
            script.push_str(&format!("{function} {}\n", quote(mirror.trim_end_matches('/'))));
        }
    }
    // What it has of the archive, for one that goes on from a checkpoint.
    script.push_str(&format!("cat {GUEST_FOLDER}/prepared 2>/dev/null || true\n"));
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_set_that_was_not_asked_for() {
        let env = environment(&Network::default(), false, Served::Nothing);
        assert!(!env.contains_key("http_proxy"));
        assert!(!env.contains_key("SSL_CERT_FILE"));
    }

    #[test]
    fn a_password_in_the_proxy_is_put_in_for_the_host() {
        let secrets = BTreeMap::from([("password".to_owned(), Secret::new("s3cret".to_owned()))]);
        let proxy = format!("http://user:{}@proxy.example.org", secret::placeholder("password"));
        let network = Network { proxy: Some(proxy), ..Network::default() };
        let revealed = reveal(&network, &secrets).unwrap();
        assert_eq!(revealed.proxy.as_deref(), Some("http://user:s3cret@proxy.example.org"));
        assert_eq!(reveal(&network, &BTreeMap::new()), None);
    }

    #[test]
    fn a_proxy_is_known_by_all_its_names() {
        let network = Network {
            proxy: Some("http://proxy.example.org:3128".to_owned()),
            no_proxy: vec!["mirror.example.org".to_owned()],
            ..Network::default()
        };
        let env = environment(&network, true, Served::Nothing);
        assert_eq!(env["https_proxy"], "http://proxy.example.org:3128");
        assert_eq!(env["NO_PROXY"], "localhost,127.0.0.1,::1,10.0.2.2,mirror.example.org");
        assert_eq!(env["PIP_CERT"], "/run/dsimg/ca.pem");
    }

    #[test]
    fn what_dsimg_serves_is_asked_for_by_public_addresses() {
        let network = Network {
            pip: Some("https://pypi.corp.example/simple".to_owned()),
            cran: Some("https://cran.corp.example".to_owned()),
            ..Network::default()
        };
        let env = environment(&network, false, Served::Open);
        assert_eq!(env["UV_DEFAULT_INDEX"], "@MIRROR@/pypi/https/pypi.org/simple");
        assert_eq!(env["DSIMG_CRAN"], "https://cloud.r-project.org");
        assert!(!apt_settings(false, Served::Open).contains("Insecure"));
        assert!(apt_settings(false, Served::Locked).contains("Insecure"));
    }
}
