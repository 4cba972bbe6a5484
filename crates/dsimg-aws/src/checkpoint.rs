//! A machine saved as it runs: an AMI for each stage, and a note of it where the local store keeps a disk.
//!
//! The AMI is taken of the running instance without a reboot: as after a power cut, from which its file systems recover.
//! What stages wrote is on the disk, as the build syncs it before it saves. AWS copies it while the build goes on; when
//! the machine ends, the copies are waited for, and lose the tag by which they would be taken for leftovers. Until then
//! they are in the ledger.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use dsimg_machine::checkpoint::{ACCESS, DISK};
use dsimg_machine::{AwsKind, MachineError, RunContext, SavedMachine};

use crate::account::Account;
use crate::ami::wait_until_available;
use crate::custody::{is_gone, will_make};
use crate::failure::{code, explain};
use crate::image::{Taken, create, finish};
use crate::machine::AwsMachine;
use crate::pace::in_time;
use crate::remove::remove;
use crate::source::SourceImage;

/// On AMIs of checkpoints, for good: its value is the AMI's name.
pub(crate) const CHECKPOINT_TAG: &str = "dsimg:checkpoint";
/// For one copy; it goes on while the others are waited for.
const COPIED_LIMIT: Duration = Duration::from_secs(30 * 60);

/// What was saved of a machine.
#[derive(Debug, Default)]
pub(crate) struct Saved(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    count: u32,
    /// Ids and names of AMIs that AWS still copies.
    copying: Vec<(String, String)>,
}

/// In the place of the disk.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Version of this form; 1.
    format: u32,
    /// The AMI to start from.
    pub(crate) image: String,
    /// The AMI that it all began with.
    pub(crate) source: SourceImage,
}

impl Saved {
    /// Of a machine that was started from a checkpoint: what it is now is not the base any more.
    pub(crate) fn of_resumed() -> Self {
        Self(Mutex::new(State { count: 1, copying: Vec::new() }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_number(&self) -> u32 {
        let mut state = self.lock();
        state.count += 1;
        state.count - 1
    }
}

/// # Errors
/// The AMI can't be made, or the files not be written.
pub(crate) async fn save(machine: &AwsMachine, folder: &Path) -> Result<(), MachineError> {
    let image = match machine.saved.next_number() {
        // Nothing but the first boot was done to it, which every instance does for itself.
        0 => machine.source.id.clone(),
        number => take(machine, number).await?,
    };
    let note = Note { format: 1, image, source: machine.source.clone() };
    let path = folder.join(DISK);
    let written = serde_json::to_vec(&note).map_err(std::io::Error::from).and_then(|text| std::fs::write(&path, text));
    written.map_err(|error| MachineError::file("cannot write", &path, error))?;
    machine.access.write(&folder.join(ACCESS))
}

async fn take(machine: &AwsMachine, number: u32) -> Result<String, MachineError> {
    let (account, run) = (&machine.account, &machine.run);
    let name = format!("{}-checkpoint-{number}", machine.marks.name);
    let tags = [(CHECKPOINT_TAG.to_owned(), name.clone()), ("Name".to_owned(), name.clone())].into_iter().collect();
    let marks = machine.marks.for_image(&name, &tags);
    let taken = Taken { account, instance: &machine.running.id, as_it_is: true, marks: &machine.marks };
    will_make(account, AwsKind::Image, &name, run)?;
    let description = format!("a checkpoint of {}", machine.plan.image.name);
    let id = create(taken, (&name, Some(&description)), &marks, None, run).await?;
    machine.saved.lock().copying.push((id.clone(), name));
    Ok(id)
}

/// Waits for the copies, each as long as it may take; one that does not come about is removed.
pub(crate) async fn settle(machine: &AwsMachine) {
    let copying = std::mem::take(&mut machine.saved.lock().copying);
    let (account, run) = (&machine.account, &machine.run);
    for (id, name) in copying {
        let settled = tokio::select! {
            settled = in_time(COPIED_LIMIT, keep(account, &id, run)) => settled,
            // They stay in the ledger, and the next run removes them.
            () = run.hurry.cancelled() => return,
        };
        let kept = match settled {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                run.warn(format!("the checkpoint {name} is not kept: {error}"));
                remove(account, AwsKind::Image, &name, &run.hurry).await
            }
            None => Err(MachineError::Refused { what: format!("{id} is still being copied"), hint: None }),
        };
        match kept {
            Ok(()) => is_gone(account, AwsKind::Image, &name, run),
            Err(error) => run.warn(format!("{name} may be left: {error}; `dsimg gc --aws` removes it")),
        }
    }
}

async fn keep(account: &Account, id: &str, run: &RunContext) -> Result<(), MachineError> {
    let image = wait_until_available(account, id, run).await?;
    finish(account, id, &image).await
}

/// Reads what was saved, and waits until its AMI can be started.
///
/// # Errors
/// [`MachineError::Missing`] where the AMI was removed.
pub(crate) async fn open(account: &Account, saved: &SavedMachine, run: &RunContext) -> Result<Note, MachineError> {
    let unreadable = |error| MachineError::file("cannot read", &saved.disk, error);
    let text = std::fs::read(&saved.disk).map_err(unreadable)?;
    let note: Note = serde_json::from_slice(&text).map_err(|error| unreadable(error.into()))?;
    if note.image == note.source.id {
        return Ok(note);
    }
    let missing = |why: &str| MachineError::Missing { what: format!("the checkpoint's AMI {} {why}", note.image) };
    match account.ec2.describe_images().image_ids(&note.image).send().await {
        Ok(found) if found.images().is_empty() => return Err(missing("is not there any more")),
        Err(error) if code(&error).is_some_and(|code| code.starts_with("InvalidAMIID")) => {
            return Err(missing("is not there any more"));
        }
        found => found.map(drop).map_err(|error| explain("look at the checkpoint's AMI", account, error))?,
    }
    match wait_until_available(account, &note.image, run).await {
        Err(MachineError::Refused { what, .. }) => Err(missing(&format!("can't be started: {what}"))),
        waited => waited.map(|_| note),
    }
}
