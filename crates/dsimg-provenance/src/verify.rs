//! Is an image's folder what was signed? Every disagreement is named.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dsimg_manifest::Manifest;
use serde::Serialize;

use crate::checksums::{CHECKSUMS, CHECKSUMS_SIGNATURE, is_plain_name, parse_checksums, sha256_of};
use crate::envelope::{Envelope, EnvelopeError, PROVENANCE};
use crate::{MinisignPublicKey, PublicKey, Statement};

/// Larger documents are refused, in bytes.
const DOCUMENT_LIMIT: u64 = 64 << 20;

/// What signatures may be of. Without keys, the folder is held against itself.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// For the statement, and in minisign's form for the checksums.
    pub ed25519: Vec<PublicKey>,
    /// For the checksums.
    pub minisign: Vec<MinisignPublicKey>,
}

/// What is wrong with a folder, and what was seen to be right.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    pub problems: Vec<Problem>,
    /// Files whose bytes are as they should be.
    pub verified: BTreeSet<String>,
    /// Which signature was made by which key.
    pub signed: Vec<String>,
    /// Files of which nobody says what they should be.
    pub not_covered: BTreeSet<String>,
    /// What was in the verified statement.
    #[serde(skip)]
    pub statement: Option<Statement>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// In the folder.
    pub file: String,
    pub what: String,
    /// What to do next.
    pub hint: String,
}

impl Findings {
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

/// A folder that can't even be looked at.
#[derive(Debug, thiserror::Error)]
#[error("the folder `{}` can't be read: {cause}", folder.display())]
pub struct FolderError {
    pub folder: PathBuf,
    pub cause: io::Error,
}

impl FolderError {
    #[must_use]
    pub fn hint(&self) -> &'static str {
        "give the folder that a build wrote, with its image files and SHA256SUMS"
    }
}

/// Checks the checksums against the files and their signature, the manifest and the signed statement against the files.
///
/// # Errors
/// The folder can't be read. Whatever is wrong in it is in the findings.
pub fn verify_folder(folder: &Path, keys: &Keys) -> Result<Findings, FolderError> {
    let listing = fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
    });
    let names: BTreeSet<String> = listing.map_err(|cause| FolderError { folder: folder.to_owned(), cause })?;
    let mut check = Check { folder, names, digests: BTreeMap::new(), findings: Findings::default() };
    let listed = check.checksums(keys);
    check.manifest();
    check.statement(keys, &listed);
    check.rest();
    Ok(check.findings)
}

struct Check<'a> {
    folder: &'a Path,
    names: BTreeSet<String>,
    /// Of each file once, as images are large.
    digests: BTreeMap<String, Result<String, String>>,
    findings: Findings,
}

impl Check<'_> {
    fn problem(&mut self, file: &str, what: impl Into<String>, hint: &str) {
        let problem = Problem { file: file.to_owned(), what: what.into(), hint: hint.to_owned() };
        if !self.findings.problems.contains(&problem) {
            self.findings.problems.push(problem);
        }
    }

    /// The text of a document; `None`, with the problem named, if it can't be read.
    fn document(&mut self, name: &str) -> Option<String> {
        let read = || {
            let file = self.folder.join(name);
            let about = fs::symlink_metadata(&file)?;
            if !about.is_file() || about.len() > DOCUMENT_LIMIT {
                return Err(io::Error::other("it is no file, or larger than such a file is"));
            }
            fs::read_to_string(file)
        };
        match read() {
            Ok(text) => Some(text),
            Err(cause) => {
                self.problem(name, format!("it can't be read: {cause}"), COPY_AGAIN);
                None
            }
        }
    }

    /// Names the file if its bytes are not these. `whose` says so.
    fn compare(&mut self, name: &str, expected: &str, whose: &str) {
        if !is_plain_name(name) {
            let text = format!("{whose} names `{}`, which is not a file of this folder", name.escape_default());
            return self.problem(whose, text, FETCH_FROM_SOURCE);
        }
        if !self.names.contains(name) {
            return self.problem(name, format!("it is missing, and {whose} lists it"), COPY_AGAIN);
        }
        let folder = self.folder;
        let found = self.digests.entry(name.to_owned()).or_insert_with(|| digest_of(&folder.join(name)));
        match found.clone() {
            Err(reason) => self.problem(name, format!("it can't be read: {reason}"), COPY_AGAIN),
            Ok(found) if found != expected => {
                let (found, expected) = (short(&found), short(expected));
                let what = format!("its sha256 is {found}…, and {whose} says {expected}…");
                self.problem(name, what, COPY_AGAIN);
            }
            Ok(_) => drop(self.findings.verified.insert(name.to_owned())),
        }
    }

    /// Gives the files that are listed.
    fn checksums(&mut self, keys: &Keys) -> BTreeMap<String, String> {
        if !self.names.contains(CHECKSUMS) {
            self.problem(CHECKSUMS, "it is missing", COPY_AGAIN);
            return BTreeMap::new();
        }
        let Some(text) = self.document(CHECKSUMS) else { return BTreeMap::new() };
        self.signature(&text, keys);
        match parse_checksums(&text) {
            Ok(files) => {
                for (name, digest) in &files {
                    self.compare(name, digest, CHECKSUMS);
                }
                files
            }
            Err(what) => {
                self.problem(CHECKSUMS, what, COPY_AGAIN);
                BTreeMap::new()
            }
        }
    }

    fn signature(&mut self, checksums: &str, keys: &Keys) {
        let of_pem = keys.ed25519.iter().filter_map(|key| MinisignPublicKey::from_public_key(key).ok());
        let all: Vec<_> = keys.minisign.iter().cloned().chain(of_pem).collect();
        if all.is_empty() {
            return;
        }
        if !self.names.contains(CHECKSUMS_SIGNATURE) {
            // A key that signs statements need not sign checksums.
            if !keys.minisign.is_empty() || !self.names.contains(PROVENANCE) {
                self.problem(CHECKSUMS_SIGNATURE, "it is missing: nobody signed the checksums", ASK_THE_SIGNER);
            }
            return;
        }
        let Some(signature) = self.document(CHECKSUMS_SIGNATURE) else { return };
        let mut reasons = BTreeSet::new();
        for key in &all {
            match key.verify(checksums.as_bytes(), &signature) {
                Ok(comment) => {
                    self.findings.verified.insert(CHECKSUMS.to_owned());
                    let line = format!("{CHECKSUMS} by the minisign key {}: {comment}", key.id());
                    return self.findings.signed.push(line);
                }
                Err(reason) => drop(reasons.insert(reason)),
            }
        }
        let reasons = reasons.into_iter().collect::<Vec<_>>().join("; ");
        let what = format!("it is no signature of {CHECKSUMS} by the keys that were given: {reasons}");
        self.problem(CHECKSUMS_SIGNATURE, what, ASK_THE_SIGNER);
    }

    fn manifest(&mut self) {
        const MANIFEST: &str = "manifest.json";
        if !self.names.contains(MANIFEST) {
            return;
        }
        let Some(text) = self.document(MANIFEST) else { return };
        match Manifest::from_json(&text) {
            Ok(manifest) => {
                for artifact in &manifest.build.artifacts {
                    self.compare(&artifact.file, &artifact.sha256, MANIFEST);
                }
            }
            Err(error) => self.problem(MANIFEST, error.to_string(), COPY_AGAIN),
        }
    }

    fn statement(&mut self, keys: &Keys, listed: &BTreeMap<String, String>) {
        if keys.ed25519.is_empty() {
            return;
        }
        if !self.names.contains(PROVENANCE) {
            if self.findings.signed.is_empty() {
                self.problem(PROVENANCE, "it is missing: nobody signed what the image was made of", ASK_THE_SIGNER);
            }
            return;
        }
        let Some(text) = self.document(PROVENANCE) else { return };
        let verified = Envelope::from_json(&text).and_then(|envelope| envelope.verify(&keys.ed25519));
        let (statement, key) = match verified {
            Ok(verified) => verified,
            Err(error) => {
                let hint = if matches!(error, EnvelopeError::Form(_)) { COPY_AGAIN } else { ASK_THE_SIGNER };
                return self.problem(PROVENANCE, error.to_string(), hint);
            }
        };
        self.findings.verified.insert(PROVENANCE.to_owned());
        self.findings.signed.push(format!("{PROVENANCE} by the key {key}"));
        for subject in &statement.subject {
            match subject.digest.get("sha256") {
                Some(digest) => self.compare(&subject.name, digest, PROVENANCE),
                None => self.problem(PROVENANCE, format!("no sha256 of `{}`", subject.name), ASK_THE_SIGNER),
            }
        }
        for name in listed.keys().filter(|name| !statement.subject.iter().any(|subject| subject.name == **name)) {
            self.problem(name, format!("{CHECKSUMS} lists it, and {PROVENANCE} is not about it"), FETCH_FROM_SOURCE);
        }
        self.findings.statement = Some(statement);
    }

    fn rest(&mut self) {
        let own = [CHECKSUMS, CHECKSUMS_SIGNATURE, PROVENANCE];
        let with_problems: BTreeSet<_> = self.findings.problems.iter().map(|problem| problem.file.clone()).collect();
        let others = self.names.iter().filter(|name| !own.contains(&name.as_str()));
        let others = others.filter(|name| !self.findings.verified.contains(*name) && !with_problems.contains(*name));
        self.findings.not_covered = others.cloned().collect();
        self.findings.problems.sort();
    }
}

const COPY_AGAIN: &str = "copy or download the folder again, or build the image anew";
const ASK_THE_SIGNER: &str = "ask whoever published the image for the signature and the public key that belongs to it";
const FETCH_FROM_SOURCE: &str = "do not use the image: fetch it again from where it was published";

fn digest_of(file: &Path) -> Result<String, String> {
    let about = fs::symlink_metadata(file).map_err(|cause| cause.to_string())?;
    if !about.is_file() {
        return Err("it is not a file".to_owned());
    }
    sha256_of(file).map_err(|cause| cause.to_string())
}

fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}
