//! Images that contradict themselves: an error or the tree, never a panic, and soon.

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use dsimg_tree::Fault;

use crate::rig::{Rig, full_tree, tree};

#[test]
fn a_system_that_was_not_shut_down_is_an_error_that_says_so() {
    let rig = Rig::new();
    rig.file("a", "a");
    for commands in ["feature needs_recovery\n", "ssv last_orphan 12\n", "ssv state 2\n"] {
        let error = tree(&rig.image("image", &[], commands)).unwrap_err();
        assert!(matches!(error.fault, Fault::Unclean(_)), "{commands}: {error}");
        assert!(error.hint().unwrap().contains("shut it down"), "{commands}");
    }
}

#[test]
fn a_directory_in_itself_is_found() {
    let rig = Rig::new();
    rig.file("a/b/c", "c");
    let error = tree(&rig.image("image", &[], "ln a a/b/again\n")).unwrap_err();
    assert!(error.to_string().contains("`/a/b/again` is in two places, or in itself"), "{error}");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let rig = Rig::new();
    rig.file("a/innocent", "c");
    let image = rig.image("image", &["-O", "^metadata_csum"], "");
    let mut bytes = fs::read(&image).unwrap();
    let at = bytes.windows(8).position(|window| window == b"innocent").unwrap();
    bytes[at..at + 8].copy_from_slice(b"../../et");
    fs::write(&image, bytes).unwrap();
    let error = tree(&image).unwrap_err();
    assert!(error.to_string().contains("a name that no file can have"), "{error}");
}

#[test]
fn extents_outside_of_the_disk_are_refused() {
    let rig = Rig::new();
    rig.file("a", vec![1; 9000]);
    let commands = "sif a block[5] 0x7fffff00\n";
    let error = tree(&rig.image("image", &[], commands)).unwrap_err();
    assert!(error.to_string().contains("of a file system of"), "{error}");
}

#[test]
fn files_that_claim_the_same_blocks_are_refused() {
    let rig = Rig::new();
    for number in 0..40 {
        rig.file(&format!("f{number}"), vec![1; 900_000]);
        if number > 0 {
            fs::remove_file(rig.path("tree").join(format!("f{number}"))).unwrap();
            rig.file(&format!("f{number}"), "x");
        }
    }
    let mut commands = String::new();
    for number in 1..40 {
        // An extent of 8000 blocks, from block 1 on.
        commands += &format!("sif f{number} block[4] 8000\nsif f{number} block[5] 1\nsif f{number} size 32768000\n");
    }
    let error = tree(&rig.image("image", &[], &commands)).unwrap_err();
    assert!(error.to_string().contains("files share their blocks"), "{error}");
}

/// With checksums nearly all is found at once; without, whatever follows from the wrong number happens.
#[test]
fn flipped_bits_do_no_harm() {
    let rig = Rig::new();
    let commands = full_tree(&rig);
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let (mut refused, mut read) = (0, 0);
    for options in
        [&["-b", "1024", "-O", "^metadata_csum,inline_data", "-N", "1200"][..], &["-b", "1024", "-N", "1200"]]
    {
        let path = rig.image("flipped", options, &commands);
        let bytes = fs::read(&path).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        // Where there is something at all.
        let places: Vec<usize> = (0..bytes.len()).filter(|place| bytes[*place] != 0).collect();
        for _ in 0..200 {
            let flips: Vec<usize> = (0..8)
                .map(|_| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    places[usize::try_from(random >> 16).unwrap() % places.len()]
                })
                .collect();
            for place in &flips {
                file.write_all_at(&[bytes[*place] ^ 1 << (random >> (place % 8) & 7)], *place as u64).unwrap();
            }
            let start = Instant::now();
            match tree(&path) {
                Ok(_) => read += 1,
                Err(error) => {
                    assert!(error.to_string().contains("flipped"), "{error}");
                    refused += 1;
                }
            }
            assert!(start.elapsed() < Duration::from_secs(20), "it took too long");
            for place in flips {
                file.write_all_at(&bytes[place..=place], place as u64).unwrap();
            }
        }
    }
    assert!(refused > 20 && read > 20, "{refused} refused, {read} read");
}
