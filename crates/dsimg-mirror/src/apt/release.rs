//! `Release` files: read, and made for repositories of a lock.

use std::collections::BTreeSet;

use dsimg_manifest::lock::AptIndex;
use dsimg_plan::Digest;

use crate::apt::stanza::Stanza;

/// What apt shows and pins by, as a `Release` or `InRelease` file says it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ReleaseFacts {
    /// `Origin`, `Label`, `Suite`, `Codename`, `Version`, `Date` and such, as they stand there.
    fields: Vec<(&'static str, String)>,
    pub(crate) components: Vec<String>,
    /// Of each file that it signs: its sha256.
    digests: Vec<(String, Digest)>,
}

const KEPT: [&str; 8] =
    ["Origin", "Label", "Suite", "Version", "Codename", "Date", "NotAutomatic", "ButAutomaticUpgrades"];
/// What a suite that the lock does not have is taken to consist of: apt warns of components that are not named.
const COMPONENTS: [&str; 7] =
    ["main", "contrib", "non-free", "non-free-firmware", "restricted", "universe", "multiverse"];

impl ReleaseFacts {
    /// Of a file with or without a signature around it.
    pub(crate) fn read(text: &str) -> Self {
        let text = match text.strip_prefix("-----BEGIN PGP SIGNED MESSAGE-----") {
            Some(signed) => {
                let start = signed.find("\n\n").map_or(0, |gap| gap + 2);
                let end = signed.find("\n-----BEGIN PGP SIGNATURE-----").unwrap_or(signed.len());
                signed.get(start..end).unwrap_or_default()
            }
            None => text,
        };
        let stanza = Stanza(text);
        let fields = KEPT.iter().filter_map(|name| Some((*name, stanza.field(name)?.to_owned()))).collect();
        let (digests, components) = (digests(text), stanza.folded("Components").unwrap_or_default());
        let components = components.split_whitespace().map(|name| component_of(name, &digests).to_owned()).collect();
        Self { fields, components, digests }
    }

    /// Of a suite that nothing is known of: an empty one.
    pub(crate) fn unknown(suite: &str) -> Self {
        let codename = Some(("Codename", suite.to_owned())).filter(|_| suite != "/");
        let date = ("Date", "Thu, 01 Jan 1970 00:00:00 UTC".to_owned());
        let fields = codename.into_iter().chain([date]).collect();
        Self { fields, components: COMPONENTS.map(str::to_owned).to_vec(), digests: Vec::new() }
    }

    /// As far as a lock tells it. `origin` is a package's, such as `Debian trixie main`.
    pub(crate) fn regained(index: &AptIndex, origin: Option<&str>, components: BTreeSet<String>) -> Self {
        let mut facts = Self::unknown(&index.suite);
        // Those without a package in the lock may be among the machine's sources, too.
        facts.components =
            components.into_iter().chain(facts.components).collect::<BTreeSet<_>>().into_iter().collect();
        facts.fields.retain(|(name, _)| *name == "Codename");
        let words: Vec<_> = origin.unwrap_or_default().split(' ').collect();
        if let [origin @ .., codename, _component] = words.as_slice() {
            facts.fields = vec![("Origin", origin.join(" ")), ("Codename", (*codename).to_owned())];
        }
        if index.suite != "/" {
            facts.fields.push(("Suite", index.suite.clone()));
        }
        facts.fields.push(("Date", index.date.clone()));
        facts
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    /// Of a file below the one that this was read from.
    pub(crate) fn digest_of(&self, file: &str) -> Option<&Digest> {
        self.digests.iter().find(|(name, _)| name == file).map(|(_, digest)| digest)
    }

    /// A file that names these lists: path, bytes. Nothing in it ends with time.
    pub(crate) fn write(&self, archs: &[String], lists: &[(String, Vec<u8>)]) -> String {
        let mut text = String::new();
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\n"));
        }
        // Else apt asks for a list of packages for all architectures, which are in each other list here.
        text.push_str(&format!("Architectures: {}\nNo-Support-for-Architecture-all: Packages\n", archs.join(" ")));
        if !self.components.is_empty() {
            text.push_str(&format!("Components: {}\n", self.components.join(" ")));
        }
        text.push_str("SHA256:\n");
        for (path, bytes) in lists {
            text.push_str(&format!(" {} {} {path}\n", Digest::of_bytes(bytes), bytes.len()));
        }
        text
    }
}

/// The lines below `SHA256:`: digest, size, name.
fn digests(text: &str) -> Vec<(String, Digest)> {
    let lines = text.lines().skip_while(|line| !line.starts_with("SHA256:")).skip(1);
    let lines = lines.take_while(|line| line.starts_with(' '));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let digest = Digest::parse(words.next()?)?;
            Some((words.nth(1)?.to_owned(), digest))
        })
        .collect()
}

/// Debian's security archive names its components `updates/main` and keeps their lists in `main`.
fn component_of<'a>(name: &'a str, digests: &[(String, Digest)]) -> &'a str {
    let folder = format!("{name}/binary-");
    match digests.iter().any(|(file, _)| file.starts_with(&folder)) {
        true => name,
        false => name.rsplit('/').next().unwrap_or(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNED: &str = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nLabel: Debian\n\
        Suite: stable\nVersion: 13.1\nCodename: trixie\nDate: Sat, 06 Sep 2025 09:41:13 UTC\n\
        Valid-Until: Sat, 13 Sep 2025 09:41:13 UTC\nAcquire-By-Hash: yes\nComponents: updates/main contrib\n\
        MD5Sum:\n 00 1 main/a\nSHA256:\n \
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855        0 main/binary-amd64/Packages\n\
        -----BEGIN PGP SIGNATURE-----\nComponents: forged\n";

    #[test]
    fn what_apt_goes_by_is_kept_and_what_ends_is_not() {
        let facts = ReleaseFacts::read(SIGNED);
        assert_eq!(facts.digest_of("main/binary-amd64/Packages"), Some(&Digest::of_bytes(b"")));
        let list = ("main/binary-amd64/Packages".to_owned(), b"Package: a\n".to_vec());
        insta::assert_snapshot!(facts.write(&["amd64".to_owned()], &[list]));
    }

    #[test]
    fn a_suite_that_nothing_is_known_of_is_named_as_it_was_asked_for() {
        let facts = ReleaseFacts::unknown("trixie-updates");
        assert_eq!((facts.field("Codename"), facts.components.len()), (Some("trixie-updates"), 7));
    }
}
