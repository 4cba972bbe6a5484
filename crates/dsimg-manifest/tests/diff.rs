//! Differences of two images, in their three forms.

#![allow(clippy::unwrap_used, reason = "what panics here fails a test")]

mod sample;

use std::collections::BTreeSet;

use dsimg_manifest::diff::{Difference, FileChange, Owner, PackageChangeKind};
use dsimg_manifest::lock::{Lock, LockedStage};
use dsimg_manifest::manifest::{BASE, StageFacts};
use dsimg_manifest::{Inventory, Package};

fn inventory(lock: &Lock) -> Inventory {
    Inventory::of_image(&sample::manifest(lock), lock)
}

/// One change of each kind.
fn later() -> Lock {
    let mut lock = sample::lock();
    lock.base.sha256 = "9".repeat(64);
    lock.deb[0].version = "1:2.47.3-0+deb13u2".to_owned();
    lock.deb[1].version = "2.41-12~bpo1".to_owned();
    lock.deb.push(sample::deb("tmux", "3.5a-3", "tools"));
    lock.pypi[0].artifact.as_mut().unwrap().sha256 = "7".repeat(64);
    lock.pypi.remove(1);
    lock.cran[0].version = "0.6.9".to_owned();
    lock.cran[1].version = "main".to_owned();
    lock.stages[1].inputs = serde_json::json!({"packages": ["numpy"], "index": "x"});
    lock.stages.remove(2);
    lock.stages.insert(
        0,
        LockedStage {
            label: "setup".to_owned(),
            provisioner: "shell".to_owned(),
            version: 1,
            inputs: serde_json::Value::Null,
        },
    );
    lock
}

fn file(path: &str, change: &str, package: Option<&str>) -> FileChange {
    let package = package.map(str::to_owned);
    FileChange { path: path.to_owned(), change: change.to_owned(), package, before: None, after: None }
}

fn whole() -> Difference {
    let mut after = sample::manifest(&later());
    after.image.version = "2026.12".to_owned();
    after.system.kernel = "6.12.63+deb13-cloud-amd64".to_owned();
    after.system.r = None;
    let mut difference = Difference::between(&inventory(&sample::lock()), &Inventory::of_image(&after, &later()));
    difference.files = vec![file("/etc/motd", "content", None), file("/usr/bin/git", "content", Some("deb git"))];
    difference
}

#[test]
fn people_read_what_differs() {
    insta::assert_snapshot!("text", whole().to_text());
    insta::assert_snapshot!("html", whole().to_html());
    insta::assert_snapshot!("json", whole().to_json());
}

#[test]
fn files_of_a_package_that_changed_are_summed_up_under_it() {
    let mut after = sample::lock();
    after.pypi[0].version = "2.4.0".to_owned();
    let mut difference = Difference::between(&inventory(&sample::lock()), &inventory(&after));
    let numpy = |place| Owner { ecosystem: "pypi", name: "NumPy", place };
    let git = Owner { ecosystem: "deb", name: "git", place: "" };
    difference.take_file(file("/a", "content", None), Some(numpy("/opt/ds/lib/python3.13/site-packages")));
    difference.take_file(file("/b", "content", None), Some(numpy("/opt/ds/lib/python3.13/site-packages")));
    difference.take_file(file("/c", "content", None), Some(numpy("/opt/ds2/lib/python3.13/site-packages")));
    difference.take_file(file("/d", "content", None), Some(git));
    difference.take_file(file("/e", "content", None), None);
    assert_eq!(difference.packages.iter().map(|change| change.files).collect::<Vec<_>>(), [2]);
    assert_eq!(difference.files.iter().map(|file| &*file.path).collect::<Vec<_>>(), ["/c", "/d", "/e"]);
    assert!(difference.to_text().contains("2 files"), "{}", difference.to_text());
}

#[test]
fn each_kind_of_change_is_found_once() {
    let difference = Difference::between(&inventory(&sample::lock()), &inventory(&later()));
    let kinds: BTreeSet<_> = difference.packages.iter().map(|change| (&*change.name, change.kind)).collect();
    let expected = BTreeSet::from([
        ("git", PackageChangeKind::Upgraded),
        ("libc6", PackageChangeKind::Downgraded),
        ("tmux", PackageChangeKind::Added),
        ("numpy", PackageChangeKind::Rebuilt),
        ("numpy", PackageChangeKind::Removed),
        ("digest", PackageChangeKind::Downgraded),
        ("cli", PackageChangeKind::Changed),
    ]);
    assert_eq!(kinds, expected);
    assert_eq!(difference.packages.len(), expected.len());
}

#[test]
fn stages_of_locks_say_what_changed_in_them() {
    let (before, after) = (Inventory::of_lock("kvm", &sample::lock()), Inventory::of_lock("kvm", &later()));
    let difference = Difference::between(&before, &after);
    let stages: Vec<_> = difference.stages.iter().map(|stage| (&*stage.label, &*stage.change)).collect();
    assert_eq!(stages, [("r", "removed"), ("setup", "added"), ("python", "changed: index, packages")]);
    let mut swapped = sample::lock();
    swapped.stages.swap(0, 1);
    let difference = Difference::between(&before, &Inventory::of_lock("kvm", &swapped));
    assert_eq!(difference.stages.len(), 2);
    assert!(difference.stages.iter().all(|stage| stage.change == "at another place in the order"));
}

#[test]
fn of_manifests_the_first_stage_that_changed_is_told() {
    let before = sample::manifest(&sample::lock());
    let mut after = before.clone();
    after.stages[1].key = "8".repeat(64);
    after.stages[2].key = "9".repeat(64);
    let difference = Difference::between(&Inventory::of_manifest(&before), &Inventory::of_manifest(&after));
    let stages: Vec<_> = difference.stages.iter().map(|stage| (&*stage.label, &*stage.change)).collect();
    assert_eq!(stages, [("python", "changed")]);
}

#[test]
fn nothing_differs_from_itself_and_what_is_not_known_is_said() {
    let lock = sample::lock();
    let difference = Difference::between(&inventory(&lock), &inventory(&lock));
    assert!(difference.is_empty() && difference.not_compared.is_empty());
    assert!(difference.to_text().contains("no difference"));
    assert!(difference.to_html().contains("No difference."));
    let alone = Inventory::of_manifest(&sample::manifest(&lock));
    let difference = Difference::between(&alone, &Inventory::of_lock("kvm", &lock));
    assert!(difference.is_empty(), "{}", difference.to_text());
    assert_eq!(difference.not_compared.len(), 3, "{:?}", difference.not_compared);
}

/// `dsimg diff images/hub-1 hub.lock`
#[test]
fn an_image_beside_its_lock_shows_nothing_that_locks_never_hold() {
    let lock = sample::lock();
    let mut manifest = sample::manifest(&lock);
    let last =
        StageFacts { label: "hygiene".to_owned(), provisioner: "hygiene".to_owned(), ..manifest.stages[0].clone() };
    manifest.stages.push(last);
    let deb = Inventory::of_lock("kvm", &lock).entries.remove(0).package;
    manifest.packages.push(Package { ecosystem: "cran".to_owned(), origin: "deb".to_owned(), ..deb });
    let (image, locked) = (Inventory::of_manifest(&manifest), Inventory::of_lock("kvm", &lock));
    for difference in [Difference::between(&image, &locked), Difference::between(&locked, &image)] {
        assert!(difference.is_empty(), "{}", difference.to_text());
    }
    let other = Inventory::of_manifest(&sample::manifest(&lock));
    assert_eq!(Difference::between(&other, &image).packages.len(), 1);
}

#[test]
fn two_versions_in_one_place_are_not_mistaken_for_each_other() {
    let mut before = sample::lock();
    before.deb = vec![sample::deb("linux", "6.1", BASE), sample::deb("linux", "6.2", BASE)];
    let mut after = before.clone();
    after.deb[0].version = "6.3".to_owned();
    let difference = Difference::between(&inventory(&before), &inventory(&after));
    let [change] = &difference.packages[..] else { panic!("{:?}", difference.packages) };
    assert_eq!((&*change.before.as_ref().unwrap().version, &*change.after.as_ref().unwrap().version), ("6.1", "6.3"));
}

#[test]
fn names_from_outside_stay_text() {
    let mut after = sample::lock();
    after.pypi.push(sample::wheel("<script>alert('x')</script>", "1\"&\u{1b}[31m", "/opt/<b>"));
    let mut difference = Difference::between(&inventory(&sample::lock()), &inventory(&after));
    difference.files = vec![file("/<i>", "<u>", Some("<s>"))];
    let page = difference.to_html();
    for tag in ["<script>", "<b>", "<i>", "<u>", "<s>", "\u{1b}"] {
        assert!(!page.contains(tag), "{tag}");
    }
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"));
    assert!(!difference.to_text().contains('\u{1b}'));
}
