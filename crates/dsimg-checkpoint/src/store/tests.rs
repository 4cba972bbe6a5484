use std::os::unix::fs::FileExt;

use super::memory::{PACKED, PACKED_NEW};
use super::record::RECORD_NEW;
use super::*;
use crate::checkpoint::Memory;
use crate::listing::Newer;
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
        memory.write_all_at(&[7; 50_000], 3 << 20).unwrap();
        fs::write(draft.path().join(ACCESS), "{\"key\": 1}").unwrap();
        draft
    }

    fn publish(&self, id: &str, parent: Option<&str>) -> Checkpoint {
        self.publish_with(id, parent, &[])
    }

    /// With this in its memory, if it is not empty.
    fn publish_with(&self, id: &str, parent: Option<&str>, memory: &[u8]) -> Checkpoint {
        let draft = self.draft();
        if !memory.is_empty() {
            fs::write(draft.path().join(MEMORY), memory).unwrap();
        }
        let file = FileFacts { size: 0, allocated: 0, sha256: digest("") };
        let memory = Memory { key: digest("fit"), facts: BTreeMap::new(), file };
        let checkpoint = Checkpoint { memory: Some(memory), ..checkpoint(id, parent, id) };
        self.store.publish(draft, checkpoint).unwrap()
    }

    /// A file in the store, as one that died has left it.
    fn leave(&self, path: &str) {
        let path = self.store.folder().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "left").unwrap();
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.store.folder()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// That no program makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut random = 88_172_645_463_325_252_u64;
    let words = std::iter::repeat_with(|| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

fn text_of(checkpoint: &Checkpoint) -> Vec<u8> {
    record::text(&Stored { checkpoint: checkpoint.clone(), packing: Packing::Plain }).unwrap()
}

/// The record as a dsimg writes it whose format is this.
fn write_record(place: &Place, id: &str, checkpoint: &serde_json::Value) {
    let raw = checkpoint.to_string();
    let text = format!("{{\"sha256\": \"{}\", \"checkpoint\": {raw}}}", Digest::of_bytes(raw.as_bytes()));
    fs::write(place.store.folder_of(id).join(RECORD), text).unwrap();
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
    fs::write(draft.path().join(RECORD), text_of(&place.store.list().unwrap().checkpoints[0])).unwrap();
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
fn what_an_earlier_removal_left_is_in_nobodys_way() {
    let place = Place::new();
    for round in 1..=3 {
        place.publish("boot", None);
        // Left by one that died in between.
        place.leave(".trash-boot/memory");
        place.store.remove("boot").unwrap();
        assert_eq!(place.names(), [".locks"], "{round}");
    }
    let held = {
        place.publish("boot", None);
        place.store.hold(&[&place.store.list().unwrap().checkpoints[0]]).unwrap()
    };
    for name in [".damaged-boot", ".damaged-boot.2", ".damaged-boot.3"] {
        if place.store.list().unwrap().checkpoints.is_empty() {
            place.publish("boot", None);
        }
        place.store.set_aside("boot").unwrap();
        assert!(place.names().contains(&name.to_owned()), "{:?}", place.names());
    }
    // A machine stands on one of them.
    assert_eq!(place.store.sweep().unwrap(), []);
    drop(held);
    assert_eq!(place.store.sweep().unwrap().len(), 3);
    place.store.sweep().unwrap();
    assert_eq!(place.names(), [".locks"]);
    place.store.set_aside("gone").unwrap();
}

#[test]
fn what_is_missing_is_seen_without_reading() {
    let place = Place::new();
    for (file, only_memory) in [(DISK, false), (ACCESS, false), (MEMORY, true)] {
        for cut in [false, true] {
            place.publish("boot", None);
            let path = place.store.folder_of("boot").join(file);
            if cut {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
                File::options().write(true).open(&path).unwrap().set_len(5).unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            let listing = place.store.list().unwrap();
            assert_eq!(listing.damaged.len(), 1, "{file}");
            let damage = &listing.damaged[0];
            assert_eq!((damage.file.as_str(), damage.is_of_memory()), (file, only_memory));
            assert!(
                damage.what.contains(if cut { "has 5 bytes and was written with" } else { "is missing" }),
                "{damage}"
            );
            // The disk of one that lacks its memory is good.
            assert_eq!(listing.checkpoints.len(), usize::from(only_memory), "{file}");
            assert_eq!(place.store.set_damaged_aside().unwrap(), std::slice::from_ref(damage));
            let listing = place.store.list().unwrap();
            assert_eq!((listing.checkpoints.len(), listing.damaged.len()), (usize::from(only_memory), 0));
            if only_memory {
                assert_eq!(listing.checkpoints[0].memory, None);
                place.store.remove("boot").unwrap();
            }
        }
    }
}

#[test]
fn what_is_damaged_and_in_use_is_not_set_aside() {
    let place = Place::new();
    let boot = place.publish("boot", None);
    fs::write(place.store.folder_of("boot").join(RECORD), "{").unwrap();
    let held = place.store.hold(&[&boot]).unwrap();
    assert_eq!(place.store.set_damaged_aside().unwrap(), []);
    drop(held);
    assert_eq!(place.store.set_damaged_aside().unwrap().len(), 1);
    assert_eq!(place.names(), [".damaged-boot", ".locks"]);
}

#[test]
fn one_of_a_newer_dsimg_is_left_alone() {
    let place = Place::new();
    place.publish("boot", None);
    place.publish("new", Some("boot"));
    write_record(&place, "new", &serde_json::json!({"format": FORMAT + 1, "parent": "boot", "all": "is new"}));
    let listing = place.store.list().unwrap();
    let newer = Newer { id: "new".to_owned(), parent: Some("boot".to_owned()), format: FORMAT + 1 };
    assert_eq!((listing.checkpoints.len(), listing.damaged.len()), (1, 0));
    assert_eq!(listing.newer, [newer]);
    assert_eq!(place.store.set_damaged_aside().unwrap(), []);
    assert_eq!(place.store.sweep().unwrap(), []);
    // What is flipped in it may be its format.
    let path = place.store.folder_of("new").join(RECORD);
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("is new", "is NEW")).unwrap();
    assert_eq!(place.store.list().unwrap().damaged.len(), 1);
    place.store.remove("new").unwrap();
    assert_eq!(place.names(), [".locks", "boot"]);
}

#[test]
fn a_record_without_packing_is_plain_and_one_with_it_keeps_its_format() {
    let place = Place::new();
    let boot = place.publish("boot", None);
    let text = String::from_utf8(fs::read(place.store.folder_of("boot").join(RECORD)).unwrap()).unwrap();
    assert!(!text.contains("packing"), "{text}");
    // As the first dsimg wrote it.
    write_record(&place, "boot", &serde_json::to_value(&boot).unwrap());
    let listing = place.store.list().unwrap();
    assert_eq!((&listing.checkpoints[0], listing.packing("boot")), (&boot, Packing::Plain));
    place.store.compress_memory("boot").unwrap();
    // What the first dsimg reads of it.
    let text = fs::read(place.store.folder_of("boot").join(RECORD)).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let read: Checkpoint = serde_json::from_value(value["checkpoint"].clone()).unwrap();
    assert_eq!((read.format, &read.key), (FORMAT, &boot.key));
}

#[test]
fn a_memory_is_compressed_and_unpacked_again() {
    let place = Place::new();
    let boot = place.publish("boot", None);
    let folder = place.store.folder_of("boot");
    let Compressed::Saved(saved) = place.store.compress_memory("boot").unwrap() else { panic!("not compressed") };
    assert!(folder.join(PACKED).exists() && !folder.join(MEMORY).exists());
    assert_eq!(folder.join(PACKED).metadata().unwrap().permissions().mode() & 0o777, 0o400);
    let listing = place.store.list().unwrap();
    assert_eq!(listing.damaged, []);
    let (before, after) = (boot.memory.as_ref().unwrap(), listing.checkpoints[0].memory.as_ref().unwrap());
    assert_eq!((&before.file.sha256, before.file.size), (&after.file.sha256, after.file.size));
    assert_eq!(before.file.allocated - after.file.allocated, saved);
    assert_eq!(listing.checkpoints[0].allocated(), boot.allocated() - saved);
    assert!(matches!(listing.packing("boot"), Packing::Zstd { .. }) && place.store.is_compressed("boot"));
    // Whoever knows of it from before finds it as well.
    for checkpoint in [&boot, &listing.checkpoints[0]] {
        place.store.verify(checkpoint).unwrap();
        let draft = place.store.draft(place.cache.path()).unwrap();
        let memory = place.store.unpack_memory(checkpoint, draft.path(), || false).unwrap();
        let back = digest::facts(&File::open(&memory).unwrap()).unwrap();
        assert_eq!((back.size, &back.sha256), (before.file.size, &before.file.sha256));
        assert!(back.allocated < 1 << 20, "{back:?}");
        assert_eq!(memory.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(place.store.compress_memory("boot").unwrap(), Compressed::NothingToDo);
    assert_eq!(place.store.sweep().unwrap(), []);
    place.store.drop_memory(&boot).unwrap();
    assert!(!folder.join(PACKED).exists());
    place.store.verify(&place.store.list().unwrap().checkpoints[0]).unwrap();
    assert_eq!(place.store.compress_memory("boot").unwrap(), Compressed::NothingToDo);
    assert_eq!(place.store.compress_memory("gone").unwrap(), Compressed::NothingToDo);
}

#[test]
fn a_memory_that_does_not_shrink_stays_and_is_not_tried_again() {
    let place = Place::new();
    let boot = place.publish_with("boot", None, &noise(400_000));
    assert_eq!(place.store.compress_memory("boot").unwrap(), Compressed::NotWorthwhile);
    let listing = place.store.list().unwrap();
    assert_eq!((&listing.checkpoints[0], listing.packing("boot")), (&boot, Packing::NotWorthwhile));
    assert!(!place.store.is_compressed("boot"));
    place.store.verify(&boot).unwrap();
    assert_eq!(place.store.leftovers(), []);
    assert_eq!(place.store.compress_memory("boot").unwrap(), Compressed::NothingToDo);
}

#[test]
fn what_is_in_use_or_damaged_is_not_compressed() {
    let place = Place::new();
    let boot = place.publish("boot", None);
    let held = place.store.hold(&[&boot]).unwrap();
    assert!(matches!(place.store.compress_memory("boot"), Err(StoreError::InUse { .. })));
    drop(held);
    let memory = place.store.folder_of("boot").join(MEMORY);
    fs::set_permissions(&memory, fs::Permissions::from_mode(0o600)).unwrap();
    File::options().write(true).open(&memory).unwrap().write_all_at(b"x", 3 << 20).unwrap();
    let error = place.store.compress_memory("boot").unwrap_err();
    assert!(matches!(&error, StoreError::Damaged(damage) if damage.is_of_memory()), "{error}");
    assert!(memory.exists() && place.store.leftovers().is_empty());
}

#[test]
fn damage_of_a_compressed_memory_is_found() {
    let place = Place::new();
    let boot = place.publish("boot", None);
    place.store.compress_memory("boot").unwrap();
    let packed = place.store.folder_of("boot").join(PACKED);
    fs::set_permissions(&packed, fs::Permissions::from_mode(0o600)).unwrap();
    let file = File::options().read(true).write(true).open(&packed).unwrap();
    let length = file.metadata().unwrap().len();
    let mut byte = [0];
    file.read_exact_at(&mut byte, length / 2).unwrap();
    file.write_all_at(&[!byte[0]], length / 2).unwrap();
    assert!(place.store.verify_memory(&boot).unwrap_err().is_of_memory());
    let draft = place.store.draft(place.cache.path()).unwrap();
    let error = place.store.unpack_memory(&boot, draft.path(), || false).unwrap_err();
    assert!(matches!(&error, StoreError::Damaged(damage) if damage.is_of_memory()), "{error}");
    file.write_all_at(&byte, length / 2).unwrap();
    place.store.verify(&boot).unwrap();
    let draft = place.store.draft(place.cache.path()).unwrap();
    let error = place.store.unpack_memory(&boot, draft.path(), || true).unwrap_err();
    assert!(matches!(error, StoreError::File { .. }), "{error}");
    file.set_len(length + 1).unwrap();
    assert!(place.store.verify_memory(&boot).is_err());
    assert_eq!(place.store.list().unwrap().damaged.len(), 1);
    fs::remove_file(&packed).unwrap();
    assert_eq!(place.store.list().unwrap().damaged[0].what, "is missing");
    assert!(place.store.verify_memory(&boot).is_err());
}

/// The states between the steps of compressing and of dropping a memory.
#[test]
fn whenever_it_dies_a_checkpoint_is_whole_and_what_is_left_is_swept() {
    let place = Place::new();
    let boot = place.publish("boot", None);
    let folder = place.store.folder_of("boot");
    let whole = |left: &[&str]| {
        let listing = place.store.list().unwrap();
        assert_eq!((listing.checkpoints.len(), listing.damaged.len()), (1, 0), "{left:?}");
        place.store.verify(&listing.checkpoints[0]).unwrap();
        let paths: Vec<_> = left.iter().map(|name| folder.join(name)).collect();
        let found = place.store.leftovers();
        assert_eq!(found.iter().map(|it| it.path.clone()).collect::<Vec<_>>(), paths);
        assert!(found.iter().all(|it| it.allocated > 0), "{found:?}");
        let held = place.store.hold(&[&listing.checkpoints[0]]).unwrap();
        assert_eq!(place.store.sweep().unwrap(), []);
        drop(held);
        assert_eq!(place.store.sweep().unwrap(), found);
        place.store.verify(&listing.checkpoints[0]).unwrap();
        assert_eq!(place.store.leftovers(), []);
    };
    // While it is written; it is no hindrance for the next try either.
    fs::write(folder.join(PACKED_NEW), "half").unwrap();
    whole(&[PACKED_NEW]);
    // Before and after the new record has its name.
    let plain = fs::read(folder.join(MEMORY)).unwrap();
    fs::write(folder.join(PACKED), "whole, but not named").unwrap();
    fs::write(folder.join(RECORD_NEW), "half").unwrap();
    whole(&[RECORD_NEW, PACKED]);
    fs::write(folder.join(PACKED_NEW), "half").unwrap();
    fs::write(folder.join(RECORD_NEW), "half").unwrap();
    assert!(matches!(place.store.compress_memory("boot").unwrap(), Compressed::Saved(_)));
    fs::write(folder.join(MEMORY), &plain).unwrap();
    whole(&[MEMORY]);
    // The same of a memory that was dropped.
    place.store.drop_memory(&boot).unwrap();
    fs::write(folder.join(MEMORY), &plain).unwrap();
    whole(&[MEMORY]);
    fs::write(folder.join("mine"), "not of dsimg").unwrap();
    assert_eq!(place.store.leftovers(), []);
}

#[test]
fn files_of_locks_that_nobody_needs_are_swept() {
    let place = Place::new();
    let boot = place.publish("boot", None);
    let locks = || {
        let entries = fs::read_dir(place.store.folder().join(LOCKS)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    drop(place.store.hold(&[&boot]).unwrap());
    assert!(matches!(place.store.hold(&[&checkpoint("gone", None, "gone")]), Err(StoreError::Gone { .. })));
    drop(place.store.lock_stage(&digest("done")).unwrap());
    let held = place.store.lock_stage(&digest("running")).unwrap();
    assert_eq!(locks().len(), 4);
    place.store.sweep().unwrap();
    let running = format!("stage-{}", digest("running"));
    assert_eq!(locks(), ["boot", running.as_str()]);
    assert!(place.store.lock_stage(&digest("running")).unwrap().is_none());
    drop(held);
    place.store.remove("boot").unwrap();
    place.store.sweep().unwrap();
    assert_eq!(locks(), [""; 0]);
}

#[test]
fn the_store_can_be_read_while_memories_are_compressed_and_dropped() {
    let place = Place::new();
    let done = std::sync::atomic::AtomicBool::new(false);
    place.publish("boot", None);
    std::thread::scope(|scope| {
        let readers = [(); 2].map(|()| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    let listing = place.store.list().unwrap();
                    assert_eq!(listing.damaged, []);
                    let Some(boot) = listing.get("boot") else { continue };
                    if let Ok(_held) = place.store.hold(&[boot])
                        && place.store.list().unwrap().get("boot") == Some(boot)
                    {
                        place.store.verify(boot).unwrap();
                    }
                }
            })
        });
        let writer = scope.spawn(|| {
            let again = |change: &dyn Fn() -> bool| while !change() {};
            for _ in 0..30 {
                again(&|| place.store.compress_memory("boot").is_ok());
                let boot = place.store.list().unwrap().checkpoints[0].clone();
                again(&|| place.store.drop_memory(&boot).is_ok());
                again(&|| place.store.remove("boot").is_ok());
                place.store.sweep().unwrap();
                place.publish("boot", None);
            }
        });
        let ended = writer.join();
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(ended.is_ok() && readers.into_iter().all(|reader| reader.join().is_ok()));
    });
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
