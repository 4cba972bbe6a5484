//! What must not be seen, and the key under which secrets take part in the keys of stages.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use dsimg_download::ProxyEnvironment;
use dsimg_machine::mask::{Masker, SHORTEST_SECRET};
use dsimg_template::Template;

use crate::failure::Failure;

/// Bytes of the key.
const KEY_LENGTH: usize = 32;

/// Covers the secrets of all combinations of the template and the passwords in the URLs of proxies and mirrors.
pub(crate) fn masker(templates: &[Template], proxies: &ProxyEnvironment) -> Masker {
    let secrets = templates.iter().flat_map(|template| template.secrets.values());
    let secrets = secrets.map(|secret| secret.expose().to_owned());
    let of_network = templates
        .iter()
        .flat_map(|Template { network, .. }| [&network.proxy, &network.apt, &network.pip, &network.cran]);
    let urls = of_network.chain([&proxies.http, &proxies.https, &proxies.all]);
    let passwords = urls.flatten().flat_map(|url| passwords(url));
    let all: BTreeSet<String> = secrets.chain(passwords).collect();
    Masker::new(all.iter().map(String::as_str))
}

/// The sensitive variables whose values are too short to be covered.
pub(crate) fn too_short(templates: &[Template]) -> BTreeSet<&str> {
    let secrets = templates.iter().flat_map(|template| &template.secrets);
    let short = secrets.filter(|(_, secret)| (1..SHORTEST_SECRET).contains(&secret.expose().len()));
    short.map(|(name, _)| name.as_str()).collect()
}

/// The password of a URL, as it is written there and as what it means.
fn passwords(url: &str) -> Vec<String> {
    let Some((_, rest)) = url.split_once("://") else { return Vec::new() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((login, _)) = authority.rsplit_once('@') else { return Vec::new() };
    // A token without a user's name is a secret as well.
    let written = login.split_once(':').map_or(login, |(_, password)| password);
    let mut found = vec![written.to_owned()];
    found.extend(percent_decoded(written).filter(|decoded| decoded != written));
    found
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The key that hashes this user's secrets, made at the first need: with it, a hash in a plan says nothing to
/// whoever guesses passwords. Templates without secrets need none.
///
/// # Errors
/// The key can't be read or made.
pub(crate) fn hash_key(templates: &[Template], state: &Path) -> Result<Vec<u8>, Failure> {
    if templates.iter().all(|template| template.secrets.is_empty()) {
        return Ok(Vec::new());
    }
    let path = state.join("secret.key");
    match std::fs::read(&path) {
        Ok(key) if key.len() == KEY_LENGTH => Ok(key),
        Ok(_) => make_key(&path, state),
        Err(error) if error.kind() == ErrorKind::NotFound => make_key(&path, state),
        Err(error) => Err(Failure::file("cannot read", &path, error)),
    }
}

/// Appears whole, by rename; of two that are made at once one wins, which costs a miss in the cache.
fn make_key(path: &Path, state: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::file("cannot write", path, error);
    let mut key = vec![0; KEY_LENGTH];
    getrandom::fill(&mut key).map_err(|error| failed(std::io::Error::other(error.to_string())))?;
    std::fs::create_dir_all(state).map_err(failed)?;
    // Made for its owner only.
    let mut file = tempfile::NamedTempFile::new_in(state).map_err(failed)?;
    file.write_all(&key).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found_in_urls() {
        assert_eq!(passwords("http://me:p%40ss@proxy.corp.example:3128/x@y"), ["p%40ss", "p@ss"]);
        assert_eq!(passwords("https://token@mirror.corp.example/simple"), ["token"]);
        assert_eq!(passwords("http://proxy.corp.example:3128/a@b"), [""; 0]);
        assert_eq!(passwords("proxy"), [""; 0]);
    }
}
