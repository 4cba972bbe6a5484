//! What commands are given as an image: its folder, its manifest, its lock, or a disk.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use dsimg_manifest::manifest::Artifact;
use dsimg_manifest::{Inventory, Lock, LockFile, Manifest};

use crate::failure::{Code, Failure};
use crate::locking::Locks;

/// The lock that an image was built from, in the image's folder.
pub(crate) use dsimg_build::IMAGE_LOCK;

/// An image, as far as what was named tells of it. At least one of the three is there.
#[derive(Debug)]
pub(crate) struct Named {
    pub path: PathBuf,
    pub manifest: Option<Manifest>,
    /// With the name of its run.
    pub lock: Option<(String, Lock)>,
    /// A file that dsimg-tree may read.
    pub disk: Option<PathBuf>,
}

impl Named {
    /// `run` chooses among the locks of a file.
    ///
    /// # Errors
    /// There is nothing, it is something else, or a lock file with several runs of which none is chosen.
    pub(crate) fn open(path: &Path, run: Option<&str>) -> Result<Self, Failure> {
        let nothing = Self { path: path.to_owned(), manifest: None, lock: None, disk: None };
        if path.is_dir() {
            let manifest = read_manifest(path)?;
            let disk = manifest.build.artifacts.iter().find(|artifact| is_readable(artifact, path));
            let disk = disk.map(|artifact| path.join(&artifact.file));
            let lock = Some(path.join(IMAGE_LOCK)).filter(|lock| lock.is_file());
            let lock = lock.map(|lock| read_lock(&lock, None)).transpose()?;
            return Ok(Self { manifest: Some(manifest), lock, disk, ..nothing });
        }
        Ok(match form_of(path)? {
            Form::Manifest => Self { manifest: Some(read_manifest(path)?), ..nothing },
            Form::Lock => Self { lock: Some(read_lock(path, run)?), ..nothing },
            Form::Disk => Self { disk: Some(path.to_owned()), ..nothing },
        })
    }

    /// `None` for a disk alone.
    pub(crate) fn inventory(&self) -> Option<Inventory> {
        match (&self.manifest, &self.lock) {
            (Some(manifest), Some((_, lock))) => Some(Inventory::of_image(manifest, lock)),
            (Some(manifest), None) => Some(Inventory::of_manifest(manifest)),
            (None, Some((run, lock))) => Some(Inventory::of_lock(run, lock)),
            (None, None) => None,
        }
    }

    /// # Errors
    /// It is a disk alone.
    pub(crate) fn known_packages(&self) -> Result<Inventory, Failure> {
        self.inventory().ok_or_else(|| {
            Failure::new(Code::Wrong, format!("`{}` is a disk, which does not say what is in it", self.path.display()))
                .with_hint("give the image's folder, its `manifest.json` or its lock")
        })
    }
}

fn is_readable(artifact: &Artifact, folder: &Path) -> bool {
    matches!(artifact.format.as_str(), "qcow2" | "raw") && folder.join(&artifact.file).is_file()
}

enum Form {
    Manifest,
    Lock,
    Disk,
}

/// Disks begin with zeros, programs or a qcow2's numbers; texts have none of these.
fn form_of(path: &Path) -> Result<Form, Failure> {
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(4096).read_to_end(&mut head)).map_err(|error| match error.kind() {
        ErrorKind::NotFound => no_image(path),
        _ => Failure::new(Code::Wrong, format!("cannot read `{}`", path.display())).because(error),
    })?;
    Ok(match head.iter().find(|byte| !byte.is_ascii_whitespace()) {
        _ if head.contains(&0) => Form::Disk,
        Some(b'{') => Form::Manifest,
        _ if path.extension().is_some_and(|extension| extension == "json") => Form::Manifest,
        _ => Form::Lock,
    })
}

/// One run of a lock file.
///
/// # Errors
/// It is no lock, or `run` does not choose one of its runs.
pub(crate) fn read_lock(path: &Path, run: Option<&str>) -> Result<(String, Lock), Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::new(Code::Wrong, format!("there is no lock `{}`", path.display()))
            .with_hint("`dsimg lock TEMPLATE` makes it, beside the template"),
        _ => Failure::new(Code::Wrong, format!("cannot read `{}`", path.display())).because(error),
    })?;
    choose(Locks::of_text(path.to_owned(), &text)?.into_file(), path, run)
}

fn choose(mut file: LockFile, path: &Path, run: Option<&str>) -> Result<(String, Lock), Failure> {
    let names: Vec<_> = file.runs.keys().cloned().collect();
    let choices = names.join(", ");
    let chosen = match (run, names.as_slice()) {
        (Some(run), _) => run.to_owned(),
        (None, [only]) => only.clone(),
        (None, []) => return Err(Failure::new(Code::Wrong, format!("the lock `{}` is empty", path.display()))),
        (None, _) => {
            let what = format!("the lock `{}` is of several builds", path.display());
            return Err(Failure::new(Code::Wrong, what).with_hint(format!("choose one with `--only`: {choices}")));
        }
    };
    match file.runs.remove_entry(&chosen) {
        Some(run) => Ok(run),
        None => {
            let what = format!("the lock `{}` has nothing for `{chosen}`", path.display());
            Err(Failure::new(Code::Wrong, what).with_hint(format!("its builds: {choices}")))
        }
    }
}

/// # Errors
/// There is no manifest, or it is none that this version reads.
pub(crate) fn read_manifest(given: &Path) -> Result<Manifest, Failure> {
    let path = if given.is_dir() { given.join("manifest.json") } else { given.to_owned() };
    let text = std::fs::read_to_string(&path).map_err(|error| unreadable(given, &path, &error))?;
    Manifest::from_json(&text)
        .map_err(|error| Failure::new(Code::Wrong, format!("cannot read `{}`", path.display())).because(error))
}

fn unreadable(given: &Path, path: &Path, error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound if given.is_dir() => {
            let failure = Failure::new(Code::Wrong, format!("`{}` holds no `manifest.json`", given.display()));
            match images_in(given).as_slice() {
                [] => failure.with_hint("give the folder of an image, such as `images/quickstart-1.0`"),
                [image, ..] => failure.with_hint(format!("did you mean `{}`?", image.display())),
            }
        }
        ErrorKind::NotFound => no_image(path),
        _ => Failure::new(Code::Wrong, format!("cannot read `{}`", path.display())).because(error),
    }
}

fn no_image(path: &Path) -> Failure {
    let failure = Failure::new(Code::Wrong, format!("there is no `{}`", path.display()));
    let here = images_in(Path::new("images"));
    let names: Vec<_> = here.iter().map(|image| format!("`{}`", image.display())).collect();
    failure.with_hint(match names.as_slice() {
        [] => "give the folder of an image, such as `images/quickstart-1.0`".to_owned(),
        [image] => format!("the image here is {image}"),
        [first, .., last] if names.len() > 5 => format!("{} images are here, from {first} to {last}", names.len()),
        images => format!("the images here are {}", images.join(", ")),
    })
}

/// Folders of images below a folder.
fn images_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut images: Vec<_> = entries.filter(|path| path.join("manifest.json").is_file()).collect();
    images.sort();
    images
}
