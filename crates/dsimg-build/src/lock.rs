//! The lock and the build: where it fits a plan, what it pins, how it is made, and how far the result can be made again.

mod compare;
mod fit;
mod level;
mod licences;
mod make;
mod pins;

pub(crate) use compare::fill_origins;
pub use compare::{Differing, differing};
pub use fit::{Misfit, misfits, pins_of};
pub use level::{Facts, NO_LOCK, reproducibility};
pub use make::{Stock, lock_of};
pub(crate) use pins::pins_of_records;
