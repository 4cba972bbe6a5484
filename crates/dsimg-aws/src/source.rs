//! The AMI that a build starts from: one by its id, or the newest that fits.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use aws_sdk_ec2::types::Image;
use serde::{Deserialize, Serialize};

use dsimg_machine::{BaseImage, MachineError, RunContext};
use dsimg_plan::Digest;
use dsimg_template::template::aws::AmiSource;
use dsimg_template::units::ByteSize;

use crate::account::Account;
use crate::failure::explain;
use crate::place::filters;

/// What an AMI must be for dsimg to start it; filters of the template replace those of the same name.
const NEEDED: [(&str, &str); 4] =
    [("architecture", "x86_64"), ("virtualization-type", "hvm"), ("root-device-type", "ebs"), ("state", "available")];

/// The facts that name it: the same for the same AMI on any day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceImage {
    /// Version of this form; 1.
    pub(crate) format: u32,
    pub(crate) region: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) created: String,
    pub(crate) root_device: String,
    pub(crate) root_snapshot: Option<String>,
    /// Bytes of the root volume.
    pub(crate) root_size: u64,
    pub(crate) boot_mode: Option<String>,
    pub(crate) tpm: bool,
}

/// # Errors
/// None fits, or it can't be started.
pub(crate) async fn find(account: &Account, wanted: &AmiSource) -> Result<SourceImage, MachineError> {
    let request = account.ec2.describe_images();
    let request = match &wanted.id {
        Some(id) => request.image_ids(id),
        None => {
            request.set_filters(Some(filters(&all_filters(wanted)))).set_owners(wanted.owner.clone().map(|o| vec![o]))
        }
    };
    let found = request.send().await.map_err(|error| explain(&format!("find {}", describe(wanted)), account, error))?;
    let image = newest(found.images()).ok_or_else(|| nothing_found(account, wanted))?;
    facts(account, image)
}

fn all_filters(wanted: &AmiSource) -> BTreeMap<String, String> {
    let mut all: BTreeMap<_, _> =
        NEEDED.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    all.extend(wanted.name.clone().map(|name| ("name".to_owned(), name)));
    all.extend(wanted.filters.clone());
    all
}

/// By its date of creation, and by its id where two are of the same second.
fn newest(images: &[Image]) -> Option<&Image> {
    images.iter().max_by_key(|image| (image.creation_date().unwrap_or_default(), image.image_id().unwrap_or_default()))
}

/// `debian-13-amd64-* of 136693071363`
pub(crate) fn describe(wanted: &AmiSource) -> String {
    match wanted {
        AmiSource { id: Some(id), .. } => id.clone(),
        AmiSource { name, owner, .. } => {
            let name =
                name.as_ref().map(|name| format!("the newest AMI `{name}`")).unwrap_or("the newest AMI".to_owned());
            format!("{name} of {}", owner.as_deref().unwrap_or("anybody"))
        }
    }
}

fn nothing_found(account: &Account, wanted: &AmiSource) -> MachineError {
    let filters = all_filters(wanted);
    let shown: Vec<_> = filters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let what = format!("no AMI fits in {}: {} ({})", account.region, describe(wanted), shown.join(", "));
    MachineError::refused(what, "look at `base.ami` in the template: AMIs and their ids belong to one region")
}

fn facts(account: &Account, image: &Image) -> Result<SourceImage, MachineError> {
    let id = image.image_id().unwrap_or_default().to_owned();
    check(image, &id)?;
    let root_device = image.root_device_name().unwrap_or_default().to_owned();
    let devices = image.block_device_mappings();
    let root = devices.iter().find(|device| device.device_name() == Some(&root_device)).and_then(|device| device.ebs());
    Ok(SourceImage {
        format: 1,
        region: account.region.clone(),
        id,
        name: image.name().unwrap_or_default().to_owned(),
        owner: image.owner_id().unwrap_or_default().to_owned(),
        created: image.creation_date().unwrap_or_default().to_owned(),
        root_device,
        root_snapshot: root.and_then(|ebs| ebs.snapshot_id()).map(str::to_owned),
        root_size: root.and_then(|ebs| ebs.volume_size()).and_then(|gib| u64::try_from(gib).ok()).unwrap_or_default()
            << 30,
        boot_mode: image.boot_mode().map(|mode| mode.as_str().to_owned()),
        tpm: image.tpm_support().is_some(),
    })
}

/// By its id an AMI may be anything.
fn check(image: &Image, id: &str) -> Result<(), MachineError> {
    let told = |value: Option<&str>| value.unwrap_or("unknown").to_owned();
    let facts = [
        ("architecture", told(image.architecture().map(|value| value.as_str()))),
        ("virtualization-type", told(image.virtualization_type().map(|value| value.as_str()))),
        ("root-device-type", told(image.root_device_type().map(|value| value.as_str()))),
        ("state", told(image.state().map(|value| value.as_str()))),
    ];
    for ((name, found), (_, needed)) in facts.iter().zip(NEEDED) {
        if found != needed {
            let what =
                format!("{id} can't be built on: its {} is {found}, and dsimg needs {needed}", name.replace('-', " "));
            return Err(MachineError::refused(what, "choose another AMI in `base.ami`"));
        }
    }
    Ok(())
}

impl SourceImage {
    /// As a file in the cache that names it, `<cache>/amis/<id>/ami.json`; beside the bases, which are disks.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn note(&self, user: Option<&str>, run: &RunContext) -> Result<BaseImage, MachineError> {
        let folder = run.cache.join("amis").join(&self.id);
        let path = folder.join("ami.json");
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        write_whole(&folder, &path, &text).map_err(|error| MachineError::file("cannot write", &path, error))?;
        Ok(BaseImage {
            path,
            id: Some(self.id.clone()),
            sha256: Digest::of_bytes(&text),
            description: format!("{} ({}), made {}", self.name, self.id, self.created),
            virtual_size: self.root_size,
            user: user.map_or_else(|| usual_user(&self.name).to_owned(), str::to_owned),
        })
    }

    /// # Errors
    /// The template's root volume is smaller than the AMI's.
    pub(crate) fn check_size(&self, wanted: ByteSize) -> Result<(), MachineError> {
        if self.root_size <= wanted.0 {
            return Ok(());
        }
        let size = ByteSize(self.root_size);
        Err(MachineError::refused(
            format!("the root volume of {} ({size}) is larger than the template's ({wanted})", self.id),
            format!("set `disk = \"{size}\"` or more for this builder; a volume can grow, not shrink"),
        ))
    }
}

/// Reads a note that [`SourceImage::note`] wrote.
///
/// # Errors
/// It is none.
pub(crate) fn read(path: &Path) -> Result<SourceImage, MachineError> {
    let unreadable = |error| MachineError::file("cannot read", path, error);
    let text = std::fs::read(path).map_err(unreadable)?;
    serde_json::from_slice(&text).map_err(|error| unreadable(error.into()))
}

fn write_whole(folder: &PathBuf, path: &Path, text: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// The login that the makers of well-known AMIs set up.
pub(crate) fn usual_user(name: &str) -> &'static str {
    let name = name.to_ascii_lowercase();
    let known =
        [("ubuntu", "ubuntu"), ("debian", "admin"), ("rocky", "rocky"), ("fedora", "fedora"), ("centos", "centos")];
    known.iter().find(|(part, _)| name.contains(part)).map_or("ec2-user", |(_, user)| user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, created: &str) -> Image {
        Image::builder().image_id(id).creation_date(created).build()
    }

    #[test]
    fn the_newest_is_taken_and_a_tie_is_broken_the_same_way() {
        let images = [
            image("ami-2", "2026-10-01T00:00:00Z"),
            image("ami-9", "2026-11-01T00:00:00Z"),
            image("ami-1", "2026-11-01T00:00:00Z"),
        ];
        assert_eq!(newest(&images).unwrap().image_id(), Some("ami-9"));
        assert!(newest(&[]).is_none());
    }

    #[test]
    fn filters_of_the_template_come_first() {
        let filters = BTreeMap::from([("architecture".to_owned(), "x86_64_mac".to_owned())]);
        let wanted =
            AmiSource { id: None, owner: Some("self".to_owned()), name: Some("a-*".to_owned()), filters, user: None };
        let all = all_filters(&wanted);
        assert_eq!(all["architecture"], "x86_64_mac");
        assert_eq!((all["name"].as_str(), all["state"].as_str()), ("a-*", "available"));
        assert_eq!(describe(&wanted), "the newest AMI `a-*` of self");
    }

    #[test]
    fn logins_are_those_of_the_makers() {
        assert_eq!(usual_user("debian-13-amd64-20261101-1"), "admin");
        assert_eq!(usual_user("ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server"), "ubuntu");
        assert_eq!(usual_user("al2023-ami-2023.6.2026"), "ec2-user");
    }
}
