//! A base from an image file or URL: verified, unpacked, looked into, made a qcow2, and kept by its digest.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

use dsimg_download::{Access, Download, Expected, expected_digest, fetch};
use dsimg_machine::{BaseImage, Event, MachineError, RunContext};
use dsimg_template::template::{Compression, DiskFormat, ImageSource, Location};

use super::inspect::{Disk, inspect};
use super::store::{DISK, Place};
use super::unpack::unpack;
use crate::disk::{ImageInfo, Layout, QemuImg, Source, Target};
use crate::image::settle;

/// The login where the template names none. Nothing is known about the image, and root is in each.
const USER: &str = "root";

/// Finds the base in the cache by its digest, or makes it. Paths are absolute.
pub(crate) async fn prepare(
    source: &ImageSource,
    access: Access,
    tools: &QemuImg,
    run: &RunContext,
) -> Result<BaseImage, MachineError> {
    let expected = expected_digest(&source.checksum, &source.location, &access, run).await?;
    let place = Place::lock(&format!("{}-{}", expected.algorithm(), expected.hex()), run).await?;
    let name = file_name(&source.location);
    if let Some(found) = place.find() {
        run.debug(format!("base `{name}` is in the cache: {}", found.path.display()));
        return Ok(describe(source, found));
    }

    let download = Download { location: source.location.clone(), expected, access };
    let file = locate(&download, run).await?;
    let workshop = place.workshop()?;
    let unpacked = workshop.path().join("unpacked");
    unpack_to(&file, &unpacked, &download.expected, &name, run).await?;
    let disk = look_into(&unpacked, source.format, &name)?;
    let info = ask_qemu(tools, &unpacked, &disk, &name, run).await?;
    let made = workshop.path().join(DISK);
    make_qcow2(tools, &unpacked, &made, &disk, (&name, info.virtual_size), run).await?;
    let (_, sha256) = settle(&made, &run.cancel).await?;
    let (description, user) = (name, user(source));
    let base = BaseImage { path: made, id: None, sha256, description, virtual_size: info.virtual_size, user };
    let base = place.publish(workshop, base)?;
    forget_download(&download, &file, run);
    Ok(base)
}

/// A base of the cache, by the name and with the login of this template.
pub(super) fn describe(source: &ImageSource, found: BaseImage) -> BaseImage {
    BaseImage { description: file_name(&source.location), user: user(source), ..found }
}

fn user(source: &ImageSource) -> String {
    source.user.clone().unwrap_or_else(|| USER.to_owned())
}

/// The last part of the path or URL, without a query.
fn file_name(location: &Location) -> String {
    let name = match location {
        Location::Path(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        Location::Url(url) => {
            let path = url.split(['?', '#']).next().unwrap_or_default();
            path.rsplit('/').next().unwrap_or_default().to_owned()
        }
    };
    if name.is_empty() { "image".to_owned() } else { name }
}

/// Copies, verifies and unpacks, with progress in bytes of the file.
async fn unpack_to(
    file: &Path,
    target: &Path,
    expected: &Expected,
    name: &str,
    run: &RunContext,
) -> Result<(), MachineError> {
    let what = format!("verifying {name}");
    let total = file.metadata().map(|metadata| metadata.len()).ok();
    let (file, target, expected) = (file.to_owned(), target.to_owned(), expected.clone());
    let context = run.clone();
    let task = spawn_blocking(move || {
        let mut output = File::options().write(true).create_new(true).open(&target);
        let output = output.as_mut().map_err(|error| {
            MachineError::file("cannot make", &target, std::io::Error::new(error.kind(), error.to_string()))
        })?;
        let mut told = Instant::now();
        unpack(&file, output, &expected, &context.cancel, &mut |done| {
            if told.elapsed() > Duration::from_millis(200) {
                told = Instant::now();
                context.report(&Event::Progress { what: what.clone(), done, total });
            }
        })?;
        context.report(&Event::ProgressEnded { what });
        Ok(())
    });
    task.await.unwrap_or(Err(MachineError::Cancelled))
}

/// Our own look at the first bytes, before QEMU's programs open the file.
fn look_into(image: &Path, declared: Option<DiskFormat>, name: &str) -> Result<Disk, MachineError> {
    let unread = |error| MachineError::file("cannot read", image, error);
    let mut file = File::open(image).map_err(unread)?;
    let disk = inspect(&mut file).map_err(unread)?.map_err(|refusal| {
        let hint = "take an image that holds one whole disk, or make one: `qemu-img convert -O qcow2 …`";
        MachineError::refused(format!("the base image `{name}` {refusal}"), hint)
    })?;
    match declared {
        Some(declared) if declared != disk.format => Err(MachineError::refused(
            format!(
                "the template says that the base image `{name}` is {}, and by its content it is {}",
                declared.as_str(),
                disk.format.as_str()
            ),
            "leave `format` out: the content tells it",
        )),
        _ => Ok(disk),
    }
}

/// What QEMU makes of it must be the same.
async fn ask_qemu(
    tools: &QemuImg,
    image: &Path,
    disk: &Disk,
    name: &str,
    run: &RunContext,
) -> Result<ImageInfo, MachineError> {
    let refused = |why: &str| {
        MachineError::refused(format!("the base image `{name}` {why}"), "take an image that holds one whole disk")
    };
    let info = match tools.info(image, Some(disk.format.as_str()), run).await {
        Ok(info) => info,
        Err(MachineError::Machine { what, .. }) => {
            return Err(refused(&format!("cannot be read as {}: {what}", disk.format.as_str())));
        }
        Err(error) => return Err(error),
    };
    if info.format != disk.format.as_str() || info.backing_filename.is_some() || info.encrypted {
        return Err(refused("is a part of a disk, or encrypted"));
    }
    let named = |key: &str| info.format_specific.as_ref().and_then(|specific| specific.data.get(key));
    if named("data-file").is_some() {
        return Err(refused("names an external data file"));
    }
    if named("extents").and_then(serde_json::Value::as_array).is_some_and(|extents| extents.len() > 1) {
        return Err(refused("is in several parts, of which this is one"));
    }
    if info.virtual_size == 0 {
        return Err(refused("is empty"));
    }
    Ok(info)
}

/// A qcow2 is checked and taken as it is; anything else is converted.
async fn make_qcow2(
    tools: &QemuImg,
    from: &Path,
    to: &Path,
    disk: &Disk,
    (name, virtual_size): (&str, u64),
    run: &RunContext,
) -> Result<(), MachineError> {
    let damaged = |error: MachineError| match error {
        MachineError::Machine { what, .. } => MachineError::refused(
            format!("the base image `{name}` is damaged: {what}"),
            "its checksum is the one that was given, so it was published damaged",
        ),
        other => other,
    };
    tools.check(from, disk.format, run).await.map_err(damaged)?;
    if !disk.needs_copy {
        return std::fs::rename(from, to).map_err(|error| MachineError::file("cannot rename", from, error));
    }
    let target = Target { format: DiskFormat::Qcow2, compression: Compression::None, layout: Layout::Quick };
    let what = format!("converting {name}");
    tools
        .convert(Source::File(from, disk.format.as_str()), (to, target), (&what, virtual_size), run)
        .await
        .map_err(damaged)?;
    std::fs::remove_file(from).map_err(|error| MachineError::file("cannot remove", from, error))
}

/// A local file where it lies, unread; a URL's file in the cache.
async fn locate(download: &Download, run: &RunContext) -> Result<PathBuf, MachineError> {
    match &download.location {
        Location::Path(path) if path.is_file() => Ok(path.clone()),
        Location::Path(path) => Err(MachineError::refused(
            format!("the base image {} is not there", path.display()),
            "look at `base.image` in the template; a relative path starts from the template's folder",
        )),
        Location::Url(_) => fetch(download, &run.cache, run).await,
    }
}

/// The base is made of it and found again without it.
fn forget_download(download: &Download, file: &Path, run: &RunContext) {
    if matches!(download.location, Location::Url(_))
        && let Err(error) = std::fs::remove_file(file)
    {
        run.debug(format!("cannot remove {}: {error}", file.display()));
    }
}

#[cfg(test)]
mod tests;
