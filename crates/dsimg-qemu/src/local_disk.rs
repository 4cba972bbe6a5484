//! The disk of a finished image, for those who publish it.

use std::path::Path;

use dsimg_machine::{Artifact, LocalImage, MachineError, RunContext, WrittenParts};
use dsimg_template::template::{Compression, DiskFormat};

use crate::disk::{Layout, QemuImg, Source, Target};

/// Formats that a disk is read from, the quickest first.
const READABLE: [DiskFormat; 4] = [DiskFormat::Raw, DiskFormat::Qcow2, DiskFormat::Vhdx, DiskFormat::Vmdk];

/// The image of a folder, with its disk raw: the image's own file, or a copy in the build's work folder.
///
/// # Errors
/// The image has no file, or it can't be read.
pub async fn local_image(
    (name, version, summary): (&str, &str, Option<&str>),
    folder: &Path,
    files: &[Artifact],
    run: &RunContext,
) -> Result<LocalImage, MachineError> {
    let of_format = |format: &DiskFormat| files.iter().find(|file| file.format == format.as_str());
    let Some((format, file)) = READABLE.iter().find_map(|format| Some((*format, of_format(format)?))) else {
        return Err(MachineError::refused(
            "the image has no disk on this host",
            "build it with a builder of type `qemu`",
        ));
    };
    let path = folder.join(&file.file);
    let disk = match format {
        DiskFormat::Raw => path,
        _ => {
            let raw = run.work.join("published.raw");
            let target = Target { format: DiskFormat::Raw, compression: Compression::None, layout: Layout::Quick };
            let what = ("disk", file.virtual_size);
            QemuImg::new("qemu-img").convert(Source::File(&path, format.as_str()), (&raw, target), what, run).await?;
            raw
        }
    };
    Ok(LocalImage {
        name: name.to_owned(),
        version: version.to_owned(),
        summary: summary.map(str::to_owned),
        disk,
        sha256: file.sha256.clone(),
        written: WrittenParts::read(folder).filter(|parts| parts.virtual_size == file.virtual_size),
    })
}
