//! Volumes of EBS: sizes, kinds, speed and encryption.

use super::forms;
use crate::reader::Reader;
use crate::template::aws::{ExtraVolume, VolumeTable};
use crate::units::ByteSize;
use crate::values::{Piece, Values};

/// What EBS makes of each kind.
struct Kind {
    name: &'static str,
    /// In GiB, the least and the most.
    sizes: (u64, u64),
    /// `None`: they can't be chosen.
    iops: Option<(i64, i64)>,
    has_throughput: bool,
    can_be_root: bool,
}

const KINDS: [Kind; 6] = [
    Kind { name: "gp3", sizes: (1, 65_536), iops: Some((3_000, 80_000)), has_throughput: true, can_be_root: true },
    Kind { name: "gp2", sizes: (1, 16_384), iops: None, has_throughput: false, can_be_root: true },
    Kind { name: "io1", sizes: (4, 16_384), iops: Some((100, 64_000)), has_throughput: false, can_be_root: true },
    Kind { name: "io2", sizes: (4, 65_536), iops: Some((100, 256_000)), has_throughput: false, can_be_root: true },
    Kind { name: "st1", sizes: (125, 16_384), iops: None, has_throughput: false, can_be_root: false },
    Kind { name: "sc1", sizes: (125, 16_384), iops: None, has_throughput: false, can_be_root: false },
];

const GIB: u64 = 1 << 30;

pub(super) fn root(reader: &mut Reader<'_>, values: &Values) -> VolumeTable {
    let kind = kind(values);
    if let Some(found) = values.get("volume_type").filter(|_| !kind.can_be_root) {
        let message = format!("no machine boots from a volume of type `{}`", kind.name);
        reader.error_with_help(&found.span.clone(), message, "use `gp3`, `gp2`, `io1` or `io2` for the root volume");
    }
    volume(reader, values, "disk", values.text("region"))
}

pub(super) fn others(reader: &mut Reader<'_>, values: &Values) -> Vec<ExtraVolume> {
    let mut volumes: Vec<ExtraVolume> = Vec::new();
    for table in values.tables("volumes") {
        if let Some(device) = table.text("device")
            && forms::DEVICE.check(reader, device)
            && volumes.iter().any(|earlier| earlier.device == device.text)
        {
            let message = format!("two volumes are called `{}`", device.text);
            reader.error_with_help(&device.span, message, "give each a device of its own");
        }
        let volume = volume(reader, table, "size", values.text("region"));
        volumes.push(ExtraVolume { device: table.string("device").unwrap_or_default(), volume });
    }
    volumes
}

fn volume(reader: &mut Reader<'_>, values: &Values, size_key: &str, home: Option<&Piece>) -> VolumeTable {
    let kind = kind(values);
    let (encrypted, kms_key) = encryption(reader, values, home);
    let table = VolumeTable {
        size: size(reader, values, size_key, kind).unwrap_or(ByteSize(20 * GIB)),
        kind: kind.name.to_owned(),
        iops: values.integer("iops").and_then(|iops| u32::try_from(iops).ok()),
        throughput: values.integer("throughput").and_then(|throughput| u32::try_from(throughput).ok()),
        encrypted,
        kms_key,
    };
    check_speed(reader, values, kind);
    table
}

fn kind(values: &Values) -> &'static Kind {
    let written = values.text("volume_type").map_or("gp3", |piece| piece.text.as_str());
    KINDS.iter().find(|kind| kind.name == written).unwrap_or(&KINDS[0])
}

fn size(reader: &mut Reader<'_>, values: &Values, key: &str, kind: &Kind) -> Option<ByteSize> {
    let (size, span) = values.size(key)?;
    let (least, most) = kind.sizes;
    if !size.0.is_multiple_of(GIB) {
        let help = format!("the next size is \"{}GiB\"", size.0.div_ceil(GIB));
        reader.error_with_help(&span, format!("`{key}` must be whole GiB: EBS counts in them"), help);
    } else if !(least..=most).contains(&(size.0 / GIB)) {
        let (least, most) = (ByteSize(least * GIB), ByteSize(most * GIB));
        reader.error(&span, format!("`{key}` must be between {least} and {most} for `{}`, not {size}", kind.name));
    }
    Some(size)
}

fn check_speed(reader: &mut Reader<'_>, values: &Values, kind: &Kind) {
    match (values.get("iops"), kind.iops) {
        (Some(found), None) => {
            let message = format!("volumes of type `{}` have no `iops`", kind.name);
            reader.error_with_help(&found.key_span.clone(), message, "`gp3`, `io1` and `io2` have them");
        }
        (Some(found), Some((least, most))) => {
            let span = found.span.clone();
            if let Some(iops) = values.integer("iops").filter(|iops| !(least..=most).contains(iops)) {
                let message = format!("`iops` must be between {least} and {most} for `{}`, not {iops}", kind.name);
                reader.error(&span, message);
            }
        }
        (None, Some(_)) if kind.name != "gp3" => {
            let span = values.get("volume_type").map_or(0..0, |found| found.span.clone());
            let message = format!("missing key `iops` for a volume of type `{}`", kind.name);
            reader.error_with_help(&span, message, "say how many operations a second it shall manage: `iops = 3000`");
        }
        _ => {}
    }
    if let Some(span) = values.key_span("throughput").filter(|_| !kind.has_throughput) {
        let message = format!("volumes of type `{}` have no `throughput`", kind.name);
        reader.error_with_help(&span, message, "`gp3` has it");
    }
}

/// `encrypted` and `kms_key`; a key implies the first.
pub(super) fn encryption(
    reader: &mut Reader<'_>,
    values: &Values,
    home: Option<&Piece>,
) -> (Option<bool>, Option<String>) {
    let encrypted = values.boolean("encrypted");
    if let Some(key) = values.text("kms_key") {
        check_key(reader, key, home.map(|home| home.text.as_str()));
        if encrypted == Some(false) {
            let help = "remove one of the two: a volume with a key is encrypted";
            reader.error_with_help(&key.span, "there is a `kms_key` beside `encrypted = false`", help);
        }
    }
    (encrypted, values.string("kms_key"))
}

/// A key has the right form, and where it says its region, the right one.
pub(super) fn check_key(reader: &mut Reader<'_>, key: &Piece, region: Option<&str>) {
    if !forms::KMS_KEY.check(reader, key) {
        return;
    }
    if let (Some(of_key), Some(region)) = (forms::region_of_key(&key.text), region)
        && of_key != region
    {
        let message = format!("the key is in `{of_key}`, and what it shall encrypt in `{region}`");
        reader.error_with_help(&key.span, message, "KMS encrypts with keys of the same region only");
    }
}
