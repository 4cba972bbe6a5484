//! The local disk becomes an AMI: its blocks a snapshot, the snapshot an AMI, the AMI copies in other regions.

use std::path::PathBuf;

use async_trait::async_trait;
use aws_sdk_ec2::operation::register_image::builders::RegisterImageFluentBuilder;
use aws_sdk_ec2::types::{
    ArchitectureValues, BlockDeviceMapping, BootModeValues, EbsBlockDevice, ImdsSupportValues, ResourceType,
    TpmSupportValues, VolumeType,
};

use dsimg_machine::{Ami, AwsKind, LocalImage, MachineError, Publisher, RunContext};
use dsimg_plan::Digest;
use dsimg_template::template::aws::{AwsAmiTable, BootMode};

use crate::account::Account;
use crate::ami::{self, AmiJob};
use crate::custody::{Custody, resource};
use crate::encryption::{Caller, Encryption, caller};
use crate::kept::{self, Kept};
use crate::tags::{self, Tags};
use crate::upload::{Upload, Uploaded};

/// What instances call their first disk.
const ROOT: &str = "/dev/xvda";

/// `type = "aws-ami"`.
#[derive(Debug, Clone)]
pub struct AwsPublisher {
    table: AwsAmiTable,
    state: PathBuf,
    /// Name and version, where they are known before there is an image.
    release: Option<(String, String)>,
}

#[async_trait]
impl Publisher for AwsPublisher {
    async fn check_ready(&self, run: &RunContext) -> Result<(), MachineError> {
        let account = Account::open(&self.table.account).await;
        let caller = caller(&account, run).await?;
        self.boot_mode()?;
        let encryption = Encryption::resolve(&self.table, &account, &caller, run).await?;
        encryption.check_sharing(&self.table.ami, &account, run).await?;
        match self.job_without_image(&account) {
            Some(job) => ami::check_name_or_same_release(&job, run).await,
            None => Ok(()),
        }
    }

    async fn publish(&self, image: &LocalImage, run: &RunContext) -> Result<Vec<Ami>, MachineError> {
        let account = Account::open(&self.table.account).await;
        let caller = caller(&account, run).await?;
        let encryption = Encryption::resolve(&self.table, &account, &caller, run).await?;
        let job = self.job(&account, image, &encryption)?;
        let kept = self.open_kept(image, &account, &caller, &encryption, run)?;
        let custody = Custody::of_publish(run, &kept);

        let published = self.publish_kept(&job, image, &caller, &encryption, &kept, &custody).await;
        if published.is_err() && !kept.is_empty() {
            return published;
        }
        let removed = kept.remove();
        published.and_then(|amis| removed.map(|()| amis))
    }
}

impl AwsPublisher {
    /// `state_folder` is dsimg's: journals and sums of uploads are kept in its `aws`.
    pub fn new(table: &AwsAmiTable, state_folder: impl Into<PathBuf>) -> Self {
        Self { table: table.clone(), state: state_folder.into(), release: None }
    }

    /// What the image will be called, so that a name that is taken is known before it is built.
    #[must_use]
    pub fn of_image(mut self, name: &str, version: &str) -> Self {
        self.release = Some((name.to_owned(), version.to_owned()));
        self
    }

    async fn publish_kept(
        &self,
        job: &AmiJob<'_>,
        image: &LocalImage,
        caller: &Caller,
        encryption: &Encryption,
        kept: &Kept,
        custody: &Custody<'_>,
    ) -> Result<Vec<Ami>, MachineError> {
        let run = custody.run;
        let id = match ami::find_made(job, custody).await? {
            Some(id) => id,
            None => {
                ami::check_name(job, run).await?;
                encryption.check_sharing(&self.table.ami, job.account, run).await?;
                let upload = Upload {
                    image,
                    account: job.account,
                    owner: &caller.account,
                    encryption,
                    tags: &job.tags,
                    state: &self.state,
                    kept,
                    run,
                };
                self.register(job, &upload.run().await?, custody).await?
            }
        };
        ami::distribute_in(job, &id, custody).await
    }

    fn job<'a>(
        &'a self,
        account: &'a Account,
        image: &LocalImage,
        encryption: &Encryption,
    ) -> Result<AmiJob<'a>, MachineError> {
        let mut job = self.job_of(account, &image.name, &image.version);
        job.description = job.description.or_else(|| image.summary.clone());
        job.tags.insert(tags::SHA256.to_owned(), image.sha256.to_string());
        job.tags.insert(tags::SETTINGS.to_owned(), self.settings(encryption)?);
        Ok(job)
    }

    fn job_without_image<'a>(&'a self, account: &'a Account) -> Option<AmiJob<'a>> {
        let (name, version) = match (&self.release, &self.table.ami.name) {
            (Some((name, version)), _) => (name.as_str(), version.as_str()),
            (None, Some(_)) => ("", ""),
            (None, None) => return None,
        };
        Some(self.job_of(account, name, version))
    }

    fn job_of<'a>(&'a self, account: &'a Account, name: &str, version: &str) -> AmiJob<'a> {
        let table = &self.table.ami;
        let own = [(tags::IMAGE, name), (tags::VERSION, version)];
        let own = own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        AmiJob {
            account,
            table,
            name: table.name_for(name, version),
            description: table.description.clone(),
            tags: self.table.tags.clone().into_iter().chain(table.tags.clone()).chain(own).collect(),
            source: None,
        }
    }

    /// Two AMIs of one disk that differ in it are different AMIs.
    fn settings(&self, encryption: &Encryption) -> Result<String, MachineError> {
        let table = &self.table.ami;
        let boot_mode = self.boot_mode()?;
        let all = (encryption, boot_mode.as_str(), table.tpm, table.require_imds_v2);
        Ok(Digest::of_value(&all).short().to_owned())
    }

    fn boot_mode(&self) -> Result<BootModeValues, MachineError> {
        match (self.table.ami.boot_mode, self.table.ami.tpm) {
            (Some(BootMode::Uefi), _) | (None, true) => Ok(BootModeValues::Uefi),
            (_, true) => Err(MachineError::refused(
                "`tpm = true` needs `boot_mode = \"uefi\"`",
                "AWS gives a TPM only to instances that boot by UEFI and nothing else",
            )),
            (Some(BootMode::UefiPreferred) | None, false) => Ok(BootModeValues::UefiPreferred),
            (Some(BootMode::LegacyBios), false) => Ok(BootModeValues::LegacyBios),
        }
    }

    /// Another disk, map or encryption is another upload.
    fn open_kept(
        &self,
        image: &LocalImage,
        account: &Account,
        caller: &Caller,
        encryption: &Encryption,
        run: &RunContext,
    ) -> Result<Kept, MachineError> {
        let folder = kept::publishes(&self.state);
        let place = (&caller.account, &account.region, &account.profile);
        let name = self.table.ami.name.as_ref();
        let lineage = Digest::of_value(&(place, &image.name, name)).short().to_owned();
        let key =
            Digest::of_value(&(place, &image.name, name, &image.version, &image.sha256, &image.written, encryption));
        kept::hand_back_overtaken(&folder, key.short(), &lineage, run);
        Kept::open(&folder, key.short(), &lineage)
    }

    /// From snapshot to AMI.
    async fn register(
        &self,
        job: &AmiJob<'_>,
        uploaded: &Uploaded,
        custody: &Custody<'_>,
    ) -> Result<String, MachineError> {
        let name = ami::name_to_make(job, custody.run).await?;
        let resource = resource(job.account, AwsKind::Image, &name);
        custody.will_make(&resource)?;
        let call = self.registration(job, uploaded, &name, custody.run)?;
        let id = ami::register(call, &name, &uploaded.snapshot, job.account, custody.run).await?;
        custody.is_there(&resource)?;
        Ok(id)
    }

    /// What is left out would be i386, paravirtual and without a network card.
    fn registration(
        &self,
        job: &AmiJob<'_>,
        uploaded: &Uploaded,
        name: &str,
        run: &RunContext,
    ) -> Result<RegisterImageFluentBuilder, MachineError> {
        let table = &self.table.ami;
        let root = EbsBlockDevice::builder()
            .snapshot_id(&uploaded.snapshot)
            .volume_size(i32::try_from(uploaded.volume_gib).unwrap_or(i32::MAX))
            .volume_type(VolumeType::Gp3)
            .delete_on_termination(true)
            .build();
        Ok(job
            .account
            .ec2
            .register_image()
            .set_description(job.description.clone())
            .architecture(ArchitectureValues::X8664)
            .virtualization_type("hvm")
            .ena_support(true)
            .sriov_net_support("simple")
            .boot_mode(self.boot_mode()?)
            .set_imds_support(table.require_imds_v2.then_some(ImdsSupportValues::V20))
            .set_tpm_support(table.tpm.then_some(TpmSupportValues::V20))
            .root_device_name(ROOT)
            .block_device_mappings(BlockDeviceMapping::builder().device_name(ROOT).ebs(root).build())
            .tag_specifications(tags::specification(ResourceType::Image, &temporary(job, name, run))))
    }
}

fn temporary(job: &AmiJob<'_>, name: &str, run: &RunContext) -> Tags {
    let tags = tags::temporary(&job.tags, name, run);
    if name == job.name { tags } else { tags::with(&tags, tags::STANDS_FOR, &job.name) }
}
