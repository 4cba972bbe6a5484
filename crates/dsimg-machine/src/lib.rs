//! The contracts with the outside: where machines boot, how they are talked to, what is reported.

pub mod builder;
pub mod checkpoint;
pub mod context;
pub mod error;
pub mod event;
pub mod ledger;
pub mod mask;
pub mod publish;
pub mod session;

pub use builder::{Artifact, BaseImage, Builder, HostFacts, KnownBase, Machine, Off};
pub use checkpoint::{MemoryFit, SavedMachine};
pub use context::RunContext;
pub use error::MachineError;
pub use event::{Event, Level, OutputStream, Phase, Reporter};
pub use ledger::{AwsKind, Ledger, Resource};
pub use publish::{Ami, LocalImage, Publisher, Written, WrittenParts};
pub use session::{ExitStatus, OutputSink, RemoteCommand, Screen, ScreenSize, Session, SessionError, Terminal};
