//! From nothing to an instance that runs, or back to nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use dsimg_machine::{AwsKind, MachineError, RunContext};
use dsimg_plan::Plan;

use crate::access::Access;
use crate::account::Account;
use crate::custody::{is_gone, will_make};
use crate::door::Door;
use crate::launch::{Launch, Running};
use crate::marks::Marks;
use crate::pace::{in_time, until_cancelled};
use crate::prepared::Prepared;
use crate::remove;
use crate::user_data::{Login, Told};

/// For all that one machine is made of, however the build ended.
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(15 * 60);
/// In the order in which they can be removed: the instance holds the others.
const PARTS: [AwsKind; 3] = [AwsKind::Instance, AwsKind::SecurityGroup, AwsKind::KeyPair];

/// The disk that an instance starts from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct From<'a> {
    pub(crate) image: &'a str,
    pub(crate) root_device: &'a str,
}

/// Starts an instance; what was made for one that does not come is gone when this returns.
///
/// # Errors
/// AWS has none, refuses it, or the build is cancelled.
pub(crate) async fn start(
    prepared: &Prepared,
    from: From<'_>,
    access: &Access,
    plan: &Plan,
    marks: &Marks,
    run: &RunContext,
) -> Result<Running, MachineError> {
    for part in PARTS {
        will_make(&prepared.account, part, &marks.name, run)?;
    }
    let known = Mutex::new(None);
    match make(prepared, from, access, plan, (marks, &known), run).await {
        Ok(running) => Ok(running),
        Err(error) => {
            let known = known.into_inner().unwrap_or_else(PoisonError::into_inner);
            end(&prepared.account, &marks.name, known.as_deref(), &prepared.door, run).await;
            Err(error)
        }
    }
}

async fn make(
    prepared: &Prepared,
    from: From<'_>,
    access: &Access,
    plan: &Plan,
    (marks, known): (&Marks, &Mutex<Option<String>>),
    run: &RunContext,
) -> Result<Running, MachineError> {
    let (account, table) = (&prepared.account, &prepared.table);
    let user_data = user_data(prepared, access, plan)?;
    until_cancelled(&run.hurry, access.import(account, marks)).await??;
    check_cancel(run)?;
    let vpc = &prepared.attempts[0].place.vpc;
    let opened = prepared.door.open(account, (vpc, table.reach.ssh_port), marks, run);
    let groups = until_cancelled(&run.hurry, opened).await??;
    check_cancel(run)?;
    let launch = Launch {
        account,
        table,
        image: from.image,
        root_device: from.root_device,
        user_data: &user_data,
        key_pair: Some(&marks.name),
        groups: &groups,
        marks,
    };
    launch.start(&prepared.attempts, known, run).await
}

/// A call that makes something is not cut off, as nobody would know what came of it; a cancel is heard between them.
fn check_cancel(run: &RunContext) -> Result<(), MachineError> {
    if run.cancel.is_cancelled() { Err(MachineError::Cancelled) } else { Ok(()) }
}

fn user_data(prepared: &Prepared, access: &Access, plan: &Plan) -> Result<String, MachineError> {
    let seconds = prepared.table.instance.time_limit.seconds;
    let authorized_key = access.key.public_openssh();
    let (host_key, host_key_public) = (access.host_key.private_openssh(), access.host_key.public_openssh());
    let told = Told {
        login: login(prepared, &access.user, plan),
        authorized_key: &authorized_key,
        host_key: &host_key,
        host_key_public: &host_key_public,
        deadline: Timestamp::now().as_second().saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)),
        seconds,
        extra: prepared.user_data.as_deref(),
    };
    told.encode()
}

fn login<'a>(prepared: &Prepared, user: &'a str, plan: &Plan) -> Login<'a> {
    match user {
        "root" => Login::Root,
        user if user == prepared.usual_user(plan) => Login::Default,
        user => Login::New(user),
    }
}

/// Ends all that was made for a machine, with a time limit of its own, and says what could not be removed. That stays
/// in the ledger. After a second Ctrl-C nothing is waited for.
pub(crate) async fn end(account: &Account, name: &str, known: Option<&str>, door: &Door, run: &RunContext) {
    let removing = async {
        let mut instance_is_gone = false;
        for part in PARTS {
            let removed = match part {
                // In use for as long as the instance is there.
                AwsKind::SecurityGroup if !instance_is_gone => continue,
                AwsKind::Instance => remove::end_instances(account, name, known, &run.hurry).await,
                // None was made.
                AwsKind::SecurityGroup if matches!(door, Door::Given(_)) => Ok(()),
                part => remove::remove(account, part, name, &run.hurry).await,
            };
            match removed {
                Ok(()) => {
                    instance_is_gone |= part == AwsKind::Instance;
                    is_gone(account, part, name, run);
                }
                Err(error) => tell(part, name, &error, run),
            }
        }
    };
    let hurried = CancellationToken::child_token(&run.hurry);
    tokio::select! {
        done = in_time(CLEAN_UP_LIMIT, removing) => if done.is_none() {
            run.warn(format!("not all of {name} could be removed in time; `dsimg gc --aws` removes it"));
        },
        // Terminated is what costs; the order to it has been given, or is now.
        () = hurried.cancelled() => order_end(account, name, known, run).await,
    }
}

async fn order_end(account: &Account, name: &str, known: Option<&str>, run: &RunContext) {
    let Some(id) = known else { return };
    let limit = Duration::from_secs(5);
    let ended = in_time(limit, account.ec2.terminate_instances().instance_ids(id).send()).await;
    if !matches!(ended, Some(Ok(_))) {
        run.warn(format!("{id} may still run; `dsimg gc --aws` removes it and what belongs to {name}"));
    }
}

fn tell(part: AwsKind, name: &str, error: &MachineError, run: &RunContext) {
    let what = describe(part);
    run.warn(format!("the {what} {name} may be left: {error}; `dsimg gc --aws` removes it"));
}

/// As people call it.
pub(crate) fn describe(part: AwsKind) -> &'static str {
    match part {
        AwsKind::Instance => "instance",
        AwsKind::Volume => "volume",
        AwsKind::Image => "AMI",
        AwsKind::Snapshot => "snapshot",
        AwsKind::SecurityGroup => "security group",
        AwsKind::KeyPair => "key pair",
    }
}
