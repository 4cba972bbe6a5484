//! The forms of AWS's names, as far as they can be told without asking AWS.

use std::net::IpAddr;

use crate::reader::Reader;
use crate::values::{Piece, Values};

/// What a name must look like, and what is said of one that does not.
pub(super) struct Form {
    /// Completes "`x` is not …".
    what: &'static str,
    is_right: fn(&str) -> bool,
    help: fn(&str) -> String,
}

impl Form {
    /// Reports a name that does not have the form.
    pub(super) fn check(&self, reader: &mut Reader<'_>, piece: &Piece) -> bool {
        let is_right = (self.is_right)(&piece.text);
        if !is_right {
            let message = format!("`{}` is not {}", piece.text.escape_debug(), self.what);
            reader.error_with_help(&piece.span, message, (self.help)(&piece.text));
        }
        is_right
    }

    /// The key's value or values; those without the form are reported, and are in it all the same.
    pub(super) fn read(&self, reader: &mut Reader<'_>, values: &Values, key: &str) -> Vec<String> {
        let pieces: Vec<&Piece> = values.text(key).into_iter().chain(values.texts(key)).collect();
        for piece in &pieces {
            self.check(reader, piece);
        }
        pieces.into_iter().map(|piece| piece.text.clone()).collect()
    }

    pub(super) fn read_one(&self, reader: &mut Reader<'_>, values: &Values, key: &str) -> Option<String> {
        self.read(reader, values, key).pop()
    }
}

pub(super) const AMI: Form = Form {
    what: "the id of an AMI",
    is_right: |text| is_id(text, "ami-"),
    help: |_| "it is `ami-` and 8 or 17 hex digits; an AMI by its name: `owner` and `name`".to_owned(),
};

pub(super) const VPC: Form = Form {
    what: "the id of a VPC",
    is_right: |text| is_id(text, "vpc-"),
    help: |_| "it is `vpc-` and 8 or 17 hex digits; by its name: `vpc_filter = { \"tag:Name\" = \"…\" }`".to_owned(),
};

pub(super) const SUBNET: Form = Form {
    what: "the id of a subnet",
    is_right: |text| is_id(text, "subnet-"),
    help: |_| {
        "it is `subnet-` and 8 or 17 hex digits; by its name: `subnet_filter = { \"tag:Name\" = \"…\" }`".to_owned()
    },
};

pub(super) const SECURITY_GROUP: Form = Form {
    what: "the id of a security group",
    is_right: |text| is_id(text, "sg-"),
    help: |_| "it is `sg-` and 8 or 17 hex digits".to_owned(),
};

pub(super) const REGION: Form = Form {
    what: "the name of a region",
    is_right: is_region,
    help: |text| match text.strip_suffix(|c: char| c.is_ascii_lowercase()).filter(|text| is_region(text)) {
        Some(region) => format!("it is a zone; its region is `{region}`"),
        None => "such as `eu-west-1`".to_owned(),
    },
};

pub(super) const ACCOUNT: Form = Form {
    what: "the number of an account",
    is_right: is_account,
    help: |text| match text {
        "all" => "dsimg makes no AMIs that all the world may start; name accounts by their twelve digits".to_owned(),
        _ => "it has twelve digits".to_owned(),
    },
};

pub(super) const OWNER: Form = Form {
    what: "an owner of AMIs",
    is_right: |text| is_account(text) || ["self", "amazon", "aws-marketplace"].contains(&text),
    help: |_| {
        "it is an account's twelve digits, `self`, `amazon` or `aws-marketplace`; Debian's is `136693071363`".to_owned()
    },
};

pub(super) const INSTANCE_TYPE: Form = Form {
    what: "a type of instance",
    is_right: |text| {
        let good = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        text.split_once('.').is_some_and(|(family, size)| {
            good(family) && good(size) && family.starts_with(|c: char| c.is_ascii_lowercase())
        })
    },
    help: |_| "it is a family and a size, such as `t3.large`".to_owned(),
};

pub(super) const INSTANCE_PROFILE: Form = Form {
    what: "the name of an instance profile",
    is_right: |text| {
        let good = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
        (1..=128).contains(&text.len()) && text.chars().all(good)
    },
    help: |text| match text.strip_prefix("arn:").and_then(|arn| arn.rsplit_once('/')) {
        Some((_, name)) => format!("write its name alone: `{name}`"),
        None => "use up to 128 letters, digits and `+=,.@_-`".to_owned(),
    },
};

pub(super) const PROFILE: Form = Form {
    what: "the name of a profile",
    is_right: |text| !text.trim().is_empty() && !text.contains(|c: char| c.is_control() || c == '[' || c == ']'),
    help: |_| "it is what stands in `[profile …]` of ~/.aws/config".to_owned(),
};

pub(super) const KMS_KEY: Form = Form {
    what: "a key of KMS",
    is_right: |text| {
        let name = match text.strip_prefix("arn:") {
            Some(rest) => match rest.splitn(5, ':').collect::<Vec<_>>()[..] {
                [_, "kms", region, account, name] if is_region(region) && is_account(account) => {
                    return name.strip_prefix("key/").is_some_and(is_key_id) || is_alias(name);
                }
                _ => return false,
            },
            None => text,
        };
        is_key_id(name) || is_alias(name)
    },
    help: |text| match text.strip_prefix("key/").filter(|id| is_key_id(id)) {
        Some(id) => format!("write its id alone: `{id}`"),
        None => "write its id (`1234abcd-12ab-…`), `alias/NAME`, or the ARN of either".to_owned(),
    },
};

pub(super) const ORGANIZATION: Form = Form {
    what: "the ARN of an organisation",
    is_right: |text| organizations_arn(text, "organization/").is_some_and(|id| is_organization_id(id, 10)),
    help: |text| match organizations_arn(text, "ou/") {
        Some(_) => "it is an organisational unit: put it into `units`".to_owned(),
        None => "such as `arn:aws:organizations::123456789012:organization/o-…`; `aws organizations \
                 describe-organization` shows it"
            .to_owned(),
    },
};

pub(super) const UNIT: Form = Form {
    what: "the ARN of an organisational unit",
    is_right: |text| {
        let ids = organizations_arn(text, "ou/").and_then(|ids| ids.split_once('/'));
        ids.is_some_and(|(organization, unit)| {
            let parts: Vec<&str> = unit.splitn(3, '-').collect();
            is_organization_id(organization, 10)
                && matches!(parts[..], ["ou", root, unit] if is_word(root, 4..=32) && is_word(unit, 8..=32))
        })
    },
    help: |text| match organizations_arn(text, "organization/") {
        Some(_) => "it is an organisation: put it into `organizations`".to_owned(),
        None => "such as `arn:aws:organizations::123456789012:ou/o-…/ou-…`".to_owned(),
    },
};

pub(super) const CIDR: Form = Form {
    what: "a range of addresses",
    is_right: |text| network_of(text).as_deref() == Some(text),
    help: |text| match (network_of(text), text.parse::<IpAddr>()) {
        (Some(network), _) => format!("did you mean `{network}`?"),
        (None, Ok(IpAddr::V4(address))) => format!("did you mean `{address}/32`?"),
        (None, Ok(IpAddr::V6(address))) => format!("did you mean `{address}/128`?"),
        (None, Err(_)) => "write an address and the length of its prefix, such as `203.0.113.0/24`".to_owned(),
    },
};

pub(super) const PRICE: Form = Form {
    what: "a price",
    is_right: |text| {
        let digits = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        digits(whole) && digits(fraction) && text.contains(|c| ('1'..='9').contains(&c))
    },
    help: |_| "write US dollars an hour, such as \"0.05\"".to_owned(),
};

pub(super) const DEVICE: Form = Form {
    what: "the name of a further volume's device",
    is_right: |text| {
        let bytes = text.strip_prefix("/dev/").unwrap_or_default().as_bytes();
        matches!(
            bytes,
            [b's', b'd', b'b'..=b'z'] | [b'x', b'v', b'd', b'b'..=b'z'] | [b'x', b'v', b'd', b'b'..=b'd', b'a'..=b'z']
        )
    },
    help: |text| match text {
        _ if text.starts_with("/dev/nvme") => {
            "EC2 knows it as `/dev/sdf`, `/dev/sdg` and so on; the machine finds it as /dev/nvme…".to_owned()
        }
        _ if text.starts_with("/dev/sda") || text.starts_with("/dev/xvda") => {
            "that is the root volume: `disk` is its size; others are `/dev/sdf` to `/dev/sdp`".to_owned()
        }
        _ => "use `/dev/sdf` to `/dev/sdp`".to_owned(),
    },
};

pub(super) const AMI_NAME: Form = Form {
    what: "a name that an AMI may have",
    is_right: is_ami_name,
    help: |text| match text.chars().count() {
        3..=128 => "use letters, digits, spaces and `( ) [ ] . / - ' @ _`".to_owned(),
        count => format!("it has 3 to 128 characters; this one has {count}"),
    },
};

pub(super) const PARAMETER: Form = Form {
    what: "a name for an SSM parameter of your own",
    is_right: |text| {
        let good =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        let parts: Vec<&str> = text.strip_prefix('/').unwrap_or_default().split('/').collect();
        let first = parts[0].to_lowercase();
        (1..=15).contains(&parts.len())
            && text.len() <= 1011
            && parts.into_iter().all(good)
            && !first.starts_with("aws")
            && !first.starts_with("ssm")
    },
    help: |text| match text.starts_with('/') {
        false => format!("begin with a slash: `/{}`", text.trim_matches('/')),
        true => "such as `/golden/ds-hub/latest`: letters, digits and `_.-` between slashes, 15 levels at most; \
                 `/aws…` and `/ssm…` are AWS's own"
            .to_owned(),
    },
};

pub(super) const HOST: Form = Form {
    what: "the name or address of a host",
    is_right: |text| {
        let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        text.parse::<IpAddr>().is_ok() || (!text.is_empty() && text.chars().all(is_name) && !text.starts_with('-'))
    },
    help: |text| match (text.split_once('@'), text.rsplit_once(':')) {
        (Some((user, host)), _) => format!("write `host = \"{host}\"` and `user = \"{user}\"`"),
        (None, Some((host, port))) if port.parse::<u16>().is_ok() => {
            format!("write `host = \"{host}\"` and `port = {port}`")
        }
        _ => "such as `bastion.corp.example`".to_owned(),
    },
};

pub(super) const LOGIN: Form = Form {
    what: "a login",
    is_right: |text| {
        !text.is_empty() && !text.starts_with('-') && text.chars().all(|c| c.is_ascii_graphic() && c != '@')
    },
    help: |_| "write the name that ssh logs in with, such as `ec2-user`".to_owned(),
};

pub(super) const HOST_KEY: Form = Form {
    what: "the public host key of a bastion",
    is_right: |text| host_key(text).is_some(),
    help: |text| {
        let mut words = text.split_whitespace();
        let key = |words: &str| words.split_once("ssh-ed25519 ").map(|(_, key)| format!("ssh-ed25519 {key}"));
        match (words.next(), key(text).filter(|key| host_key(key).is_some())) {
            (_, Some(_)) => "leave out the host's name before `ssh-ed25519`".to_owned(),
            (Some("ssh-rsa" | "ecdsa-sha2-nistp256" | "ssh-dss"), _) => {
                "dsimg takes the host's ed25519 key: `ssh-keyscan -t ed25519 HOST` asks for it".to_owned()
            }
            _ => "it is `ssh-ed25519 AAAA…`, the whole line of /etc/ssh/ssh_host_ed25519_key.pub".to_owned(),
        }
    },
};

/// Its kind and content without a comment; `None` unless it is one of ed25519.
pub(super) fn host_key(text: &str) -> Option<String> {
    // The length of the kind's name, the name, and the length of the key, in base64.
    const BEGINNING: &str = "AAAAC3NzaC1lZDI1NTE5AAAAI";
    let mut words = text.split_whitespace();
    let (kind, content) = (words.next()?, words.next()?);
    let is_base64 = content.chars().all(|c| c.is_ascii_alphanumeric() || c == '+' || c == '/');
    let is_key = kind == "ssh-ed25519" && content.len() == 68 && content.starts_with(BEGINNING) && is_base64;
    is_key.then(|| format!("{kind} {content}"))
}

pub(super) fn is_ami_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "()[] ./-'@_".contains(c);
    (3..=128).contains(&name.chars().count()) && name.chars().all(good)
}

/// The region that a key's ARN names.
pub(super) fn region_of_key(key: &str) -> Option<&str> {
    key.strip_prefix("arn:")?.split(':').nth(2)
}

/// The key that AWS makes for each account: nobody else can use it.
pub(super) fn is_default_key(key: &str) -> bool {
    key.ends_with("alias/aws/ebs")
}

/// `eu-west-1`, `us-gov-east-1`, `eusc-de-east-1`
pub(super) fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [area, middle @ .., number] = &parts[..] else { return false };
    let is_letters = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase());
    let is_number = (1..=2).contains(&number.len()) && number.chars().all(|c| c.is_ascii_digit());
    is_letters(area) && area.len() <= 4 && !middle.is_empty() && middle.iter().all(is_letters) && is_number
}

/// Of older resources the id is short.
fn is_id(text: &str, prefix: &str) -> bool {
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.strip_prefix(prefix).is_some_and(|id| [8, 17].contains(&id.len()) && id.chars().all(is_hex))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.chars().all(|c| c.is_ascii_digit())
}

/// `1234abcd-12ab-34cd-56ef-1234567890ab`, or `mrk-` and 32 digits of a key in many regions.
fn is_key_id(text: &str) -> bool {
    let is_hex = |part: &str| part.chars().all(|c| c.is_ascii_hexdigit());
    match text.strip_prefix("mrk-") {
        Some(id) => id.len() == 32 && is_hex(id),
        None => {
            let parts: Vec<&str> = text.split('-').collect();
            parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.into_iter().all(is_hex)
        }
    }
}

fn is_alias(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "/_-".contains(c);
    text.strip_prefix("alias/").is_some_and(|name| !name.is_empty() && name.len() <= 250 && name.chars().all(good))
}

/// What follows the kind of thing in an ARN of AWS Organizations.
fn organizations_arn<'a>(text: &'a str, kind: &str) -> Option<&'a str> {
    match text.strip_prefix("arn:")?.splitn(5, ':').collect::<Vec<_>>()[..] {
        [_, "organizations", "", account, rest] if is_account(account) => rest.strip_prefix(kind),
        _ => None,
    }
}

fn is_organization_id(text: &str, least: usize) -> bool {
    text.strip_prefix("o-").is_some_and(|id| is_word(id, least..=32))
}

fn is_word(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&text.len()) && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// The range that the address is in, as its first address and the length of the prefix.
fn network_of(text: &str) -> Option<String> {
    let (address, length) = text.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    match address.parse().ok()? {
        IpAddr::V4(address) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            Some(format!("{}/{length}", std::net::Ipv4Addr::from(u32::from(address) & mask)))
        }
        IpAddr::V6(address) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            Some(format!("{}/{length}", std::net::Ipv6Addr::from(u128::from(address) & mask)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(form: &Form, right: &[&str], wrong: &[&str]) {
        for text in right {
            assert!((form.is_right)(text), "`{text}` is {}", form.what);
        }
        for text in wrong {
            assert!(!(form.is_right)(text), "`{text}` is not {}", form.what);
            assert!(!(form.help)(text).is_empty());
        }
    }

    #[test]
    fn ids_and_regions() {
        check(&AMI, &["ami-1a2b3c4d", "ami-0123456789abcdef0"], &["", "ami-", "ami-123", "ami-1A2B3C4D", "1a2b3c4d"]);
        check(&SUBNET, &["subnet-0123456789abcdef0"], &["subnet-xyz", "vpc-0123456789abcdef0"]);
        let regions = ["eu-west-1", "us-gov-east-1", "ap-southeast-7", "eusc-de-east-1", "us-isob-east-1"];
        check(&REGION, &regions, &["", "eu", "eu-1", "eu-west", "eu-west-1a", "EU-WEST-1", "Ireland", "eu--1", "-a-1"]);
        assert_eq!((REGION.help)("eu-west-1a"), "it is a zone; its region is `eu-west-1`");
        check(&ACCOUNT, &["123456789012"], &["12345678901", "1234-5678-9012", "all", "self"]);
        check(&OWNER, &["123456789012", "self", "amazon"], &["debian", "all", ""]);
    }

    #[test]
    fn machines() {
        let types = ["t3.large", "u-6tb1.metal", "c7gn.16xlarge", "m7i-flex.large", "mac2-m2.metal"];
        check(
            &INSTANCE_TYPE,
            &types,
            &["t3", "large", "t3large", "T3.large", ".large", "t3.", "3t.large", "t3.large x"],
        );
        check(&INSTANCE_PROFILE, &["builder", "a.b@c"], &["", "arn:aws:iam::123456789012:instance-profile/builder"]);
        assert!((INSTANCE_PROFILE.help)("arn:aws:iam::123456789012:instance-profile/x/builder").contains("`builder`"));
        check(&PRICE, &["0.05", "1", "12.5"], &["", "0", "0.0", "-1", "1,5", ".5", "5.", "$1", "1e3"]);
        let devices = ["/dev/sdf", "/dev/sdb", "/dev/xvdz", "/dev/xvdba"];
        check(
            &DEVICE,
            &devices,
            &["/dev/sda", "/dev/sda1", "/dev/xvda", "/dev/nvme1n1", "sdf", "/dev/sd", "/dev/sdaa"],
        );
    }

    #[test]
    fn keys_of_kms_and_organisations() {
        let id = "1234abcd-12ab-34cd-56ef-1234567890ab";
        let arn = |rest: &str| format!("arn:aws:kms:eu-west-1:123456789012:{rest}");
        let (key, alias) = (arn(&format!("key/{id}")), arn("alias/ds"));
        check(
            &KMS_KEY,
            &[id, "alias/ds", "mrk-1234abcd12ab34cd56ef1234567890ab", &key, &alias],
            &["", "ds", "alias/", &arn("ds"), &arn(id), "arn:aws:kms:eu-west-1:1:alias/ds", &format!("key/{id}")],
        );
        assert_eq!(region_of_key(&key), Some("eu-west-1"));
        assert_eq!(region_of_key(id), None);
        let organization = "arn:aws:organizations::123456789012:organization/o-abcdef1234";
        let unit = "arn:aws-cn:organizations::123456789012:ou/o-abcdef1234/ou-ab12-cdef3456";
        check(&ORGANIZATION, &[organization], &["o-abcdef1234", unit, ""]);
        check(&UNIT, &[unit], &["ou-ab12-cdef3456", organization, ""]);
    }

    #[test]
    fn ranges_of_addresses() {
        check(
            &CIDR,
            &["10.0.0.0/8", "0.0.0.0/0", "203.0.113.7/32", "2001:db8::/32", "::/0"],
            &["", "10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "2001:db8::1/32", "10.0.0/8", "any"],
        );
        assert_eq!((CIDR.help)("10.1.2.3/8"), "did you mean `10.0.0.0/8`?");
        assert_eq!((CIDR.help)("10.1.2.3"), "did you mean `10.1.2.3/32`?");
    }

    #[test]
    fn names() {
        check(&AMI_NAME, &["ds-1", "ds hub (2026.11) [x] 'y' @z_/"], &["ds", "ds:1", "ds+1", "dé1", &"x".repeat(129)]);
        check(
            &PARAMETER,
            &["/golden/ds-hub/latest", "/x"],
            &["golden/x", "/", "", "/a//b", "/a/", "/aws/x", "/SSM/x", "/awsx", "/a b", &"/x".repeat(16)],
        );
        check(
            &HOST,
            &["bastion.corp.example", "203.0.113.7", "2001:db8::1"],
            &["", "ada@host", "host:22", "-oX", "a b"],
        );
        check(&LOGIN, &["ec2-user", "ada.l"], &["", "a b", "-x", "ada@host"]);
        let key = format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{}", "A".repeat(43));
        let commented = format!("{key} root@bastion");
        check(&HOST_KEY, &[&key, &commented], &["", "ssh-ed25519 AAAA", "ssh-rsa AAAA", &format!("bastion {key}")]);
        assert_eq!(host_key(&commented), Some(key));
    }
}
