//! Who answers for a resource: the ledger from before it is made, what is kept for the next try once it is there, and
//! nobody when it is finished.

use dsimg_machine::{AwsKind, MachineError, Resource, RunContext};

use crate::account::Account;
use crate::kept::{Kept, write_line};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Custody<'a> {
    pub(crate) run: &'a RunContext,
    /// `None`: unfinished things don't outlive the build.
    kept: Option<&'a Kept>,
}

pub(crate) fn resource(account: &Account, what: AwsKind, name: &str) -> Resource {
    Resource::Aws { region: account.region.clone(), profile: account.profile.clone(), what, name: name.to_owned() }
}

impl<'a> Custody<'a> {
    pub(crate) fn of_ledger(run: &'a RunContext) -> Self {
        Self { run, kept: None }
    }

    pub(crate) fn of_publish(run: &'a RunContext, kept: &'a Kept) -> Self {
        Self { run, kept: Some(kept) }
    }

    /// # Errors
    /// The ledger can't be written; then it must not be made.
    pub(crate) fn will_make(&self, resource: &Resource) -> Result<(), MachineError> {
        write_line(&self.run.ledger, resource.clone())
    }

    /// Its id is known and can be found again.
    ///
    /// # Errors
    /// The ledger or the record can't be written.
    pub(crate) fn is_there(&self, resource: &Resource) -> Result<(), MachineError> {
        let Some(kept) = self.kept else { return Ok(()) };
        kept.change(|record| {
            if !record.resources.contains(resource) {
                record.resources.push(resource.clone());
            }
        })?;
        self.strike(resource)
    }

    /// It is finished, and lasts; or it is gone.
    ///
    /// # Errors
    /// The ledger or the record can't be written.
    pub(crate) fn is_finished(&self, resource: &Resource) -> Result<(), MachineError> {
        if let Some(kept) = self.kept {
            kept.change(|record| record.resources.retain(|other| other != resource))?;
        }
        self.strike(resource)
    }

    fn strike(&self, resource: &Resource) -> Result<(), MachineError> {
        let ledger = &self.run.ledger;
        ledger.is_gone(resource.clone()).map_err(|source| MachineError::file("cannot write", ledger.path(), source))
    }
}

/// A line in the ledger; on disk when this returns, and the thing may be made then.
///
/// # Errors
/// The ledger can't be written.
pub(crate) fn will_make(account: &Account, what: AwsKind, name: &str, run: &RunContext) -> Result<(), MachineError> {
    write_line(&run.ledger, resource(account, what, name))
}

/// A line that can't be written costs a look of the next run, and no more.
pub(crate) fn is_gone(account: &Account, what: AwsKind, name: &str, run: &RunContext) {
    if let Err(error) = run.ledger.is_gone(resource(account, what, name)) {
        run.debug(format!("cannot strike {name} from {}: {error}", run.ledger.path().display()));
    }
}
