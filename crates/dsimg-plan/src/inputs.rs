//! Everything a plan depends on outside the template's text: files by digest, secrets by keyed hash.
//!
//! The only file of this crate that touches the disk; it reads and changes nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};

use dsimg_template::Template;
use dsimg_template::definition::{Catalog, StepAction};
use dsimg_template::template::{Builder, BuilderTable, ParameterValue, ProvisionEntry};

use crate::digest::Digest;
use crate::plan::{FileKind, PlannedFile, SecretDigests};

/// A file that is rendered as a template may be this large.
const RENDERED_LIMIT: u64 = 1 << 20;

/// EC2's own, before it is encoded.
const USER_DATA_LIMIT: u64 = 16 << 10;

/// By its first line cloud-init knows what to do; all else it leaves alone, with a line in a log that nobody reads.
const USER_DATA_BEGINNINGS: [&str; 8] = [
    "#!",
    "#cloud-config",
    "#cloud-boothook",
    "#include",
    "#part-handler",
    "## template: jinja",
    "Content-Type: multipart/",
    "MIME-Version:",
];

/// What was read for a template, for all combinations of its matrix together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inputs {
    /// Files and folders named by path parameters, by the path as the template writes it.
    pub files: BTreeMap<PathBuf, Vec<PlannedFile>>,
    /// Files that instances get as user data, by the path as the template writes it.
    pub user_data: BTreeMap<PathBuf, Digest>,
    /// Texts of the files that are rendered, by the path as written in [`PlannedFile::source`].
    pub texts: BTreeMap<PathBuf, String>,
    pub secrets: SecretDigests,
}

#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("stage `{stage}`: cannot read `{}`", path.display())]
    Unreadable { stage: String, path: PathBuf, source: io::Error },
    #[error("stage `{stage}`: `{}` is neither a file, a folder nor a symbolic link", path.display())]
    Special { stage: String, path: PathBuf },
    #[error("stage `{stage}`: `{}` is to be rendered, but it is not UTF-8 text", path.display())]
    NotText { stage: String, path: PathBuf },
    #[error("stage `{stage}`: `{}` is to be rendered, but it is larger than 1 MiB", path.display())]
    TooLarge { stage: String, path: PathBuf },
    #[error("stage `{stage}`: the name of `{}` is not UTF-8", path.display())]
    Name { stage: String, path: PathBuf },
    #[error("builder `{builder}`: cannot read the user data `{}`", path.display())]
    UserDataUnreadable { builder: String, path: PathBuf, source: io::Error },
    #[error("builder `{builder}`: the user data `{}` {why}", path.display())]
    UserData { builder: String, path: PathBuf, why: &'static str },
}

/// Reads and hashes what the combinations of a template name. `secret_key` keys the hashes of secrets, so that a
/// key in a cache or a manifest can't be used to guess a password.
///
/// # Errors
/// A file that can't be read, or that is nothing that can be put into a machine.
pub fn gather_inputs(templates: &[Template], catalog: &Catalog, secret_key: &[u8]) -> Result<Inputs, InputError> {
    let mut inputs = Inputs::default();
    for template in templates {
        inputs.secrets.extend(hash_secrets(template, secret_key));
        let folder = template.path.parent().unwrap_or(Path::new(""));
        for entry in &template.provision {
            gather_files(entry, folder, catalog, &mut inputs)?;
        }
        for builder in &template.builders {
            gather_user_data(builder, folder, &mut inputs)?;
        }
    }
    Ok(inputs)
}

/// What one stage names, where no stage before it did.
fn gather_files(
    entry: &ProvisionEntry,
    folder: &Path,
    catalog: &Catalog,
    inputs: &mut Inputs,
) -> Result<(), InputError> {
    for path in entry.parameters.values().flat_map(paths_in) {
        if !inputs.files.contains_key(path) {
            let files = list_files(folder, path, &entry.label)?;
            inputs.files.insert(path.clone(), files);
        }
    }
    for path in rendered_paths(entry, catalog) {
        for file in inputs.files.get(path).into_iter().flatten() {
            let Some(source) = file.source.as_ref().filter(|_| matches!(file.kind, FileKind::File { .. })) else {
                continue;
            };
            if !inputs.texts.contains_key(source) {
                let text = read_text(&folder.join(source), source, &entry.label)?;
                inputs.texts.insert(source.clone(), text);
            }
        }
    }
    Ok(())
}

/// What an instance gets at its start, as cloud-init can read it.
fn gather_user_data(builder: &Builder, folder: &Path, inputs: &mut Inputs) -> Result<(), InputError> {
    let BuilderTable::AwsEbs(table) = &builder.table else { return Ok(()) };
    let Some(path) = table.instance.user_data.as_ref().filter(|path| !inputs.user_data.contains_key(*path)) else {
        return Ok(());
    };
    let unreadable =
        |source| InputError::UserDataUnreadable { builder: builder.name.clone(), path: path.clone(), source };
    let wrong = |why| InputError::UserData { builder: builder.name.clone(), path: path.clone(), why };
    let full = folder.join(path);
    if fs::metadata(&full).map_err(unreadable)?.len() > USER_DATA_LIMIT {
        return Err(wrong("is larger than 16 KiB, which is all that EC2 takes"));
    }
    let content = fs::read(&full).map_err(unreadable)?;
    let text = std::str::from_utf8(&content).map_err(|_| wrong("is not UTF-8 text"))?;
    if !USER_DATA_BEGINNINGS.iter().any(|beginning| text.starts_with(beginning)) {
        return Err(wrong("is nothing that cloud-init knows: it begins with `#!` or `#cloud-config`"));
    }
    inputs.user_data.insert(path.clone(), Digest::of_bytes(&content));
    Ok(())
}

/// All host paths a parameter's value holds.
pub(crate) fn paths_in(value: &ParameterValue) -> Vec<&PathBuf> {
    match value {
        ParameterValue::Path(path) if !path.as_os_str().is_empty() => vec![path],
        ParameterValue::Paths(paths) => paths.iter().collect(),
        ParameterValue::Tables(tables) => tables.iter().flat_map(BTreeMap::values).flat_map(paths_in).collect(),
        _ => Vec::new(),
    }
}

/// Paths of the parameters that an upload step renders for this entry.
fn rendered_paths<'a>(entry: &'a ProvisionEntry, catalog: &Catalog) -> Vec<&'a PathBuf> {
    let Some(provisioner) = catalog.get(&entry.provisioner) else { return Vec::new() };
    let is_set = |name: &str| entry.parameters.get(name).is_some_and(ParameterValue::is_set);
    let rendered = provisioner.definition.steps.iter().filter_map(|step| match &step.action {
        StepAction::Upload { parameter, render: Some(render), .. } if is_set(render) => Some(parameter),
        _ => None,
    });
    rendered.filter_map(|parameter| entry.parameters.get(parameter)).flat_map(paths_in).collect()
}

fn hash_secrets(template: &Template, secret_key: &[u8]) -> SecretDigests {
    let hash = |value: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret_key).expect("HMAC takes keys of any length");
        mac.update(value.as_bytes());
        Digest::from_output(&mac.finalize().into_bytes())
    };
    template.secrets.iter().map(|(name, secret)| (name.clone(), hash(secret.expose()))).collect()
}

/// A file as itself, a folder with all that is below it, sorted by path. `path` starts from `folder`; `stage` is for messages.
///
/// # Errors
/// It can't be read, or something in it is nothing that can be put into a machine.
pub fn list_files(folder: &Path, path: &Path, stage: &str) -> Result<Vec<PlannedFile>, InputError> {
    let mut found = Vec::new();
    // The path itself may be a symbolic link to what is meant; links below a folder are kept as links.
    let full = folder.join(path);
    let metadata = fs::metadata(&full).map_err(|source| unreadable(stage, path, source))?;
    if metadata.is_dir() {
        walk(&full, path, "", stage, &mut found)?;
    } else {
        found.push(describe_file(&full, path, String::new(), &metadata, stage)?);
    }
    Ok(found)
}

fn walk(full: &Path, path: &Path, prefix: &str, stage: &str, found: &mut Vec<PlannedFile>) -> Result<(), InputError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(full).map_err(|source| unreadable(stage, path, source))? {
        let name = entry.map_err(|source| unreadable(stage, path, source))?.file_name();
        let text = name.to_str().map(str::to_owned);
        names.push(text.ok_or_else(|| InputError::Name { stage: stage.to_owned(), path: path.join(&name) })?);
    }
    names.sort();
    for name in names {
        let (inner_full, inner) = (full.join(&name), path.join(&name));
        let place = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let metadata = fs::symlink_metadata(&inner_full).map_err(|source| unreadable(stage, &inner, source))?;
        if metadata.is_symlink() {
            let target = fs::read_link(&inner_full).map_err(|source| unreadable(stage, &inner, source))?;
            let target = target.to_str().map(str::to_owned);
            let target = target.ok_or_else(|| InputError::Name { stage: stage.to_owned(), path: inner.clone() })?;
            found.push(PlannedFile { source: Some(inner), path: place, kind: FileKind::Symlink { target } });
        } else if metadata.is_dir() {
            found.push(PlannedFile { source: Some(inner.clone()), path: place.clone(), kind: FileKind::Folder });
            walk(&inner_full, &inner, &place, stage, found)?;
        } else {
            found.push(describe_file(&inner_full, &inner, place, &metadata, stage)?);
        }
    }
    Ok(())
}

fn describe_file(
    full: &Path,
    path: &Path,
    place: String,
    metadata: &fs::Metadata,
    stage: &str,
) -> Result<PlannedFile, InputError> {
    use std::os::unix::fs::PermissionsExt as _;
    if !metadata.is_file() {
        return Err(InputError::Special { stage: stage.to_owned(), path: path.to_owned() });
    }
    let (sha256, size) = hash_file(full).map_err(|source| unreadable(stage, path, source))?;
    let executable = metadata.permissions().mode() & 0o100 != 0;
    Ok(PlannedFile { source: Some(path.to_owned()), path: place, kind: FileKind::File { sha256, size, executable } })
}

/// The file's sha256 and its size in bytes.
///
/// # Errors
/// The file can't be read.
pub fn hash_file(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((Digest::of_hasher(hasher), size));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}

fn read_text(full: &Path, path: &Path, stage: &str) -> Result<String, InputError> {
    let size = fs::metadata(full).map_err(|source| unreadable(stage, path, source))?.len();
    if size > RENDERED_LIMIT {
        return Err(InputError::TooLarge { stage: stage.to_owned(), path: path.to_owned() });
    }
    let bytes = fs::read(full).map_err(|source| unreadable(stage, path, source))?;
    String::from_utf8(bytes).map_err(|_| InputError::NotText { stage: stage.to_owned(), path: path.to_owned() })
}

fn unreadable(stage: &str, path: &Path, source: io::Error) -> InputError {
    InputError::Unreadable { stage: stage.to_owned(), path: path.to_owned(), source }
}
