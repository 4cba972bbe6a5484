//! Advisories on disk: OSV's dumps, in the layout of osv-scanner.
//!
//! A dump has up to a few hundred thousand records in one zip. Each is read by itself; only those that are asked for are
//! kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use dsimg_manifest::normal_name;

use crate::AuditError;
use crate::affected::is_named;
use crate::names::Subject;
use crate::osv::{Head, Record};

/// The largest record, in bytes. The largest known have 3 MB.
const RECORD_LIMIT: u64 = 64 << 20;

/// What a dump has on the subjects of one ecosystem.
#[derive(Debug)]
pub(crate) struct Advisories {
    pub(crate) file: PathBuf,
    /// Those that name one of the subjects.
    pub(crate) records: Vec<Record>,
    /// How many records of the ecosystem there are, asked for or not.
    pub(crate) count: usize,
    /// The newest `modified` of all, RFC 3339.
    pub(crate) newest: Option<String>,
}

/// `None`: the folder has no data for the ecosystem.
///
/// # Errors
/// A file of the ecosystem that can't be read, or is not what it should be.
pub(crate) fn read(folder: &Path, subjects: &[&Subject]) -> Result<Option<Advisories>, AuditError> {
    let Some(subject) = subjects.first() else { return Ok(None) };
    let Some(place) = find(folder, &subject.ecosystem.names, subject.ecosystem.family) else { return Ok(None) };
    let mut reader = Reader::new(subjects);
    let file = match place {
        Place::Zip(file) => {
            read_zip(&file, &mut reader)?;
            file
        }
        Place::Folder(folder) => {
            read_folder(&folder, &mut reader)?;
            folder
        }
    };
    Ok(Some(Advisories { file, records: reader.records, count: reader.count, newest: reader.newest }))
}

/// Counts the records of a dump that was fetched just now.
///
/// # Errors
/// It is no dump, or has no records.
pub fn check_dump(file: &Path) -> Result<usize, AuditError> {
    let open = File::open(file).map_err(|cause| AuditError::database(file, cause))?;
    let archive = zip::ZipArchive::new(BufReader::new(open));
    let archive = archive.map_err(|cause| AuditError::database(file, in_words(&cause)))?;
    let names = archive.file_names();
    let records = names.filter(|name| name.as_ref().is_ok_and(|name| is_record(Path::new(name.as_ref())))).count();
    if records == 0 { Err(AuditError::database(file, "it has no records")) } else { Ok(records) }
}

enum Place {
    Zip(PathBuf),
    Folder(PathBuf),
}

/// `DIR/Debian:13/all.zip` before `DIR/Debian/all.zip`, each also below `DIR/osv-scanner`, or unpacked beside it.
fn find(folder: &Path, names: &[String], family: &str) -> Option<Place> {
    let roots = [folder.to_owned(), folder.join("osv-scanner")];
    let names: Vec<_> = names.iter().map(String::as_str).chain([family]).collect();
    let folders = roots.iter().flat_map(|root| names.iter().map(move |name| root.join(name)));
    for folder in folders {
        let zip = folder.join("all.zip");
        if zip.is_file() {
            return Some(Place::Zip(zip));
        }
        let mut files = fs::read_dir(&folder).into_iter().flatten().flatten();
        if files.any(|file| is_record(&file.path())) {
            return Some(Place::Folder(folder));
        }
    }
    None
}

fn is_record(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn read_zip(file: &Path, reader: &mut Reader<'_>) -> Result<(), AuditError> {
    let error = |reason: String| AuditError::database(file, reason);
    let open = File::open(file).map_err(|cause| error(cause.to_string()))?;
    let mut archive = zip::ZipArchive::new(BufReader::new(open)).map_err(|cause| error(in_words(&cause)))?;
    let mut text = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).map_err(|cause| error(in_words(&cause)))?;
        let name = member.name().map_err(|cause| error(in_words(&cause)))?.into_owned();
        if !member.is_file() || !is_record(Path::new(&name)) {
            continue;
        }
        read_record(&mut member, &mut text, reader).map_err(|cause| error(format!("`{name}` in it: {cause}")))?;
    }
    Ok(())
}

fn read_folder(folder: &Path, reader: &mut Reader<'_>) -> Result<(), AuditError> {
    let listing = fs::read_dir(folder).map_err(|cause| AuditError::database(folder, cause))?;
    let mut files: Vec<_> = listing.flatten().map(|entry| entry.path()).filter(|path| is_record(path)).collect();
    files.sort();
    let mut text = Vec::new();
    for file in files {
        let mut open = File::open(&file).map_err(|cause| AuditError::database(&file, cause))?;
        read_record(&mut open, &mut text, reader).map_err(|cause| AuditError::database(&file, cause))?;
    }
    Ok(())
}

fn read_record(source: &mut impl Read, text: &mut Vec<u8>, reader: &mut Reader<'_>) -> Result<(), String> {
    text.clear();
    source.take(RECORD_LIMIT + 1).read_to_end(text).map_err(|cause| cause.to_string())?;
    if text.len() as u64 > RECORD_LIMIT {
        return Err(format!("it is larger than {} MiB", RECORD_LIMIT >> 20));
    }
    reader.take(text).map_err(|cause| format!("no OSV record: {cause}"))
}

fn in_words(error: &zip::result::ZipError) -> String {
    match error {
        zip::result::ZipError::Io(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => {
            "it ends too early".to_owned()
        }
        other => other.to_string(),
    }
}

/// Keeps what is asked for.
struct Reader<'a> {
    /// By name, so that most records need one look.
    subjects: BTreeMap<&'a str, Vec<&'a Subject>>,
    names: BTreeSet<&'a str>,
    normalises: bool,
    records: Vec<Record>,
    count: usize,
    newest: Option<String>,
}

impl<'a> Reader<'a> {
    fn new(subjects: &[&'a Subject]) -> Self {
        let mut by_name: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for subject in subjects {
            by_name.entry(subject.name.as_str()).or_default().push(*subject);
        }
        let ecosystem = subjects.first().map(|subject| &subject.ecosystem);
        let names = ecosystem.iter().flat_map(|ecosystem| ecosystem.names.iter().map(String::as_str));
        Self {
            subjects: by_name,
            names: names.chain(ecosystem.map(|ecosystem| ecosystem.family)).collect(),
            normalises: ecosystem.is_some_and(|ecosystem| ecosystem.order == "pypi"),
            records: Vec::new(),
            count: 0,
            newest: None,
        }
    }

    fn take(&mut self, text: &[u8]) -> Result<(), serde_json::Error> {
        let head: Head<'_> = serde_json::from_slice(text)?;
        if let Some(modified) = &head.modified
            && self.newest.as_deref().is_none_or(|newest| newest < &**modified)
        {
            self.newest = Some(modified.clone().into_owned());
        }
        let packages = || head.affected.iter().filter_map(|affected| affected.package.as_ref());
        self.count += usize::from(packages().any(|package| self.names.contains(&*package.ecosystem)));
        let is_asked_for = packages().any(|package| {
            let normal;
            let name: &str = if self.normalises {
                normal = normal_name(&package.name);
                &normal
            } else {
                &package.name
            };
            let subjects = self.subjects.get(name).into_iter().flatten();
            subjects.into_iter().any(|subject| is_named(&package.ecosystem, &package.name, subject))
        });
        if is_asked_for {
            let record: Record = serde_json::from_slice(text)?;
            if record.withdrawn.is_none() {
                self.records.push(record);
            }
        }
        Ok(())
    }
}
