//! Support for the whole-product tests: dsimg as its users run it, and images booted as theirs do.
//!
//! Bases, downloads and finished images are kept between runs in a cache folder outside the checkout
//! (`DSIMG_TEST_CACHE`, default `/var/tmp/dsimg-tests`).

mod alone;
mod booted;
mod command;
mod ec2;
mod login;
mod manifest;
mod packages;
mod served;
mod small;
mod tree;

pub use alone::without_network;
pub use booted::{Booted, Firmware};
pub use command::{Outcome, build_image, cache_folder, dsimg, repository, run, wait_for};
pub use ec2::{Instance, Rig, only_ami};
pub use login::Login;
pub use manifest::{assert_same_content, read_manifest};
pub use packages::{assert_locked_packages, assert_packages};
pub use served::Served;
pub use small::{SmallTemplate, checkpoint_of, checkpoints, checkpoints_of, remove_checkpoints_of, told};
pub use tree::{Tree, assert_clean, differences, read_raw_tree, read_tree};
