//! What the guest asks for, by the address it uses here.
//!
//! ```text
//! http://HOST/PATH (a proxy's request)     apt, and http://HTTPS///HOST/PATH for https
//! /pypi/https/HOST/INDEX/NAME/             a page of a Python index
//! /pypi-file/https/HOST/PATH               a file that such a page links to
//! /cran/https/HOST/PATH                    a repository of R packages
//! /file/https/HOST/PATH                    any other file
//! ```

use hyper::Uri;

use crate::address::{Address, Login};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ask {
    Apt(Address),
    PythonPage(PythonPage),
    PythonFile(Address),
    R(Address),
    File(Address),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PythonPage {
    /// `https://pypi.org/simple`
    pub(crate) index: String,
    /// In its normal form.
    pub(crate) name: String,
    pub(crate) address: Address,
}

impl Ask {
    pub(crate) fn address(&self) -> &Address {
        match self {
            Self::Apt(address) | Self::PythonFile(address) | Self::R(address) | Self::File(address) => address,
            Self::PythonPage(page) => &page.address,
        }
    }

    /// `None` for what is no address of the mirror. `port` is the mirror's own, by which a request to itself is known
    /// that came as if to a proxy.
    pub(crate) fn read(uri: &Uri, port: u16) -> Option<(Self, Option<Login>)> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        match uri.authority() {
            Some(authority) if authority.as_str() == "HTTPS" => {
                let (address, login) = Address::parse(&format!("https://{}", path.trim_start_matches('/')))?;
                Some((Self::Apt(address), login))
            }
            Some(authority) if !is_self(authority.host(), authority.port_u16(), port) => {
                let (address, login) = Address::parse(&format!("http://{authority}{path}"))?;
                Some((Self::Apt(address), login))
            }
            _ => Self::read_path(path),
        }
    }

    fn read_path(path: &str) -> Option<(Self, Option<Login>)> {
        let (kind, rest) = path.strip_prefix('/')?.split_once('/')?;
        let (scheme, rest) = rest.split_once('/')?;
        let (address, login) = Address::parse(&format!("{scheme}://{rest}"))?;
        let ask = match kind {
            "pypi" => Self::PythonPage(PythonPage::at(&address)?),
            "pypi-file" => Self::PythonFile(address),
            "cran" => Self::R(address),
            "file" => Self::File(address),
            _ => return None,
        };
        Some((ask, login))
    }
}

impl PythonPage {
    fn at(address: &Address) -> Option<Self> {
        let (index, name) = address.without_query().trim_end_matches('/').rsplit_once('/')?;
        let name = normal_name(name);
        let (address, _) = Address::parse(&format!("{index}/{name}/"))?;
        (!name.is_empty()).then(|| Self { index: index.to_owned(), name, address })
    }
}

/// <https://packaging.python.org/en/latest/specifications/name-normalization/>
pub(crate) fn normal_name(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            _ => normal.push(letter.to_ascii_lowercase()),
        }
    }
    normal
}

/// The mirror as the guest sees it: at QEMU's gateway, or at the end of a forwarding.
fn is_self(host: &str, port: Option<u16>, own: u16) -> bool {
    port == Some(own) && matches!(host, "10.0.2.2" | "127.0.0.1" | "localhost" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str) -> Option<(Ask, Option<Login>)> {
        Ask::read(&uri.parse().unwrap(), 4000)
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap().0
    }

    #[test]
    fn apt_asks_as_of_a_proxy() {
        let asked = |uri| read(uri).unwrap().0;
        let http = "http://deb.debian.org/debian/dists/trixie/InRelease";
        assert_eq!(asked(http), Ask::Apt(address(http)));
        let https = "https://apt.example.org:8443/x/InRelease";
        assert_eq!(asked("http://HTTPS///apt.example.org:8443/x/InRelease"), Ask::Apt(address(https)));
        assert_eq!(read("http://HTTPS///me:pw@apt.example.org/x").unwrap().1.as_deref(), Some("me:pw"));
        assert_eq!(asked("http://10.0.2.2:4000/file/https/a.org/k"), Ask::File(address("https://a.org/k")));
    }

    #[test]
    fn other_kinds_are_told_by_the_first_folder() {
        let (page, login) = read("/pypi/https/me:pw@pypi.example.org:8443/simple/Zope.Interface").unwrap();
        let Ask::PythonPage(page) = page else { panic!("{page:?}") };
        assert_eq!(
            (page.index.as_str(), page.name.as_str()),
            ("https://pypi.example.org:8443/simple", "zope-interface")
        );
        assert_eq!(page.address, address("https://pypi.example.org:8443/simple/zope-interface/"));
        assert_eq!(login.as_deref(), Some("me:pw"));
        let file = read("/pypi-file/https/files.pythonhosted.org/packages/a/b.whl.metadata").unwrap().0;
        assert_eq!(file, Ask::PythonFile(address("https://files.pythonhosted.org/packages/a/b.whl.metadata")));
        let cran = read("/cran/https/cloud.r-project.org/src/contrib/PACKAGES.gz").unwrap().0;
        assert_eq!(cran, Ask::R(address("https://cloud.r-project.org/src/contrib/PACKAGES.gz")));
        let file = read("/file/https/example.org/a?b=c/d").unwrap().0;
        assert_eq!(file, Ask::File(address("https://example.org/a?b=c/d")));
    }

    #[test]
    fn what_is_no_address_here_is_none() {
        for uri in
            ["/", "/file", "/file/https", "/file/ftp/a.org/b", "/other/https/a.org/b", "/file/http/169.254.169.254/x"]
        {
            assert_eq!(read(uri), None, "{uri}");
        }
    }
}
