//! A builder on QEMU: base images, disks, QMP.
//!
//! [`QemuBuilder`] is the contract's [`dsimg_machine::Builder`]; start reading there, then at `machine.rs`.

mod accelerator;
mod access;
mod arguments;
mod base;
mod builder;
mod checkpoint;
mod condition;
mod console;
mod credentials;
mod disk;
mod examine;
mod firmware;
mod image;
mod local_disk;
mod machine;
mod memory_fit;
mod probe;
mod process;
mod qmp;
mod ready;
mod reclaim;
mod seed;
mod tail;
#[cfg(test)]
mod testing;
mod transfer;
mod vm;

pub use builder::QemuBuilder;
pub use examine::{Finding, State};
pub use local_disk::local_image;
pub use machine::QemuMachine;
pub use ready::MEMORY_BESIDE_THE_GUESTS;
