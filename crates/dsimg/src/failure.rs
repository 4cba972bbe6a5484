//! A failure as people read it, and the exit code it gives.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dsimg_build::BuildError;
use dsimg_build::bundle::BundleFault;
use dsimg_machine::MachineError;
use dsimg_plan::{InputError, PlanError};

/// What the exit code says; the table is in docs/exit-codes.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The build failed.
    Build = 1,
    /// The command or the template is wrong.
    Wrong = 2,
    /// This host lacks something.
    HostNotReady = 3,
    /// The answer is no: an audit found something, or an image is not what it should be.
    Found = 6,
    /// Not all could be checked that was asked for.
    Unchecked = 7,
    /// A bug in dsimg.
    Bug = 70,
    /// The outside failed in a way that may pass.
    TryAgain = 75,
    /// Ctrl-C.
    Cancelled = 130,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    what: String,
    known: Box<Known>,
}

/// What is known beside the message.
#[derive(Debug, Default)]
struct Known {
    causes: Vec<String>,
    /// The last lines of the command that failed in the machine.
    output: Vec<String>,
    /// The last lines of the machine's console.
    console: String,
    log: Option<PathBuf>,
    hint: Option<String>,
    /// For programs: the files that have problems, as `validate --format json` lists them.
    files: serde_json::Value,
}

impl Failure {
    pub(crate) fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), known: Box::default() }
    }

    /// A file that can't be read or written; `action` is "cannot read" and the like.
    pub(crate) fn file(action: &str, path: &Path, error: std::io::Error) -> Self {
        let code = if error.kind() == std::io::ErrorKind::StorageFull { Code::HostNotReady } else { Code::Build };
        Self::new(code, format!("{action} `{}`", path.display())).because(error)
    }

    #[must_use]
    pub(crate) fn because(mut self, cause: impl std::fmt::Display) -> Self {
        self.known.causes.push(cause.to_string());
        self
    }

    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.known.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn with_log(mut self, log: &Path) -> Self {
        self.known.log = Some(log.to_owned());
        self
    }

    #[must_use]
    pub(crate) fn with_files(mut self, files: serde_json::Value) -> Self {
        self.known.files = files;
        self
    }

    /// Null where no file is to blame.
    pub(crate) fn files(&self) -> &serde_json::Value {
        &self.known.files
    }

    /// In front of the message: which of several builds it was.
    #[must_use]
    pub(crate) fn of_build(mut self, build: &str) -> Self {
        self.what = format!("{build}: {}", self.what);
        self
    }

    /// The same with every text passed through `change`, which covers secrets.
    #[must_use]
    pub(crate) fn map_texts(mut self, change: impl Fn(&str) -> String) -> Self {
        let Known { causes, output, console, hint, .. } = &mut *self.known;
        let texts = [&mut self.what, console].into_iter().chain(causes).chain(output);
        texts.chain(hint).for_each(|text| *text = change(text));
        self
    }

    /// `error: …` and what is known besides, each on lines of its own; without control characters.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("error: {}\n", self.what);
        for cause in &self.known.causes {
            let _ = writeln!(text, "  caused by: {}", cause.replace('\n', "\n    "));
        }
        if !self.known.output.is_empty() {
            text.push_str("the last lines of its output:\n");
            self.known.output.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
        if !self.known.console.trim().is_empty() {
            text.push_str("the last lines of the machine's console:\n");
            self.known.console.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
        if let Some(log) = &self.known.log {
            let _ = writeln!(text, "log: {}", log.display());
        }
        if let Some(hint) = &self.known.hint {
            let _ = writeln!(text, "hint: {hint}");
        }
        crate::ui::text::printable(&text)
    }

    /// The message alone, on one line.
    pub(crate) fn summary(&self) -> &str {
        &self.what
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let mut failure = Self::new(code_of(&error), error.to_string());
        failure.known.causes = causes(&error);
        failure.known.hint = error.hint();
        collect_evidence(&error, &mut failure);
        failure
    }
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Self {
        BuildError::from(error).into()
    }
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        causes(&error).into_iter().fold(Self::new(Code::Wrong, error.to_string()), Self::because)
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Self::new(Code::Wrong, error.to_string())
    }
}

impl From<BundleFault> for Failure {
    fn from(error: BundleFault) -> Self {
        let code = match &error {
            BundleFault::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => Code::HostNotReady,
            BundleFault::File { .. } | BundleFault::Store(_) => Code::Build,
            _ => Code::Wrong,
        };
        let mut failure = Self::new(code, error.to_string());
        failure.known.causes = causes(&error);
        failure.known.hint = error.hint().map(str::to_owned);
        failure
    }
}

fn code_of(error: &BuildError) -> Code {
    match error {
        _ if error.is_cancelled() => Code::Cancelled,
        BuildError::StageCut { source, .. } => code_of(source),
        BuildError::Machine(MachineError::HostNotReady { .. }) => Code::HostNotReady,
        BuildError::Machine(MachineError::Refused { .. }) => Code::Wrong,
        BuildError::Machine(MachineError::TryAgain { .. }) => Code::TryAgain,
        BuildError::OutputExists { .. } | BuildError::OutputForeign { .. } | BuildError::MangledSecret { .. } => {
            Code::Wrong
        }
        BuildError::File { source, .. } | BuildError::Machine(MachineError::File { source, .. })
            if source.kind() == std::io::ErrorKind::StorageFull =>
        {
            Code::HostNotReady
        }
        _ => Code::Build,
    }
}

/// The chain below the error, each once: some errors repeat their source in their own text.
fn causes(error: &dyn Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.contains(&text) {
            causes.push(text.clone());
            said.push_str(&text);
        }
        next = cause.source();
    }
    causes
}

fn collect_evidence(error: &BuildError, failure: &mut Failure) {
    match error {
        BuildError::Stage { tail, .. } => failure.known.output.clone_from(tail),
        BuildError::StageCut { source, .. } => collect_evidence(source, failure),
        BuildError::Gone { console, .. } | BuildError::Machine(MachineError::Machine { console, .. }) => {
            failure.known.console.clone_from(console);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use dsimg_machine::SessionError;

    use super::*;

    fn stage_failure() -> BuildError {
        BuildError::Stage {
            stage: "python".to_owned(),
            script: "install.sh".to_owned(),
            status: "exited with 1".to_owned(),
            tail: vec!["No solution found".to_owned(), "\u{1b}[31mred\u{1b}[0m".to_owned()],
        }
    }

    #[test]
    fn a_failed_stage_is_told_with_its_last_lines() {
        let failure = Failure::from(stage_failure()).with_log(Path::new("/state/x.log"));
        assert_eq!(
            failure.describe(),
            "error: stage `python` failed: `install.sh` exited with 1\n\
             the last lines of its output:\n  No solution found\n  red\n\
             log: /state/x.log\n"
        );
        assert_eq!(failure.code, Code::Build);
    }

    #[test]
    fn codes_follow_the_cause() {
        let code = |error: BuildError| Failure::from(error).code;
        let cut = |source: BuildError| BuildError::StageCut { stage: "a".to_owned(), source: Box::new(source) };
        assert_eq!(code(MachineError::host("x", "y").into()), Code::HostNotReady);
        assert_eq!(code(MachineError::try_again("x", "y").into()), Code::TryAgain);
        assert_eq!(code(MachineError::refused("x", "y").into()), Code::Wrong);
        assert_eq!(code(cut(MachineError::try_again("x", "y").into())), Code::TryAgain);
        assert_eq!(code(cut(BuildError::Cancelled)), Code::Cancelled);
        assert_eq!(
            code(BuildError::file("cannot write", "/x", std::io::ErrorKind::StorageFull.into())),
            Code::HostNotReady
        );
        assert_eq!(code(BuildError::OutputExists { path: "/x".into() }), Code::Wrong);
    }

    #[test]
    fn a_cause_is_said_once() {
        let io = std::io::Error::other("the disk is gone");
        let failure = Failure::from(BuildError::file("cannot write", "/x", io));
        assert_eq!(failure.describe().matches("the disk is gone").count(), 1);
        let lost = SessionError::Lost { why: "reset".to_owned() };
        let failure = Failure::from(BuildError::from(lost));
        assert_eq!(failure.describe(), "error: the connection to the machine was lost: reset\n");
    }
}
