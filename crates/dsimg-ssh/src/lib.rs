//! A [`Session`](dsimg_machine::Session) over ssh, by russh.
//!
//! [`wait_until_ready`] turns a machine that was just started into an [`SshSession`]; a [`TemporaryKey`] for the
//! login and one for the host are made before the boot and handed in, so the very first packet is checked.

mod command;
mod connect;
mod deadline;
mod exec;
mod interact;
mod key;
mod kill;
mod queue;
mod ready;
mod session;
mod transfer;

pub use connect::{Bastion, SshTarget};
pub use key::{HostKey, TemporaryKey};
pub use ready::{NotReady, wait_until_ready};
pub use session::SshSession;
