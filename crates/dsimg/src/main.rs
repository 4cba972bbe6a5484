//! `dsimg`: one TOML template to a bootable machine image, and a record of every package version in it.

mod advisories;
mod arguments;
mod catalog;
mod commands;
mod environment;
mod failure;
mod keep;
mod leftovers;
mod locking;
mod named;
mod offline;
mod one_build;
mod outcome;
mod publishing;
mod reading;
mod secrets;
mod signals;
mod signing;
mod terminal;
mod ui;
mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use arguments::{Arguments, Aws, Command};
use failure::{Code, Failure};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    std::panic::set_hook(Box::new(report_bug));
    match catch_unwind(AssertUnwindSafe(|| run(arguments.command))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            ui::output::say(&failure.describe());
            failure.code.into()
        }
        // The hook has told of it.
        Err(_) => Code::Bug.into(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Build(arguments) => wait_for(commands::build::run(&arguments)),
        Command::Lock(arguments) => wait_for(commands::lock::run(&arguments)),
        Command::Bundle(arguments) => commands::bundle::run(&arguments),
        Command::Plan(arguments) => commands::plan::run(&arguments),
        Command::Validate(arguments) => commands::validate::run(&arguments),
        Command::Inspect(arguments) => commands::inspect::run(&arguments),
        Command::Diff(arguments) => commands::diff::run(&arguments),
        Command::Sbom(arguments) => commands::sbom::run(&arguments),
        Command::Audit(arguments) => wait_for(commands::audit::run(&arguments)),
        Command::Verify(arguments) => commands::verify::run(&arguments),
        Command::Shell(arguments) => wait_for(commands::shell::run(&arguments)),
        Command::Cache(arguments) => commands::cache::run(&arguments),
        Command::Gc(arguments) => wait_for(commands::gc::run(&arguments)),
        Command::Aws(Aws::Policy(arguments)) => commands::aws::policy(&arguments),
        Command::Doctor(arguments) => wait_for(commands::doctor::run(&arguments)),
        Command::Init(arguments) => commands::init::run(&arguments),
        Command::Schema(arguments) => commands::schema::run(&arguments),
        Command::Completions(arguments) => commands::completions::run(&arguments),
    }
}

/// On this thread alone, which lives as long as the build: QEMU dies with the thread that started it.
fn wait_for(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::new(Code::HostNotReady, "this system has no room for a program").because(error))?;
    let ended = runtime.block_on(work);
    // A question that was never answered still waits for its line.
    runtime.shutdown_timeout(Duration::from_millis(100));
    ended
}

/// A panic is a bug of dsimg, whatever made it happen; what the build made is cleaned up on the way out.
fn report_bug(panic: &std::panic::PanicHookInfo<'_>) {
    let text = panic.payload().downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.payload().downcast_ref::<String>().map(String::as_str));
    let what = text.unwrap_or("something that can't happen has happened");
    let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
    let failure = Failure::new(Code::Bug, format!("this is a bug in dsimg{place}"))
        .because(what)
        .with_hint("report it with the command, the template and the log; the next build removes what may be left");
    ui::output::say(&failure.describe());
}
