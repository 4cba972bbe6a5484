//! A recipe, file or URL becomes an exact base image in the cache.

mod bootstrap;
mod image;
mod inspect;
pub(crate) mod known;
mod store;
mod unpack;

pub(crate) use bootstrap::used::{used_parts, used_parts_of};
pub(crate) use bootstrap::{needs as bootstrap_needs, remove_tree};

use std::path::Path;

use dsimg_download::{Access, ProxyEnvironment};
use dsimg_machine::{BaseImage, MachineError, RunContext};
use dsimg_plan::plan::PlannedBase;
use dsimg_template::template::{CertificateAuthorities, Checksum, ImageSource, Location, Network};

use crate::disk::QemuImg;

/// Finds the base in the cache, or makes it. Relative paths start from `template_folder`; `proxies` are used for
/// downloads where the template names none.
pub(crate) async fn prepare(
    base: &PlannedBase,
    network: &Network,
    (template_folder, proxies): (&Path, &ProxyEnvironment),
    tools: &QemuImg,
    run: &RunContext,
) -> Result<BaseImage, MachineError> {
    let network = with_absolute_paths(network, template_folder);
    match base {
        PlannedBase::Bootstrap(recipe) => {
            let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
            bootstrap::prepare(recipe, &network, today, tools, run).await
        }
        PlannedBase::Image(source) => {
            let source = ImageSource {
                location: absolute(&source.location, template_folder),
                checksum: match &source.checksum {
                    Checksum::File(location) => Checksum::File(absolute(location, template_folder)),
                    written_out => written_out.clone(),
                },
                ..source.clone()
            };
            let access = Access::from_network(&network).or_environment(proxies);
            image::prepare(&source, access, tools, run).await
        }
        PlannedBase::Ami(_) => {
            let what = "an AMI boots on AWS only".to_owned();
            Err(MachineError::Refused { what, hint: None })
        }
    }
}

fn absolute(location: &Location, folder: &Path) -> Location {
    match location {
        Location::Path(path) => Location::Path(folder.join(path)),
        Location::Url(url) => Location::Url(url.clone()),
    }
}

fn with_absolute_paths(network: &Network, folder: &Path) -> Network {
    let ca = match &network.ca {
        Some(CertificateAuthorities::File(path)) => Some(CertificateAuthorities::File(folder.join(path))),
        other => other.clone(),
    };
    Network { ca, ..network.clone() }
}
