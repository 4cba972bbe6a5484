//! `[network]` as the guest's scripts meet it: environment and files below `/run`, nothing on the disk.

use std::collections::BTreeMap;

use dsimg_plan::make::GUEST_FOLDER;
use dsimg_plan::parameters::quote;
use dsimg_template::secret::{self, Secret};
use dsimg_template::template::Network;

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

/// The environment of every script of the build.
#[must_use]
pub fn environment(network: &Network, has_certificates: bool) -> BTreeMap<String, String> {
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
    if let Some(proxy) = &network.proxy {
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
            set(name, proxy);
        }
        let mut direct = vec!["localhost", "127.0.0.1", "::1"];
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
        set("APT_CONFIG", &format!("{GUEST_FOLDER}/apt.conf"));
    }
    if let Some(index) = &network.pip {
        set("UV_DEFAULT_INDEX", index);
        set("PIP_INDEX_URL", index);
    }
    if let Some(cran) = &network.cran {
        set("DSIMG_CRAN", cran);
    }
    env
}

/// The files by which the guest trusts these certificates, with their place below the build's folder.
#[must_use]
pub fn certificate_files(bundle: &str) -> [(&'static str, String); 2] {
    let apt = format!("Acquire::https::CAInfo \"{GUEST_FOLDER}/ca.pem\";\n");
    [("ca.pem", bundle.to_owned()), ("apt.conf", apt)]
}

/// The script that readies a freshly booted guest: the build's folder in memory, and what is in it.
#[must_use]
pub fn preparation_script(network: &Network, has_certificates: bool) -> String {
    let env = environment(network, has_certificates);
    let lines: String = env.iter().map(|(name, value)| format!("{name}={}\n", quote(value))).collect();
    let mut script = include_str!("guest/prepare.sh").replace("@FOLDER@", GUEST_FOLDER);
    // By itself, as a proxy's password may be in it; what is no secret comes in the archive.
    script.push_str(&format!("put env 600 {}\n", quote(&lines)));
    if let Some(mirror) = &network.apt {
        script.push_str(&format!("use_apt_mirror {}\n", quote(mirror.trim_end_matches('/'))));
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
        let env = environment(&Network::default(), false);
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
        let env = environment(&network, true);
        assert_eq!(env["https_proxy"], "http://proxy.example.org:3128");
        assert_eq!(env["NO_PROXY"], "localhost,127.0.0.1,::1,mirror.example.org");
        assert_eq!(env["PIP_CERT"], "/run/dsimg/ca.pem");
    }
}
