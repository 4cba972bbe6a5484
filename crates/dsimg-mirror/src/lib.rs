//! The repositories that a build's machine installs from.
//!
//! A [`Mirror`] is an HTTP server on this host's loopback. Everything that provisioners fetch comes through it: from
//! outside, through the company's proxy and mirrors, into the package store and to the machine at once; or, with a lock,
//! from repositories that are made of the lock alone. What was given is on record by stage ([`Fetched`]), and
//! [`lock_parts`] makes the parts of a lock from the records.
//!
//! # Addresses
//!
//! `M` is the mirror as the machine sees it, such as `http://10.0.2.2:PORT`.
//!
//! | | the machine asks |
//! |---|---|
//! | apt | `M` as its proxy; sources with `https://HOST/PATH` are written as `http://HTTPS///HOST/PATH` |
//! | Python | `M/pypi/https/pypi.org/simple` as its index |
//! | R | `M/cran/https/cloud.r-project.org` as its repository |
//! | any file | `M/file/https/HOST/PATH?QUERY` |
//!
//! A login in an address (`https://USER:PASSWORD@HOST/…`) is used outside and is in no record. Where it is asked for
//! outside is said by [`MirrorSettings::rewrites`]; records and locks have the address as the machine asked.
//!
//! # apt's configuration in the machine
//!
//! Tried with apt 2.6 (bookworm) and 3.0 (trixie). Without a lock:
//!
//! ```text
//! Acquire::http::Proxy "http://10.0.2.2:PORT/";
//! Acquire::Languages "none";
//! ```
//!
//! With a lock (whether [`Pins::exclusive`] or not), where nobody signs the lists, besides:
//!
//! ```text
//! Acquire::AllowInsecureRepositories "true";
//! APT::Get::AllowUnauthenticated "true";
//! Dir::State::lists "/run/dsimg/apt-lists";    # a folder of its own, with `partial/` in it
//! ```
//!
//! Sources stay as they are, `Signed-By` included; apt only warns. The folder is there because apt refuses an unsigned
//! list (`is no longer signed`) where it has a signed one of before, as images of clouds do; where the machine's
//! own folder must be used, `Acquire::AllowDowngradeToInsecureRepositories "true";` does the same. These lines are for
//! the time of the build and must not be in the image. Packages are bound all the same: their sha256 in the lists comes
//! from the lock, apt compares it, and so does the mirror.
//!
//! Suites and components that sources name and the lock has not are there and empty, and apt fetches nothing of them.
//!
//! # Three ways to answer
//!
//! - *Open*: indexes are asked for outside each time, and taken from the store where nothing changed. A package whose
//!   sha256 an index has is taken from the store without asking; others by `ETag` and `Last-Modified`.
//! - *Exclusive pins*: indexes are made of the lock, packages come from the store, or from their address if the bytes
//!   are still those. What is not in the lock is refused, and remembered in [`Mirror::misses`].
//! - *Pins that are not exclusive*: names that the lock has, but for the freed ones, in the lock's versions only; all
//!   others as they are outside. **Upstream's signatures of apt's lists are not checked then**: the machine's apt sees
//!   lists that were made here, and this host has no OpenPGP.
//!
//! # `min_age`
//!
//! A page of a Python index says when each file came; younger ones are left out. Files of an index that does not say it,
//! Debian's and R's packages go by the file's `Last-Modified`; without that, they are refused, since they may be of
//! today. What the lock has was looked at when it was locked.

mod address;
mod age;
mod apt;
mod ask;
mod body;
mod desk;
mod error;
mod fetch;
mod mirror;
mod parts;
mod pins;
mod python;
mod r;
mod record;
mod refusal;
mod respond;
mod transfer;
mod upstream;

pub use apt::regained::has_lists;
pub use error::MirrorError;
pub use mirror::{Mirror, MirrorSettings};
pub use parts::{DebName, DebPart, FilePart, ListedDeb, LockParts, lock_parts};
pub use pins::Pins;
pub use record::{Fetched, FetchedKind};
