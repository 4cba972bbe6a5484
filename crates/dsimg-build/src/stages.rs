//! Carries out the steps of one stage in the guest.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use dsimg_machine::event::OutputStream;
use dsimg_machine::{Event, ExitStatus, MachineError, Off, OutputSink, RemoteCommand, RunContext, SessionError};
use dsimg_plan::make::GUEST_FOLDER;
use dsimg_plan::parameters::quote;
use dsimg_plan::{Stage, Step};

use crate::error::BuildError;
use crate::fetch::fetch;
use crate::guest::{Guest, until_cancelled};
use crate::upload::{Sources, put_files};

/// How many of a command's last lines are kept for the report of its failure.
const TAIL_LINES: usize = 20;

/// What a stage is carried out with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StageSetting<'a> {
    pub sources: Sources<'a>,
    /// The folder in which the image is put together; fetched files go below it.
    pub image_folder: &'a Path,
    pub run: &'a RunContext,
}

/// All steps of a stage in their order.
///
/// # Errors
/// A command that fails, a machine that goes away, a file that can't be moved.
pub(crate) async fn run_stage(
    stage: &Stage,
    guest: &mut Guest<'_>,
    setting: StageSetting<'_>,
) -> Result<(), BuildError> {
    put_stage_files(stage, Which::All, guest, setting).await?;
    for step in &stage.steps {
        match step {
            Step::Upload { .. } | Step::Write { .. } => {}
            Step::Run { script, timeout, retries, may_reboot } => {
                let command = script_command(script, timeout.as_duration());
                let ended =
                    run_with_retries(stage, script, &command, *retries, *may_reboot, guest, setting.run).await?;
                if ended == Ended::Rebooted {
                    put_stage_files(stage, Which::InMemory, guest, setting).await?;
                }
            }
            Step::Fetch { from, to } => fetch(from, to, guest.session(), setting.image_folder, setting.run).await?,
            Step::Reboot => {
                guest.reboot().await?;
                put_stage_files(stage, Which::InMemory, guest, setting).await?;
            }
        }
    }
    Ok(())
}

/// Which of a stage's files go into the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    /// Those of the build's own folder, which a reboot emptied. What lies on the disk may have been changed since.
    InMemory,
}

async fn put_stage_files(
    stage: &Stage,
    which: Which,
    guest: &Guest<'_>,
    setting: StageSetting<'_>,
) -> Result<(), BuildError> {
    let is_wanted = |path: &str| which == Which::All || path.starts_with(GUEST_FOLDER);
    let steps: Vec<_> = stage
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Upload { files } => {
                let files = files.iter().filter(|file| is_wanted(&file.path)).cloned().collect();
                Some(Step::Upload { files })
            }
            Step::Write { to, .. } => is_wanted(to).then(|| step.clone()),
            Step::Run { .. } | Step::Fetch { .. } | Step::Reboot => None,
        })
        .collect();
    let put = put_files(&steps, &stage.label, setting.sources, guest, setting.run);
    until_cancelled(setting.run, put).await
}

/// A text for bash that takes away the stage's folder: its parameters may hold secrets, and memory is short. Before the
/// machine is saved, its disk is brought up to date, in case the memory can't be loaded later, and its memory is made
/// small.
#[must_use]
pub(crate) fn tidy_after(stage: &Stage, will_be_saved: bool) -> String {
    let folders: Vec<_> = stage_folders(stage).iter().map(|folder| quote(folder)).collect();
    let mut text = format!("rm -rf -- {}\n", folders.join(" "));
    if will_be_saved {
        text.push_str(DROP_CACHES);
        text.push_str(include_str!("guest/zero_free_pages.sh"));
    }
    text
}

pub(crate) const DROP_CACHES: &str = include_str!("guest/drop_caches.sh");

/// The last stage: its script takes away the login, so the power-off is part of the same command.
///
/// # Errors
/// As [`run_stage`].
pub(crate) async fn run_last_stage(
    stage: &Stage,
    guest: &mut Guest<'_>,
    setting: StageSetting<'_>,
) -> Result<(), BuildError> {
    let off = guest.before_last_stage().await?;
    put_stage_files(stage, Which::All, guest, setting).await?;
    for step in &stage.steps {
        let Step::Run { script, timeout, .. } = step else { continue };
        let command = last_command(script, off, timeout.as_duration());
        run_with_retries(stage, script, &command, 0, false, guest, setting.run).await?;
    }
    Ok(())
}

/// A script of a stage's folder.
fn script_command(script: &str, timeout: Duration) -> RemoteCommand {
    in_folder_of(script, |name| format!("exec bash {name}")).with_timeout(timeout)
}

/// Like [`script_command`], and on success the machine goes off a moment after the status is sent.
/// `--force` leaves out the stopping of services, which would write logs and seeds once more;
/// file systems are unmounted all the same.
fn last_command(script: &str, off: Off, timeout: Duration) -> RemoteCommand {
    let order = match off {
        Off::Power => "poweroff",
        Off::Halt => "halt",
    };
    let text = |name: &str| {
        format!(
            "bash {name} || exit; sync; \
             setsid bash -c 'sleep 0.1; systemctl {order} --force' </dev/null >/dev/null 2>&1 &"
        )
    };
    in_folder_of(script, text).with_timeout(timeout)
}

/// A text for bash that is made of the script's quoted name, with the build's environment, in the script's folder.
fn in_folder_of(script: &str, text: impl Fn(&str) -> String) -> RemoteCommand {
    let (folder, name) = script.rsplit_once('/').unwrap_or((GUEST_FOLDER, script));
    let (folder, text) = (quote(folder), text(&quote(&format!("./{name}"))));
    RemoteCommand::bash(&format!(
        "set -a; . {GUEST_FOLDER}/env; DSIMG_STAGE={folder}; DSIMG_COMMON={folder}/common; set +a; cd {folder} && {text}"
    ))
}

fn stage_folders(stage: &Stage) -> Vec<String> {
    let folders = stage.steps.iter().filter_map(|step| match step {
        Step::Write { to, .. } => to.strip_prefix(GUEST_FOLDER)?.trim_start_matches('/').split('/').next(),
        _ => None,
    });
    let mut folders: Vec<_> = folders.map(|name| format!("{GUEST_FOLDER}/{name}")).collect();
    folders.dedup();
    folders
}

async fn run_with_retries(
    stage: &Stage,
    script: &str,
    command: &RemoteCommand,
    retries: u32,
    may_reboot: bool,
    guest: &mut Guest<'_>,
    run: &RunContext,
) -> Result<Ended, BuildError> {
    let name = script.rsplit('/').next().unwrap_or(script);
    let mut tries_left = retries;
    loop {
        let mut output = Reported { run, tail: Tail::default() };
        let ended = guest.exec(command, &mut output, may_reboot).await?;
        let status = match ended {
            Ended::Rebooted | Ended::Status(ExitStatus::Code(0)) => return Ok(ended),
            Ended::Status(status) => status,
        };
        if tries_left == 0 {
            return Err(BuildError::Stage {
                stage: stage.label.clone(),
                script: name.to_owned(),
                status: status.to_string(),
                tail: output.tail.lines(),
            });
        }
        run.warn(format!("`{name}` {status}; trying again ({tries_left} left)"));
        tries_left -= 1;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// How a script ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Status(ExitStatus),
    /// The machine was rebooted by it and is back.
    Rebooted,
}

/// Reports output as events and keeps its end.
struct Reported<'a> {
    run: &'a RunContext,
    tail: Tail,
}

impl OutputSink for Reported<'_> {
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) {
        self.tail.push(bytes);
        self.run.report(&Event::Output { stream, bytes: bytes.to_owned() });
    }
}

/// The last lines of an output, each cut at 500 bytes.
#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<Vec<u8>>,
    current: Vec<u8>,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                // A progress line that is written over: only its last form counts.
                b'\r' => {}
                byte if self.current.len() < 500 => self.current.push(byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.current);
        if !line.is_empty() {
            self.lines.push_back(line);
        }
        if self.lines.len() > TAIL_LINES {
            self.lines.pop_front();
        }
    }

    fn lines(mut self) -> Vec<String> {
        self.end_line();
        self.lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    }
}

impl From<SessionError> for BuildError {
    fn from(error: SessionError) -> Self {
        Self::Machine(MachineError::Session(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_the_last_lines() {
        let mut tail = Tail::default();
        for number in 0..100 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        tail.push(b"without an end");
        let lines = tail.lines();
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines.last().unwrap(), "without an end");
        assert_eq!(lines[0], "line 81");
    }

    #[test]
    fn the_last_stage_ends_as_the_machine_wants_it() {
        let ends = |off| last_command("/run/dsimg/stage-9/clean.sh", off, Duration::from_secs(5)).argv[2].clone();
        assert!(ends(Off::Power).contains("systemctl poweroff --force"));
        assert!(ends(Off::Halt).contains("systemctl halt --force"));
    }

    #[test]
    fn a_script_runs_in_its_folder() {
        let command = script_command("/run/dsimg/stage-3/install.sh", Duration::from_secs(5));
        assert!(command.argv[2].ends_with("cd '/run/dsimg/stage-3' && exec bash './install.sh'"), "{command:?}");
    }
}
