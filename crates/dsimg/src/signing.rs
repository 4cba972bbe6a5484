//! The signatures of an image: what it was made of, and its checksums.

use std::collections::BTreeMap;
use std::path::Path;

use dsimg_manifest::Manifest;
use dsimg_provenance::checksums::{CHECKSUMS, CHECKSUMS_SIGNATURE, parse_checksums, sha256_of};
use dsimg_provenance::envelope::PROVENANCE;
use dsimg_provenance::verify::FolderError;
use dsimg_provenance::{
    Build as ProvenBuild, Findings, KeyError, Keys, MinisignSecretKey, SigningKey, Statement, Subject, sign,
    verify_folder,
};
use dsimg_template::Template;

use crate::arguments::{Build, Variables};
use crate::environment;
use crate::failure::{Code, Failure};
use crate::named::{IMAGE_LOCK, read_lock};
use crate::reading::open_variables;
use crate::ui::output::deliver;

/// Where nobody says who vouches for the host.
const LOCAL_BUILDER: &str = "urn:dsimg:builder:local";

/// Who signs.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    key: SigningKey,
    /// The same key in minisign's form.
    minisign: MinisignSecretKey,
    builder_id: String,
}

/// What an image was built from, as it is told.
#[derive(Debug)]
pub(crate) struct MadeOf {
    template: Subject,
    run: String,
    variables: BTreeMap<String, String>,
}

impl Signer {
    /// `None` where no key is named.
    ///
    /// # Errors
    /// The file is no such key, or the builder's id is no URI.
    pub(crate) fn of(arguments: &Build) -> Result<Option<Self>, Failure> {
        let Some(file) = arguments.sign.clone().or_else(environment::signing_key) else { return Ok(None) };
        let text = std::fs::read_to_string(&file).map_err(|error| {
            Failure::new(Code::Wrong, format!("cannot read the key `{}`", file.display())).because(error)
        })?;
        let key = SigningKey::from_pem(&text).map_err(|error| wrong_key(&file, &error))?;
        let minisign = MinisignSecretKey::from_signing_key(&key).map_err(|error| wrong_key(&file, &error))?;
        let builder_id = arguments.builder_id.clone().or_else(environment::builder_id);
        let builder_id = builder_id.unwrap_or_else(|| LOCAL_BUILDER.to_owned());
        if !is_uri(&builder_id) {
            let failure = Failure::new(Code::Wrong, format!("the builder's id `{builder_id}` is no URI"));
            return Err(failure.with_hint("write it like `https://ci.example.org/jobs/images`"));
        }
        Ok(Some(Self { key, minisign, builder_id }))
    }

    /// Writes the two signatures into an image's folder.
    ///
    /// # Errors
    /// The folder is not as its checksums say, or a file can't be read or written.
    pub(crate) fn sign(&self, folder: &Path, manifest: &Manifest, made_of: &MadeOf) -> Result<(), Failure> {
        let checksums = read(&folder.join(CHECKSUMS))?;
        let listed = parse_checksums(&checksums).map_err(|why| not_as_listed(folder).because(why))?;
        let is_file = |name: &String| manifest.build.artifacts.iter().any(|artifact| artifact.file == *name);
        let documents = listed.into_iter().filter(|(name, _)| !is_file(name));
        let lock = Some(folder.join(IMAGE_LOCK)).filter(|lock| lock.is_file());
        let lock = lock.map(|lock| read_lock(&lock, None)).transpose()?;
        let statement = Statement::of_build(&ProvenBuild {
            manifest,
            lock: lock.as_ref().map(|(_, lock)| lock),
            template: made_of.template.clone(),
            run: made_of.run.clone(),
            variables: made_of.variables.clone(),
            builder_id: self.builder_id.clone(),
            documents: documents.map(|(name, sha256)| Subject { name, sha256 }).collect(),
            byproducts: subject(&folder.join("build.log")).into_iter().collect(),
        });
        let (image, build) = (&manifest.image, &manifest.build);
        let comment = format!("{} {}, built {}", image.name, image.version, build.started);
        let signature = self.minisign.sign(checksums.as_bytes(), &comment).map_err(|error| {
            Failure::new(Code::Build, "the checksums can't be signed").because(&error).with_hint(error.hint())
        })?;
        deliver(&sign(&statement, &self.key).to_json(), Some(&folder.join(PROVENANCE)))?;
        deliver(&signature, Some(&folder.join(CHECKSUMS_SIGNATURE)))
    }

    /// Whether an image that is there is signed with this key. What nobody watched since it was built is signed only if
    /// it is as its checksums say.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn has_signed(&self, folder: &Path) -> Result<bool, Failure> {
        let own = Keys { ed25519: vec![self.key.public()], minisign: Vec::new() };
        let signed = verified(folder, &own)?;
        if signed.is_good() && signed.signed.len() == 2 {
            return Ok(true);
        }
        match verified(folder, &Keys::default())?.problems.first() {
            None => Ok(false),
            Some(problem) => Err(not_as_listed(folder).because(format!("`{}`: {}", problem.file, problem.what))),
        }
    }
}

impl MadeOf {
    /// # Errors
    /// The template or a file of values can't be read any more.
    pub(crate) fn read(path: &Path, run: String, variables: &Variables, template: &Template) -> Result<Self, Failure> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let sha256 = sha256_of(path).map_err(|error| Failure::file("cannot read", path, error))?;
        let variables = open_variables(variables, template)?;
        Ok(Self { template: Subject { name, sha256 }, run, variables })
    }
}

pub(crate) fn verified(folder: &Path, keys: &Keys) -> Result<Findings, Failure> {
    let wrong = |error: FolderError| Failure::new(Code::Wrong, error.to_string()).with_hint(error.hint());
    verify_folder(folder, keys).map_err(wrong)
}

pub(crate) fn wrong_key(file: &Path, error: &KeyError) -> Failure {
    let failure = Failure::new(Code::Wrong, format!("the key `{}` can't be used", file.display()));
    failure.because(error).with_hint(error.hint())
}

fn not_as_listed(folder: &Path) -> Failure {
    let what = format!("`{}` is not as its checksums say, so it is not signed", folder.display());
    Failure::new(Code::Found, what).with_hint("build it again with `--force --no-cache`")
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::file("cannot read", path, error))
}

/// `None`: it is not there.
fn subject(path: &Path) -> Option<Subject> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    Some(Subject { name, sha256: sha256_of(path).ok()? })
}

/// RFC 3986, section 3: a scheme and something behind it.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_part = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(is_part)
        && !rest.is_empty()
        && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_is_named_by_a_uri() {
        for good in [LOCAL_BUILDER, "https://ci.example.org/jobs/images", "mailto:ada@example.org"] {
            assert!(is_uri(good), "{good}");
        }
        for wrong in ["", "ci", ":x", "https:", "1a:b", "a b:c", "https://a b"] {
            assert!(!is_uri(wrong), "{wrong}");
        }
    }
}
