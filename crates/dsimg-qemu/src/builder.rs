//! The builder: QEMU on this host.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use tokio::sync::OnceCell;

use dsimg_download::ProxyEnvironment;
use dsimg_machine::{
    BaseImage, Builder, HostFacts, KnownBase, Machine, MachineError, MemoryFit, Resource, RunContext, SavedMachine,
};
use dsimg_plan::plan::PlannedBase;
use dsimg_plan::{Digest, Plan};
use dsimg_template::template::{self, BuilderTable, Network, QemuTable};

use crate::accelerator::Accelerator;
use crate::disk::QemuImg;
use crate::memory_fit::memory_fit;
use crate::probe::{Kvm, kvm};
use crate::ready::{self, Versions};
use crate::{base, machine, reclaim};

/// QEMU's programs on this host, by name or path.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) qemu: PathBuf,
    pub(crate) qemu_img: PathBuf,
    /// Whether this QEMU knows `-run-with exit-with-parent=on`.
    pub(crate) exits_with_parent: bool,
}

/// What the plan says of the machine.
///
/// # Errors
/// It is a plan for another kind of builder.
pub(crate) fn table_of(plan: &Plan) -> Result<&QemuTable, MachineError> {
    match &plan.machine {
        BuilderTable::Qemu(table) => Ok(table),
        BuilderTable::AwsEbs(_) => {
            let what = format!("builder `{}` is none of QEMU's", plan.builder);
            Err(MachineError::Refused { what, hint: None })
        }
    }
}

/// Boots machines with QEMU on this host.
#[derive(Debug)]
pub struct QemuBuilder {
    qemu: PathBuf,
    qemu_img: PathBuf,
    template_folder: PathBuf,
    proxies: ProxyEnvironment,
    versions: OnceCell<Versions>,
    kvm: OnceCell<Kvm>,
}

impl QemuBuilder {
    /// Relative paths in plans start from the template's folder. The programs are looked for in the `PATH`.
    pub fn new(template_folder: impl Into<PathBuf>) -> Self {
        Self {
            qemu: PathBuf::from("qemu-system-x86_64"),
            qemu_img: PathBuf::from("qemu-img"),
            template_folder: template_folder.into(),
            proxies: ProxyEnvironment::default(),
            versions: OnceCell::new(),
            kvm: OnceCell::new(),
        }
    }

    /// The proxies of this process's environment, for downloads where the template names none.
    #[must_use]
    pub fn with_proxies(mut self, proxies: ProxyEnvironment) -> Self {
        self.proxies = proxies;
        self
    }

    /// Other programs, by name or path.
    #[must_use]
    pub fn with_programs(mut self, qemu: impl Into<PathBuf>, qemu_img: impl Into<PathBuf>) -> Self {
        (self.qemu, self.qemu_img) = (qemu.into(), qemu_img.into());
        self
    }

    pub(crate) fn program(&self) -> &Path {
        &self.qemu
    }

    pub(crate) fn image_program(&self) -> &Path {
        &self.qemu_img
    }

    /// Asked once in the life of the builder.
    async fn versions(&self, run: &RunContext) -> Result<&Versions, MachineError> {
        self.versions.get_or_try_init(|| ready::versions(&self.qemu, &self.qemu_img, run)).await
    }

    /// Probed once in the life of the builder, and only where the template leaves the choice or wants KVM.
    /// The first call says what will be used instead of KVM, and why.
    async fn accelerator(&self, wanted: template::Accelerator, run: &RunContext) -> Result<Accelerator, MachineError> {
        if wanted == template::Accelerator::Tcg {
            return Ok(Accelerator::Tcg);
        }
        let first = !self.kvm.initialized();
        let host = self.versions(run).await?.host();
        let (reason, hint) = match self.kvm.get_or_try_init(|| kvm(&self.qemu, &host, run)).await? {
            Kvm::Works(cpu) => return Ok(Accelerator::Kvm(*cpu)),
            Kvm::Broken { reason, hint } => (reason, hint),
        };
        if wanted == template::Accelerator::Kvm {
            let hint = hint.unwrap_or("set `accelerator = \"auto\"` to build with QEMU's own emulation instead");
            return Err(MachineError::host(format!("KVM does not work on this host: {reason}"), hint));
        }
        if first {
            let hint = hint.map(|hint| format!("; to use it, {hint}")).unwrap_or_default();
            run.warn(format!(
                "KVM does not work on this host ({reason}), so the machine is emulated (TCG), about ten times \
                 slower{hint}"
            ));
        }
        Ok(Accelerator::Tcg)
    }

    async fn programs(&self, run: &RunContext) -> Result<Programs, MachineError> {
        let exits_with_parent = self.versions(run).await?.exits_with_parent;
        Ok(Programs { qemu: self.qemu.clone(), qemu_img: self.qemu_img.clone(), exits_with_parent })
    }
}

#[async_trait]
impl Builder for QemuBuilder {
    async fn check_ready(&self, plan: &Plan, run: &RunContext) -> Result<HostFacts, MachineError> {
        let table = table_of(plan)?;
        let versions = self.versions(run).await?;
        ready::check_host(table, versions, run)?;
        let accelerator = self.accelerator(table.accelerator, run).await?;
        Ok(ready::host_facts(versions, accelerator))
    }

    async fn prepare_base(
        &self,
        base: &PlannedBase,
        network: &Network,
        run: &RunContext,
    ) -> Result<BaseImage, MachineError> {
        let outside = (self.template_folder.as_path(), &self.proxies);
        base::prepare(base, network, outside, &QemuImg::new(&self.qemu_img), run).await
    }

    fn find_base(&self, base: &PlannedBase, sha256: &Digest, cache: &Path) -> Result<Option<KnownBase>, MachineError> {
        base::known::find(base, sha256, cache)
    }

    async fn adopt_base(&self, base: &KnownBase, run: &RunContext) -> Result<(), MachineError> {
        base::known::adopt(base, run).await
    }

    async fn boot(&self, base: &BaseImage, plan: &Plan, run: &RunContext) -> Result<Box<dyn Machine>, MachineError> {
        let table = table_of(plan)?;
        let accelerator = self.accelerator(table.accelerator, run).await?;
        let machine = machine::boot(&self.programs(run).await?, accelerator, base, plan, run).await?;
        Ok(Box::new(machine))
    }

    async fn memory_fit(&self, plan: &Plan, run: &RunContext) -> Result<Option<MemoryFit>, MachineError> {
        let table = table_of(plan)?;
        let versions = self.versions(run).await?;
        if !versions.saves_memory {
            return Ok(None);
        }
        let qemu = versions.line().to_owned();
        let accelerator = self.accelerator(table.accelerator, run).await?;
        Ok(Some(memory_fit(table, plan.network.is_alone(), accelerator, &qemu)))
    }

    async fn resume(
        &self,
        saved: &SavedMachine,
        plan: &Plan,
        run: &RunContext,
    ) -> Result<Box<dyn Machine>, MachineError> {
        let table = table_of(plan)?;
        let accelerator = self.accelerator(table.accelerator, run).await?;
        Ok(Box::new(machine::resume(&self.programs(run).await?, accelerator, saved, plan, run).await?))
    }

    async fn reclaim(&self, left: &Resource) -> Result<(), MachineError> {
        reclaim::reclaim(left).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestRun;

    /// A QEMU that says its version, and on which KVM aborts.
    const NO_KVM: &str = "case $1 in --version) echo 'QEMU emulator version 9.9.9 (test)' ;;\n\
        *) echo 'qemu: error: failed to set MSR 0x10a' >&2; exit 1 ;; esac";

    #[tokio::test]
    async fn a_broken_kvm_is_told_once_and_tcg_is_used() {
        if !Path::new("/dev/kvm").exists() {
            eprintln!("skipped: no /dev/kvm on this host");
            return;
        }
        let run = TestRun::new();
        let builder = QemuBuilder::new("").with_programs(run.script(NO_KVM), "qemu-img");
        for _ in 0..2 {
            let chosen = builder.accelerator(template::Accelerator::Auto, &run.context).await.unwrap();
            assert_eq!(chosen, Accelerator::Tcg);
        }
        let messages = run.messages();
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(messages[0].starts_with("KVM does not work on this host ("), "{messages:?}");
        assert!(messages[0].contains("failed to set MSR 0x10a"), "{messages:?}");
        let error = builder.accelerator(template::Accelerator::Kvm, &run.context).await.unwrap_err();
        assert!(matches!(error, MachineError::HostNotReady { .. }), "{error:?}");
        // Another builder on this host finds the answer.
        assert!(run.context.cache.join("accelerator.json").exists());
    }

    #[tokio::test]
    async fn tcg_asks_for_no_probe() {
        let run = TestRun::new();
        let builder = QemuBuilder::new("").with_programs("/no/such/qemu", "/no/such/qemu-img");
        let chosen = builder.accelerator(template::Accelerator::Tcg, &run.context).await.unwrap();
        assert_eq!(chosen, Accelerator::Tcg);
        assert_eq!(run.messages(), [""; 0]);
    }
}
