use std::process::Command;

use dsimg_machine::{Builder, RemoteCommand};
use dsimg_plan::Digest;
use dsimg_plan::plan::PlannedBase;
use dsimg_template::template::{BuilderTable, Checksum, Image, ImageSource, Location, Network};
use dsimg_template::units::Timeout;

use super::*;
use crate::builder::QemuBuilder;
use crate::testing::{TestRun, qemu_table};

#[test]
fn paths_are_quoted_for_a_shell() {
    assert_eq!(quoted(Path::new("/work/a-b_1.key")), "/work/a-b_1.key");
    assert_eq!(quoted(Path::new("/it's here/key")), r"'/it'\''s here/key'");
}

fn plan(machine: QemuTable) -> Plan {
    Plan {
        format: 1,
        image: Image { name: "test".to_owned(), version: "1".to_owned(), summary: None },
        builder: "kvm".to_owned(),
        machine: BuilderTable::Qemu(machine),
        base: PlannedBase::Image(ImageSource {
            location: Location::Path(PathBuf::from("base.qcow2")),
            checksum: Checksum::Sha256(String::new()),
            format: None,
            user: None,
        }),
        user_data: None,
        cell: None,
        disk_key: Digest::of_bytes(b"disk"),
        disk_inputs: serde_json::Value::Null,
        network: Network::default(),
        publish: Vec::new(),
        stages: Vec::new(),
    }
}

/// A qcow2 that is `content` and then zeros up to 1 MiB.
fn base(run: &TestRun, content: &[u8]) -> BaseImage {
    let (raw, path) = (run.context.cache.join("base.raw"), run.context.cache.join("base.qcow2"));
    let mut bytes = content.to_vec();
    bytes.resize(1 << 20, 0);
    std::fs::write(&raw, bytes).unwrap();
    let convert = Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&path).status();
    assert!(convert.unwrap().success());
    let sha256 = Digest::of_bytes(&std::fs::read(&path).unwrap());
    BaseImage {
        path,
        id: None,
        sha256,
        description: "a test".to_owned(),
        virtual_size: 1 << 20,
        user: "debian".to_owned(),
    }
}

fn small() -> QemuTable {
    QemuTable { memory: ByteSize(64 << 20), disk: ByteSize(8 << 20), formats: vec![DiskFormat::Qcow2], ..qemu_table() }
}

fn work_files(run: &TestRun) -> Vec<std::ffi::OsString> {
    std::fs::read_dir(&run.context.work).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

#[tokio::test]
async fn a_machine_that_finds_nothing_to_boot_is_told_with_its_console() {
    let run = TestRun::new();
    let builder = QemuBuilder::new("");
    let machine = builder.boot(&base(&run, b""), &plan(small()), &run.context).await.unwrap();
    let Err(error) = machine.connect().await else { panic!("nobody can be there") };
    let MachineError::Machine { what, console, .. } = error else { panic!("{error:?}") };
    assert_eq!(what, "the machine did not come up: the firmware found nothing to boot on the disk");
    assert!(console.contains("No bootable device."), "{console}");
    machine.stop().await.unwrap();
    assert!(work_files(&run).is_empty());
    assert_eq!(run.context.ledger.open_entries().unwrap(), []);
}

#[tokio::test]
async fn a_boot_has_a_limit_and_watches_cancel() {
    let run = TestRun::new();
    // A guest that does nothing, for ever: `jmp .`
    let mut sector = vec![0; 512];
    sector[..2].copy_from_slice(&[0xeb, 0xfe]);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let mut plan = plan(small());
    let BuilderTable::Qemu(table) = &mut plan.machine else { unreachable!() };
    table.boot_timeout = Timeout { seconds: 1 };
    let mut machine = QemuBuilder::new("").boot(&base(&run, &sector), &plan, &run.context).await.unwrap();
    let Err(error) = machine.connect().await else { panic!("nobody can be there") };
    assert!(error.to_string().starts_with("nobody could log in within 4 s; last seen: "), "{error}");
    assert!(error.hint().unwrap().contains("boot_timeout"));
    run.context.cancel.cancel();
    assert!(matches!(machine.connect().await, Err(MachineError::Cancelled)));
    assert!(matches!(machine.wait_for_power_off().await, Err(MachineError::Cancelled)));
    machine.stop().await.unwrap();
}

#[tokio::test]
async fn the_ssh_command_leads_to_the_machine_and_its_key_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let run = TestRun::new();
    let machine = QemuBuilder::new("").boot(&base(&run, b""), &plan(small()), &run.context).await.unwrap();
    let command = machine.ssh_command().await.unwrap();
    let key = run.context.work.join("ssh-key");
    assert!(command.starts_with(&format!("ssh -i {} ", key.display())), "{command}");
    assert!(command.ends_with(" dsimg@127.0.0.1"), "{command}");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(dsimg_ssh::TemporaryKey::parse(&std::fs::read_to_string(&key).unwrap()).is_some());
    let known = std::fs::read_to_string(run.context.work.join("ssh-known-hosts")).unwrap();
    assert!(known.starts_with("[127.0.0.1]:") && known.contains(" ssh-ed25519 AAAA"), "{known}");
    machine.stop().await.unwrap();
}

#[tokio::test]
async fn a_base_larger_than_the_disk_is_refused() {
    let run = TestRun::new();
    let base = BaseImage { virtual_size: 30 << 30, ..base(&run, b"") };
    let error = QemuBuilder::new("").boot(&base, &plan(qemu_table()), &run.context).await.err().unwrap();
    assert_eq!(error.to_string(), "the base's disk (30GiB) is larger than the template's (6GiB)");
    assert!(error.hint().unwrap().contains("disk = \"30GiB\""));
    assert!(work_files(&run).is_empty());
}

#[tokio::test]
async fn uefi_gets_variables_of_its_own() {
    if find_uefi().is_err() {
        eprintln!("skipped: no UEFI firmware on this host");
        return;
    }
    let run = TestRun::new();
    let table = QemuTable { firmware: Firmware::Uefi, memory: ByteSize(256 << 20), ..small() };
    let machine = QemuBuilder::new("").boot(&base(&run, b""), &plan(table), &run.context).await.unwrap();
    let Err(error) = machine.connect().await else { panic!("nobody can be there") };
    assert!(error.to_string().contains("the firmware found nothing to boot"), "{error}");
    machine.stop().await.unwrap();
}

/// `DSIMG_TEST_BASE` is a qcow2 of a Linux with cloud-init that boots by itself, such as dsimg's own bases.
#[tokio::test]
#[ignore = "boots a whole Linux: set DSIMG_TEST_BASE to a qcow2"]
async fn a_linux_boots_reboots_powers_off_and_becomes_an_image() {
    let path = PathBuf::from(std::env::var_os("DSIMG_TEST_BASE").unwrap());
    let run = TestRun::new();
    let info = QemuImg::new("qemu-img").info(&path, Some("qcow2"), &run.context).await.unwrap();
    let base = BaseImage { path, virtual_size: info.virtual_size, ..base(&run, b"") };
    let plan = plan(qemu_table());
    let mut machine = QemuBuilder::new("").boot(&base, &plan, &run.context).await.unwrap();

    let session = connect(&*machine).await;
    let ask = async |session: &dyn Session, text: &str| {
        String::from_utf8(session.read(&RemoteCommand::bash(text)).await.unwrap()).unwrap()
    };
    assert_eq!(ask(&*session, "id -u; id -un $SUDO_UID").await, "0\ndsimg\n");
    let size: u64 = ask(&*session, "df --output=size -B1 / | tail -n 1").await.trim().parse().unwrap();
    assert!(size > qemu_table().disk.0 / 10 * 9, "the root did not grow: {size} bytes");
    let boot_id = ask(&*session, "cat /proc/sys/kernel/random/boot_id").await;
    let _cut_off = session.read(&RemoteCommand::bash("systemctl reboot; sleep 60")).await;
    session.close().await.unwrap();

    // On its way down the guest may still let us in.
    let session = loop {
        let session = connect(&*machine).await;
        let asked = session.read(&RemoteCommand::bash("cat /proc/sys/kernel/random/boot_id")).await;
        if asked.is_ok_and(|now| now != boot_id.as_bytes()) {
            break session;
        }
    };
    let _cut_off = session.read(&RemoteCommand::bash("fstrim /; systemctl poweroff; sleep 60")).await;
    session.close().await.unwrap();
    machine.wait_for_power_off().await.unwrap();

    let output = tempfile::tempdir().unwrap();
    let artifacts = machine.write_image("test", output.path()).await.unwrap().files;
    let formats: Vec<_> = artifacts.iter().map(|artifact| artifact.format.as_str()).collect();
    assert_eq!(formats, ["qcow2", "vmdk", "vhdx"]);
    assert!(artifacts.iter().all(|artifact| artifact.virtual_size == qemu_table().disk.0));
    machine.stop().await.unwrap();
    assert_eq!(run.context.ledger.open_entries().unwrap(), []);
    assert!(work_files(&run).is_empty());
}

async fn connect(machine: &dyn Machine) -> Box<dyn Session> {
    match machine.connect().await {
        Ok(session) => session,
        Err(error) => panic!("{error}\n{}", machine.console_tail()),
    }
}

/// A guest that writes the alphabet to the serial console, slowly, for ever.
const ALPHABET: [u8; 25] = [
    0xba,
    0xf8,
    0x03, // mov dx, 0x3f8
    0xb0,
    b'A', // mov al, 'A'
    0xee, // out dx, al
    0xfe,
    0xc0, // inc al
    0x3c,
    b'Z' + 1, // cmp al, 'Z' + 1
    0x75,
    0x02, // jne over the next
    0xb0,
    b'A', // mov al, 'A'
    0x66,
    0xb9,
    0x00,
    0x00,
    0x20,
    0x00, // mov ecx, 0x200000
    0x67,
    0xe2,
    0xfd, // loop here
    0xeb,
    0xec, // jmp to out
];

async fn until_console_has(machine: &dyn Machine, text: &str) -> String {
    for _ in 0..600 {
        let console = machine.console_tail();
        if console.contains(text) {
            return console;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{text} is not in the console: {}", machine.console_tail());
}

#[tokio::test]
async fn a_saved_machine_goes_on_where_it_was_as_often_as_wanted() {
    let run = TestRun::new();
    let builder = QemuBuilder::new("");
    let mut sector = ALPHABET.to_vec();
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    let (base, plan) = (base(&run, &sector), plan(small()));
    let machine = builder.boot(&base, &plan, &run.context).await.unwrap();
    until_console_has(machine.as_ref(), "ABCDEF").await;

    let saved = run.context.cache.join("saved");
    std::fs::create_dir(&saved).unwrap();
    machine.save(&saved, Path::new("../bases/x/base.qcow2"), true).await.unwrap();
    // It goes on itself, and can be saved again.
    let before = machine.console_tail().len();
    let again = run.context.cache.join("again");
    std::fs::create_dir(&again).unwrap();
    machine.save(&again, Path::new("../saved/disk.qcow2"), true).await.unwrap();
    until_console_has(machine.as_ref(), "XYZABC").await;
    assert!(machine.console_tail().len() > before);
    machine.stop().await.unwrap();

    let info = QemuImg::new("qemu-img").info(&saved.join("disk.qcow2"), Some("qcow2"), &run.context).await.unwrap();
    assert_eq!(info.backing_filename.as_deref(), Some("../bases/x/base.qcow2"));
    assert_eq!(info.virtual_size, 8 << 20);
    // As it will be found beside the base.
    let bases = run.context.cache.join("bases/x");
    std::fs::create_dir_all(&bases).unwrap();
    std::fs::copy(&base.path, bases.join("base.qcow2")).unwrap();
    let saved = SavedMachine::in_folder(&saved, true);
    let again = SavedMachine::in_folder(&again, true);
    let (one, two) =
        tokio::join!(builder.resume(&saved, &plan, &run.context), builder.resume(&again, &plan, &run.context));
    for machine in [one.unwrap(), two.unwrap()] {
        let console = until_console_has(machine.as_ref(), "XYZABC").await;
        assert!(!console.contains("SeaBIOS"), "it booted: {console}");
        machine.stop().await.unwrap();
    }
    let booted = builder.resume(&SavedMachine { memory: None, ..saved }, &plan, &run.context).await.unwrap();
    until_console_has(booted.as_ref(), "SeaBIOS").await;
    booted.stop().await.unwrap();
    assert_eq!(run.context.ledger.open_entries().unwrap(), []);
}

#[tokio::test]
async fn a_memory_that_is_damaged_is_an_error_and_nothing_is_left() {
    let run = TestRun::new();
    let builder = QemuBuilder::new("");
    let (base, plan) = (base(&run, b""), plan(small()));
    let machine = builder.boot(&base, &plan, &run.context).await.unwrap();
    machine.save(&run.context.cache, &base.path, true).await.unwrap();
    machine.stop().await.unwrap();
    let saved = SavedMachine::in_folder(&run.context.cache, true);
    std::fs::write(saved.memory.as_ref().unwrap(), b"nonsense").unwrap();
    let error = builder.resume(&saved, &plan, &run.context).await.err().unwrap();
    assert!(error.to_string().contains("cannot load the machine's memory"), "{error}");
    assert!(work_files(&run).is_empty());
    assert_eq!(run.context.ledger.open_entries().unwrap(), []);
}
