use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Command as BlockingCommand;
use std::time::Instant;

use super::*;
use crate::accelerator::Accelerator;
use crate::arguments::{Hardware, arguments};
use crate::testing::{QEMU, TestRun};

#[test]
fn the_forwarded_port_is_read_from_the_table() {
    let table = "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                 TCP[ESTABLISHED]   20        10.0.2.15    22       127.0.0.1 50000     0     0\r\n  \
                 TCP[HOST_FORWARD]  13       127.0.0.1 43215       10.0.2.15    22     0     0\r\n";
    assert_eq!(forwarded_port(table), Some(43215));
    assert_eq!(forwarded_port("Hub -1 (net):\r\n"), None);
}

#[test]
fn a_process_has_a_start_time_and_a_missing_one_has_none() {
    let own = i32::try_from(std::process::id()).unwrap();
    assert!(started(own).unwrap() > 0);
    assert_eq!(started(own), started(own));
    assert_eq!(started(i32::MAX), None);
}

/// A qcow2 whose first sector is `code`; without code there is nothing to boot.
fn disk(run: &TestRun, code: &[u8]) -> PathBuf {
    let raw = run.context.work.join("disk.raw");
    let mut bytes = vec![0; 1 << 20];
    if !code.is_empty() {
        bytes[..code.len()].copy_from_slice(code);
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    }
    std::fs::write(&raw, bytes).unwrap();
    let disk = run.context.work.join("disk.qcow2");
    let convert =
        BlockingCommand::new("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&disk).status();
    assert!(convert.unwrap().success());
    let resize = BlockingCommand::new("qemu-img").args(["resize", "-q", "-f", "qcow2"]).arg(&disk).arg("64M").status();
    assert!(resize.unwrap().success());
    disk
}

/// `jmp .`
const LOOP: [u8; 2] = [0xeb, 0xfe];

async fn start(run: &TestRun, program: &Path, disk: &Path, extra: &[&str]) -> Result<Vm, MachineError> {
    let extra: Vec<String> = extra.iter().map(|&argument| argument.to_owned()).collect();
    let hardware = Hardware {
        accelerator: Accelerator::Tcg,
        cpus: 1,
        memory: 64 << 20,
        uefi: None,
        disk,
        seed: None,
        credentials: &[],
        transfer: None,
        incoming: false,
        alone: false,
        traffic: None,
        exits_with_parent: false,
        extra: &extra,
    };
    Vm::start(program, &arguments(&hardware), &run.context.work.join("console.log"), &run.context).await
}

async fn within<T>(seconds: u64, what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), what).await.expect("it should have happened by now")
}

#[tokio::test]
async fn a_machine_starts_answers_and_stops() {
    let run = TestRun::new();
    let vm = start(&run, Path::new(QEMU), &disk(&run, &LOOP), &[]).await.unwrap();
    let port = vm.ssh_port().await.unwrap();
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok());
    assert_eq!(vm.trouble().await, None);
    let process = Resource::Process { pid: vm.pid(), started: started(vm.pid()).unwrap() };
    assert_eq!(run.context.ledger.open_entries().unwrap(), [process]);
    let pid = vm.pid();
    vm.stop().await.unwrap();
    assert_eq!(started(pid), None);
    assert_eq!(run.context.ledger.open_entries().unwrap(), []);
}

#[tokio::test]
async fn a_disk_with_nothing_to_boot_is_told_from_the_console() {
    let run = TestRun::new();
    let vm = start(&run, Path::new(QEMU), &disk(&run, &[]), &[]).await.unwrap();
    let trouble = within(60, vm.until_trouble()).await;
    assert_eq!(trouble, "the firmware found nothing to boot on the disk");
    assert!(vm.console().last_lines().contains("No bootable device."), "{}", vm.console().last_lines());
    vm.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_qemu_is_noticed_at_once() {
    let run = TestRun::new();
    let vm = start(&run, Path::new(QEMU), &disk(&run, &LOOP), &[]).await.unwrap();
    let killed = Instant::now();
    rustix::process::kill_process(Pid::from_raw(vm.pid()).unwrap(), Signal::KILL).unwrap();
    let trouble = within(5, vm.until_trouble()).await;
    assert!(trouble.contains("QEMU was killed (signal 9"), "{trouble}");
    assert!(killed.elapsed() < Duration::from_secs(1));
    vm.stop().await.unwrap();
    assert_eq!(run.context.ledger.open_entries().unwrap(), []);
}

#[tokio::test]
async fn what_qemu_does_not_accept_is_told_in_its_words() {
    let run = TestRun::new();
    let error = start(&run, Path::new(QEMU), &disk(&run, &LOOP), &["-device", "flux-capacitor"]).await.unwrap_err();
    let told = error.to_string();
    assert!(told.contains("QEMU did not start: it exited with 1") && told.contains("flux-capacitor"), "{told}");
    assert_eq!(run.context.ledger.open_entries().unwrap(), []);
}

#[tokio::test]
async fn a_qemu_that_hangs_is_killed() {
    let run = TestRun::new();
    let vm = start(&run, Path::new(QEMU), &disk(&run, &LOOP), &[]).await.unwrap();
    let pid = vm.pid();
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
    within(30, vm.stop()).await.unwrap();
    assert_eq!(started(pid), None);
}

#[tokio::test]
async fn hurry_leaves_out_the_politeness() {
    let run = TestRun::new();
    let vm = start(&run, Path::new(QEMU), &disk(&run, &LOOP), &[]).await.unwrap();
    rustix::process::kill_process(Pid::from_raw(vm.pid()).unwrap(), Signal::STOP).unwrap();
    run.context.hurry.cancel();
    let start = Instant::now();
    vm.stop().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_dropped_machine_is_killed() {
    let run = TestRun::new();
    let vm = start(&run, Path::new(QEMU), &disk(&run, &LOOP), &[]).await.unwrap();
    let pid = vm.pid();
    drop(vm);
    within(5, until_gone(pid)).await;
}

async fn until_gone(pid: i32) {
    while started(pid).is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Writes block after block by the BIOS, for ever:
///
/// ```text
/// start:  xor %ax, %ax; mov %ax, %ds
/// next:   mov $packet, %si; mov $0x4300, %ax; mov $0x80, %dl; int $0x13
///         addl $64, lba; jmp next
/// packet: .byte 16, 0; .word 64, 0x7c00, 0; lba: .quad 64
/// ```
const WRITER: [u8; 38] = [
    0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x16, 0x7c, 0xb8, 0x00, 0x43, 0xb2, 0x80, 0xcd, 0x13, 0x66, 0x83, 0x06, 0x1e, 0x7c,
    0x40, 0xeb, 0xee, 0x10, 0x00, 0x40, 0x00, 0x00, 0x7c, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];

#[tokio::test]
async fn a_full_host_disk_pauses_the_machine_and_is_told() {
    let run = TestRun::new();
    let small = run.context.work.join("small");
    std::fs::create_dir(&small).unwrap();
    let original = disk(&run, &WRITER);
    // In a mount namespace of its own, so that nothing stays mounted whatever happens.
    let program = run.script(&format!(
        "exec unshare --map-root-user --mount bash -c \
         'mount -t tmpfs -o size=2m tmpfs {0} && cp {1} {0} && exec {QEMU} \"$@\"' - \"$@\"",
        small.display(),
        original.display()
    ));
    let vm = match start(&run, &program, &small.join("disk.qcow2"), &[]).await {
        Ok(vm) => vm,
        Err(error) if error.to_string().contains("unshare") || error.to_string().contains("mount") => {
            eprintln!("skipped: this host lets nobody mount: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let trouble = within(60, vm.until_trouble()).await;
    assert_eq!(trouble, "the host's disk is full, so QEMU paused the machine");
    assert!(vm.condition().io_error.unwrap().no_space);
    vm.stop().await.unwrap();
}

/// Runs as a process of its own for the test below.
#[tokio::test]
#[ignore = "a helper of `the_machine_dies_with_its_builder`"]
async fn helper_that_holds_a_machine() {
    let run = TestRun::new();
    let vm = start(&run, Path::new(QEMU), &disk(&run, &LOOP), &[]).await.unwrap();
    println!("\nmachine {} in {}", vm.pid(), run.folder().display());
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn the_machine_dies_with_its_builder() {
    let mut holder = BlockingCommand::new(std::env::current_exe().unwrap())
        .args(["--exact", "vm::tests::helper_that_holds_a_machine", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find(|line| line.starts_with("machine ")).unwrap();
    let (pid, folder) = line.strip_prefix("machine ").unwrap().split_once(" in ").unwrap();
    let pid = pid.parse().unwrap();
    assert!(started(pid).is_some());
    holder.kill().unwrap();
    let killed = Instant::now();
    within(5, until_gone(pid)).await;
    let lived_on = killed.elapsed();
    holder.wait().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    assert!(lived_on < Duration::from_secs(1), "QEMU lived on for {lived_on:?}");
}
