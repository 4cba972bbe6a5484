//! Addresses as the guest asks for them, and where they are asked for outside.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// An `http` or `https` address without login and fragment, in its normal form: what records and locks hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address(String);

/// `user:password`, as it stands in an address.
pub(crate) type Login = String;

impl Address {
    /// Takes the login out. `None` for what is no such address, or one that leads to the host's own surroundings
    /// instead of to a repository.
    pub(crate) fn parse(text: &str) -> Option<(Self, Option<Login>)> {
        Self::of_url(Url::parse(text).ok()?)
    }

    /// What a link on the page at this address leads to.
    pub(crate) fn join(&self, link: &str) -> Option<(Self, Option<Login>)> {
        Self::of_url(Url::parse(&self.0).ok()?.join(link).ok()?)
    }

    fn of_url(mut url: Url) -> Option<(Self, Option<Login>)> {
        if !matches!(url.scheme(), "http" | "https") || is_link_local(url.host()?) {
            return None;
        }
        let login = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some(format!("{user}:{}", password.unwrap_or_default())),
        };
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        url.set_fragment(None);
        // Some tools write these so, since one store of files takes a `+` for a space.
        let path = url.path().replace("%2b", "+").replace("%2B", "+").replace("%7e", "~").replace("%7E", "~");
        url.set_path(&path);
        Some((Self(url.into()), login))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// `https`, and `host/path?query`.
    fn parts(&self) -> (&str, &str) {
        self.0.split_once("://").unwrap_or_default()
    }

    /// `host` or `host:port`.
    pub(crate) fn host(&self) -> &str {
        self.parts().1.split('/').next().unwrap_or_default()
    }

    /// The whole without query.
    pub(crate) fn without_query(&self) -> &str {
        self.0.split('?').next().unwrap_or_default()
    }

    /// The last part of the path, as it stands there.
    pub(crate) fn file_name(&self) -> &str {
        self.without_query().rsplit('/').next().unwrap_or_default()
    }

    /// Where the guest finds it here, below a folder such as `/pypi-file`.
    pub(crate) fn below(&self, folder: &str) -> String {
        let (scheme, rest) = self.parts();
        format!("{folder}/{scheme}/{rest}")
    }

    /// As a URL that is asked for, with a login. `+` is written so that every server reads it as one.
    pub(crate) fn to_ask(&self, login: Option<&str>) -> String {
        let (scheme, rest) = self.parts();
        let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        let path = path.replace('+', "%2B");
        match login {
            Some(login) => format!("{scheme}://{login}@{path}{query}"),
            None => format!("{scheme}://{path}{query}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// There, clouds hand out the host's own credentials; repositories are elsewhere.
fn is_link_local(host: Host<&str>) -> bool {
    match host {
        Host::Ipv4(address) => Ipv4Addr::is_link_local(&address),
        Host::Ipv6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.is_link_local(),
            None => Ipv6Addr::is_unicast_link_local(&address) || address.segments()[0] == 0xfd00,
        },
        Host::Domain(name) => name.trim_end_matches('.').eq_ignore_ascii_case("metadata.google.internal"),
    }
}

/// What is asked for elsewhere than its address says: at a company's mirror.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rewrites(Vec<Rewrite>);

#[derive(Debug, Clone)]
struct Rewrite {
    prefix: String,
    replacement: String,
    login: Option<Login>,
}

/// Where an address is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Place {
    pub(crate) address: Address,
    /// Of the mirror that took its place.
    pub(crate) login: Option<Login>,
}

impl Rewrites {
    /// Pairs of a prefix and what takes its place, possibly with a login. What is no address is an error, by name.
    pub(crate) fn new(pairs: &[(String, String)]) -> Result<Self, String> {
        let mut rewrites = Vec::new();
        for (prefix, replacement) in pairs {
            let (prefix, _) = Address::parse(prefix).ok_or_else(|| prefix.clone())?;
            let told = || replacement.rsplit_once('@').map_or(replacement.as_str(), |(_, host)| host).to_owned();
            let (replacement, login) = Address::parse(replacement).ok_or_else(told)?;
            let bare = |address: &Address| address.as_str().trim_end_matches('/').to_owned();
            rewrites.push(Rewrite { prefix: bare(&prefix), replacement: bare(&replacement), login });
        }
        // The longest prefix says most about an address.
        rewrites.sort_by_key(|rewrite| std::cmp::Reverse(rewrite.prefix.len()));
        Ok(Self(rewrites))
    }

    pub(crate) fn place_of(&self, address: &Address) -> Place {
        let found = self.0.iter().find_map(|rewrite| {
            let rest = below(address.as_str(), &rewrite.prefix)?;
            let (address, _) = Address::parse(&format!("{}{rest}", rewrite.replacement))?;
            Some(Place { address, login: rewrite.login.clone() })
        });
        found.unwrap_or_else(|| Place { address: address.clone(), login: None })
    }

    /// The other way round: an address at a company's mirror by the name that it has for everybody.
    pub(crate) fn public_name(&self, address: Address) -> Address {
        let found = self.0.iter().find_map(|rewrite| {
            let rest = below(address.as_str(), &rewrite.replacement)?;
            Some(Address::parse(&format!("{}{rest}", rewrite.prefix))?.0)
        });
        found.unwrap_or(address)
    }

    /// Hosts of mirrors with their logins: files that their pages link to lie beside them.
    pub(crate) fn logins(&self) -> impl Iterator<Item = (String, Login)> {
        self.0.iter().filter_map(|rewrite| {
            let (address, _) = Address::parse(&rewrite.replacement)?;
            Some((address.host().to_owned(), rewrite.login.clone()?))
        })
    }
}

/// What follows the prefix, which ends where a part of the path ends.
fn below<'a>(address: &'a str, prefix: &str) -> Option<&'a str> {
    address.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap().0
    }

    #[test]
    fn a_login_is_taken_out() {
        let (found, login) = Address::parse("https://me:s%40cret@Example.org:443/a/../b/./c?d#e").unwrap();
        assert_eq!((found.as_str(), login.as_deref()), ("https://example.org/b/c?d", Some("me:s%40cret")));
        assert_eq!(found.to_ask(Some("me:s%40cret")), "https://me:s%40cret@example.org/b/c?d");
        let plus = Address::parse("http://example.org/git_2%2bdeb~1.deb?a+b").unwrap().0;
        assert_eq!(plus.as_str(), "http://example.org/git_2+deb~1.deb?a+b");
        assert_eq!(plus.to_ask(None), "http://example.org/git_2%2Bdeb~1.deb?a+b");
        assert_eq!(found.below("/file"), "/file/https/example.org/b/c?d");
        assert_eq!((found.host(), found.file_name()), ("example.org", "c"));
        assert_eq!(Address::parse("https://token@example.org/").unwrap().1.as_deref(), Some("token:"));
    }

    #[test]
    fn what_leads_to_the_host_s_own_surroundings_is_none() {
        for text in [
            "file:///etc/passwd",
            "ftp://example.org/",
            "http://169.254.169.254/latest/meta-data/",
            "http://0xA9FEA9FE/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://metadata.google.internal./",
            "http://",
        ] {
            assert!(Address::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_longest_prefix_is_rewritten_and_back() {
        let pair = |prefix: &str, replacement: &str| (prefix.to_owned(), replacement.to_owned());
        let rewrites = Rewrites::new(&[
            pair("http://deb.debian.org", "https://other.corp/"),
            pair("http://deb.debian.org/debian/", "https://me:pw@mirror.corp/x/debian"),
        ])
        .unwrap();
        let place = rewrites.place_of(&address("http://deb.debian.org/debian/dists/trixie/InRelease"));
        assert_eq!(place.address.as_str(), "https://mirror.corp/x/debian/dists/trixie/InRelease");
        assert_eq!(place.login.as_deref(), Some("me:pw"));
        let place = rewrites.place_of(&address("http://deb.debian.org/debian-security/x"));
        assert_eq!((place.address.as_str(), place.login), ("https://other.corp/debian-security/x", None));
        let back = rewrites.public_name(address("https://mirror.corp/x/debian/pool/a.deb"));
        assert_eq!(back.as_str(), "http://deb.debian.org/debian/pool/a.deb");
        assert_eq!(rewrites.public_name(address("https://else.org/a")).as_str(), "https://else.org/a");
        let error = Rewrites::new(&[pair("http://a.org", "me:pw@mirror")]).unwrap_err();
        assert!(!error.contains("pw"), "{error}");
    }
}
