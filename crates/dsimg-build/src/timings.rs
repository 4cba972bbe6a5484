//! How long each part of a build took, told as events and kept for the manifest.

use std::future::Future;
use std::time::{Duration, Instant};

use dsimg_machine::{Event, Phase, RunContext};
use dsimg_manifest::manifest;
use dsimg_plan::Stage;

#[derive(Debug)]
pub(crate) struct Timings {
    started: Instant,
    phases: Vec<(Phase, Duration)>,
    stages: Vec<(String, Duration)>,
    resumed_after: Option<String>,
}

impl Timings {
    #[must_use]
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), phases: Vec::new(), stages: Vec::new(), resumed_after: None }
    }

    /// Waits for the future as a part of this phase; one that comes several times is summed.
    /// It is reported as ended only when it went well.
    pub(crate) async fn phase<T, E>(
        &mut self,
        phase: Phase,
        run: &RunContext,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        run.report(&Event::PhaseStarted { phase });
        let begun = Instant::now();
        let result = work.await?;
        let elapsed = begun.elapsed();
        match self.phases.iter_mut().find(|(known, _)| *known == phase) {
            Some((_, sum)) => *sum += elapsed,
            None => self.phases.push((phase, elapsed)),
        }
        run.report(&Event::PhaseEnded { phase, elapsed });
        Ok(result)
    }

    /// Waits for the future as stage `number` of `count`; it is reported as ended only when it went well.
    pub(crate) async fn stage<T, E>(
        &mut self,
        stage: &Stage,
        number: usize,
        count: usize,
        run: &RunContext,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let (label, provisioner) = (stage.label.clone(), stage.provisioner.clone());
        run.report(&Event::StageStarted { number, count, label: label.clone(), provisioner });
        let begun = Instant::now();
        let result = work.await?;
        let elapsed = begun.elapsed();
        self.stages.push((label.clone(), elapsed));
        run.report(&Event::StageEnded { number, count, label, elapsed });
        Ok(result)
    }

    /// How long each stage took, those of the checkpoint first, in milliseconds.
    #[must_use]
    pub(crate) fn stages(&self) -> Vec<(String, u64)> {
        self.stages.iter().map(|(label, time)| (label.clone(), ms(*time))).collect()
    }

    /// Takes in the stages that the machine was started with; `after` is the last of them, or `boot`.
    pub(crate) fn resume(&mut self, after: &str, stages: &[(String, u64)]) {
        self.resumed_after = Some(after.to_owned());
        self.stages.extend(stages.iter().map(|(label, time)| (label.clone(), Duration::from_millis(*time))));
    }

    /// For the manifest.
    #[must_use]
    pub(crate) fn durations(mut self) -> manifest::Durations {
        self.phases.sort_by_key(|(phase, _)| *phase);
        let name = |phase: &Phase| phase.describe().to_owned();
        let phases = self.phases.iter().map(|(phase, time)| manifest::Duration { name: name(phase), ms: ms(*time) });
        let stages = self.stages.iter().map(|(label, time)| manifest::Duration { name: label.clone(), ms: ms(*time) });
        manifest::Durations {
            total_ms: ms(self.started.elapsed()),
            phases: phases.collect(),
            stages: stages.collect(),
            resumed_after: self.resumed_after,
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
