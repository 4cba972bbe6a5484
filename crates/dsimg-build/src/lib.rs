//! Carries out a plan on any builder and records what came out.

pub mod tools;
