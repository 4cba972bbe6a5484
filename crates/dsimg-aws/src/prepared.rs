//! What can be known before anything is made: asked once, so that a build that can't end well costs nothing.

use std::collections::BTreeSet;
use std::path::Path;

use aws_sdk_ec2::types::{InstanceType, LocationType};

use dsimg_download::{Access, ProxyEnvironment};
use dsimg_machine::{HostFacts, MachineError, RunContext};
use dsimg_plan::plan::PlannedBase;
use dsimg_plan::{Digest, Plan};
use dsimg_template::template::BuilderTable;
use dsimg_template::template::aws::{AmiSource, AwsEbsTable, BootMode};

use crate::account::Account;
use crate::ami;
use crate::attempts::{Attempt, attempts};
use crate::door::Door;
use crate::failure::{code, explain};
use crate::image::job;
use crate::launch::Launch;
use crate::marks::Marks;
use crate::place::{Place, places};
use crate::source::{self, SourceImage};

#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) account: Account,
    pub(crate) table: AwsEbsTable,
    pub(crate) source: SourceImage,
    /// At least one.
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) door: Door,
    /// The user's own part.
    pub(crate) user_data: Option<String>,
    /// Of the type that is tried first.
    cpus: u32,
}

/// What the plan says of the machine and its base.
///
/// # Errors
/// It is a plan for another kind of builder.
pub(crate) fn table_of(plan: &Plan) -> Result<(&AwsEbsTable, &AmiSource), MachineError> {
    match (&plan.machine, &plan.base) {
        (BuilderTable::AwsEbs(table), PlannedBase::Ami(ami)) => Ok((table, ami)),
        _ => Err(MachineError::Refused { what: format!("builder `{}` is none of AWS's", plan.builder), hint: None }),
    }
}

impl Prepared {
    /// Looks and changes nothing.
    ///
    /// # Errors
    /// The build could not end well as things are.
    pub(crate) async fn look(
        plan: &Plan,
        folder: &Path,
        proxies: &ProxyEnvironment,
        run: &RunContext,
    ) -> Result<Self, MachineError> {
        let (table, ami) = table_of(plan)?;
        let account = Account::open(&table.account).await;
        check_identity(&account, run).await?;
        let source = source::find(&account, ami).await?;
        check_wishes(table, &source)?;
        let marks = Marks::new(run, 0, 0, &table.tags);
        ami::check_name(&job(&account, table, plan, &source, &marks), run).await?;
        let cpus = check_types(&account, &table.instance.types).await?;
        let places = places(&account, &table.place).await?;
        let attempts = offered(&account, table, &places).await?;
        let access = Access::from_network(&plan.network).or_environment(proxies);
        let door = Door::find(&account, &table.reach, &places, access, run).await?;
        let user_data = read_user_data(plan, table, folder)?;
        let prepared = Self { account, table: table.clone(), source, attempts, door, user_data, cpus };
        prepared.rehearse(&marks).await?;
        Ok(prepared)
    }

    pub(crate) fn host_facts(&self) -> HostFacts {
        HostFacts {
            hypervisor: "ec2".to_owned(),
            accelerator: "nitro".to_owned(),
            cpus: self.cpus,
            os: format!("EC2 in {}", self.account.region),
        }
    }

    /// The login that the AMI's cloud-init sets up.
    pub(crate) fn usual_user<'a>(&self, plan: &'a Plan) -> &'a str {
        match &plan.base {
            PlannedBase::Ami(AmiSource { user: Some(user), .. }) => user,
            _ => source::usual_user(&self.source.name),
        }
    }

    /// Rights, instance profile and devices are AWS's to judge.
    async fn rehearse(&self, marks: &Marks) -> Result<(), MachineError> {
        let groups = match &self.door {
            Door::Given(groups) => groups.clone(),
            Door::For(_) => Vec::new(),
        };
        let launch = Launch {
            account: &self.account,
            table: &self.table,
            image: &self.source.id,
            root_device: &self.source.root_device,
            user_data: "",
            key_pair: None,
            groups: &groups,
            marks,
        };
        launch.rehearse(&self.attempts[0]).await
    }
}

async fn check_identity(account: &Account, run: &RunContext) -> Result<(), MachineError> {
    let identity = account.sts.get_caller_identity().send().await;
    let identity = identity.map_err(|error| explain("find out who calls", account, error))?;
    run.debug(format!("AWS knows the caller as {}", identity.arn().unwrap_or("nobody")));
    Ok(())
}

/// CreateImage takes over what the source AMI has, but for what it can be told.
fn check_wishes(table: &AwsEbsTable, source: &SourceImage) -> Result<(), MachineError> {
    source.check_size(table.instance.root.size)?;
    let has = source.boot_mode.as_deref();
    let wanted = table.ami.boot_mode.map(|mode| match mode {
        BootMode::LegacyBios => "legacy-bios",
        BootMode::Uefi => "uefi",
        BootMode::UefiPreferred => "uefi-preferred",
    });
    // `uefi` is the one that CreateImage can be told.
    if wanted.is_some_and(|wanted| has != Some(wanted) && wanted != "uefi") {
        return Err(MachineError::refused(
            format!(
                "an AMI that is made of an instance keeps the boot mode of its source, and that of {} is {}",
                source.id,
                has.unwrap_or("not set")
            ),
            "leave `boot_mode` out, choose another `base.ami`, or publish a local disk with `aws-ami`",
        ));
    }
    if table.ami.tpm && !source.tpm {
        return Err(MachineError::refused(
            format!(
                "an AMI that is made of an instance has a TPM only if its source has one, and {} has none",
                source.id
            ),
            "leave `tpm` out, choose another `base.ami`, or publish a local disk with `aws-ami`",
        ));
    }
    Ok(())
}

/// How many processors the first one has.
async fn check_types(account: &Account, types: &[String]) -> Result<u32, MachineError> {
    let wanted = types.iter().map(|name| InstanceType::from(name.as_str())).collect();
    let found = account.ec2.describe_instance_types().set_instance_types(Some(wanted)).send().await;
    let found = match found {
        Err(error) if code(&error) == Some("InvalidInstanceType") => {
            let what =
                format!("there is no instance type like one of these in {}: {}", account.region, types.join(", "));
            return Err(MachineError::refused(what, "look at `instance_type`; not every region has every type"));
        }
        found => found.map_err(|error| explain("look at instance types", account, error))?,
    };
    for each in found.instance_types() {
        let name = each.instance_type().map(|name| name.as_str()).unwrap_or_default();
        let processors = each.processor_info().map(|info| info.supported_architectures()).unwrap_or_default();
        if !processors.is_empty() && !processors.iter().any(|each| each.as_str() == "x86_64") {
            let what = format!("{name} has no x86_64 processor");
            return Err(MachineError::refused(what, "dsimg builds for x86_64; choose another `instance_type`"));
        }
    }
    let first =
        found.instance_types().iter().find(|each| each.instance_type().map(|name| name.as_str()) == Some(&types[0]));
    let cpus = first.and_then(|each| each.v_cpu_info()).and_then(|info| info.default_v_cpus());
    Ok(cpus.and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or(0).max(1))
}

/// The ways to start an instance that AWS offers at all.
async fn offered(account: &Account, table: &AwsEbsTable, places: &[Place]) -> Result<Vec<Attempt>, MachineError> {
    let types = &table.instance.types;
    let mut request =
        account.ec2.describe_instance_type_offerings().location_type(LocationType::AvailabilityZone).filters(
            aws_sdk_ec2::types::Filter::builder().name("instance-type").set_values(Some(types.clone())).build(),
        );
    let mut offers = BTreeSet::new();
    loop {
        let found = request.clone().send().await.map_err(|error| explain("look for zones", account, error))?;
        offers.extend(
            found
                .instance_type_offerings()
                .iter()
                .filter_map(|offer| Some((offer.instance_type()?.as_str().to_owned(), offer.location()?.to_owned()))),
        );
        match found.next_token() {
            Some(token) if !token.is_empty() => request = request.next_token(token),
            _ => break,
        }
    }
    let attempts = attempts(types, places, &offers, table.instance.spot.as_ref());
    if attempts.is_empty() {
        let zones: BTreeSet<_> = places.iter().map(|place| place.zone.as_str()).collect();
        let zones = zones.into_iter().collect::<Vec<_>>().join(", ");
        let what = format!("no zone of these has {}: {zones}", types.join(" or "));
        return Err(MachineError::refused(what, "name another `instance_type`, or other zones or subnets"));
    }
    Ok(attempts)
}

fn read_user_data(plan: &Plan, table: &AwsEbsTable, folder: &Path) -> Result<Option<String>, MachineError> {
    let Some(path) = &table.instance.user_data else { return Ok(None) };
    let path = folder.join(path);
    let text = std::fs::read_to_string(&path).map_err(|error| MachineError::file("cannot read", &path, error))?;
    if plan.user_data.as_ref().is_some_and(|planned| *planned != Digest::of_bytes(text.as_bytes())) {
        let what = format!("{} has changed since the build began", path.display());
        return Err(MachineError::refused(what, "begin the build again"));
    }
    Ok(Some(text))
}
