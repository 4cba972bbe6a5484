//! The builder: an instance in EC2.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use tokio::sync::OnceCell;

use dsimg_download::ProxyEnvironment;
use dsimg_machine::{BaseImage, Builder, HostFacts, Machine, MachineError, Resource, RunContext, SavedMachine};
use dsimg_plan::Plan;
use dsimg_plan::plan::PlannedBase;
use dsimg_template::template::Network;

use crate::access::Access;
use crate::checkpoint::Saved;
use crate::console::Console;
use crate::machine::AwsMachine;
use crate::marks::Marks;
use crate::prepared::Prepared;
use crate::source::{self, SourceImage};
use crate::start::{From, start};
use crate::watch::Watch;
use crate::{checkpoint, reach, reclaim};

/// An image may be in the making when its instance's time is over.
const MAKING_IMAGES: u64 = 2 * 60 * 60;

/// Builds AMIs on instances of EC2, for one plan.
#[derive(Debug)]
pub struct AwsBuilder {
    template_folder: PathBuf,
    proxies: ProxyEnvironment,
    prepared: OnceCell<Prepared>,
    /// How many machines were started: a number for the name of each.
    machines: AtomicU32,
}

impl AwsBuilder {
    /// Relative paths in the plan start from the template's folder.
    pub fn new(template_folder: impl Into<PathBuf>) -> Self {
        Self {
            template_folder: template_folder.into(),
            proxies: ProxyEnvironment::default(),
            prepared: OnceCell::new(),
            machines: AtomicU32::new(0),
        }
    }

    /// The proxies of this process's environment, for the question after its own address. The SDK reads them itself.
    #[must_use]
    pub fn with_proxies(mut self, proxies: ProxyEnvironment) -> Self {
        self.proxies = proxies;
        self
    }

    /// Looked up once in the life of the builder.
    async fn prepared(&self, plan: &Plan, run: &RunContext) -> Result<&Prepared, MachineError> {
        let look = || async {
            tokio::select! {
                prepared = Prepared::look(plan, &self.template_folder, &self.proxies, run) => prepared,
                () = run.cancel.cancelled() => Err(MachineError::Cancelled),
            }
        };
        self.prepared.get_or_try_init(look).await
    }

    async fn start(
        &self,
        source: SourceImage,
        image: &str,
        access: Access,
        plan: &Plan,
        run: &RunContext,
    ) -> Result<AwsMachine, MachineError> {
        let prepared = self.prepared(plan, run).await?;
        let table = &prepared.table;
        let bastion = table.reach.bastion.as_ref();
        let bastion = bastion.map(|bastion| reach::bastion(bastion, &self.template_folder)).transpose()?;
        let number = self.machines.fetch_add(1, Ordering::Relaxed) + 1;
        let seconds = table.instance.time_limit.seconds.saturating_add(MAKING_IMAGES);
        let marks = Marks::new(run, number, seconds, &table.tags);
        let from = From { image, root_device: &source.root_device };
        let running = start(prepared, from, &access, plan, &marks, run).await?;
        Ok(AwsMachine {
            account: prepared.account.clone(),
            table: table.clone(),
            plan: plan.clone(),
            watch: Watch::new(&prepared.account, &running.id),
            host_key: Mutex::new(access.host_key.public()),
            door: prepared.door.clone(),
            console: Console::default(),
            saved: Saved::default(),
            run: run.clone(),
            source,
            marks,
            running,
            access,
            bastion,
        })
    }
}

#[async_trait]
impl Builder for AwsBuilder {
    async fn check_ready(&self, plan: &Plan, run: &RunContext) -> Result<HostFacts, MachineError> {
        Ok(self.prepared(plan, run).await?.host_facts())
    }

    async fn prepare_base(
        &self,
        base: &PlannedBase,
        _network: &Network,
        run: &RunContext,
    ) -> Result<BaseImage, MachineError> {
        let (PlannedBase::Ami(ami), Some(prepared)) = (base, self.prepared.get()) else {
            let what = "an AMI is looked up in the region of a plan that was checked before".to_owned();
            return Err(MachineError::Refused { what, hint: None });
        };
        prepared.source.note(ami.user.as_deref(), run)
    }

    async fn boot(&self, base: &BaseImage, plan: &Plan, run: &RunContext) -> Result<Box<dyn Machine>, MachineError> {
        let source = source::read(&base.path)?;
        let (image, access) = (source.id.clone(), Access::generate(plan.build_user()));
        Ok(Box::new(self.start(source, &image, access, plan, run).await?))
    }

    async fn resume(
        &self,
        saved: &SavedMachine,
        plan: &Plan,
        run: &RunContext,
    ) -> Result<Box<dyn Machine>, MachineError> {
        let prepared = self.prepared(plan, run).await?;
        let note = checkpoint::open(&prepared.account, saved, run).await?;
        let access = Access::read(&saved.access)?;
        let saved = if note.image == note.source.id { Saved::default() } else { Saved::of_resumed() };
        let machine = self.start(note.source, &note.image, access, plan, run).await?;
        Ok(Box::new(AwsMachine { saved, ..machine }))
    }

    async fn reclaim(&self, left: &Resource) -> Result<(), MachineError> {
        reclaim::reclaim(left).await
    }
}
