//! Ctrl-C and its kin: the first stops and cleans up, the second leaves out the grace, the third is out at once.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::{Code, Failure};
use crate::ui::Screen;

/// What the signals do to a build.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    pub cancel: CancellationToken,
    pub hurry: CancellationToken,
}

/// Watches for SIGINT, SIGTERM and SIGHUP on a thread of its own, so that the third one works even while the
/// build's thread is busy. `ledger` is named when nothing is cleaned up.
///
/// # Errors
/// The system has no room for a thread or refuses the handlers.
pub(crate) fn watch(screen: Arc<dyn Screen>, ledger: PathBuf) -> Result<Stop, Failure> {
    let failed = |error: std::io::Error| Failure::new(Code::HostNotReady, "cannot watch for signals").because(error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let stop = Stop::default();
    let watched = stop.clone();
    let signals = {
        let _entered = runtime.enter();
        Signals::new().map_err(failed)?
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    let began = thread.spawn(move || runtime.block_on(act(signals, &watched, screen.as_ref(), &ledger)));
    began.map(|_| stop).map_err(failed)
}

async fn act(mut signals: Signals, stop: &Stop, screen: &dyn Screen, ledger: &std::path::Path) {
    signals.next().await;
    stop.cancel.cancel();
    screen.say("stopping: the machine and its files are being removed (again: without waiting for anything)\n");
    signals.next().await;
    stop.hurry.cancel();
    screen.say("stopping without grace (again: out at once, and the next run cleans up)\n");
    signals.next().await;
    screen.say(&format!("out; what may be left is in {}, and the next `dsimg build` removes it\n", ledger.display()));
    leave();
}

/// Nothing more may run: not even what waits for the build's thread.
#[allow(clippy::exit, reason = "the user asked for it three times")]
fn leave() {
    std::process::exit(Code::Cancelled as i32);
}

#[derive(Debug)]
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Left alone where whoever started dsimg has it ignored, as nohup does.
    hang_up: Option<Signal>,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let hang_up = if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) };
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hang_up })
    }

    async fn next(&mut self) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hang_up => {}
        }
    }
}

/// The bit of SIGHUP (1) in `SigIgn` of `/proc/self/status` (proc(5)).
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
