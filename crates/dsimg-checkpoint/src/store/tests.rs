use std::os::unix::fs::FileExt;

use super::*;
use crate::checkpoint::Memory;
use crate::listing::tests::{checkpoint, digest};

struct Place {
    cache: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::new(cache.path());
        Self { cache, store }
    }

    /// With a disk of 300 KB, and a memory of 8 MiB that is mostly holes.
    fn draft(&self) -> Draft {
        let draft = self.store.draft(self.cache.path()).unwrap();
        let disk: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
        fs::write(draft.path().join(DISK), disk).unwrap();
        let memory = File::create(draft.path().join(MEMORY)).unwrap();
        memory.set_len(8 << 20).unwrap();
        memory.write_all_at(&[7; 5000], 3 << 20).unwrap();
        fs::write(draft.path().join(ACCESS), "{\"key\": 1}").unwrap();
        draft
    }

    fn publish(&self, id: &str, parent: Option<&str>) -> Checkpoint {
        let file = FileFacts { size: 0, allocated: 0, sha256: digest("") };
        let memory = Memory { key: digest("fit"), facts: BTreeMap::new(), file };
        let checkpoint = Checkpoint { memory: Some(memory), ..checkpoint(id, parent, id) };
        self.store.publish(self.draft(), checkpoint).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.store.folder()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[test]
fn what_is_published_is_found_as_it_was_and_stays_sparse() {
    let place = Place::new();
    assert!(place.store.list().unwrap().checkpoints.is_empty());
    let boot = place.publish("boot", None);
    let listing = place.store.list().unwrap();
    assert_eq!(listing.checkpoints, std::slice::from_ref(&boot));
    assert_eq!(listing.damaged, []);
    let memory = boot.memory.as_ref().unwrap();
    assert_eq!(memory.file.size, 8 << 20);
    assert!(memory.file.allocated < 1 << 20, "{memory:?}");
    place.store.verify(&boot).unwrap();
    let folder = place.store.folder_of("boot");
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(folder.join(DISK).metadata().unwrap().permissions().mode() & 0o777, 0o400);
    // Nothing is left of the draft.
    assert_eq!(fs::read_dir(place.cache.path()).unwrap().count(), 1);
}

#[test]
fn a_draft_that_was_not_published_is_nothing() {
    let place = Place::new();
    place.publish("boot", None);
    // Whatever is missing when the build dies, the folder has another name.
    let draft = place.draft();
    fs::write(draft.path().join(RECORD), record(&place.store.list().unwrap().checkpoints[0]).unwrap()).unwrap();
    assert_eq!(place.store.list().unwrap().checkpoints.len(), 1);
    let file = draft.path().join(DISK);
    fs::remove_file(&file).unwrap();
    assert!(place.store.publish(draft, checkpoint("torn", None, "torn")).is_err());
    assert_eq!(place.names(), ["boot"]);
    let twice = place.store.publish(place.draft(), checkpoint("boot", None, "boot"));
    assert!(twice.unwrap_err().to_string().contains("cannot save a checkpoint as"));
    assert_eq!(fs::read_dir(place.cache.path()).unwrap().count(), 1);
}

#[test]
fn each_flipped_bit_is_found() {
    let place = Place::new();
    let boot = place.publish("boot", None);
    let folder = place.store.folder_of("boot");
    let mut random = 88_172_645_463_325_252_u64;
    for turn in 0..100 {
        // xorshift64: places that are the same in each run of the test.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let file = folder.join([DISK, MEMORY, ACCESS, RECORD][turn % 4]);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let handle = File::options().read(true).write(true).open(&file).unwrap();
        let at = random % handle.metadata().unwrap().len();
        let mut byte = [0];
        handle.read_exact_at(&mut byte, at).unwrap();
        let flipped = byte[0] ^ 1 << (random % 8);
        handle.write_all_at(&[flipped], at).unwrap();
        let seen = !place.store.list().unwrap().damaged.is_empty() || place.store.verify(&boot).is_err();
        assert!(seen, "byte {at} of {}: {} -> {flipped}", file.display(), byte[0]);
        handle.write_all_at(&byte, at).unwrap();
        place.store.verify(&boot).unwrap();
    }
}

#[test]
fn a_damaged_one_is_set_aside_and_its_children_are_lost() {
    let place = Place::new();
    place.publish("boot", None);
    place.publish("apt", Some("boot"));
    place.store.set_aside("boot").unwrap();
    let listing = place.store.list().unwrap();
    assert_eq!(listing.find(&digest("apt"), &digest("base")), None);
    assert_eq!(place.store.sweep().unwrap().len(), 1);
    assert_eq!(place.names(), [".locks", "apt"]);
}

#[test]
fn what_is_in_use_is_not_removed() {
    let place = Place::new();
    place.publish("boot", None);
    place.publish("apt", Some("boot"));
    let listing = place.store.list().unwrap();
    let chain = listing.chain("apt").unwrap();
    let (one, two) = (place.store.hold(&chain).unwrap(), place.store.hold(&chain).unwrap());
    drop(one);
    assert!(matches!(place.store.remove("boot"), Err(StoreError::InUse { .. })));
    assert!(matches!(place.store.drop_memory(chain[1]), Err(StoreError::InUse { .. })));
    drop(two);
    place.store.drop_memory(chain[1]).unwrap();
    let left = place.store.list().unwrap();
    assert_eq!(left.get("apt").unwrap().memory, None);
    place.store.verify(left.get("apt").unwrap()).unwrap();
    place.store.remove("apt").unwrap();
    place.store.remove("boot").unwrap();
    assert!(matches!(place.store.hold(&chain), Err(StoreError::Gone { .. })));
    assert_eq!(place.names(), [".locks"]);
}

#[test]
fn a_stage_is_made_by_one_at_a_time() {
    let place = Place::new();
    let lock = place.store.lock_stage(&digest("key")).unwrap();
    assert!(lock.is_some());
    assert!(place.store.lock_stage(&digest("key")).unwrap().is_none());
    assert!(place.store.lock_stage(&digest("other")).unwrap().is_some());
    drop(lock);
    assert!(place.store.lock_stage(&digest("key")).unwrap().is_some());
}

#[test]
fn the_last_use_is_noted() {
    let place = Place::new();
    place.publish("boot", None);
    let listing = place.store.list().unwrap();
    let before = place.store.last_used(&listing)["boot"];
    std::thread::sleep(std::time::Duration::from_millis(20));
    place.store.touch("boot");
    assert!(place.store.last_used(&listing)["boot"] > before);
}
