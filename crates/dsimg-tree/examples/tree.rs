//! Tries the crate on images by hand: `tree list IMAGE`, `tree digest IMAGE`, `tree diff BEFORE AFTER`, `tree seal IMAGE DISK`.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufWriter, Write, stdout};
use std::path::Path;

use dsimg_tree::{Difference, Disk, Owners, SealSettings, Times, diff, read_texts, read_tree, seal, write_listing};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list", image] => list(Path::new(image)),
        ["digest", image] => digest(Path::new(image)),
        ["diff", before, after] => show_diff(Path::new(before), Path::new(after)),
        ["seal", image, disk] => seal_disk(Path::new(image), Path::new(disk)),
        _ => Err("expected `list IMAGE`, `digest IMAGE`, `diff BEFORE AFTER` or `seal IMAGE DISK`".into()),
    }
}

fn list(image: &Path) -> Result<(), Box<dyn Error>> {
    let disk = Disk::open(image)?;
    let tree = read_tree(&disk.root()?)?;
    let mut out = BufWriter::new(stdout());
    write_listing(&tree, Times::Included, &mut out)?;
    Ok(out.flush()?)
}

fn digest(image: &Path) -> Result<(), Box<dyn Error>> {
    let disk = Disk::open(image)?;
    let tree = read_tree(&disk.root()?)?;
    writeln!(stdout(), "{} {} names", tree.digest(Times::Included), tree.entries().len())?;
    Ok(())
}

fn show_diff(before: &Path, after: &Path) -> Result<(), Box<dyn Error>> {
    let (old, new) = (Disk::open(before)?, Disk::open(after)?);
    let (old, new) = (old.root()?, new.root()?);
    let (old_tree, new_tree) = (read_tree(&old)?, read_tree(&new)?);
    let mut differences = diff(&old_tree, &new_tree);
    differences.attribute(&Owners::read(&old, &old_tree)?, &Owners::read(&new, &new_tree)?);
    let mut folded: BTreeMap<String, usize> = BTreeMap::new();
    let mut out = BufWriter::new(stdout());
    for change in differences.changes.iter().filter(|change| !change.is_time_only()) {
        if let Some(owner) = change.owner.as_ref().filter(|_| !change.is_conffile) {
            *folded.entry(format!("{:?} {} {}", owner.ecosystem, owner.name, owner.version)).or_default() += 1;
            continue;
        }
        let (sign, what) = match &change.difference {
            Difference::Added(_) => ('+', String::new()),
            Difference::Removed(_) => ('-', String::new()),
            Difference::Changed { aspects, .. } => ('~', format!("{aspects:?}")),
        };
        let has_text = read_texts(change, (&old, &old_tree), (&new, &new_tree))?.is_some();
        let path = String::from_utf8_lossy(change.path());
        writeln!(out, "{sign} {path} {what}{}", if has_text { " (text)" } else { "" })?;
    }
    for (owner, count) in folded {
        writeln!(out, "{owner}: {count} files")?;
    }
    let times = differences.changes.iter().filter(|change| change.is_time_only()).count();
    writeln!(out, "{times} times")?;
    Ok(out.flush()?)
}

fn seal_disk(image: &Path, disk: &Path) -> Result<(), Box<dyn Error>> {
    let sealed = seal(image, disk, &SealSettings { epoch: 1_795_219_200, hash_seed: [7; 16] })?;
    writeln!(stdout(), "{} {}", sealed.digest, sealed.disk.display())?;
    Ok(())
}
