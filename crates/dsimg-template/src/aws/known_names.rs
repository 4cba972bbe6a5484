//! Names that AWS had in November 2026. Others may be new: they are warned of, and taken.

use std::ops::Range;

use crate::nearest::nearest;
use crate::problem::Problem;
use crate::reader::Reader;
use crate::values::Piece;

#[rustfmt::skip]
const REGIONS: [&str; 43] = [
    "af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1",
    "ap-south-2", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5",
    "ap-southeast-6", "ap-southeast-7", "ca-central-1", "ca-west-1", "cn-north-1", "cn-northwest-1", "eu-central-1",
    "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3",
    "eusc-de-east-1", "il-central-1", "me-central-1", "me-south-1", "mx-central-1", "sa-east-1", "us-east-1",
    "us-east-2", "us-gov-east-1", "us-gov-west-1", "us-iso-east-1", "us-iso-west-1", "us-isob-east-1",
    "us-isof-south-1", "us-west-1", "us-west-2",
];

/// What `DescribeImages`, `DescribeVpcs` or `DescribeSubnets` can be asked for; `tag:…` goes without saying.
pub(super) struct Filters {
    call: &'static str,
    names: &'static [&'static str],
}

#[rustfmt::skip]
pub(super) const OF_IMAGES: Filters = Filters {
    call: "DescribeImages",
    names: &[
        "architecture", "block-device-mapping.delete-on-termination", "block-device-mapping.device-name",
        "block-device-mapping.encrypted", "block-device-mapping.snapshot-id", "block-device-mapping.volume-size",
        "block-device-mapping.volume-type", "boot-mode", "creation-date", "description", "ena-support",
        "free-tier-eligible", "hypervisor", "image-allowed", "image-id", "image-type", "imds-support", "is-public",
        "kernel-id", "manifest-location", "name", "owner-alias", "owner-id", "platform", "product-code",
        "product-code.type", "ramdisk-id", "root-device-name", "root-device-type", "source-image-id",
        "source-image-region", "source-instance-id", "sriov-net-support", "state", "state-reason-code",
        "state-reason-message", "tag-key", "tpm-support", "virtualization-type",
    ],
};

#[rustfmt::skip]
pub(super) const OF_VPCS: Filters = Filters {
    call: "DescribeVpcs",
    names: &[
        "cidr", "cidr-block-association.association-id", "cidr-block-association.cidr-block",
        "cidr-block-association.state", "dhcp-options-id", "ipv6-cidr-block-association.association-id",
        "ipv6-cidr-block-association.ipv6-cidr-block", "ipv6-cidr-block-association.ipv6-pool",
        "ipv6-cidr-block-association.state", "is-default", "owner-id", "state", "tag-key", "vpc-id",
    ],
};

#[rustfmt::skip]
pub(super) const OF_SUBNETS: Filters = Filters {
    call: "DescribeSubnets",
    names: &[
        "availability-zone", "availability-zone-id", "available-ip-address-count", "cidr-block",
        "customer-owned-ipv4-pool", "default-for-az", "enable-dns64", "enable-lni-at-device-index",
        "ipv6-cidr-block-association.association-id", "ipv6-cidr-block-association.ipv6-cidr-block",
        "ipv6-cidr-block-association.state", "ipv6-native", "map-customer-owned-ip-on-launch",
        "map-public-ip-on-launch", "outpost-arn", "owner-id", "private-dns-name-options-on-launch.hostname-type",
        "state", "subnet-arn", "subnet-id", "tag-key", "vpc-id",
    ],
};

impl Filters {
    pub(super) fn check(&self, reader: &mut Reader<'_>, filters: &[(Piece, Piece)]) {
        for (name, _) in filters {
            let is_known = self.names.contains(&name.text.as_str()) || name.text.starts_with("tag:");
            if !is_known {
                let what = format!("{} may have no filter `{}`", self.call, name.text);
                warn(reader, &name.span, what, nearest(&name.text, self.names.iter().copied()));
            }
        }
    }
}

/// A region in the right form that is not known.
pub(super) fn check_region(reader: &mut Reader<'_>, region: &Piece) {
    if !REGIONS.contains(&region.text.as_str()) {
        let what = format!("AWS had no region `{}` when this version of dsimg was made", region.text);
        warn(reader, &region.span, what, nearest(&region.text, REGIONS));
    }
}

/// `t4g`, `c7gn`, `a1`: families of AWS's own processors have a `g` after their generation.
pub(super) fn check_processor(reader: &mut Reader<'_>, instance_type: &Piece) {
    let family = instance_type.text.split('.').next().unwrap_or_default();
    let generation = family.trim_start_matches(|c: char| c.is_ascii_lowercase());
    let beside = generation.trim_start_matches(|c: char| c.is_ascii_digit());
    if family == "a1" || (beside.len() < generation.len() && beside.starts_with('g')) {
        let message = format!("`{}` has an ARM processor", instance_type.text);
        let help = "dsimg's machines are amd64 today; such a type has no `g` behind its number";
        reader.report(Problem::warning(instance_type.span.clone(), message).with_help(help));
    }
}

fn warn(reader: &mut Reader<'_>, span: &Range<usize>, what: String, near: Option<&str>) {
    let mut problem = Problem::warning(span.clone(), what);
    problem.help = near.map(|near| format!("did you mean `{near}`?"));
    reader.report(problem);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors() {
        let is_warned_of = |text: &str| {
            let mut reader = Reader::new("");
            check_processor(&mut reader, &Piece { text: text.to_owned(), span: 0..0 });
            reader.problems.len() == 1
        };
        for arm in ["t4g.large", "c7gn.xlarge", "m6gd.medium", "a1.large", "im4gn.large", "g5g.xlarge", "hpc7g.4xlarge"]
        {
            assert!(is_warned_of(arm), "{arm}");
        }
        for other in
            ["t3.large", "g5.xlarge", "g6e.xlarge", "m7i-flex.large", "r7a.large", "gr6.4xlarge", "u-6tb1.metal"]
        {
            assert!(!is_warned_of(other), "{other}");
        }
    }

    #[test]
    fn every_known_region_has_the_form() {
        for region in REGIONS {
            let piece = Piece { text: region.to_owned(), span: 0..0 };
            assert!(super::super::forms::REGION.check(&mut Reader::new(""), &piece), "{region}");
        }
    }
}
