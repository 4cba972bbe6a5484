//! What went wrong with a request, in words, and whether another try may help.

use std::error::Error;

use dsimg_machine::MachineError;
use dsimg_template::template::Location;
use reqwest::StatusCode;

const TRUST_HINT: &str = "a proxy that re-signs TLS shows such certificates: install its CA into this host's trust \
    (on Debian: /usr/local/share/ca-certificates/NAME.crt, then `update-ca-certificates`), or set SSL_CERT_FILE to a \
    PEM bundle that has it, or name the file in `[network] ca`; `ca = \"host\"` hands the host's trust to the machine";

/// A try that failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// May pass; the text completes "`URL`: …". `wait` is what the server asked for.
    Passing { why: String, wait: Option<std::time::Duration> },
    /// Won't pass.
    Final(MachineError),
}

impl Failure {
    pub(crate) fn passing(why: impl Into<String>) -> Self {
        Self::Passing { why: why.into(), wait: None }
    }
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Self {
        Self::Final(error)
    }
}

/// No answer, or none to the end.
pub(crate) fn of_error(url: &str, error: &reqwest::Error) -> Failure {
    let shown = without_password(url);
    if let Some(certificate) = find_cause::<rustls::Error>(error).and_then(certificate_problem) {
        return Failure::Final(MachineError::host(format!("`{shown}`: {certificate}"), TRUST_HINT));
    }
    if error.is_builder() {
        let what = format!("`{shown}` is no URL that can be downloaded: {}", causes(error));
        return Failure::Final(MachineError::refused(what, "write it like `https://example.org/file`"));
    }
    if error.is_redirect() {
        let what = format!("`{shown}`: {}", causes(error));
        return Failure::Final(MachineError::refused(what, "name the place itself that it redirects to"));
    }
    if error.is_timeout() && !error.is_connect() {
        return Failure::passing("nothing more came");
    }
    if error.is_timeout() {
        return Failure::passing("no connection within 30 s");
    }
    Failure::passing(causes(error))
}

/// An answer, but not the one that was asked for.
pub(crate) fn of_status(url: &str, response: &reqwest::Response) -> Failure {
    let (shown, status) = (without_password(url), response.status());
    let told = match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    };
    let what = format!("`{shown}` answers {told}");
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY => {
            Failure::Passing { why: format!("the server answers {told}"), wait: retry_after(response) }
        }
        _ if status.is_server_error() => {
            Failure::Passing { why: format!("the server answers {told}"), wait: retry_after(response) }
        }
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            let hint = "the proxy wants a name and a password: `proxy = \"http://NAME:PASSWORD@HOST:PORT\"`";
            Failure::Final(MachineError::refused(what, hint))
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Failure::Final(MachineError::refused(what, "check that the URL may be read from here without a login"))
        }
        _ => Failure::Final(MachineError::refused(
            what,
            "check the URL: it may have moved, or a newer file took its place",
        )),
    }
}

/// Only the form in seconds, and no longer than a minute.
pub(crate) fn retry_after(response: &reqwest::Response) -> Option<std::time::Duration> {
    let seconds = response.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(std::time::Duration::from_secs(seconds).min(std::time::Duration::from_secs(60)))
}

fn certificate_problem(error: &rustls::Error) -> Option<String> {
    use rustls::CertificateError as Certificate;
    let rustls::Error::InvalidCertificate(why) = error else { return None };
    Some(match why {
        Certificate::UnknownIssuer => "its certificate is signed by nobody this host trusts".to_owned(),
        Certificate::Expired | Certificate::ExpiredContext { .. } => {
            "its certificate has expired, or this host's clock is wrong".to_owned()
        }
        Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
            "its certificate is not valid yet, or this host's clock is wrong".to_owned()
        }
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
            "its certificate is for another host".to_owned()
        }
        other => format!("its certificate is not accepted: {other}"),
    })
}

/// The first cause of this type; `io::Error` hides the one it was made of from `source`.
fn find_cause<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// The innermost causes say it; the outer ones repeat the URL.
pub(crate) fn causes(error: &reqwest::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        next = error.source();
    }
    match texts.len() {
        0 => error.to_string(),
        length => texts.split_off(length.saturating_sub(2)).join(": "),
    }
}

/// For messages: a password in a URL stays out of them.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}{path}"),
        None => url.to_owned(),
    }
}

pub(crate) fn shown(location: &Location) -> String {
    match location {
        Location::Path(path) => path.display().to_string(),
        Location::Url(url) => without_password(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_password("https://me:p@ss@example.org/a@b"), "https://***@example.org/a@b");
        assert_eq!(without_password("https://example.org/a@b"), "https://example.org/a@b");
        assert_eq!(without_password("/a/b"), "/a/b");
    }
}
