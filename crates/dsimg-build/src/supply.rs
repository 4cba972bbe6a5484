//! Where the machine's packages come from: the repositories that dsimg serves, if there are any.

use std::net::SocketAddr;

use dsimg_machine::RunContext;
use dsimg_mirror::{Fetched, Mirror, MirrorSettings, has_lists};

use crate::error::BuildError;

/// The mirror of one build.
#[derive(Debug)]
pub(crate) struct Supply(Option<Mirror>);

impl Supply {
    /// `earlier`: what the stages were given that the machine has behind it.
    ///
    /// # Errors
    /// The mirror does not start.
    pub(crate) async fn open(
        settings: Option<&MirrorSettings>,
        earlier: &[Fetched],
        run: &RunContext,
    ) -> Result<Self, BuildError> {
        let Some(settings) = settings else { return Ok(Self(None)) };
        if settings.pins.as_ref().is_some_and(|pins| !has_lists(&pins.lock, &settings.store)) {
            run.info("this host's package store does not have the lock's lists: they are made of its packages, which are fetched now");
        }
        let settings = MirrorSettings { earlier: earlier.to_vec(), ..settings.clone() };
        Ok(Self(Some(Mirror::start(settings).await?)))
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.0.as_ref().map(Mirror::address)
    }

    pub(crate) fn begin_stage(&self, label: &str) {
        if let Some(mirror) = &self.0 {
            mirror.begin_stage(label);
        }
    }

    /// # Errors
    /// Something that the machine was given can't be kept.
    pub(crate) async fn take_record(&self) -> Result<Vec<Fetched>, BuildError> {
        match &self.0 {
            Some(mirror) => Ok(mirror.take_record().await?),
            None => Ok(Vec::new()),
        }
    }

    /// What was asked for and not given: often the reason why a stage failed.
    pub(crate) fn tell_misses(&self, run: &RunContext) {
        for why in self.0.iter().flat_map(Mirror::misses).map(|(_, why)| why) {
            run.warn(why);
        }
    }

    /// # Errors
    /// It had died before.
    pub(crate) async fn close(self) -> Result<(), BuildError> {
        match self.0 {
            Some(mirror) => Ok(mirror.stop().await?),
            None => Ok(()),
        }
    }
}
