//! Where in its region an instance runs.

use super::{check_one_of, forms, known_names};
use crate::nearest::listed;
use crate::problem::Problem;
use crate::reader::Reader;
use crate::template::aws::PlaceTable;
use crate::values::{Piece, Values};

pub(super) fn read(reader: &mut Reader<'_>, values: &Values) -> PlaceTable {
    known_names::OF_VPCS.check(reader, values.map("vpc_filter"));
    known_names::OF_SUBNETS.check(reader, values.map("subnet_filter"));
    let mut subnets = forms::SUBNET.read(reader, values, "subnet");
    subnets.extend(forms::SUBNET.read(reader, values, "subnets"));
    check_contradictions(reader, values);
    PlaceTable {
        zones: zones(reader, values),
        vpc: forms::VPC.read_one(reader, values, "vpc"),
        vpc_filter: values.string_map("vpc_filter"),
        subnets,
        subnet_filter: values.string_map("subnet_filter"),
    }
}

fn check_contradictions(reader: &mut Reader<'_>, values: &Values) {
    check_one_of(reader, values, ["subnet", "subnets"], "put all subnets into `subnets`");
    check_one_of(reader, values, ["vpc", "vpc_filter"], "keep one of them");
    let Some(subnets) = ["subnet", "subnets"].into_iter().find(|key| values.get(key).is_some()) else { return };
    check_one_of(reader, values, [subnets, "subnet_filter"], "keep one of them");
    let why = "each subnet lies in one zone: remove `availability_zones`";
    check_one_of(reader, values, [subnets, "availability_zones"], why);
    for vpc in ["vpc", "vpc_filter"] {
        if let Some(span) = values.key_span(vpc) {
            let problem = Problem::warning(span, format!("`{vpc}` has no effect beside `{subnets}`"));
            reader.report(problem.with_help("each subnet lies in one VPC: remove the line"));
        }
    }
}

fn zones(reader: &mut Reader<'_>, values: &Values) -> Vec<String> {
    // Without a good region there is nothing to compare with.
    let region = values.text("region").map(|region| region.text.as_str()).filter(|region| forms::is_region(region));
    for zone in values.texts("availability_zones") {
        if let Some(region) = region.filter(|region| !is_in(&zone.text, region)) {
            let message = format!("`{}` is not a zone of `{region}`", zone.text);
            reader.error_with_help(&zone.span, message, zone_help(zone, region));
        }
    }
    values.strings("availability_zones")
}

/// `eu-west-1a`; local zones and those of networks have more behind a dash: `us-west-2-lax-1a`.
fn is_in(zone: &str, region: &str) -> bool {
    let Some(rest) = zone.strip_prefix(region) else { return false };
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match rest.strip_prefix('-') {
        Some(more) => !more.is_empty() && more.chars().all(good),
        None => rest.len() == 1 && rest.chars().all(|c| c.is_ascii_lowercase()),
    }
}

fn zone_help(zone: &Piece, region: &str) -> String {
    match zone.text.as_str() {
        letter if letter.len() == 1 => format!("did you mean `{region}{letter}`?"),
        id if id.contains("-az") => {
            format!("that is a zone's id, whose name differs in each account; {}", such_as(region))
        }
        _ => such_as(region),
    }
}

fn such_as(region: &str) -> String {
    format!("its zones are called {}", listed(&[format!("{region}a"), format!("{region}b")]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_and_their_regions() {
        for (zone, region) in [("eu-west-1a", "eu-west-1"), ("us-west-2-lax-1a", "us-west-2")] {
            assert!(is_in(zone, region), "{zone}");
        }
        for (zone, region) in [
            ("eu-west-1a", "eu-west-2"),
            ("eu-west-1", "eu-west-1"),
            ("eu-west-12a", "eu-west-1"),
            ("a", "eu-west-1"),
            ("euw1-az1", "eu-west-1"),
            ("eu-west-1aa", "eu-west-1"),
            ("eu-west-1é", "eu-west-1"),
        ] {
            assert!(!is_in(zone, region), "{zone}");
        }
    }
}
