//! The temporary security group: ssh for the caller alone.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_ec2::types::{IpPermission, IpRange, Ipv6Range, ResourceType};

use dsimg_download::Access;
use dsimg_machine::{MachineError, RunContext};
use dsimg_template::template::aws::{Address, ReachTable};

use crate::account::Account;
use crate::caller;
use crate::failure::{code, explain, may_be_done};
use crate::marks::Marks;
use crate::pace::Pace;
use crate::place::{Place, filter, ranges};
use crate::remove::tagged;

const SETTLED_LIMIT: Duration = Duration::from_secs(60);

/// Who is let in, known before anything is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Door {
    /// Groups of the template.
    Given(Vec<String>),
    /// Ranges that a group is made for.
    For(BTreeSet<String>),
}

impl Door {
    /// # Errors
    /// The caller's address can't be found out.
    pub(crate) async fn find(
        account: &Account,
        reach: &ReachTable,
        places: &[Place],
        access: Access,
        run: &RunContext,
    ) -> Result<Self, MachineError> {
        if !reach.security_groups.is_empty() {
            return Ok(Self::Given(reach.security_groups.clone()));
        }
        if !reach.allow_from.is_empty() {
            return Ok(Self::For(reach.allow_from.iter().cloned().collect()));
        }
        let Some(first) = places.first() else { return Ok(Self::For(BTreeSet::new())) };
        if reach.bastion.is_some() {
            // Which of its addresses it sends from is not to be known from here.
            return Ok(Self::For(ranges(account, &first.vpc).await?.into_iter().collect()));
        }
        let is_public = match reach.address {
            Address::Public => true,
            Address::Private => false,
            Address::Auto => places.iter().any(|place| place.gives_public),
        };
        let address =
            if is_public { caller::public_address(access, run).await? } else { private(account, first).await? };
        Ok(Self::For(BTreeSet::from([caller::alone(address)])))
    }

    /// The groups that the instance is in; makes one where it must.
    ///
    /// # Errors
    /// It can't be made.
    pub(crate) async fn open(
        &self,
        account: &Account,
        (vpc, port): (&str, u16),
        marks: &Marks,
        run: &RunContext,
    ) -> Result<Vec<String>, MachineError> {
        let sources = match self {
            Self::Given(groups) => return Ok(groups.clone()),
            Self::For(sources) => sources,
        };
        let id = make(account, vpc, marks, run).await?;
        let_in(account, &id, sources, port, run).await?;
        Ok(vec![id])
    }
}

/// This host's address where it is in the VPC itself. From elsewhere a router or a VPN may change it on the way.
async fn private(account: &Account, place: &Place) -> Result<std::net::IpAddr, MachineError> {
    let ranges = ranges(account, &place.vpc).await?;
    let own = caller::address_towards(&place.cidr);
    own.filter(|address| caller::is_in(*address, &ranges)).ok_or_else(|| {
        MachineError::refused(
            format!(
                "the instance gets a private address only, and this host is not in its VPC ({})",
                ranges.join(", ")
            ),
            "set `allow_from` to the range that it sees this host in, name `security_groups`, or a `bastion`",
        )
    })
}

/// Its name is the build's own: one that is there already was made by a call whose answer was lost.
async fn make(account: &Account, vpc: &str, marks: &Marks, run: &RunContext) -> Result<String, MachineError> {
    let made = account
        .ec2
        .create_security_group()
        .group_name(&marks.name)
        .description("ssh for one build of dsimg")
        .vpc_id(vpc)
        .tag_specifications(marks.on(ResourceType::SecurityGroup))
        .send()
        .await;
    let error = match made {
        Ok(made) => return Ok(made.group_id().unwrap_or_default().to_owned()),
        Err(error) => error,
    };
    if code(&error) != Some("InvalidGroup.Duplicate") && !may_be_done(&error) {
        return Err(explain("make a security group", account, error));
    }
    let mut pace = Pace::within(Duration::from_secs(15));
    loop {
        let request =
            account.ec2.describe_security_groups().filters(tagged(&marks.name)).filters(filter("vpc-id", vpc));
        let found = request.send().await.map_err(|error| explain("look for the security group", account, error))?;
        if let Some(id) = found.security_groups().first().and_then(|group| group.group_id()) {
            return Ok(id.to_owned());
        }
        if !pace.next(&run.cancel).await? {
            return Err(explain("make a security group", account, error));
        }
    }
}

async fn let_in(
    account: &Account,
    id: &str,
    sources: &BTreeSet<String>,
    port: u16,
    run: &RunContext,
) -> Result<(), MachineError> {
    let (six, four): (Vec<_>, Vec<_>) = sources.iter().partition(|range| range.contains(':'));
    let rule = IpPermission::builder()
        .ip_protocol("tcp")
        .from_port(i32::from(port))
        .to_port(i32::from(port))
        .set_ip_ranges(some(four.into_iter().map(|range| IpRange::builder().cidr_ip(range).build()).collect()))
        .set_ipv6_ranges(some(six.into_iter().map(|range| Ipv6Range::builder().cidr_ipv6(range).build()).collect()))
        .build();
    let mut pace = Pace::within(SETTLED_LIMIT);
    loop {
        let request = account.ec2.authorize_security_group_ingress().group_id(id).ip_permissions(rule.clone());
        match request.send().await {
            Ok(_) => return Ok(()),
            // Said by a try before whose answer was lost.
            Err(error) if code(&error) == Some("InvalidPermission.Duplicate") => return Ok(()),
            // Made a moment ago, and not known everywhere yet.
            Err(error) if code(&error).is_some_and(|code| code.starts_with("InvalidGroup")) => {
                if !pace.next(&run.cancel).await? {
                    return Err(explain(&format!("open the security group {id}"), account, error));
                }
            }
            Err(error) => return Err(explain(&format!("open the security group {id}"), account, error)),
        }
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
