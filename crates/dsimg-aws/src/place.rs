//! Subnets that an instance may be started in.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{Filter, Subnet};

use dsimg_machine::MachineError;
use dsimg_template::template::aws::PlaceTable;

use crate::account::Account;
use crate::failure::explain;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) subnet: String,
    pub(crate) zone: String,
    pub(crate) vpc: String,
    pub(crate) cidr: String,
    pub(crate) free: i32,
    /// Instances in it get a public address unless they ask for none.
    pub(crate) gives_public: bool,
}

/// In the order in which they are tried; at least one, all of one VPC.
///
/// # Errors
/// There is none, or they lie in several VPCs.
pub(crate) async fn places(account: &Account, table: &PlaceTable) -> Result<Vec<Place>, MachineError> {
    let mut request = account.ec2.describe_subnets();
    if table.subnets.is_empty() {
        request = request.set_filters(Some(subnet_filters(account, table).await?));
    } else {
        request = request.set_subnet_ids(Some(table.subnets.clone()));
    }
    let found = request.send().await.map_err(|error| explain("look for subnets", account, error))?;
    let places = chosen(found.subnets().iter().map(place).collect(), table);
    check(&places, account, table)?;
    Ok(places)
}

/// The address ranges of a VPC.
///
/// # Errors
/// AWS does not tell.
pub(crate) async fn ranges(account: &Account, vpc: &str) -> Result<Vec<String>, MachineError> {
    let found = account.ec2.describe_vpcs().vpc_ids(vpc).send().await;
    let found = found.map_err(|error| explain(&format!("look at {vpc}"), account, error))?;
    let blocks = found.vpcs().iter().flat_map(|vpc| vpc.cidr_block_association_set());
    let mut ranges: BTreeSet<_> = blocks.filter_map(|block| block.cidr_block().map(str::to_owned)).collect();
    ranges.extend(found.vpcs().iter().filter_map(|vpc| vpc.cidr_block().map(str::to_owned)));
    Ok(ranges.into_iter().collect())
}

async fn subnet_filters(account: &Account, table: &PlaceTable) -> Result<Vec<Filter>, MachineError> {
    let mut filters = filters(&table.subnet_filter);
    match (&table.vpc, table.vpc_filter.is_empty()) {
        (Some(vpc), _) => filters.push(filter("vpc-id", vpc)),
        (None, false) => filters.push(filter("vpc-id", &one_vpc(account, &table.vpc_filter).await?)),
        // Without any wish: the default VPC.
        (None, true) if table.subnet_filter.is_empty() => filters.push(filter("default-for-az", "true")),
        (None, true) => {}
    }
    Ok(filters)
}

async fn one_vpc(account: &Account, wanted: &BTreeMap<String, String>) -> Result<String, MachineError> {
    let found = account.ec2.describe_vpcs().set_filters(Some(filters(wanted))).send().await;
    let found = found.map_err(|error| explain("look for the VPC", account, error))?;
    let ids: Vec<_> = found.vpcs().iter().filter_map(|vpc| vpc.vpc_id()).collect();
    match ids[..] {
        [id] => Ok(id.to_owned()),
        [] => Err(MachineError::refused(
            format!("no VPC in {} fits `vpc_filter`", account.region),
            "look at the filter's names and values, or name the VPC by its id",
        )),
        _ => Err(MachineError::refused(
            format!("`vpc_filter` finds {} VPCs in {}: {}", ids.len(), account.region, ids.join(", ")),
            "make the filter narrower, or name the VPC by its id",
        )),
    }
}

fn place(subnet: &Subnet) -> Place {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    Place {
        subnet: text(subnet.subnet_id()),
        zone: text(subnet.availability_zone()),
        vpc: text(subnet.vpc_id()),
        cidr: text(subnet.cidr_block()),
        free: subnet.available_ip_address_count().unwrap_or_default(),
        gives_public: subnet.map_public_ip_on_launch().unwrap_or_default(),
    }
}

/// Subnets that the template names stay in its order. Of others each zone's roomiest one is taken, as capacity is a
/// zone's, the roomiest first; zones that the template names in its order.
fn chosen(mut found: Vec<Place>, table: &PlaceTable) -> Vec<Place> {
    let zone_of = |place: &Place| table.zones.iter().position(|zone| *zone == place.zone);
    if !table.zones.is_empty() {
        found.retain(|place| zone_of(place).is_some());
    }
    if !table.subnets.is_empty() {
        found.sort_by_key(|place| table.subnets.iter().position(|id| *id == place.subnet));
        return found;
    }
    found.sort_by_key(|place| (zone_of(place), -place.free, place.subnet.clone()));
    let mut seen = BTreeSet::new();
    found.retain(|place| seen.insert(place.zone.clone()));
    found
}

fn check(places: &[Place], account: &Account, table: &PlaceTable) -> Result<(), MachineError> {
    let region = &account.region;
    let Some(first) = places.first() else {
        let named = !table.subnets.is_empty() || !table.subnet_filter.is_empty() || table.vpc.is_some();
        let zones = if table.zones.is_empty() { String::new() } else { format!(" in {}", table.zones.join(", ")) };
        let (what, hint) = if named || !table.vpc_filter.is_empty() {
            (
                format!("no subnet in {region} is what the template asks for{zones}"),
                "look at its keys for VPC, subnets and zones",
            )
        } else {
            (format!("the account has no default VPC in {region}{zones}"), "name a `vpc` or `subnets` for this builder")
        };
        return Err(MachineError::refused(what, hint));
    };
    if let Some(other) = places.iter().find(|place| place.vpc != first.vpc) {
        return Err(MachineError::refused(
            format!("{} is in {}, {} in {}", first.subnet, first.vpc, other.subnet, other.vpc),
            "name subnets of one VPC: the security group is in one",
        ));
    }
    Ok(())
}

/// Filters of a `Describe` call from a table of the template.
pub(crate) fn filters(wanted: &BTreeMap<String, String>) -> Vec<Filter> {
    wanted.iter().map(|(name, value)| filter(name, value)).collect()
}

pub(crate) fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Vec<Place> {
        let place = |subnet: &str, zone: &str, free| Place {
            subnet: subnet.to_owned(),
            zone: zone.to_owned(),
            free,
            ..Place::default()
        };
        vec![place("s1", "a", 10), place("s2", "a", 20), place("s3", "b", 90), place("s4", "c", 5)]
    }

    fn names(table: &PlaceTable) -> Vec<String> {
        chosen(found(), table).into_iter().map(|place| place.subnet).collect()
    }

    #[test]
    fn the_roomiest_subnet_of_each_zone_is_tried() {
        assert_eq!(names(&PlaceTable::default()), ["s3", "s2", "s4"]);
        let zones = vec!["c".to_owned(), "a".to_owned()];
        assert_eq!(names(&PlaceTable { zones, ..PlaceTable::default() }), ["s4", "s2"]);
    }

    #[test]
    fn named_subnets_stay_in_their_order() {
        let subnets = ["s4", "s1", "s2", "s3"].map(str::to_owned).to_vec();
        assert_eq!(names(&PlaceTable { subnets, ..PlaceTable::default() }), ["s4", "s1", "s2", "s3"]);
    }
}
