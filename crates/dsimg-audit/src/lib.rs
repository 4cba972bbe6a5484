//! The packages of an image against advisories in OSV's form that lie on disk. Nothing here uses the network.
//!
//! What could not be checked is never taken for clean: it is listed, counted, and fails the audit unless allowed.

mod affected;
mod audit;
mod database;
mod error;
mod names;
mod osv;
pub mod report;
mod severity;
mod since;
mod suppressions;

pub use audit::{Settings, audit};
pub use database::check_dump;
pub use error::AuditError;
pub use names::{Download, OSV, downloads};
pub use report::{Finding, Report};
pub use severity::Severity;
pub use since::{Since, since};
pub use suppressions::{Suppression, parse_suppressions};
