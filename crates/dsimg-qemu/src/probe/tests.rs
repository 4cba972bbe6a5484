use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::testing::{self, TestRun};

#[test]
fn the_bytes_are_the_source_assembled() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kvm-probe.S");
    let folder = tempfile::tempdir().unwrap();
    let (object, binary) = (folder.path().join("probe.o"), folder.path().join("probe.bin"));
    let assembled = std::process::Command::new("as").arg("--64").arg(&source).arg("-o").arg(&object).status();
    let Ok(status) = assembled else {
        eprintln!("skipped: no assembler (`as`) on this host");
        return;
    };
    assert!(status.success());
    let copied = std::process::Command::new("objcopy")
        .args(["-O", "binary", "-j", ".text"])
        .arg(&object)
        .arg(&binary)
        .status()
        .unwrap();
    assert!(copied.success());
    let expected = std::fs::read(binary).unwrap();
    let disk = folder.path().join("disk.raw");
    write_disk(&disk).unwrap();
    assert_eq!(std::fs::read(disk).unwrap()[..512], expected[..]);
}

#[tokio::test]
async fn the_probe_works_where_the_accelerator_works() {
    let run = TestRun::new();
    let answer = probe(Path::new(testing::QEMU), Accelerator::Tcg, &run.context).await.unwrap();
    assert_eq!(answer, Answer::Works);
    assert_eq!(run.context.ledger.open_entries().unwrap(), []);
    assert_eq!(std::fs::read_dir(&run.context.cache).unwrap().count(), 0, "the probe leaves nothing");
}

#[tokio::test]
async fn a_qemu_that_aborts_is_an_answer_with_its_words() {
    let run = TestRun::new();
    let qemu = run.script("echo 'warning: x' >&2\necho 'qemu: error: failed to set MSR 0x10a' >&2\nkill -ABRT $$");
    let answer = probe(&qemu, Accelerator::Kvm(KvmCpu::Host), &run.context).await.unwrap();
    assert_eq!(answer, Answer::Broken("qemu: error: failed to set MSR 0x10a".to_owned()));
}

#[test]
fn the_line_with_the_cause_is_picked() {
    let words = "KVM internal error. Suberror: 1\nemulation failure\nEAX=00000000 EBX=00000000";
    assert_eq!(cause(words), "KVM internal error. Suberror: 1");
    assert_eq!(cause("more\nqemu: error: failed\nqemu: aborted"), "qemu: error: failed");
    assert_eq!(cause("Could not access it.\nmore"), "Could not access it");
}

#[test]
fn a_device_that_may_not_be_opened_has_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let missing = may_open(&folder.path().join("kvm")).unwrap_err();
    assert!(matches!(missing, Kvm::Broken { reason, hint: Some(_) } if reason.contains("there is no")));
    let device = folder.path().join("device");
    std::fs::write(&device, "").unwrap();
    assert_eq!(may_open(&device), Ok(()));
    std::fs::set_permissions(&device, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root may open anything.
    if !rustix::process::geteuid().is_root() {
        let forbidden = may_open(&device).unwrap_err();
        assert!(matches!(forbidden, Kvm::Broken { hint: Some(hint), .. } if hint.contains("usermod")));
    }
}

#[test]
fn answers_are_kept_by_host() {
    let folder = tempfile::tempdir().unwrap();
    let kept = Kept { path: folder.path().join("accelerator.json") };
    let host = |kernel: &str| Host { qemu: "10".into(), kernel: kernel.into(), machine_id: "m".into() };
    assert_eq!(kept.read(&host("6.12").key()), None);
    let cpu = KvmCpu::HostWithoutArchCapabilities;
    kept.write(host("6.12").key(), KeptAnswer { cpu: Some(cpu), reason: None });
    kept.write(host("6.13").key(), KeptAnswer { cpu: None, reason: Some("KVM internal error".into()) });
    assert_eq!(kept.read(&host("6.12").key()), Some(Kvm::Works(cpu)));
    let broken = Kvm::Broken { reason: "KVM internal error".into(), hint: None };
    assert_eq!(kept.read(&host("6.13").key()), Some(broken));
    std::fs::write(&kept.path, "{ torn").unwrap();
    assert_eq!(kept.read(&host("6.12").key()), None);
}

/// Nothing can be expected of an unknown host but an answer, soon, and that nothing is left behind.
#[tokio::test]
async fn this_hosts_kvm_gets_an_answer() {
    let run = TestRun::new();
    let host = Host { qemu: "any".into(), kernel: "any".into(), machine_id: String::new() };
    let start = std::time::Instant::now();
    let first = kvm(Path::new(testing::QEMU), &host, &run.context).await.unwrap();
    println!("{first:?} after {:?}", start.elapsed());
    assert!(start.elapsed() < LIMIT + EXIT_LIMIT * 2);
    assert_eq!(kvm(Path::new(testing::QEMU), &host, &run.context).await.unwrap(), first);
    assert_eq!(run.context.ledger.open_entries().unwrap(), []);
}
