//! What a finished AMI is like, where it is copied to, and who may use it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::forms::{self, Form};
use super::volumes::check_key;
use crate::nearest::suggestion;
use crate::problem::Problem;
use crate::reader::Reader;
use crate::template::Image;
use crate::template::aws::{AmiTable, BootMode, Share};
use crate::units::Timeout;
use crate::values::{Piece, Values};

/// AWS forgets a later date.
const LATEST_DEPRECATION: Timeout = Timeout { seconds: 10 * 365 * 86_400 };

const LONGEST_DESCRIPTION: usize = 255;

/// Where the AMI is made and where it goes.
pub(super) struct Place<'a> {
    /// Of the whole table: for problems with what is not written in it.
    pub(super) at: &'a Range<usize>,
    pub(super) home: Option<&'a Piece>,
    pub(super) copies: &'a [&'a Piece],
}

pub(super) fn read(reader: &mut Reader<'_>, values: &Values, place: &Place<'_>, image: &Image) -> AmiTable {
    let table = AmiTable {
        name: forms::AMI_NAME.read_one(reader, values, "ami_name"),
        description: description(reader, values),
        copies: copies(reader, values, place),
        share: values.table("share_with").map(|values| share(reader, values)).unwrap_or_default(),
        tags: values.string_map("ami_tags"),
        deprecate_after: deprecation(reader, values),
        deregistration_protection: values.boolean("deregistration_protection").unwrap_or(false),
        boot_mode: values.text("boot_mode").map(|piece| match piece.text.as_str() {
            "legacy-bios" => BootMode::LegacyBios,
            "uefi" => BootMode::Uefi,
            _ => BootMode::UefiPreferred,
        }),
        require_imds_v2: values.boolean("require_imds_v2").unwrap_or(true),
        tpm: values.boolean("tpm").unwrap_or(false),
        replace: values.boolean("replace").unwrap_or(false),
        parameter: forms::PARAMETER.read_one(reader, values, "parameter"),
    };
    check_default_name(reader, values, place, image, &table);
    check_contradictions(reader, values, &table);
    if !table.share.is_empty() {
        check_others_can_decrypt(reader, values, place, &table);
    }
    table
}

fn description(reader: &mut Reader<'_>, values: &Values) -> Option<String> {
    let piece = values.text("ami_description")?;
    let count = piece.text.chars().count();
    if count > LONGEST_DESCRIPTION {
        let message = format!("the description has {count} characters; AWS takes {LONGEST_DESCRIPTION}");
        reader.error(&piece.span, message);
    }
    Some(piece.text.clone())
}

/// The regions with the keys of the copies there.
fn copies(reader: &mut Reader<'_>, values: &Values, place: &Place<'_>) -> BTreeMap<String, Option<String>> {
    let mut copies: BTreeMap<String, Option<String>> =
        place.copies.iter().map(|region| (region.text.clone(), None)).collect();
    for (region, key) in values.map("region_kms_keys") {
        if super::is_home(region, place.home) {
            let message = format!("`{}` is where the AMI is made, not a copy", region.text);
            reader.error_with_help(&region.span, message, "its key is `kms_key`");
        } else if let Some(copy) = copies.get_mut(&region.text) {
            check_key(reader, key, Some(&region.text));
            *copy = Some(key.text.clone());
        } else {
            let known: Vec<&str> = copies.keys().map(String::as_str).collect();
            let mut problem = Problem::error(region.span.clone(), format!("no copy goes to `{}`", region.text));
            problem.help = suggestion(&region.text, &known, "the copies")
                .or_else(|| Some("name the regions of the copies in `regions`".to_owned()));
            reader.report(problem);
        }
    }
    copies
}

fn share(reader: &mut Reader<'_>, values: &Values) -> Share {
    let mut set = |form: &Form, key: &str| -> BTreeSet<String> { form.read(reader, values, key).into_iter().collect() };
    Share {
        accounts: set(&forms::ACCOUNT, "accounts"),
        organizations: set(&forms::ORGANIZATION, "organizations"),
        units: set(&forms::UNIT, "units"),
    }
}

fn deprecation(reader: &mut Reader<'_>, values: &Values) -> Option<Timeout> {
    let after = values.duration("deprecate_after")?;
    let span = values.get("deprecate_after")?.span.clone();
    if after.seconds == 0 {
        reader.error_with_help(&span, "`deprecate_after` is zero", "the AMI would be deprecated from the start");
    } else if after > LATEST_DEPRECATION {
        reader.error_with_help(&span, "`deprecate_after` is more than ten years", "AWS takes ten years at most");
    }
    Some(after)
}

/// What the image is called may be too long for an AMI.
fn check_default_name(reader: &mut Reader<'_>, values: &Values, place: &Place<'_>, image: &Image, table: &AmiTable) {
    let name = table.name_for(&image.name, &image.version);
    if values.get("ami_name").is_none() && !forms::is_ami_name(&name) {
        let message = format!("no AMI can be called `{name}`, after the image's name and version");
        reader.error_with_help(place.at, message, "give it an `ami_name` of 3 to 128 characters");
    }
}

fn check_contradictions(reader: &mut Reader<'_>, values: &Values, table: &AmiTable) {
    if let Some(span) = values.key_span("tpm").filter(|_| table.tpm && table.boot_mode != Some(BootMode::Uefi)) {
        let help = "add `boot_mode = \"uefi\"`: a machine that boots otherwise has no TPM";
        reader.error_with_help(&span, "`tpm` needs `boot_mode = \"uefi\"`", help);
    }
    if let Some(span) = values.key_span("replace").filter(|_| table.replace && table.deregistration_protection) {
        let help = "keep one of them: the next build could not take this AMI away";
        reader.error_with_help(&span, "`replace` and `deregistration_protection` contradict each other", help);
    }
}

/// An AMI that is made of an instance boots as the instance did; all that can be asked for is UEFI alone.
pub(super) fn check_boot_mode_of_an_instance(reader: &mut Reader<'_>, values: &Values) {
    if let Some(mode) = values.text("boot_mode").filter(|mode| mode.text != "uefi") {
        let message = format!("an AMI that is made of an instance can't be set to `{}`", mode.text);
        let help = "it boots as the source AMI does, or by `uefi` alone; a published disk may have any boot mode";
        reader.error_with_help(&mode.span, message, help);
    }
}

/// What AWS encrypts with the account's default key can't be shared, and nobody can start it elsewhere.
fn check_others_can_decrypt(reader: &mut Reader<'_>, values: &Values, place: &Place<'_>, table: &AmiTable) {
    const WHY: &str = "nobody else can use the account's default key";
    for volume in std::iter::once(values).chain(values.tables("volumes")) {
        let key = volume.text("kms_key");
        let default = match (volume.boolean("encrypted"), key) {
            (Some(true), None) => volume.key_span("encrypted"),
            (_, Some(key)) if forms::is_default_key(&key.text) => Some(key.span.clone()),
            _ => None,
        };
        if let Some(span) = default {
            let help = "give a `kms_key` of your own that the others may use, or remove `share_with`";
            reader.error_with_help(&span, format!("an AMI that is encrypted like this can't be shared: {WHY}"), help);
        }
    }
    let is_encrypted = values.get("kms_key").is_some() || values.boolean("encrypted") == Some(true);
    for region in place.copies.iter().filter(|_| is_encrypted) {
        let key = table.copies.get(&region.text).and_then(Option::as_deref);
        // A region of `region_kms_keys` that is wrong is reported already.
        if key.is_none_or(forms::is_default_key) {
            let message = format!("the copy in `{}` can't be shared: {WHY}", region.text);
            let help = format!("add `region_kms_keys = {{ {} = \"…\" }}`", region.text);
            reader.error_with_help(&region.span, message, help);
        }
    }
}
