//! What is on the disk beside the root file system: the partition table, grub for the BIOS, the ESP for UEFI.
//!
//! Written here byte by byte, as the usual tools want a block device and root. The layout:
//!
//! | from     | what                                             |
//! |----------|--------------------------------------------------|
//! | 0        | boot sector: grub's first, and the protective MBR |
//! | 512      | partition table                                  |
//! | 1 MiB    | BIOS boot partition: the rest of grub's start    |
//! | 2 MiB    | ESP, a FAT of 64 MiB: shim and grub, signed      |
//! | 66 MiB   | root, ext4, up to 1 MiB before the end           |
//! | the end  | copy of the partition table                      |
//!
//! Root is last, so that it grows when the disk does.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use super::gpt::{self, Partition};
use super::recipe::{DiskIds, Guid};
use super::tree::Parts;

const MIB: u64 = 1 << 20;
const BIOS_START: u64 = MIB;
const ESP_START: u64 = 2 * MIB;
const ESP_SIZE: u64 = 64 * MIB;
pub(super) const ROOT_START: u64 = ESP_START + ESP_SIZE;

const BIOS_BOOT: Guid = Guid(*b"\x21\x68\x61\x48\x64\x49\x6e\x6f\x74\x4e\x65\x65\x64\x45\x46\x49");
const EFI_SYSTEM: Guid = Guid(*b"\xc1\x2a\x73\x28\xf8\x1f\x11\xd2\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b");
/// The root of an x86-64 system, which systemd's tools know by this type.
const ROOT_X86_64: Guid = Guid(*b"\x4f\x68\xbc\xe3\xe8\xcd\x4d\xb1\x96\xe7\xfb\xca\xf9\x84\xb7\x09");

/// Makes a disk that boots of one that holds the root file system at [`ROOT_START`] and nothing else.
pub(super) fn finish(disk: &mut File, ids: &DiskIds, distro: &str, parts: &Parts) -> io::Result<()> {
    let size = disk.metadata()?.len();
    let mut write = |at: u64, bytes: &[u8]| {
        disk.seek(SeekFrom::Start(at))?;
        disk.write_all(bytes)
    };
    let table = gpt::Table::new(size, ids.disk, &partitions(size, ids));
    let boot = bios_boot_code(&parts.boot, &parts.core, BIOS_START, ESP_START - BIOS_START)?;
    let mut first_sector = table.protective_mbr();
    first_sector[..boot.first_sector.len()].copy_from_slice(&boot.first_sector);
    write(0, &first_sector)?;
    write(gpt::SECTOR, &table.primary())?;
    write(BIOS_START, &boot.rest)?;
    write(table.backup_start(), &table.backup())?;
    let esp = esp(ids, distro, parts)?;
    for (index, piece) in esp.chunks(64 << 10).enumerate() {
        // What is not written stays a hole.
        if piece.iter().any(|byte| *byte != 0) {
            write(ESP_START + ((index as u64) << 16), piece)?;
        }
    }
    disk.sync_all()
}

fn partitions(size: u64, ids: &DiskIds) -> [Partition; 3] {
    let [bios, esp, root] = ids.partitions;
    let partition = |kind, id, start, end, name| Partition { kind, id, start, end, name };
    [
        partition(BIOS_BOOT, bios, BIOS_START, ESP_START, "bios"),
        partition(EFI_SYSTEM, esp, ESP_START, ROOT_START, "esp"),
        partition(ROOT_X86_64, root, ROOT_START, size - MIB, "root"),
    ]
}

/// grub's start for the BIOS.
#[derive(Debug)]
struct BootCode {
    /// Up to the MBR's partition table.
    first_sector: [u8; 440],
    rest: Vec<u8>,
}

/// Does what `grub-bios-setup` does: tells grub's first sector where its second is, and that one where the rest is.
/// The places are grub's `boot.h`; they have been the same since grub 2.00.
fn bios_boot_code(boot: &[u8], core: &[u8], at: u64, room: u64) -> io::Result<BootCode> {
    const KERNEL_SECTOR: usize = 0x5c;
    const DRIVE_CHECK: usize = 0x66;
    const BLOCK_LIST_END: usize = 512;
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let first_sector = boot.first_chunk::<440>().filter(|_| boot.len() == 512 && boot[510..] == [0x55, 0xaa]);
    let mut first_sector = *first_sector.ok_or_else(|| bad("grub's boot.img is not a boot sector"))?;
    // A jump over the check of the drive's number, or the check itself, has two bytes here.
    if first_sector[DRIVE_CHECK] != 0xeb {
        return Err(bad("grub's boot.img is of a kind that dsimg does not know"));
    }
    let mut rest = core.to_vec();
    rest.resize(core.len().next_multiple_of(512), 0);
    let sectors = u16::try_from(rest.len() / 512).ok().filter(|count| *count > 1);
    let sectors = sectors.ok_or_else(|| bad("grub's core.img has an impossible size"))?;
    if rest.len() as u64 > room {
        return Err(bad("grub's core.img does not fit into the BIOS boot partition"));
    }
    let start = at / gpt::SECTOR;
    first_sector[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&start.to_le_bytes());
    // Some BIOSes hand over a wrong drive number: on a hard disk, grub is told to correct it.
    first_sector[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&[0x90, 0x90]);
    // The only block: its first sector, its length; the segment that follows is as it was.
    let block = BLOCK_LIST_END - 12;
    rest[block..block + 8].copy_from_slice(&(start + 1).to_le_bytes());
    rest[block + 8..block + 10].copy_from_slice(&(sectors - 1).to_le_bytes());
    Ok(BootCode { first_sector, rest })
}

/// The ESP, as `grub-install --removable` would fill it: firmware that knows nothing of this disk finds shim, shim
/// checks and starts grub, and grub reads its settings from the root file system. All three are signed, so Secure
/// Boot may be on.
fn esp(ids: &DiskIds, distro: &str, parts: &Parts) -> io::Result<Vec<u8>> {
    let size = usize::try_from(ESP_SIZE).map_err(io::Error::other)?;
    let mut disk = Cursor::new(vec![0; size]);
    let options = fatfs::FormatVolumeOptions::new()
        .volume_label(*b"ESP        ")
        .volume_id(ids.esp)
        .fat_type(fatfs::FatType::Fat32)
        .bytes_per_cluster(512);
    fatfs::format_volume(&mut disk, options)?;
    let files = fatfs::FileSystem::new(&mut disk, fatfs::FsOptions::new())?;
    let efi = files.root_dir().create_dir("EFI")?;
    let settings =
        format!("search.fs_uuid {} root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n", ids.root);
    let removable = efi.create_dir("BOOT")?;
    let own = efi.create_dir(distro)?;
    for (folder, name, content) in [
        (&removable, "BOOTX64.EFI", parts.shim.as_slice()),
        (&removable, "grubx64.efi", &parts.grub),
        (&removable, "mmx64.efi", &parts.mok_manager),
        // Where the signed grub looks, wherever it was started from.
        (&own, "grub.cfg", settings.as_bytes()),
    ] {
        let mut file = folder.create_file(name)?;
        file.write_all(content)?;
        file.flush()?;
    }
    drop((removable, own, efi));
    files.unmount()?;
    Ok(disk.into_inner())
}

/// Whether a partition of the file begins with an ext4 file system: a check on the order of things.
pub(super) fn has_root(disk: &mut File) -> io::Result<bool> {
    let mut magic = [0; 2];
    disk.seek(SeekFrom::Start(ROOT_START + 1024 + 56))?;
    disk.read_exact(&mut magic)?;
    Ok(magic == [0x53, 0xef])
}

#[cfg(test)]
mod tests {
    use super::super::recipe::tests::{bootstrap, recipe};
    use super::*;
    use dsimg_template::template::Distro;

    fn ids() -> DiskIds {
        recipe(&bootstrap(Distro::Debian, "trixie")).unwrap().ids()
    }

    fn boot_image() -> Vec<u8> {
        let mut image = vec![0; 512];
        image[0x66..0x68].copy_from_slice(&[0xeb, 0x05]);
        image[510..].copy_from_slice(&[0x55, 0xaa]);
        image
    }

    fn parts() -> Parts {
        Parts {
            boot: boot_image(),
            core: vec![7; 3 * 512 + 1],
            shim: vec![1; 1000],
            mok_manager: vec![2; 1000],
            grub: vec![3; 2_000_000],
            kernel: "6.12.1".to_owned(),
            packages: 200,
            epoch: 1_754_000_000,
        }
    }

    #[test]
    fn partitions_follow_each_other_and_root_is_last() {
        let size = ROOT_START + 2048 * MIB + MIB;
        let [bios, esp, root] = partitions(size, &ids());
        assert_eq!((bios.end, esp.end), (esp.start, root.start));
        assert_eq!(root.end - root.start, 2048 * MIB);
    }

    #[test]
    fn grub_is_told_where_it_is() {
        let code = bios_boot_code(&boot_image(), &[7; 3 * 512 + 1], MIB, MIB).unwrap();
        assert_eq!(code.first_sector[0x5c..0x64], 2048u64.to_le_bytes());
        assert_eq!(code.first_sector[0x66..0x68], [0x90, 0x90]);
        assert_eq!(code.rest.len(), 4 * 512);
        assert_eq!(code.rest[500..508], 2049u64.to_le_bytes());
        assert_eq!(code.rest[508..510], 3u16.to_le_bytes());
        assert_eq!(code.rest[510..512], [7, 7], "the segment stays");
    }

    #[test]
    fn grub_that_does_not_fit_or_is_unknown_is_an_error() {
        assert!(bios_boot_code(&boot_image(), &vec![0; 2 << 20], MIB, MIB).is_err());
        assert!(bios_boot_code(&[0; 512], &[0; 2048], MIB, MIB).is_err());
        assert!(bios_boot_code(&boot_image(), &[0; 100], MIB, MIB).is_err());
    }

    #[test]
    fn the_esp_has_what_firmware_looks_for() {
        let image = esp(&ids(), "debian", &parts()).unwrap();
        let files = fatfs::FileSystem::new(Cursor::new(image), fatfs::FsOptions::new()).unwrap();
        assert_eq!(files.fat_type(), fatfs::FatType::Fat32);
        assert_eq!(files.volume_id(), ids().esp);
        let mut grub = Vec::new();
        files.root_dir().open_file("EFI/BOOT/grubx64.efi").unwrap().read_to_end(&mut grub).unwrap();
        assert_eq!(grub, parts().grub);
        assert!(files.root_dir().open_file("EFI/BOOT/BOOTX64.EFI").is_ok());
        let mut settings = String::new();
        files.root_dir().open_file("EFI/debian/grub.cfg").unwrap().read_to_string(&mut settings).unwrap();
        assert!(settings.contains(&ids().root.to_string()));
    }

    #[test]
    fn a_finished_disk_begins_with_grub_and_ends_with_the_table() {
        let mut disk = tempfile::tempfile().unwrap();
        let size = ROOT_START + 8 * MIB;
        disk.set_len(size).unwrap();
        finish(&mut disk, &ids(), "debian", &parts()).unwrap();
        assert_eq!(disk.metadata().unwrap().len(), size);
        let mut at = |offset: u64| {
            let mut bytes = [0; 8];
            disk.seek(SeekFrom::Start(offset)).unwrap();
            disk.read_exact(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(at(510)[..2], [0x55, 0xaa]);
        assert_eq!(&at(512), b"EFI PART");
        assert_eq!(&at(size - 512), b"EFI PART");
        assert_eq!(at(BIOS_START), [7; 8]);
    }
}
