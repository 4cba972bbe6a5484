//! Which builders there are: the only file of this program that knows.

use std::path::Path;

use dsimg_download::ProxyEnvironment;
use dsimg_machine::{Builder, MachineError, Resource};
use dsimg_plan::Plan;
use dsimg_qemu::QemuBuilder;
use dsimg_template::template::BuilderTable;

/// The builder that carries out the plan; relative paths in it start from the template's folder.
pub(crate) fn builder_for(plan: &Plan, template_folder: &Path, proxies: &ProxyEnvironment) -> Box<dyn Builder> {
    match &plan.machine {
        BuilderTable::Qemu(_) => Box::new(QemuBuilder::new(template_folder).with_proxies(proxies.clone())),
    }
}

/// Frees something that a dead build left, whichever builder made it.
///
/// # Errors
/// It can't be freed, or does not look like dsimg's.
pub(crate) async fn reclaim(left: &Resource) -> Result<(), MachineError> {
    match left {
        Resource::Folder { .. } | Resource::Process { .. } => QemuBuilder::new("").reclaim(left).await,
    }
}
