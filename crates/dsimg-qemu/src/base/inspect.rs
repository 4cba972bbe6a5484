//! Is a disk image what it seems, and nothing but a disk? Read from its first bytes, before any program that
//! understands the format opens it: some formats can name other files of this host, which a program would then
//! open and hand to the guest (the class of CVE-2024-32498).
//!
//! Facts: QEMU's `docs/interop/qcow2.txt`, `block/vmdk.c`, and VMware's "Virtual Disk Format 5.0".

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use dsimg_template::template::DiskFormat;

/// What an image turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) format: DiskFormat,
    /// Holds more than the disk, such as snapshots, that a copy leaves behind.
    pub(crate) needs_copy: bool,
}

/// Why an image is not taken, as words that follow "the base image".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(String);

fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(why.into()))
}

/// As much as the headers need.
const HEAD: u64 = 64 << 10;
/// A descriptor is text of some hundred bytes; VMware gives it 10 KiB.
const LONGEST_DESCRIPTOR: u64 = 1 << 20;

/// Looks at the file's first bytes.
///
/// # Errors
/// `Err` of the outside: the file can't be read. `Err` of the inside: it is refused.
pub(crate) fn inspect(file: &mut File) -> io::Result<Result<Disk, Refusal>> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.by_ref().take(HEAD).read_to_end(&mut head)?;
    let descriptor = match vmdk_descriptor_place(&head) {
        Some((offset, size)) => {
            let mut text = Vec::new();
            file.seek(SeekFrom::Start(offset))?;
            file.by_ref().take(size.min(LONGEST_DESCRIPTOR)).read_to_end(&mut text)?;
            text
        }
        None => Vec::new(),
    };
    Ok(judge(&head, &descriptor))
}

/// By the first bytes alone; the name of a file says nothing.
fn judge(head: &[u8], vmdk_descriptor: &[u8]) -> Result<Disk, Refusal> {
    const FOREIGN: [(&[u8], &str); 7] = [
        (b"# Disk DescriptorFile", "is only the description of a VMDK disk, whose content is in other files"),
        (b"COWD", "is a VMDK of an old kind (VMware ESX 3 and before)"),
        (b"conectix", "is a VHD"),
        (b"cxsparse", "is a VHD"),
        (b"LUKS\xba\xbe", "is encrypted (LUKS)"),
        (b"QED\0", "is a QED image"),
        (b"<<< ", "is a VDI image of VirtualBox"),
    ];
    if let Some((_, what)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return refuse(*what);
    }
    if head.starts_with(b"QFI\xfb") {
        return judge_qcow2(head);
    }
    if head.starts_with(b"KDMV") {
        return judge_vmdk(head, vmdk_descriptor);
    }
    if head.starts_with(b"vhdxfile") {
        return Ok(Disk { format: DiskFormat::Vhdx, needs_copy: true });
    }
    if head.get(32_769..32_774) == Some(b"CD001") && head.get(510..512) != Some(&[0x55, 0xaa]) {
        return refuse("is an ISO 9660 file system, an installation medium perhaps; dsimg boots disks");
    }
    Ok(Disk { format: DiskFormat::Raw, needs_copy: true })
}

/// Offsets as in `docs/interop/qcow2.txt`; all numbers are big-endian.
fn judge_qcow2(head: &[u8]) -> Result<Disk, Refusal> {
    const DIRTY_OR_UNDERSTOOD: u64 = 0b1_1001;
    let (Some(version), Some(backing), Some(encryption), Some(snapshots)) =
        (u32_be(head, 4), u64_be(head, 8), u32_be(head, 32), u32_be(head, 60))
    else {
        return refuse("is a qcow2 that ends within its header: it was cut short");
    };
    if version != 2 && version != 3 {
        return refuse(format!("is a qcow2 of version {version}, which dsimg does not know"));
    }
    if backing != 0 {
        return refuse(
            "names a backing file: it is only a part of a disk, and could make QEMU read other files of this host",
        );
    }
    if encryption != 0 {
        return refuse("is an encrypted qcow2");
    }
    if version == 3 {
        let Some(features) = u64_be(head, 72) else {
            return refuse("is a qcow2 that ends within its header: it was cut short");
        };
        if features & 0b10 != 0 {
            return refuse("is a qcow2 that is marked as corrupt");
        }
        if features & 0b100 != 0 {
            return refuse(
                "names an external data file: its content is elsewhere, and it could make QEMU read other files of \
                 this host",
            );
        }
        if features & !DIRTY_OR_UNDERSTOOD != 0 {
            return refuse("is a qcow2 with features that dsimg does not know");
        }
        if has_data_file_name(head) {
            return refuse("names an external data file without saying that it uses one");
        }
    }
    Ok(Disk { format: DiskFormat::Qcow2, needs_copy: snapshots != 0 })
}

/// Header extensions follow the header: type, length, and data padded to 8 bytes; type 0 ends them.
fn has_data_file_name(head: &[u8]) -> bool {
    const DATA_FILE: u32 = 0x4441_5441;
    let Some(mut at) = u32_be(head, 100).map(|length| length as usize) else { return false };
    while let (Some(kind), Some(length)) = (u32_be(head, at), u32_be(head, at + 4)) {
        match kind {
            0 => return false,
            DATA_FILE => return true,
            _ => at += 8 + (length as usize).next_multiple_of(8),
        }
    }
    false
}

/// Where a sparse extent keeps its descriptor: sectors at offsets 28 and 36, little-endian.
fn vmdk_descriptor_place(head: &[u8]) -> Option<(u64, u64)> {
    if !head.starts_with(b"KDMV") {
        return None;
    }
    Some((u64_le(head, 28)?.checked_mul(512)?, u64_le(head, 36)?.checked_mul(512)?))
}

fn judge_vmdk(head: &[u8], descriptor: &[u8]) -> Result<Disk, Refusal> {
    // Without a capacity of its own, QEMU takes the extents from the descriptor, and those can be any files.
    match u64_le(head, 12) {
        None => return refuse("is a VMDK that ends within its header: it was cut short"),
        Some(0) => return refuse("is a VMDK whose content is in other files"),
        Some(_) => {}
    }
    let text = String::from_utf8_lossy(descriptor);
    let lines = || text.lines().map(str::trim);
    if lines().any(|line| line.starts_with("parentFileNameHint")) {
        return refuse("is a VMDK that stands on another one: it is only a part of a disk");
    }
    if lines().filter(|line| is_extent(line)).count() > 1 {
        return refuse("is a VMDK in several parts, of which this is one");
    }
    Ok(Disk { format: DiskFormat::Vmdk, needs_copy: true })
}

/// `RW 4192256 SPARSE "disk.vmdk"`
fn is_extent(line: &str) -> bool {
    ["RW ", "RDONLY ", "NOACCESS "].iter().any(|access| line.starts_with(access))
}

fn u32_be(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_be(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn u64_le(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn qemu_img(arguments: &[&str], folder: &Path) {
        let status = Command::new("qemu-img").args(arguments).current_dir(folder).status().unwrap();
        assert!(status.success(), "qemu-img {arguments:?}");
    }

    fn judged(folder: &Path, name: &str) -> Result<Disk, String> {
        let mut file = File::open(folder.join(name)).unwrap();
        inspect(&mut file).unwrap().map_err(|refusal| refusal.to_string())
    }

    fn disk(format: DiskFormat, needs_copy: bool) -> Result<Disk, String> {
        Ok(Disk { format, needs_copy })
    }

    #[test]
    fn good_images_are_told_apart_by_their_content() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for options in ["compat=0.10", "compat=1.1", "lazy_refcounts=on", "extended_l2=on", "compression_type=zstd"] {
            qemu_img(&["create", "-q", "-f", "qcow2", "-o", options, "good", "64M"], folder);
            assert_eq!(judged(folder, "good"), disk(DiskFormat::Qcow2, false), "{options}");
        }
        qemu_img(&["snapshot", "-c", "before", "good"], folder);
        assert_eq!(judged(folder, "good"), disk(DiskFormat::Qcow2, true));
        for subformat in ["monolithicSparse", "streamOptimized"] {
            let option = format!("subformat={subformat}");
            qemu_img(&["convert", "-f", "qcow2", "-O", "vmdk", "-o", &option, "good", "disk"], folder);
            assert_eq!(judged(folder, "disk"), disk(DiskFormat::Vmdk, true), "{subformat}");
        }
        qemu_img(&["convert", "-f", "qcow2", "-O", "vhdx", "good", "disk"], folder);
        assert_eq!(judged(folder, "disk"), disk(DiskFormat::Vhdx, true));
        qemu_img(&["convert", "-f", "qcow2", "-O", "raw", "good", "disk"], folder);
        assert_eq!(judged(folder, "disk"), disk(DiskFormat::Raw, true));
        std::fs::write(folder.join("empty"), "").unwrap();
        assert_eq!(judged(folder, "empty"), disk(DiskFormat::Raw, true));
    }

    #[test]
    fn a_qcow2_that_names_other_files_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        qemu_img(&["create", "-q", "-f", "raw", "secret", "1M"], folder);
        qemu_img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "secret", "evil"], folder);
        assert!(judged(folder, "evil").unwrap_err().contains("names a backing file"));
        qemu_img(
            &["create", "-q", "-f", "qcow2", "-o", "compat=0.10", "-u", "-F", "raw", "-b", "/etc/passwd", "evil", "1M"],
            folder,
        );
        assert!(judged(folder, "evil").unwrap_err().contains("names a backing file"));
        qemu_img(&["create", "-q", "-f", "qcow2", "-o", "data_file=data,data_file_raw=on", "evil", "1M"], folder);
        assert!(judged(folder, "evil").unwrap_err().contains("external data file"));
        // The name without the feature's bit.
        let mut bytes = std::fs::read(folder.join("evil")).unwrap();
        bytes[79] &= !0b100;
        std::fs::write(folder.join("evil"), bytes).unwrap();
        assert!(judged(folder, "evil").unwrap_err().contains("external data file"));
    }

    #[test]
    fn an_encrypted_or_corrupt_or_unknown_qcow2_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let secret = "secret,id=s,data=abc";
        let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
        qemu_img(&["create", "-q", "--object", secret, "-f", "qcow2", "-o", options, "evil", "1M"], folder);
        assert!(judged(folder, "evil").unwrap_err().contains("encrypted"));
        qemu_img(&["create", "-q", "-f", "qcow2", "evil", "1M"], folder);
        let good = std::fs::read(folder.join("evil")).unwrap();
        for (at, value, words) in [(79, 0b10, "corrupt"), (78, 1, "features"), (7, 9, "version 9")] {
            let mut bytes = good.clone();
            bytes[at] = value;
            std::fs::write(folder.join("evil"), bytes).unwrap();
            assert!(judged(folder, "evil").unwrap_err().contains(words), "{words}");
        }
        std::fs::write(folder.join("evil"), &good[..40]).unwrap();
        assert!(judged(folder, "evil").unwrap_err().contains("cut short"));
    }

    #[test]
    fn a_vmdk_that_names_other_files_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let descriptor =
            "# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicFlat\"\nRW 2048 FLAT \"/etc/passwd\" 0\n";
        std::fs::write(folder.join("evil"), descriptor).unwrap();
        assert!(judged(folder, "evil").unwrap_err().contains("other files"));

        qemu_img(&["create", "-q", "-f", "vmdk", "evil", "1M"], folder);
        let good = std::fs::read(folder.join("evil")).unwrap();
        let mut no_capacity = good.clone();
        no_capacity[12..20].fill(0);
        std::fs::write(folder.join("evil"), no_capacity).unwrap();
        assert!(judged(folder, "evil").unwrap_err().contains("other files"));

        let (offset, _) = vmdk_descriptor_place(&good).unwrap();
        for (line, words) in [
            ("parentFileNameHint=\"/etc/passwd\"", "stands on another"),
            ("RW 1 SPARSE \"a\"\nRW 1 FLAT \"/etc/passwd\" 0", "several parts"),
        ] {
            let mut bytes = good.clone();
            let at = usize::try_from(offset).unwrap();
            let text = format!("# Disk DescriptorFile\n{line}\n");
            bytes[at..at + text.len()].copy_from_slice(text.as_bytes());
            std::fs::write(folder.join("evil"), bytes).unwrap();
            assert!(judged(folder, "evil").unwrap_err().contains(words), "{words}");
        }
    }

    #[test]
    fn other_kinds_of_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for (format, words) in [("vpc", "VHD"), ("qed", "QED"), ("vdi", "VirtualBox")] {
            qemu_img(&["create", "-q", "-f", format, "other", "1M"], folder);
            assert!(judged(folder, "other").unwrap_err().contains(words), "{format}");
        }
        let mut iso = vec![0; 40_000];
        iso[32_769..32_774].copy_from_slice(b"CD001");
        std::fs::write(folder.join("other"), iso).unwrap();
        assert!(judged(folder, "other").unwrap_err().contains("installation medium"));
    }

    #[test]
    fn no_first_bytes_make_it_panic() {
        for magic in [&b"QFI\xfb"[..], b"KDMV", b"vhdxfile", b""] {
            for filler in [0x00, 0xff, 0x41] {
                for length in (0..200).chain([HEAD as usize]) {
                    let mut head = magic.to_vec();
                    head.resize(magic.len() + length, filler);
                    drop(judge(&head, &head));
                    vmdk_descriptor_place(&head);
                }
            }
        }
    }
}
