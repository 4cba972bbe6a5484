//! Disk images by `qemu-img`. The format is always said, never guessed: a guest could write a raw disk that
//! looks like another format.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use dsimg_machine::{Event, MachineError, OutputStream, RunContext, WrittenParts};
use dsimg_template::template::{Compression, DiskFormat};

use crate::process::Tool;

const PACKAGE: &str = "qemu-utils";
/// For a conversion: hours on a slow disk are possible, days are not.
const CONVERSION_LIMIT: Duration = Duration::from_secs(6 * 3600);

/// What `qemu-img info` tells about an image, as far as dsimg looks at it. Unknown fields are passed over.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ImageInfo {
    pub(crate) format: String,
    /// Bytes of the virtual disk.
    pub(crate) virtual_size: u64,
    #[serde(default)]
    pub(crate) encrypted: bool,
    pub(crate) backing_filename: Option<String>,
    #[serde(default)]
    pub(crate) snapshots: Vec<serde_json::Value>,
    pub(crate) format_specific: Option<FormatSpecific>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct FormatSpecific {
    #[serde(default)]
    pub(crate) data: serde_json::Map<String, serde_json::Value>,
}

/// One file of a chain, as `qemu-img info` tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ChainFile {
    pub(crate) filename: PathBuf,
    /// Bytes of its virtual disk.
    pub(crate) virtual_size: u64,
}

/// A part of a disk that is the same all over, as `qemu-img map` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Extent {
    start: u64,
    length: u64,
    /// Written or given back, in this layer or in one below.
    pub(crate) present: bool,
    /// Reads as zeros.
    pub(crate) zero: bool,
}

impl Extent {
    pub(crate) fn range(&self) -> (u64, u64) {
        (self.start, self.start + self.length)
    }
}

/// A disk that is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// One file, in a format, with what its header says it stands on.
    File(&'a Path, &'a str),
    /// Layers of a qcow2, each on the one after it, whatever their headers say.
    Layers(&'a [PathBuf]),
}

impl Source<'_> {
    fn arguments(self) -> Vec<OsString> {
        match self {
            Self::File(path, format) => vec!["-f".into(), format.into(), file_name(path)],
            Self::Layers(layers) => vec![format!("json:{}", stacked(layers)).into()],
        }
    }
}

/// As QEMU describes block devices. What the last one stands on is left to its header.
fn stacked(layers: &[PathBuf]) -> Value {
    let node = |path: &PathBuf| json!({"driver": "qcow2", "file": {"driver": "file", "filename": path}});
    let mut upwards = layers.iter().rev().map(node);
    let last = upwards.next().unwrap_or_default();
    upwards.fold(last, |below, mut layer| {
        layer["backing"] = below;
        layer
    })
}

/// How a disk becomes one of the image's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) format: DiskFormat,
    /// For qcow2 only.
    pub(crate) compression: Compression,
    pub(crate) layout: Layout,
}

/// How the content lies in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As is quickest: compression uses all cores, and the file, though not its content, differs from run to run.
    Quick,
    /// In the order of the disk: the same content gives the same file, as far as the format lets it.
    Ordered,
}

/// `qemu-img` on this host.
#[derive(Debug, Clone)]
pub(crate) struct QemuImg {
    program: PathBuf,
}

impl QemuImg {
    pub(crate) fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    fn tool(&self, subcommand: &str, purpose: String) -> Tool {
        Tool::new(&self.program, PACKAGE, purpose).arg(subcommand)
    }

    /// `qemu-img version 10.0.2 (…)`
    pub(crate) async fn version_line(&self, run: &RunContext) -> Result<String, MachineError> {
        let tool = Tool::new(&self.program, PACKAGE, "ask `qemu-img` for its version").arg("--version");
        let text = tool.limit(Duration::from_secs(30)).run(run).await?;
        Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
    }

    /// Looks at one file. Only its own header is read, never a file that it names; with a format given, the
    /// file is opened as that and nothing else.
    pub(crate) async fn info(
        &self,
        image: &Path,
        format: Option<&str>,
        run: &RunContext,
    ) -> Result<ImageInfo, MachineError> {
        let mut tool = self.tool("info", format!("look at {}", image.display())).arg("--output=json");
        if let Some(format) = format {
            tool = tool.args(["-f", format]);
        }
        let text = tool.arg(file_name(image)).run(run).await?;
        serde_json::from_slice(&text).map_err(|error| self.unexpected("info", &error))
    }

    /// All parts of a disk, in their order.
    pub(crate) async fn map(&self, disk: Source<'_>, run: &RunContext) -> Result<Vec<Extent>, MachineError> {
        // Nobody writes to it, but a machine may have it open.
        let tool = self.tool("map", "look where a disk was written".to_owned()).args(["-U", "--output=json"]);
        let text = tool.args(disk.arguments()).run(run).await?;
        serde_json::from_slice(&text).map_err(|error| self.unexpected("map", &error))
    }

    /// The file that this one stands on in the end, by what their headers say.
    pub(crate) async fn base_of(&self, layer: &Path, run: &RunContext) -> Result<ChainFile, MachineError> {
        let tool = self.tool("info", format!("look at the layers of {}", layer.display()));
        let tool = tool.args(["-U", "--backing-chain", "--output=json", "-f", "qcow2"]).arg(file_name(layer));
        let text = tool.run(run).await?;
        let chain = serde_json::from_slice::<Vec<ChainFile>>(&text);
        let mut chain = chain.map_err(|error| self.unexpected("info", &error))?;
        Ok(chain.pop().unwrap_or_default())
    }

    fn unexpected(&self, subcommand: &str, error: &serde_json::Error) -> MachineError {
        MachineError::Machine {
            what: format!("`qemu-img {subcommand}` wrote something else than expected: {error}"),
            hint: Some("look at the version of `qemu-img`; `dsimg doctor` does".to_owned()),
            console: String::new(),
        }
    }

    /// A new disk of `size` bytes that starts as the qcow2 `base` and keeps what differs from it.
    pub(crate) async fn create_overlay(
        &self,
        base: &Path,
        overlay: &Path,
        size: u64,
        run: &RunContext,
    ) -> Result<(), MachineError> {
        let tool = self.tool("create", "make the machine's disk".to_owned());
        let tool = tool.args(["-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(base).arg(file_name(overlay));
        tool.arg(size.to_string()).run(run).await.map(drop)
    }

    /// Like [`Self::create_overlay`], on a disk that a machine writes to and that must not be opened.
    pub(crate) async fn create_overlay_unseen(
        &self,
        base: &Path,
        overlay: &Path,
        size: u64,
        run: &RunContext,
    ) -> Result<(), MachineError> {
        let tool = self.tool("create", "make a layer for the machine's disk".to_owned());
        let tool = tool.args(["-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(base).arg(file_name(overlay));
        tool.arg(size.to_string()).run(run).await.map(drop)
    }

    /// Takes what is between a layer on `parent` and the base into the layer, which is replaced: a machine that has it
    /// open keeps the old one. The base is given as a path and as the layer's header is to name it.
    pub(crate) async fn flatten(
        &self,
        layer: &Path,
        parent: &Path,
        (base, written): (&Path, &Path),
        run: &RunContext,
    ) -> Result<(), MachineError> {
        let flat = layer.with_extension("flat");
        tokio::fs::copy(layer, &flat).await.map_err(|error| MachineError::file("cannot write", &flat, error))?;
        let rebase = |options: &[&str], base: &Path| {
            let tool = self.tool("rebase", format!("flatten {}", layer.display())).limit(CONVERSION_LIMIT);
            tool.args(options).args(["-f", "qcow2", "-F", "qcow2", "-b"]).arg(base).arg(file_name(&flat))
        };
        // The header's own word, then the content, then the header's word again.
        rebase(&["-u"], parent).run(run).await?;
        let before = self.map(Source::File(&flat, "qcow2"), run).await?;
        rebase(&[], base).run(run).await?;
        let after = self.map(Source::File(&flat, "qcow2"), run).await?;
        let base_size = self.base_of(base, run).await?.virtual_size;
        self.write_zeros(&flat, &no_longer_present(&before, &after, base_size), run).await?;
        rebase(&["-u"], written).run(run).await?;
        std::fs::rename(&flat, layer).map_err(|error| MachineError::file("cannot write", layer, error))
    }

    /// Zeros that are said to be written, at these places, and take no room.
    async fn write_zeros(&self, image: &Path, places: &[(u64, u64)], run: &RunContext) -> Result<(), MachineError> {
        // A command line has its limits.
        for places in places.chunks(1000) {
            let tool =
                Tool::new(self.program.with_file_name("qemu-io"), PACKAGE, format!("flatten {}", image.display()));
            let writes =
                places.iter().flat_map(|(from, to)| ["-c".to_owned(), format!("write -z {from} {}", to - from)]);
            tool.args(["-f", "qcow2"]).args(writes).arg(file_name(image)).run(run).await?;
        }
        Ok(())
    }

    /// Copies a disk, with all that it stands on, into one file of its own. Progress is reported under `what`,
    /// in bytes of the virtual disk.
    pub(crate) async fn convert(
        &self,
        from: Source<'_>,
        (to, target): (&Path, Target),
        (what, virtual_size): (&str, u64),
        run: &RunContext,
    ) -> Result<(), MachineError> {
        let tool = self.tool("convert", format!("write {}", to.display())).limit(CONVERSION_LIMIT);
        let tool = tool.args(conversion_options(target)).args(from.arguments()).arg(file_name(to));
        let mut progress = Progress::default();
        let converted = tool
            .run_with(run, &mut |stream, bytes| {
                if stream == OutputStream::Stdout
                    && let Some(percent) = progress.take_in(bytes)
                {
                    let done = virtual_size / 100 * percent;
                    run.report(&Event::Progress { what: what.to_owned(), done, total: Some(virtual_size) });
                }
            })
            .await;
        run.report(&Event::ProgressEnded { what: what.to_owned() });
        converted
    }

    /// Checks that the file's own structure is sound; nothing that it stands on is opened. Raw has none.
    pub(crate) async fn check(&self, image: &Path, format: DiskFormat, run: &RunContext) -> Result<(), MachineError> {
        if format == DiskFormat::Raw {
            return Ok(());
        }
        let tool = self.tool("check", format!("check {}", image.display())).arg("-q").limit(Duration::from_secs(3600));
        let tool = match format {
            DiskFormat::Qcow2 => {
                let file = json!({"driver": "file", "filename": image});
                let alone = json!({"driver": "qcow2", "file": file, "backing": null});
                tool.arg(format!("json:{alone}"))
            }
            other => tool.args(["-f", other.as_str()]).arg(file_name(image)),
        };
        tool.run(run).await.map(drop)
    }
}

/// Zeros that were written behind the base's end: `rebase` takes them for what was never written. (Before its end they
/// are told apart from what the base has.)
fn no_longer_present(before: &[Extent], after: &[Extent], base_size: u64) -> Vec<(u64, u64)> {
    let present = |extents: &[Extent]| {
        let present = extents.iter().filter(|extent| extent.present).map(Extent::range);
        WrittenParts::of(0, present.map(|(from, to)| (from.max(base_size), to))).parts
    };
    let after = present(after);
    let mut lost = Vec::new();
    for (start, to) in present(before) {
        let mut from = start;
        for &(kept_from, kept_to) in after.iter().filter(|kept| kept.1 > start && kept.0 < to) {
            lost.push((from, kept_from));
            from = kept_to;
        }
        lost.push((from, to));
    }
    lost.retain(|(from, to)| from < to);
    lost
}

fn conversion_options(target: Target) -> Vec<&'static str> {
    let mut options = vec!["-p", "-O", target.format.as_str()];
    if matches!(target.format, DiskFormat::Qcow2 | DiskFormat::Raw) {
        options.extend(["-m", "16"]);
        if target.layout == Layout::Quick {
            // Out of order.
            options.push("-W");
        }
    }
    match target.format {
        DiskFormat::Qcow2 => match target.compression {
            Compression::Zstd => options.extend(["-c", "-o", "compression_type=zstd"]),
            Compression::Zlib => options.extend(["-c", "-o", "compression_type=zlib"]),
            Compression::None => {}
        },
        DiskFormat::Raw => {}
        // The only form that is compressed and that VMware's own tools take; it is a stream, so in order.
        DiskFormat::Vmdk => options.extend(["-o", "subformat=streamOptimized,adapter_type=lsilogic"]),
        DiskFormat::Vhdx => options.extend(["-o", "subformat=dynamic"]),
    }
    options
}

/// A path that is nothing but a path: `qemu-img` reads `nbd:…` or `json:…` as something else, and `-x` as an option.
fn file_name(path: &Path) -> OsString {
    if path.is_absolute() {
        return path.into();
    }
    Path::new(".").join(path).into()
}

/// Reads `    (42.01/100%)\r` as `qemu-img -p` prints it.
#[derive(Debug, Default)]
struct Progress {
    line: Vec<u8>,
    last: Option<u64>,
}

impl Progress {
    /// A whole percent that was not told before.
    fn take_in(&mut self, bytes: &[u8]) -> Option<u64> {
        self.line.extend_from_slice(bytes);
        let end = self.line.iter().rposition(|byte| *byte == b'%')?;
        let text = String::from_utf8_lossy(&self.line[..end]).into_owned();
        self.line.drain(..=end);
        let number = text[text.rfind('(')? + 1..].split('/').next()?;
        let percent = number.split('.').next()?.parse().ok().filter(|percent| *percent <= 100)?;
        (self.last != Some(percent)).then(|| *self.last.insert(percent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestRun;

    #[test]
    fn progress_is_told_once_for_each_percent() {
        let mut progress = Progress::default();
        assert_eq!(progress.take_in(b"    (0.00/100%)\r"), Some(0));
        assert_eq!(progress.take_in(b"    (0.51/1"), None);
        assert_eq!(progress.take_in(b"00%)\r    (1.02/100%)\r    (2.0"), Some(1));
        assert_eq!(progress.take_in(b"3/100%)\r"), Some(2));
        assert_eq!(progress.take_in(b"    (2.99/100%)\r"), None);
        assert_eq!(progress.take_in(b"    (100.00/100%)\r\n"), Some(100));
    }

    #[test]
    fn each_format_has_its_options() {
        let options =
            |format, compression| conversion_options(Target { format, compression, layout: Layout::Quick }).join(" ");
        assert_eq!(options(DiskFormat::Qcow2, Compression::Zstd), "-p -O qcow2 -m 16 -W -c -o compression_type=zstd");
        assert_eq!(options(DiskFormat::Qcow2, Compression::None), "-p -O qcow2 -m 16 -W");
        assert_eq!(options(DiskFormat::Raw, Compression::Zstd), "-p -O raw -m 16 -W");
        assert!(options(DiskFormat::Vmdk, Compression::Zstd).contains("streamOptimized"));
        assert!(options(DiskFormat::Vhdx, Compression::Zstd).contains("subformat=dynamic"));
        let ordered = Target { format: DiskFormat::Qcow2, compression: Compression::Zstd, layout: Layout::Ordered };
        assert_eq!(conversion_options(ordered).join(" "), "-p -O qcow2 -m 16 -c -o compression_type=zstd");
    }

    fn pattern(file: &Path, command: &str) -> bool {
        let done =
            std::process::Command::new("qemu-io").args(["-f", "qcow2", "-c", command]).arg(file).output().unwrap();
        // It exits with 0 when the pattern is another one.
        done.status.success() && !String::from_utf8_lossy(&done.stdout).contains("verification failed")
    }

    #[tokio::test]
    async fn a_flat_layer_stands_on_the_base_and_holds_what_was_between() {
        let run = TestRun::new();
        let folder = &run.context.work;
        let (base, middle) = (folder.join("base.qcow2"), folder.join("middle.qcow2"));
        let top = folder.join("checkpoint/disk.qcow2");
        std::fs::create_dir(folder.join("checkpoint")).unwrap();
        let qemu_img = QemuImg::new("qemu-img");
        let mut make = std::process::Command::new("qemu-img");
        make.args(["create", "-q", "-f", "qcow2"]).arg(&base).arg("8M");
        assert!(make.status().unwrap().success());
        assert!(pattern(&base, "write -P 1 0 3M"));
        qemu_img.create_overlay(&base, &middle, 16 << 20, &run.context).await.unwrap();
        assert!(pattern(&middle, "write -P 2 1M 2M"));
        assert!(pattern(&middle, "write -z 12M 1M"));
        qemu_img.create_overlay(&middle, &top, 16 << 20, &run.context).await.unwrap();
        assert!(pattern(&top, "write -P 3 2M 1M"));

        let written = Path::new("../base.qcow2");
        qemu_img.flatten(&top, &middle, (&base, written), &run.context).await.unwrap();
        std::fs::remove_file(&middle).unwrap();
        let info = qemu_img.info(&top, Some("qcow2"), &run.context).await.unwrap();
        assert_eq!(info.backing_filename.as_deref(), Some("../base.qcow2"));
        let map = qemu_img.map(Source::File(&top, "qcow2"), &run.context).await;
        // The file says `../base.qcow2`, which lies there from its folder.
        let present: Vec<_> = map.unwrap().iter().filter(|extent| extent.present).map(Extent::range).collect();
        assert_eq!(WrittenParts::of(0, present).parts, [(0, 3 << 20), (12 << 20, 13 << 20)]);
        for part in ["read -P 1 0 1M", "read -P 2 1M 1M", "read -P 3 2M 1M", "read -P 0 3M 5M"] {
            assert!(pattern(&top, part), "{part}");
        }
        assert_eq!(std::fs::read_dir(folder.join("checkpoint")).unwrap().count(), 1);
    }

    #[test]
    fn zeros_that_a_rebase_lost_are_found() {
        let extent = |start, length, present| Extent { start, length, present, zero: true };
        let before = [extent(0, 20, true), extent(20, 30, true), extent(50, 10, false), extent(60, 10, true)];
        let after = [extent(0, 10, true), extent(10, 15, false), extent(25, 5, true), extent(30, 40, false)];
        assert_eq!(no_longer_present(&before, &after, 16), [(16, 25), (30, 50), (60, 70)]);
        assert_eq!(no_longer_present(&before, &before, 16), []);
    }

    #[test]
    fn a_relative_path_is_no_protocol_and_no_option() {
        assert_eq!(file_name(Path::new("nbd:host")), "./nbd:host");
        assert_eq!(file_name(Path::new("-f")), "./-f");
        assert_eq!(file_name(Path::new("/a:b")), "/a:b");
    }
}
