use dsimg_tree::{Aspect, Difference, Disk, Ecosystem, Owners, diff, read_texts, read_tree};

use crate::rig::{Rig, tree};

fn describe(difference: &Difference) -> String {
    match difference {
        Difference::Added(_) => "added".to_owned(),
        Difference::Removed(_) => "removed".to_owned(),
        Difference::Changed { aspects, .. } => format!("{aspects:?}"),
    }
}

#[test]
fn each_kind_of_change_is_told() {
    let rig = Rig::new();
    for name in ["same", "content", "mode", "owner", "xattr", "flags", "time", "gone", "kind", "twin"] {
        rig.file(name, name);
    }
    rig.link("link", "old");
    let still = "sif / mtime @1\nsif / mtime_extra 0\nsif lost+found mtime @1\nsif lost+found mtime_extra 0\n";
    let before = rig.image("before", &[], &format!("mknod device c 1 2\nsif device mtime @1\n{still}"));
    rig.file("content", "other");
    rig.file("new", "new");
    for name in ["gone", "link", "kind"] {
        std::fs::remove_file(rig.path("tree").join(name)).unwrap();
    }
    rig.link("link", "new");
    rig.link("kind", "elsewhere");
    let commands = "sif mode mode 0100600\nsif owner gid 5\nea_set xattr user.x y\nsif flags flags 0x80010\n\
         sif time mtime_extra 4\nmknod device c 1 3\nsif device mtime @1\nln same twin2\n";
    let after = rig.image("after", &[], &format!("{commands}{still}"));
    let differences = diff(&tree(&before).unwrap(), &tree(&after).unwrap());
    let told: Vec<_> = differences
        .changes
        .iter()
        .map(|change| format!("{} {}", String::from_utf8_lossy(change.path()), describe(&change.difference)))
        .collect();
    assert_eq!(
        told,
        [
            "/content [Content]",
            "/device [Device]",
            "/flags [Flags]",
            "/gone removed",
            "/kind [Kind]",
            "/link [Link]",
            "/mode [Mode]",
            "/new added",
            "/owner [Owner]",
            "/time [Time]",
            "/twin2 added",
            "/xattr [Xattrs]",
        ]
    );
    let times: Vec<_> = differences.changes.iter().filter(|change| change.is_time_only()).collect();
    assert_eq!(times.len(), 1);
    assert!(matches!(&times[0].difference, Difference::Changed { aspects, .. } if *aspects == [Aspect::Time]));
    let same = diff(&tree(&before).unwrap(), &tree(&before).unwrap());
    assert_eq!(same.changes, []);
}

/// A system with a deb, a wheel and an R package, each with one file changed, and two files that belong to nobody.
fn system(rig: &Rig, version: &str) {
    rig.link("bin", "usr/bin");
    rig.file("usr/bin/tool", version);
    rig.file("etc/tool.conf", format!("version = {version}\n"));
    rig.file("etc/secret", version);
    rig.file("etc/mine", format!("mine {version}\n"));
    rig.file("usr/share/doc/tool/README", version);
    rig.file("var/lib/dpkg/info/tool:amd64.list", "/.\n/bin\n/bin/tool\n/etc\n/etc/tool.conf\n/usr/share/doc/tool\n");
    rig.file("var/lib/dpkg/info/tool:amd64.md5sums", version);
    let conffiles = "Conffiles:\n /etc/tool.conf 0123\n";
    let status = format!("Package: tool\nArchitecture: amd64\nVersion: 1:{version}\n{conffiles}");
    rig.file("var/lib/dpkg/status", status);
    let packages = "opt/venv/lib/python3.13/site-packages";
    rig.file(&format!("{packages}/wheel/__init__.py"), version);
    rig.file(&format!("{packages}/wheel/__pycache__/__init__.cpython-313.pyc"), version);
    rig.file(&format!("{packages}/wheel/new_{version}/x.py"), version);
    rig.file("opt/venv/bin/wheel", version);
    let record = format!("wheel/__init__.py,sha256=x,1\n\"wheel/new_{version}/x.py\",,\n../../../bin/wheel,,\n");
    rig.file(&format!("{packages}/wheel-1.dist-info/RECORD"), record);
    rig.file(
        &format!("{packages}/wheel-1.dist-info/METADATA"),
        format!("Name: wheel\nVersion: {version}\n\nName: no\n"),
    );
    let library = "usr/local/lib/R/site-library/stats9";
    rig.file(&format!("{library}/DESCRIPTION"), format!("Package: stats9\nVersion: {version}\n"));
    rig.file(&format!("{library}/Meta/package.rds"), version);
    rig.file(&format!("{library}/libs/stats9.so"), version);
}

#[test]
fn changes_belong_to_packages() {
    let rig = Rig::new();
    system(&rig, "1");
    let before = rig.image("before", &[], "sif etc/secret mode 0100600\n");
    std::fs::remove_dir_all(rig.path("tree").join("opt/venv/lib/python3.13/site-packages/wheel/new_1")).unwrap();
    system(&rig, "2");
    let after = rig.image("after", &[], "sif etc/secret mode 0100600\n");
    let (old, new) = (Disk::open(&before).unwrap(), Disk::open(&after).unwrap());
    let (old, new) = (old.root().unwrap(), new.root().unwrap());
    let (old_tree, new_tree) = (read_tree(&old).unwrap(), read_tree(&new).unwrap());
    let mut differences = diff(&old_tree, &new_tree);
    differences.attribute(&Owners::read(&old, &old_tree).unwrap(), &Owners::read(&new, &new_tree).unwrap());
    let mut told = Vec::new();
    for change in differences.changes.iter().filter(|change| !change.is_time_only()) {
        let owner =
            change.owner.as_ref().map(|owner| format!("{:?} {} {}", owner.ecosystem, owner.name, owner.version));
        let texts = read_texts(change, (&old, &old_tree), (&new, &new_tree)).unwrap();
        told.push(format!(
            "{} {}: {}{}{}",
            String::from_utf8_lossy(change.path()),
            describe(&change.difference),
            owner.as_deref().unwrap_or("nobody"),
            if change.is_conffile { ", conffile" } else { "" },
            if texts.is_some() { ", text" } else { "" },
        ));
    }
    insta::assert_snapshot!(told.join("\n"));
    let change = differences.changes.iter().find(|change| change.path() == b"/etc/mine").unwrap();
    let texts = read_texts(change, (&old, &old_tree), (&new, &new_tree)).unwrap().unwrap();
    assert_eq!((texts.before.as_deref(), texts.after.as_deref()), (Some("mine 1\n"), Some("mine 2\n")));
    let numbers = differences.changes.iter().find(|change| change.path() == b"/usr/bin/tool").unwrap();
    assert_eq!(numbers.owner.as_ref().unwrap().ecosystem, Ecosystem::Deb);
}
