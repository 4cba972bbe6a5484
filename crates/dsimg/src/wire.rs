//! Which builders there are: the only place of this program that knows.

pub(crate) mod aws;

use std::path::Path;

use dsimg_download::ProxyEnvironment;
use dsimg_machine::{Builder, MachineError, Publisher, Resource, RunContext};
use dsimg_plan::Plan;
use dsimg_qemu::{QemuBuilder, State};
use dsimg_template::template::{BuilderTable, Image, Publish, PublisherTable};

use crate::failure::Failure;

/// The builder that carries out the plan; relative paths in it start from the template's folder.
pub(crate) fn builder_for(
    plan: &Plan,
    template_folder: &Path,
    proxies: &ProxyEnvironment,
) -> Result<Box<dyn Builder>, Failure> {
    match &plan.machine {
        BuilderTable::Qemu(_) => Ok(Box::new(QemuBuilder::new(template_folder).with_proxies(proxies.clone()))),
        #[cfg(feature = "aws")]
        BuilderTable::AwsEbs(_) => {
            Ok(Box::new(dsimg_aws::AwsBuilder::new(template_folder).with_proxies(proxies.clone())))
        }
        #[cfg(not(feature = "aws"))]
        BuilderTable::AwsEbs(_) => aws::absent(),
    }
}

/// Where a finished image goes; what a publisher remembers between runs lies below `state`.
///
/// # Errors
/// This program was built without it.
pub(crate) fn publisher_for(publish: &Publish, image: &Image, state: &Path) -> Result<Box<dyn Publisher>, Failure> {
    match &publish.table {
        #[cfg(feature = "aws")]
        PublisherTable::AwsAmi(table) => {
            Ok(Box::new(dsimg_aws::AwsPublisher::new(table, state).of_image(&image.name, &image.version)))
        }
        #[cfg(not(feature = "aws"))]
        PublisherTable::AwsAmi(_) => {
            let _unused = (image, state);
            aws::absent()
        }
    }
}

/// Bytes that the plan's machine takes of this host's memory.
pub(crate) fn memory_of(plan: &Plan) -> u64 {
    match &plan.machine {
        BuilderTable::Qemu(table) => table.memory.0 + dsimg_qemu::MEMORY_BESIDE_THE_GUESTS,
        BuilderTable::AwsEbs(_) => 0,
    }
}

/// Frees something that a dead build left, whichever builder made it.
///
/// # Errors
/// It can't be freed, or does not look like dsimg's.
pub(crate) async fn reclaim(left: &Resource) -> Result<(), MachineError> {
    match left {
        Resource::Folder { .. } | Resource::Process { .. } => QemuBuilder::new("").reclaim(left).await,
        Resource::Aws { .. } => aws::reclaim(left).await,
    }
}

/// One thing that builds on this host may need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub what: &'static str,
    /// The shipped templates can't be built without it.
    pub needed: bool,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good(String),
    Doubtful {
        why: String,
        hint: Option<String>,
    },
    /// `package` is Debian's name of what brings it.
    Missing {
        why: String,
        package: Option<&'static str>,
        hint: Option<String>,
    },
}

impl Check {
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.verdict, Verdict::Missing { .. })
    }
}

/// Looks at everything that the builders which work on this host need.
pub(crate) async fn examine(run: &RunContext) -> Vec<Check> {
    let findings = QemuBuilder::new("").examine(run).await;
    let check = |finding: dsimg_qemu::Finding| Check {
        what: finding.what,
        needed: finding.needed,
        verdict: match finding.state {
            State::Good(found) => Verdict::Good(found),
            State::Doubtful { why, hint } => Verdict::Doubtful { why, hint },
            State::Missing { why, package, hint } => Verdict::Missing { why, package, hint },
        },
    };
    findings.into_iter().map(check).collect()
}
