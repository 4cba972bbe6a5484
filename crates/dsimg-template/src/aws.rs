//! AWS in a template: reads `base.ami`, builders of type `aws-ebs` and publishers of type `aws-ami`.

mod ami;
pub(crate) mod ami_names;
mod forms;
mod instance;
mod known_names;
mod place;
mod reach;
mod source;
mod tags;
mod volumes;

use std::ops::Range;

use crate::reader::Reader;
use crate::template::Image;
use crate::template::aws::{AmiCheckpoints, AwsAccount, AwsAmiTable, AwsEbsTable};
use crate::values::{Piece, Values};

pub(crate) use source::ami_source;

/// A builder of type `aws-ebs`, also with its defaults, which [`crate::keys::aws::ebs`] says in words.
///
/// `at` is where the builder says its type.
pub(crate) fn ebs_table(reader: &mut Reader<'_>, values: &Values, at: &Range<usize>, image: &Image) -> AwsEbsTable {
    let home = values.text("region");
    if let Some(region) = home {
        check_region(reader, region);
    }
    let copies: Vec<&Piece> = regions(reader, values).into_iter().filter(|region| !is_home(region, home)).collect();
    let instance = instance::read(reader, values);
    let place = place::read(reader, values);
    let reach = reach::read(reader, values);
    let ami = ami::read(reader, values, &ami::Place { at, home, copies: &copies }, image);
    ami::check_boot_mode_of_an_instance(reader, values);
    AwsEbsTable {
        account: account(reader, values, home),
        instance,
        place,
        reach,
        tags: tags::read(reader, values),
        ami,
        checkpoint: match values.text("checkpoint").map(|piece| piece.text.as_str()) {
            Some("each") => AmiCheckpoints::Each,
            _ => AmiCheckpoints::None,
        },
    }
}

/// A publisher of type `aws-ami`.
pub(crate) fn publisher_table(
    reader: &mut Reader<'_>,
    values: &Values,
    at: &Range<usize>,
    image: &Image,
) -> AwsAmiTable {
    let regions = regions(reader, values);
    if let Some(found) = values.get("regions").filter(|_| regions.is_empty()) {
        let span = found.span.clone();
        reader.error_with_help(&span, "`regions` names no region", "the disk is uploaded to the first one");
    }
    let (home, copies) = (regions.first().copied(), regions.get(1..).unwrap_or_default());
    let (encrypted, kms_key) = volumes::encryption(reader, values, home);
    AwsAmiTable {
        account: account(reader, values, home),
        encrypted,
        kms_key,
        ami: ami::read(reader, values, &ami::Place { at, home, copies }, image),
        tags: tags::read(reader, values),
    }
}

fn account(reader: &mut Reader<'_>, values: &Values, home: Option<&Piece>) -> AwsAccount {
    AwsAccount {
        // What is missing is reported; the rest is still read.
        region: home.map(|region| region.text.clone()).unwrap_or_default(),
        profile: forms::PROFILE.read_one(reader, values, "profile"),
    }
}

fn regions<'v>(reader: &mut Reader<'_>, values: &'v Values) -> Vec<&'v Piece> {
    let mut regions: Vec<&Piece> = Vec::new();
    for region in values.texts("regions") {
        check_region(reader, region);
        if regions.iter().any(|earlier| earlier.text == region.text) {
            reader.error(&region.span, format!("`regions` holds `{}` twice", region.text));
        } else {
            regions.push(region);
        }
    }
    regions
}

fn check_region(reader: &mut Reader<'_>, region: &Piece) {
    if forms::REGION.check(reader, region) {
        known_names::check_region(reader, region);
    }
}

fn is_home(region: &Piece, home: Option<&Piece>) -> bool {
    home.is_some_and(|home| home.text == region.text)
}

/// Of two keys that say the same in two ways, the later one is reported.
fn check_one_of(reader: &mut Reader<'_>, values: &Values, keys: [&str; 2], why: &str) {
    let [Some(first), Some(second)] = keys.map(|key| values.get(key)) else { return };
    let later = if first.key_span.start > second.key_span.start { first } else { second };
    let message = format!("both `{}` and `{}` are given", keys[0], keys[1]);
    reader.error_with_help(&later.key_span.clone(), message, why);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;
    use serde_json::{Value as Json, json};

    fn image() -> Image {
        Image { name: "ds".to_owned(), version: "1".to_owned(), summary: None }
    }

    /// Where a key's value is in the table, for those that are not `None`, empty or false without being written.
    fn used(table: &Json, key: &str) -> Json {
        let place = match key {
            "instance_type" => "/instance/types/0",
            "disk" => "/instance/root/size",
            "volume_type" => "/instance/root/kind",
            "time_limit" => "/instance/time_limit",
            "boot_timeout" => "/instance/boot_timeout",
            "address" => "/reach/address",
            "ssh_port" => "/reach/ssh_port",
            "checkpoint" => "/checkpoint",
            "deregistration_protection" | "require_imds_v2" | "tpm" | "replace" => {
                return table["ami"][key].clone();
            }
            _ => panic!("`{key}` has a default that is not looked at"),
        };
        table.pointer(place).cloned().unwrap_or_default()
    }

    /// The defaults are said twice: in words for editors, and here as they are used.
    #[test]
    fn the_defaults_are_those_that_the_keys_promise() {
        let mut reader = Reader::new("");
        let (values, at) = (Values::default(), 0..0);
        let ebs = ebs_table(&mut reader, &values, &at, &image());
        let publisher = publisher_table(&mut reader, &values, &at, &image());
        assert_eq!(reader.problems, []);
        assert_eq!(ebs.instance.spot, None);
        let defaults = |keys: Vec<keys::Key>| keys.into_iter().filter_map(|key| Some((key.name, key.default?)));
        let table = serde_json::to_value(&ebs).unwrap();
        for (key, promised) in defaults(keys::aws::ebs()) {
            let used = match key.as_str() {
                "spot" | "on_demand_fallback" => continue,
                "disk" => json!(ebs.instance.root.size.to_string()),
                "time_limit" => json!(ebs.instance.time_limit.to_string()),
                "boot_timeout" => json!(ebs.instance.boot_timeout.to_string()),
                _ => used(&table, &key),
            };
            assert_eq!(used, promised, "`{key}`");
        }
        let table = serde_json::to_value(&publisher).unwrap();
        for (key, promised) in defaults(keys::aws::publisher()) {
            assert_eq!(used(&table, &key), promised, "`{key}` of a publisher");
        }
        assert_eq!(publisher.ami, ebs.ami, "both say the same of an AMI");
        let rest = json!({
            "name": null, "description": null, "copies": {}, "tags": {}, "deprecate_after": null, "boot_mode": null,
            "parameter": null, "share": { "accounts": [], "organizations": [], "units": [] },
        });
        for (key, empty) in rest.as_object().unwrap() {
            assert_eq!(&table["ami"][key], empty, "`{key}`");
        }
    }

    #[test]
    fn every_key_of_other_tools_is_the_name_of_none_of_ours() {
        for keys in [keys::aws::ebs(), keys::aws::publisher(), keys::aws::volume(), keys::aws::ami_source()] {
            for key in &keys {
                for other in key.other_names {
                    assert!(!keys::names(&keys).contains(other), "`{other}`");
                }
            }
        }
    }
}
