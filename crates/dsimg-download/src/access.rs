//! How downloads reach the outside: proxies and whom TLS trusts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dsimg_machine::MachineError;
use dsimg_template::template::{CertificateAuthorities, Network};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, NoProxy, Proxy};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;

const CONNECT_LIMIT: Duration = Duration::from_secs(30);
const REDIRECTS: usize = 10;

/// Proxies, and certificates trusted besides those of the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Access {
    pub http_proxy: Option<String>,
    pub https_proxy: Option<String>,
    /// Hosts, domains and networks that are reached without a proxy.
    pub no_proxy: Vec<String>,
    /// A PEM file; what the host trusts is always trusted.
    pub extra_authorities: Option<PathBuf>,
    /// How long nothing may come before a connection counts as dead. Default: 60 s.
    pub stall_limit: Duration,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            http_proxy: None,
            https_proxy: None,
            no_proxy: Vec::new(),
            extra_authorities: None,
            stall_limit: Duration::from_secs(60),
        }
    }
}

/// The values of `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, as the binary read them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProxyEnvironment {
    pub http: Option<String>,
    pub https: Option<String>,
    pub all: Option<String>,
    /// Separated by commas.
    pub no: Option<String>,
}

impl Access {
    /// What the template's `[network]` says.
    #[must_use]
    pub fn from_network(network: &Network) -> Self {
        let extra_authorities = match &network.ca {
            Some(CertificateAuthorities::File(path)) => Some(path.clone()),
            Some(CertificateAuthorities::Host) | None => None,
        };
        Self {
            http_proxy: network.proxy.clone(),
            https_proxy: network.proxy.clone(),
            no_proxy: network.no_proxy.clone(),
            extra_authorities,
            ..Self::default()
        }
    }

    /// Takes the environment's proxies where the template names none.
    #[must_use]
    pub fn or_environment(mut self, environment: &ProxyEnvironment) -> Self {
        let filled = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
        let all = filled(&environment.all);
        if self.http_proxy.is_none() && self.https_proxy.is_none() {
            self.http_proxy = filled(&environment.http).or_else(|| all.clone());
            self.https_proxy = filled(&environment.https).or(all);
            if let Some(direct) = &environment.no {
                self.no_proxy
                    .extend(direct.split(',').map(|host| host.trim().to_owned()).filter(|host| !host.is_empty()));
            }
        }
        self
    }

    /// A client that knows nothing of this process's environment but what the host's trust is made of
    /// (`SSL_CERT_FILE`, `SSL_CERT_DIR`, else the system's own certificates). A host that trusts nobody can still
    /// download what `url` names without TLS.
    pub(crate) async fn client(&self, url: &str) -> Result<Client, MachineError> {
        let extra = match &self.extra_authorities {
            Some(path) => read_authorities(path).await?,
            None => Vec::new(),
        };
        let mut builder = Client::builder()
            .no_proxy()
            .tls_backend_preconfigured(tls(extra, url.starts_with("https:"))?)
            .user_agent(concat!("dsimg/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(self.stall_limit)
            .redirect(Policy::custom(follow));
        let direct = NoProxy::from_string(&self.no_proxy.join(","));
        if let Some(url) = &self.http_proxy {
            builder = builder.proxy(Proxy::http(url).map_err(|_| bad_proxy(url))?.no_proxy(direct.clone()));
        }
        if let Some(url) = &self.https_proxy {
            builder = builder.proxy(Proxy::https(url).map_err(|_| bad_proxy(url))?.no_proxy(direct));
        }
        builder.build().map_err(|error| {
            let why = crate::failure::causes(&error);
            MachineError::host(format!("an HTTP client can't be set up: {why}"), "report this as a bug of dsimg")
        })
    }
}

fn bad_proxy(url: &str) -> MachineError {
    let shown = crate::failure::without_password(url);
    MachineError::refused(
        format!("`{shown}` can't be used as a proxy"),
        "write it like `http://proxy.example.org:3128`",
    )
}

/// From TLS never back to plain text, where anybody could answer.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let from_tls = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > REDIRECTS {
        attempt.error(format!("more than {REDIRECTS} redirects"))
    } else if from_tls && attempt.url().scheme() != "https" {
        let to = attempt.url().clone();
        attempt.error(format!("it redirects from https to `{}`", crate::failure::without_password(to.as_str())))
    } else {
        attempt.follow()
    }
}

async fn read_authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, MachineError> {
    let text = tokio::fs::read(path).await.map_err(|source| MachineError::file("cannot read", path, source))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(MachineError::refused(
            format!("`{}` holds no certificates in PEM form", path.display()),
            "`[network] ca` takes `\"host\"` or a file with `-----BEGIN CERTIFICATE-----` in it",
        )),
    }
}

fn tls(extra: Vec<CertificateDer<'static>>, needed: bool) -> Result<rustls::ClientConfig, MachineError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring offers what the default protocol versions need");
    match Verifier::new_with_extra_roots(extra, provider) {
        Ok(verifier) => {
            Ok(versions.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
        }
        Err(_) if !needed => Ok(versions.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()),
        Err(error) => Err(MachineError::host(
            format!("this host's trusted certificates can't be read: {error}"),
            "install the package ca-certificates, or set SSL_CERT_FILE to a PEM bundle",
        )),
    }
}
