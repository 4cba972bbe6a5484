//! Starts the instance: where there is capacity, once, and marked from the first moment.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_ec2::error::SdkError;
use aws_sdk_ec2::operation::run_instances::RunInstancesError;
use aws_sdk_ec2::types::{Instance, InstanceStateName};

use dsimg_machine::{MachineError, RunContext};
use dsimg_template::template::aws::AwsEbsTable;

use crate::account::Account;
use crate::attempts::Attempt;
use crate::capacity::{NoCapacityIsFinal, is_elsewhere, may_do_better_elsewhere};
use crate::failure::{code, explain, may_be_done};
use crate::marks::Marks;
use crate::pace::{Pace, until_cancelled};
use crate::remove::tagged;

/// An instance that is pending for longer will not come.
const RUNNING_LIMIT: Duration = Duration::from_secs(600);
/// How long what was just made may be unknown to another part of AWS.
const SETTLED_LIMIT: Duration = Duration::from_secs(60);

/// All that an instance is started with, but for where.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) account: &'a Account,
    pub(crate) table: &'a AwsEbsTable,
    pub(crate) image: &'a str,
    pub(crate) root_device: &'a str,
    pub(crate) user_data: &'a str,
    pub(crate) key_pair: Option<&'a str>,
    pub(crate) groups: &'a [String],
    pub(crate) marks: &'a Marks,
}

/// An instance that runs.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) id: String,
    pub(crate) is_spot: bool,
    pub(crate) public: Option<IpAddr>,
    pub(crate) private: Option<IpAddr>,
}

/// What came of one attempt.
enum Outcome {
    Running(Running),
    /// Another one may do better.
    NotHere(String),
}

impl Launch<'_> {
    /// Tries one after the other until an instance runs. `known` is set to the one that was started last, for whoever
    /// must end it.
    ///
    /// # Errors
    /// None of them has capacity, AWS refuses, or the build is cancelled.
    pub(crate) async fn start(
        &self,
        attempts: &[Attempt],
        known: &Mutex<Option<String>>,
        run: &RunContext,
    ) -> Result<Running, MachineError> {
        let mut reasons = Vec::new();
        for (number, attempt) in attempts.iter().enumerate() {
            run.info(format!("starting {}", attempt.describe()));
            match self.try_one(number, attempt, known, run).await? {
                Outcome::Running(running) => return Ok(running),
                Outcome::NotHere(why) => {
                    run.info(format!("{}: {why}", attempt.describe()));
                    reasons.push(format!("{}: {why}", attempt.describe()));
                }
            }
        }
        Err(MachineError::try_again(
            format!("no instance could be had in {}:\n  {}", self.account.region, reasons.join("\n  ")),
            "name more `instance_type`s, `zones` or subnets, allow on-demand capacity, or try again later",
        ))
    }

    /// Whether AWS would start the first of them, asked before anything is made.
    ///
    /// # Errors
    /// It would not, for another reason than that the keys and groups are not there yet.
    pub(crate) async fn rehearse(&self, attempt: &Attempt) -> Result<(), MachineError> {
        match self.request(0, attempt).dry_run(true).send().await {
            Err(error) if code(&error) == Some("DryRunOperation") => Ok(()),
            Err(error) if code(&error).is_some_and(is_elsewhere) => Ok(()),
            Err(error) => Err(explain("start instances", self.account, error)),
            Ok(_) => Ok(()),
        }
    }

    async fn try_one(
        &self,
        number: usize,
        attempt: &Attempt,
        known: &Mutex<Option<String>>,
        run: &RunContext,
    ) -> Result<Outcome, MachineError> {
        let id = match until_cancelled(&run.hurry, self.ask(number, attempt, run)).await?? {
            Ok(id) => id,
            Err(why) => return Ok(Outcome::NotHere(why)),
        };
        *known.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.clone());
        run.debug(format!("instance {id} is {}", attempt.describe()));
        self.wait_until_running(&id, attempt, run).await
    }

    /// Its id, or why there is no capacity. Asked again with the same token, AWS gives the same instance.
    async fn ask(
        &self,
        number: usize,
        attempt: &Attempt,
        run: &RunContext,
    ) -> Result<Result<String, String>, MachineError> {
        let mut pace = Pace::within(SETTLED_LIMIT);
        loop {
            let error =
                match self.request(number, attempt).customize().config_override(without_vain_retries()).send().await {
                    Ok(made) => match made.instances().first().and_then(Instance::instance_id) {
                        Some(id) => return Ok(Ok(id.to_owned())),
                        None => {
                            return Err(MachineError::Refused {
                                what: "AWS started no instance and gave no reason".to_owned(),
                                hint: None,
                            });
                        }
                    },
                    Err(error) => error,
                };
            match code(&error) {
                Some(code) if is_elsewhere(code) => return Ok(Err(message(&error))),
                // Made a moment ago, and not known everywhere yet.
                Some("InvalidGroup.NotFound" | "InvalidKeyPair.NotFound" | "InvalidSecurityGroupID.NotFound") => {
                    if !pace.next(&run.cancel).await? {
                        return Err(explain("start an instance", self.account, error));
                    }
                }
                _ if may_be_done(&error) => {
                    return match self.find(run).await? {
                        Some(id) => Ok(Ok(id)),
                        None => Err(explain("start an instance", self.account, error)),
                    };
                }
                _ => return Err(explain("start an instance", self.account, error)),
            }
        }
    }

    /// After an answer that did not come: the instance may be there all the same.
    async fn find(&self, run: &RunContext) -> Result<Option<String>, MachineError> {
        let mut pace = Pace::within(Duration::from_secs(15));
        loop {
            let found = self.account.ec2.describe_instances().filters(tagged(&self.marks.name)).send().await;
            let found = found.map_err(|error| explain("look for the instance", self.account, error))?;
            let mut instances = found.reservations().iter().flat_map(|reservation| reservation.instances());
            let alive = |instance: &&Instance| {
                let state = instance.state().and_then(|state| state.name());
                matches!(state, Some(InstanceStateName::Pending | InstanceStateName::Running))
            };
            if let Some(instance) = instances.find(alive) {
                return Ok(instance.instance_id().map(str::to_owned));
            }
            if !pace.next(&run.cancel).await? {
                return Ok(None);
            }
        }
    }

    async fn wait_until_running(&self, id: &str, attempt: &Attempt, run: &RunContext) -> Result<Outcome, MachineError> {
        let mut pace = Pace::within(RUNNING_LIMIT);
        loop {
            if let Some(instance) = describe(self.account, id).await? {
                match instance.state().and_then(|state| state.name()) {
                    Some(InstanceStateName::Running) => return Ok(Outcome::Running(running(&instance, id, attempt))),
                    Some(InstanceStateName::Pending) | None => {}
                    Some(other) => return ended(&instance, id, other.as_str()),
                }
            }
            if !pace.next(&run.cancel).await? {
                return Err(MachineError::try_again(
                    format!("{id} is still pending after {} s", pace.seconds()),
                    "look at https://health.aws.amazon.com, or name another zone",
                ));
            }
        }
    }
}

fn without_vain_retries() -> aws_sdk_ec2::config::Builder {
    aws_sdk_ec2::config::Builder::new().retry_classifier(NoCapacityIsFinal)
}

/// The instance as AWS sees it now; `None`: not known yet.
///
/// # Errors
/// AWS does not answer.
pub(crate) async fn describe(account: &Account, id: &str) -> Result<Option<Instance>, MachineError> {
    match account.ec2.describe_instances().instance_ids(id).send().await {
        Ok(found) => Ok(found.reservations().iter().flat_map(|each| each.instances()).next().cloned()),
        Err(error) if code(&error) == Some("InvalidInstanceID.NotFound") => Ok(None),
        Err(error) => Err(explain(&format!("look at {id}"), account, error)),
    }
}

/// Why it is in its state; empty when AWS says nothing.
pub(crate) fn reason(instance: &Instance) -> String {
    let told = instance.state_reason();
    let (code, message) = (told.and_then(|why| why.code()), told.and_then(|why| why.message()));
    match (code, message) {
        (Some(code), Some(message)) if !message.starts_with(code) => format!("{code}: {message}"),
        (_, Some(message)) => message.to_owned(),
        (Some(code), None) => code.to_owned(),
        (None, None) => instance.state_transition_reason().unwrap_or_default().to_owned(),
    }
}

fn running(instance: &Instance, id: &str, attempt: &Attempt) -> Running {
    let address = |text: Option<&str>| text.and_then(|text| text.parse().ok());
    Running {
        id: id.to_owned(),
        is_spot: attempt.is_spot,
        public: address(instance.public_ip_address()),
        private: address(instance.private_ip_address()),
    }
}

fn ended(instance: &Instance, id: &str, state: &str) -> Result<Outcome, MachineError> {
    let why = reason(instance);
    if may_do_better_elsewhere(&why) {
        return Ok(Outcome::NotHere(why));
    }
    let hint = why.contains("KMS").then(|| "the account's user and EC2 need the right to use the KMS key".to_owned());
    Err(MachineError::Refused { what: format!("{id} is {state} and never ran: {why}"), hint })
}

fn message(error: &SdkError<RunInstancesError>) -> String {
    use aws_sdk_ec2::error::ProvideErrorMetadata;
    let service = error.as_service_error();
    let message = service.and_then(|service| service.message()).unwrap_or_default();
    format!("{}: {message}", code(error).unwrap_or_default())
}
