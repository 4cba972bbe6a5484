//! Repositories of R packages.

pub(crate) mod locked;

use crate::address::Address;

/// Which file of a repository an address leads to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RFile {
    /// `PACKAGES` or `PACKAGES.gz`
    Index {
        repository: String,
        gzip: bool,
    },
    /// R's own form of the index. It is never given: R takes another then, which everybody can read.
    BinaryIndex,
    Package {
        repository: String,
        name: String,
        version: String,
    },
    Other,
}

impl RFile {
    pub(crate) fn of(address: &Address) -> Self {
        let Some((repository, below)) = address.without_query().split_once("/src/contrib/") else { return Self::Other };
        let repository = repository.to_owned();
        match below {
            "PACKAGES" => Self::Index { repository, gzip: false },
            "PACKAGES.gz" => Self::Index { repository, gzip: true },
            "PACKAGES.rds" => Self::BinaryIndex,
            _ => match names_of_file(address.file_name()) {
                Some((name, version)) => Self::Package { repository, name, version },
                None => Self::Other,
            },
        }
    }
}

/// `name_version.tar.gz`
pub(crate) fn names_of_file(file: &str) -> Option<(String, String)> {
    let (name, version) = file.strip_suffix(".tar.gz")?.split_once('_')?;
    Some((name.to_owned(), version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_to_files() {
        let file = |url: &str| RFile::of(&Address::parse(url).unwrap().0);
        let repository = || "https://cran.org/x".to_owned();
        assert_eq!(
            file("https://cran.org/x/src/contrib/PACKAGES.gz"),
            RFile::Index { repository: repository(), gzip: true }
        );
        assert_eq!(file("https://cran.org/x/src/contrib/PACKAGES.rds"), RFile::BinaryIndex);
        let package = |version: &str| RFile::Package {
            repository: repository(),
            name: "data.table".to_owned(),
            version: version.to_owned(),
        };
        assert_eq!(file("https://cran.org/x/src/contrib/data.table_1.2-3.tar.gz"), package("1.2-3"));
        assert_eq!(file("https://cran.org/x/src/contrib/Archive/data.table/data.table_1.0.tar.gz"), package("1.0"));
        assert_eq!(file("https://cran.org/x/src/contrib/Meta/archive.rds"), RFile::Other);
        assert_eq!(file("https://cran.org/x/web/packages"), RFile::Other);
    }
}
