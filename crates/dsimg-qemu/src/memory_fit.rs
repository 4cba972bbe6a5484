//! What a memory state needs of the QEMU that loads it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use dsimg_machine::MemoryFit;
use dsimg_plan::Digest;
use dsimg_template::template::{Firmware, QemuTable};

use crate::accelerator::Accelerator;
use crate::arguments::{Hardware, Uefi, arguments};

/// The command line without what is different for each machine, QEMU's version, and the host's processor where the
/// guest sees it.
pub(crate) fn memory_fit(table: &QemuTable, alone: bool, accelerator: Accelerator, qemu: &str) -> MemoryFit {
    #[derive(Serialize)]
    struct MemoryKey<'a> {
        format: u32,
        qemu: &'a str,
        processor: &'a str,
        arguments: Vec<String>,
    }
    let nowhere = Path::new("/");
    let uefi = (table.firmware == Firmware::Uefi).then_some(Uefi { code: nowhere, variables: nowhere });
    let hardware = Hardware {
        accelerator,
        cpus: table.cpus,
        memory: table.memory.0,
        uefi,
        disk: nowhere,
        seed: Some(nowhere),
        credentials: &[],
        transfer: Some(nowhere),
        exits_with_parent: false,
        incoming: false,
        alone,
        traffic: Some(nowhere),
        extra: &table.qemu_args,
    };
    let processor = match accelerator {
        Accelerator::Kvm(_) => processor(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
        // The emulated one is the same on every host.
        Accelerator::Tcg => String::new(),
    };
    let key = MemoryKey { format: 1, qemu, processor: &processor, arguments: arguments(&hardware) };
    let facts = [
        ("qemu", qemu.to_owned()),
        ("accelerator", accelerator.as_str().to_owned()),
        ("cpu", accelerator.cpu_model().to_owned()),
        ("cpus", table.cpus.to_string()),
        ("memory", table.memory.to_string()),
        ("firmware", if uefi.is_some() { "uefi" } else { "bios" }.to_owned()),
    ];
    MemoryFit {
        key: Digest::of_value(&key),
        facts: facts.map(|(name, value)| (name.to_owned(), value)).into_iter().collect::<BTreeMap<_, _>>(),
    }
}

/// Model and features of the first processor of `/proc/cpuinfo`.
fn processor(cpuinfo: &str) -> String {
    let told = |line: &&str| ["model name", "flags", "microcode"].iter().any(|name| line.starts_with(name));
    cpuinfo.split("\n\n").next().unwrap_or_default().lines().filter(told).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accelerator::KvmCpu;
    use crate::testing::qemu_table;

    #[test]
    fn whatever_the_memory_depends_on_is_in_the_key() {
        let table = qemu_table();
        let fit = |table: &QemuTable, qemu: &str| memory_fit(table, false, Accelerator::Tcg, qemu).key;
        let plain = fit(&table, "10.0.2");
        assert_eq!(plain, fit(&table, "10.0.2"));
        assert_ne!(plain, fit(&table, "10.1.0"));
        assert_ne!(plain, memory_fit(&table, false, Accelerator::Kvm(KvmCpu::Host), "10.0.2").key);
        let mut changed = vec![];
        changed.push(QemuTable { cpus: table.cpus + 1, ..table.clone() });
        changed.push(QemuTable { memory: dsimg_template::units::ByteSize(8 << 30), ..table.clone() });
        changed.push(QemuTable { firmware: Firmware::Uefi, ..table.clone() });
        changed.push(QemuTable { qemu_args: vec!["-device".to_owned()], ..table.clone() });
        for table in changed {
            assert_ne!(plain, fit(&table, "10.0.2"), "{table:?}");
        }
    }

    #[test]
    fn a_disk_of_another_size_is_no_matter_of_the_memory() {
        let table = qemu_table();
        let other = QemuTable { disk: dsimg_template::units::ByteSize(100 << 30), ..table.clone() };
        // The disk's own key has it.
        assert_eq!(
            memory_fit(&table, false, Accelerator::Tcg, "1").key,
            memory_fit(&other, false, Accelerator::Tcg, "1").key
        );
    }

    #[test]
    fn the_processor_is_the_first_ones_model_and_features() {
        let text = "processor\t: 0\nmodel name\t: A\ncpu MHz\t: 1\nflags\t: x y\n\nprocessor\t: 1\nmodel name\t: A\n";
        assert_eq!(processor(text), "model name\t: A\nflags\t: x y");
    }
}
