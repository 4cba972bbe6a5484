//! Which builders there are: the only file of this program that knows.

use std::path::Path;

use dsimg_download::ProxyEnvironment;
use dsimg_machine::{Builder, MachineError, Publisher, Resource, RunContext};
use dsimg_plan::Plan;
use dsimg_qemu::{QemuBuilder, State};
use dsimg_template::template::{BuilderTable, Publish, PublisherTable};

use crate::failure::{Code, Failure};

/// The builder that carries out the plan; relative paths in it start from the template's folder.
pub(crate) fn builder_for(
    plan: &Plan,
    template_folder: &Path,
    proxies: &ProxyEnvironment,
) -> Result<Box<dyn Builder>, Failure> {
    match &plan.machine {
        BuilderTable::Qemu(_) => Ok(Box::new(QemuBuilder::new(template_folder).with_proxies(proxies.clone()))),
        BuilderTable::AwsEbs(_) => Err(without_aws()),
    }
}

/// Where a finished image goes; what a publisher remembers between runs lies below `state`.
///
/// # Errors
/// This program was built without it.
pub(crate) fn publisher_for(publish: &Publish, state: &Path) -> Result<Box<dyn Publisher>, Failure> {
    match &publish.table {
        #[cfg(feature = "aws")]
        PublisherTable::AwsAmi(table) => Ok(Box::new(dsimg_aws::AwsPublisher::new(table, state))),
        #[cfg(not(feature = "aws"))]
        PublisherTable::AwsAmi(_) => {
            let _unused = state;
            Err(without_aws())
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

fn without_aws() -> Failure {
    Failure::new(Code::Wrong, "this dsimg was built without its part for AWS")
        .with_hint("build it with `cargo build --release --features aws`")
}

/// Frees something that a dead build left, whichever builder made it.
///
/// # Errors
/// It can't be freed, or does not look like dsimg's.
pub(crate) async fn reclaim(left: &Resource) -> Result<(), MachineError> {
    match left {
        Resource::Folder { .. } | Resource::Process { .. } => QemuBuilder::new("").reclaim(left).await,
        Resource::Aws { name, .. } => {
            let hint = Some("build dsimg with its feature `aws`, and run `dsimg gc --aws`".to_owned());
            Err(MachineError::HostNotReady { what: format!("`{name}` was made on AWS"), hint })
        }
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
