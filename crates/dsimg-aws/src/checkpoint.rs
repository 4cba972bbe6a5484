//! A machine saved as it runs: an AMI for each stage.

use std::path::Path;

use dsimg_machine::MachineError;

use crate::machine::AwsMachine;

#[derive(Debug, Default)]
pub(crate) struct Count;

pub(crate) async fn save(_machine: &AwsMachine, _folder: &Path) -> Result<(), MachineError> {
    Err(MachineError::refused("this machine can't be saved", "build with `--no-cache`"))
}

pub(crate) async fn settle(_machine: &AwsMachine) {}
