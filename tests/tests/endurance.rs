//! What takes half an hour to show: builds killed at two hundred moments, a cache with a flipped bit in a hundred
//! places. `make test-endurance` runs them; `DSIMG_KILLS` and `DSIMG_FLIPS` set other numbers.

// The allowance for tests covers only functions marked `#[test]`, not those they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dsimg_tests::{SmallTemplate, cache_folder, checkpoints, dsimg, remove_checkpoints_of, run, told, wait_for};

const IMAGE: &str = "endurance";

/// xorshift64: moments and places need no better.
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let mut seed = [0; 8];
        fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed)).unwrap();
        Self(u64::from_le_bytes(seed) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Stages that each add a word to a file; what is in the image's machine must be the words of the template.
struct Chain {
    template: SmallTemplate,
    words: Vec<u64>,
}

impl Chain {
    fn write(&self) {
        let stage =
            |(index, word): (usize, &u64)| (format!("s{index}"), format!("echo {word} >>/opt/chain; sleep 0.2"));
        let mut stages: Vec<_> = self.words.iter().enumerate().map(stage).collect();
        stages.push(("told".to_owned(), "echo chain=$(paste -sd, /opt/chain)".to_owned()));
        let stages: Vec<_> = stages.iter().map(|(name, line)| (name.as_str(), line.as_str())).collect();
        self.template.write("", &stages);
    }

    fn expected(&self) -> String {
        self.words.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
    }

    /// To the end, from whatever is there.
    fn check(&self, turn: u64) -> Duration {
        let started = Instant::now();
        let built = self.template.build(&[]).expect_success();
        let elapsed = started.elapsed();
        if !built.stdout.contains("nothing changed") && built.stderr.contains("chain=") {
            assert_eq!(told(&built, "chain"), self.expected(), "after {turn} kills: {built:?}");
        }
        assert!(!built.stderr.contains("set aside"), "after {turn} kills: {built:?}");
        assert_eq!(machines(), [""; 0], "after {turn} kills");
        assert_eq!(names_in(&cache_folder().join("cache/work")), [""; 0], "after {turn} kills");
        let halves = names_in(&cache_folder().join("cache/checkpoints"));
        let halves: Vec<_> = halves.iter().filter(|name| name.starts_with('.') && *name != ".locks").collect();
        assert!(halves.is_empty(), "after {turn} kills: {halves:?}");
        let verified = run(&mut dsimg(&["cache", "verify"]));
        assert_eq!(verified.code, 0, "after {turn} kills: {verified:?}");
        elapsed
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The process numbers of QEMUs whose disks lie in the tests' cache.
fn machines() -> Vec<String> {
    let pattern = format!("qemu-system.*{}", cache_folder().join("cache/work").display());
    run(Command::new("pgrep").args(["-f", &pattern])).stdout.lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "takes half an hour: `make test-endurance`"]
fn kills_at_random_moments_leave_no_wrong_checkpoint() {
    let mut random = Random::seeded();
    println!("seed {}", random.0);
    let mut chain = Chain { template: SmallTemplate::new(IMAGE), words: vec![0; 4] };
    chain.words[0] = random.below(1 << 40);
    chain.write();
    chain.check(0);
    let mut phases: BTreeMap<String, u32> = BTreeMap::new();
    for turn in 1..=number("DSIMG_KILLS", 200) {
        // Another template each time, or there would be nothing to do.
        let changed = usize::try_from(random.below(chain.words.len() as u64)).unwrap();
        chain.words[changed] = random.below(1 << 40);
        chain.write();
        let (arguments, length): (&[&str], _) =
            if random.below(10) == 0 { (&["--no-cache"], 25_000) } else { (&[], 8_000) };
        let log = chain.template.folder().join("killed.log");
        let mut command = chain.template.command(arguments);
        let mut build = command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.below(length)));
        let had_ended = build.try_wait().unwrap().is_some();
        build.kill().unwrap();
        build.wait().unwrap();
        wait_for("the end of the machines", Duration::from_secs(1), || machines().is_empty());
        let phase = if had_ended { "(it had ended)".to_owned() } else { phase_of(&fs::read_to_string(&log).unwrap()) };
        *phases.entry(phase).or_default() += 1;
        for folder in checkpoints() {
            assert!(folder.join("checkpoint.json").exists(), "turn {turn}: {}", folder.display());
        }
        if turn % 20 == 0 {
            let elapsed = chain.check(turn);
            println!("{turn} kills; built to the end in {:.1} s", elapsed.as_secs_f64());
            // Or reading all of them back would take longer and longer.
            remove_checkpoints_of(IMAGE);
        }
    }
    chain.check(0);
    println!("killed in: {phases:#?}");
}

/// The last phase or stage that a build told of: `checkpoint`, `stage 2 of 6`.
fn phase_of(log: &str) -> String {
    let last = log.lines().filter_map(|line| line.get(11..)).rfind(|line| line.ends_with('…') || line.contains(" s"));
    let last = last.unwrap_or("(before the first)");
    let name = last.split(['…', ':']).next().unwrap_or(last).trim();
    if last.ends_with('…') { name.to_owned() } else { format!("after {name}") }
}

#[test]
#[ignore = "takes some minutes: `make test-endurance`"]
fn a_flipped_bit_is_found_wherever_it_is() {
    let template = SmallTemplate::new("flips");
    template.write("", &[("first", &template.first), ("second", "echo second >/opt/second")]);
    let good = template.folder().join("cache");
    fs::create_dir_all(&good).unwrap();
    run(Command::new("cp").arg("-al").arg(cache_folder().join("cache/bases")).arg(&good)).expect_success();
    run(template.command(&[]).env("DSIMG_CACHE_DIR", &good)).expect_success();
    fs::remove_dir_all(good.join("work")).unwrap();
    let all_good = run(dsimg(&["cache", "verify"]).env("DSIMG_CACHE_DIR", &good));
    assert!(all_good.stdout.contains("as they were written: 3 checkpoints and "), "{all_good:?}");

    let mut random = Random::seeded();
    println!("seed {}", random.0);
    let files = files_below(&good);
    let mut by_name: BTreeMap<String, u32> = BTreeMap::new();
    for turn in 0..number("DSIMG_FLIPS", 100) {
        let file = &files[usize::try_from(random.below(files.len() as u64)).unwrap()];
        let cache = template.folder().join("flipped");
        let flipped = cache.join(file.strip_prefix(&good).unwrap());
        run(Command::new("cp").arg("-al").arg(&good).arg(&cache)).expect_success();
        // A file of its own, not the link.
        fs::remove_file(&flipped).unwrap();
        run(Command::new("cp").args(["--sparse=always"]).arg(file).arg(&flipped)).expect_success();
        let place = random.below(fs::metadata(file).unwrap().size());
        flip(&flipped, place, 1 << random.below(8));
        let found = run(dsimg(&["cache", "verify"]).env("DSIMG_CACHE_DIR", &cache));
        let folder = flipped.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        let is_named = found.stdout.lines().any(|line| line.starts_with("damaged: ") && line.contains(&folder));
        assert!(found.code == 1 && is_named, "turn {turn}: byte {place} of {}: {found:?}", flipped.display());
        fs::remove_dir_all(&cache).unwrap();
        *by_name.entry(file.file_name().unwrap().to_string_lossy().into_owned()).or_default() += 1;
    }
    println!("found, by file: {by_name:#?}");
}

/// Those of checkpoints and bases that have a content.
fn files_below(cache: &Path) -> Vec<PathBuf> {
    let folders = ["checkpoints", "bases"].into_iter().flat_map(|name| fs::read_dir(cache.join(name)).unwrap());
    let folders = folders.map(|entry| entry.unwrap().path());
    let folders = folders.filter(|path| path.is_dir() && !path.file_name().unwrap().to_string_lossy().starts_with('.'));
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    files.filter(|path| fs::metadata(path).unwrap().size() > 0).collect()
}

fn flip(path: &Path, at: u64, bit: u8) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ bit], at).unwrap();
}
