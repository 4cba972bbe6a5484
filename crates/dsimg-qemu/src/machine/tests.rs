use std::time::Instant;

use dsimg_machine::{Builder, RemoteCommand};
use dsimg_plan::Digest;
use dsimg_plan::plan::PlannedBase;
use dsimg_template::template::{self, Checksum, Image, ImageSource, Location, Network};
use dsimg_template::units::Timeout;

use super::*;
use crate::builder::QemuBuilder;
use crate::testing::TestRun;

#[test]
fn paths_are_quoted_for_a_shell() {
    assert_eq!(quoted(Path::new("/work/a-b_1.key")), "/work/a-b_1.key");
    assert_eq!(quoted(Path::new("/it's here/key")), r"'/it'\''s here/key'");
}

fn table() -> QemuTable {
    QemuTable {
        cpus: 2,
        memory: ByteSize(2 << 30),
        disk: ByteSize(6 << 30),
        firmware: Firmware::Bios,
        formats: vec![DiskFormat::Qcow2, DiskFormat::Vmdk, DiskFormat::Vhdx],
        compression: Compression::Zstd,
        accelerator: template::Accelerator::Tcg,
        ssh_user: None,
        boot_timeout: Timeout::from_minutes(5),
        qemu_args: Vec::new(),
    }
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
        network: Network::default(),
        stages: Vec::new(),
    }
}

/// Boots the folder in `DSIMG_TEST_BASE`: `base.qcow2`, and `vmlinuz` and `initrd` where it has no boot loader.
#[tokio::test]
#[ignore = "boots a whole Linux: set DSIMG_TEST_BASE"]
async fn a_linux_boots_reboots_and_becomes_an_image() {
    let folder = PathBuf::from(std::env::var("DSIMG_TEST_BASE").unwrap());
    let run = TestRun::new();
    let mut table = table();
    if folder.join("vmlinuz").exists() {
        let file = |name: &str| folder.join(name).display().to_string();
        let line = "console=ttyS0 root=LABEL=root rw".to_owned();
        table.qemu_args =
            ["-kernel".to_owned(), file("vmlinuz"), "-initrd".to_owned(), file("initrd"), "-append".to_owned(), line]
                .to_vec();
    }
    let plan = plan(table);
    let builder = QemuBuilder::new(&folder);
    let facts = builder.check_ready(&plan, &run.context).await.unwrap();
    println!("{facts:?}");
    let base = BaseImage {
        path: folder.join("base.qcow2"),
        sha256: Digest::of_bytes(b""),
        description: String::new(),
        virtual_size: 4 << 30,
        user: "debian".to_owned(),
    };
    let start = Instant::now();
    let mut machine = builder.boot(&base, &plan, &run.context).await.unwrap();
    println!("started in {:?}", start.elapsed());
    let session = match machine.connect().await {
        Ok(session) => session,
        Err(error) => panic!("{error}\n{error:?}"),
    };
    println!("login after {:?}", start.elapsed());
    let read = async |session: &dyn Session, text: &str| {
        String::from_utf8(session.read(&RemoteCommand::bash(text)).await.unwrap()).unwrap()
    };
    println!("{}", read(&*session, "until [ -e /run/cloud-init/result.json ]; do sleep 0.2; done; id; df -h /; ip -br a; cat /run/cloud-init/result.json; systemd-analyze; systemd-analyze critical-chain ssh.service --no-pager").await);
    println!("cloud-init done after {:?}", start.elapsed());
    println!("{}", read(&*session, "systemd-analyze blame --no-pager | head -20; cloud-init analyze blame | head -40; hostname; cat /proc/cmdline; grep -m1 flags /proc/cpuinfo").await);
    println!("{}", machine.ssh_command().await.unwrap());
    session.close().await.unwrap();
    let start = Instant::now();
    let session = machine.connect().await.unwrap();
    let boot_id = read(&*session, "cat /proc/sys/kernel/random/boot_id").await;
    let _cut = session.read(&RemoteCommand::bash("systemctl reboot; sleep 60")).await;
    session.close().await.unwrap();
    let session = machine.connect().await.unwrap();
    println!("rebooted after {:?}", start.elapsed());
    assert_ne!(read(&*session, "cat /proc/sys/kernel/random/boot_id").await, boot_id);
    let _cut = session.read(&RemoteCommand::bash("fstrim -v / >/dev/ttyS0; systemctl poweroff")).await;
    session.close().await.unwrap();
    let start = Instant::now();
    machine.wait_for_power_off().await.unwrap();
    println!("off after {:?}", start.elapsed());
    let start = Instant::now();
    let output = tempfile::tempdir().unwrap();
    for artifact in machine.write_image("test", output.path()).await.unwrap() {
        println!("{artifact:?}");
    }
    println!("written after {:?}", start.elapsed());
    println!("{}", machine.console_tail());
    machine.stop().await.unwrap();
    assert_eq!(run.context.ledger.open_entries().unwrap(), []);
    assert_eq!(
        std::fs::read_dir(&run.context.work).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>().len(),
        2
    );
}
