"""A QEMU machine that looks like an EC2 instance to its guest."""

import contextlib
import hashlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from . import accelerator, processes
from .settings import Settings
from .volumes import Disk

FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
FIRMWARE_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
# QEMU's user network answers for addresses inside its own net only, so the guest's net is the one of the metadata
# service. The gateway 169.254.0.2 is the host.
GUEST_NET = "net=169.254.0.0/16,host=169.254.0.2,dhcpstart=169.254.0.15,dns=169.254.0.3"
QMP_LIMIT = 10
# Emulated, quick string operations are slow ones, and a guest that sees `svm` loads KVM.
PROCESSOR = {"tcg": "max,erms=off,fsrm=off,svm=off", "kvm": "host"}


class Machine:
    """One boot of an instance.

    `on_end` is called from a thread of its own when the guest powers itself off, or with what QEMU said if it failed.
    """

    def __init__(
        self,
        settings: Settings,
        instance: str,
        instance_type: str,
        address: str,
        disks: list[tuple[str, Disk]],
        uefi: bool,
        on_end: Callable[[str], None],
    ):
        self._settings = settings
        self._instance = instance
        self._instance_type = instance_type
        self._address = address
        self._disks = disks
        self._uefi = uefi
        self._on_end = on_end
        self._stem = settings.run / instance
        self._wanted_end = False
        self._port_open = False
        self._process: subprocess.Popen | None = None

    def start(self, port_open: bool) -> None:
        self._port_open = port_open
        log = open(f"{self._stem}.qemu", "ab")
        self._process = processes.spawn(self._command(), stdout=log, stderr=log)
        log.close()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        self._process.wait()
        if self._wanted_end:
            return
        said = Path(f"{self._stem}.qemu").read_text(errors="replace").strip() if self._process.returncode > 0 else ""
        self._on_end(said)

    def powerdown(self) -> None:
        """Asks the guest to power off, and pulls the plug when it does not: as EC2 does."""
        self._wanted_end = True
        try:
            self._qmp("system_powerdown")
            self._process.wait(self._settings.powerdown_limit)
        except (OSError, subprocess.TimeoutExpired):
            pass
        self.kill()

    def kill(self) -> None:
        self._wanted_end = True
        self._process.kill()
        self._process.wait()

    def set_port(self, wanted: bool) -> None:
        """Lets connections to the instance's address in, or refuses new ones."""
        if wanted == self._port_open:
            return
        self._port_open = wanted
        words = f"hostfwd_add network {self._forward()}-:22" if wanted else f"hostfwd_remove network {self._forward()}"
        with contextlib.suppress(OSError):  # it may be ending just now
            self._qmp("human-monitor-command", {"command-line": words})

    def _forward(self) -> str:
        return f"tcp:{self._address}:{self._settings.ssh_port}"

    def pause(self) -> None:
        """Halts the guest; QEMU then writes out what it holds of the disks' structure."""
        self._qmp("stop")

    def resume(self) -> None:
        self._qmp("cont")

    def _qmp(self, command: str, arguments: dict | None = None) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(QMP_LIMIT)
            self._connect(connection)
            stream = connection.makefile("rw")
            stream.readline()  # the greeting
            for each, given in (("qmp_capabilities", {}), (command, arguments or {})):
                stream.write(json.dumps({"execute": each, "arguments": given}) + "\n")
                stream.flush()
                while True:
                    answer = stream.readline()
                    if not answer:
                        raise OSError(f"QEMU ended before it answered `{each}`")
                    if "event" not in json.loads(answer):
                        break

    def _connect(self, connection: socket.socket) -> None:
        """QEMU makes the socket a moment after its start."""
        end = time.monotonic() + QMP_LIMIT
        while True:
            try:
                return connection.connect(f"{self._stem}.qmp")
            except OSError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise
            time.sleep(0.02)

    def _command(self) -> list[str]:
        settings = self._settings
        chosen = accelerator.choose(settings.accelerator)
        machine = "q35,graphics=off"
        command = ["qemu-system-x86_64", "-name", self._instance, "-nodefaults", "-no-user-config", "-display", "none"]
        if self._uefi:
            variables = Path(f"{self._stem}.vars")
            if not variables.exists():
                shutil.copyfile(FIRMWARE_VARIABLES, variables)
            machine += ",pflash0=firmware,pflash1=variables"
            command += _blockdev("firmware", "raw", FIRMWARE, read_only=True)
            command += _blockdev("variables", "raw", variables)
        command += ["-machine", machine, "-accel", chosen, "-cpu", PROCESSOR[chosen]]
        command += ["-m", f"{settings.memory_mib}M", "-smp", str(settings.cpus)]
        command += ["-device", "virtio-rng-pci"]
        command += ["-chardev", f"file,id=console,path={self._stem}.console,append=on", "-serial", "chardev:console"]
        command += ["-qmp", f"unix:{self._stem}.qmp,server=on,wait=off"]
        for number, (volume, disk) in enumerate(self._disks):
            # Worthless after a crash of the host, so nothing waits for the host's disk.
            command += _blockdev(f"disk{number}", "qcow2", disk.path, discard="unmap", cache={"no-flush": True})
            serial = volume.replace("-", "")[:20]
            command += ["-device", f"virtio-blk-pci,drive=disk{number},serial={serial},bootindex={number + 1}"]
        relay = f"{sys.executable} -S -E {Path(__file__).with_name('relay.py')} {settings.run}/metadata {self._instance}"
        network = f"user,id=network,{GUEST_NET}" + (f",hostfwd={self._forward()}-:22" if self._port_open else "")
        command += ["-netdev", f"{network},guestfwd=tcp:169.254.169.254:80-cmd:{relay}"]
        command += ["-device", f"virtio-net-pci,netdev=network,mac={mac(self._instance)}"]
        return command + self._smbios()

    def _smbios(self) -> list[str]:
        """What cloud-init's `ds-identify` looks at to know that it is on EC2."""
        digest = hashlib.md5(self._instance.encode()).hexdigest()
        uuid = f"ec2{digest[3:8]}-{digest[8:12]}-4{digest[13:16]}-8{digest[17:20]}-{digest[20:]}"
        tables = [
            "type=0,vendor=Amazon EC2,version=1.0,date=10/16/2017",
            f"type=1,manufacturer=Amazon EC2,product={self._instance_type},serial={uuid},uuid={uuid}",
            f"type=2,manufacturer=Amazon EC2,asset={self._instance}",
            "type=3,manufacturer=Amazon EC2,asset=Amazon EC2",
        ]
        if self._uefi:
            tables = tables[1:]  # the firmware brings its own table 0
        return [word for table in tables for word in ("-smbios", table)]


def mac(instance: str) -> str:
    """The instance's hardware address, the same at each boot."""
    digest = hashlib.md5(instance.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def _blockdev(name, driver, path, read_only=False, **options):
    file = {"driver": "file", "filename": str(path), "read-only": read_only}
    node = {"driver": driver, "node-name": name, "read-only": read_only, "file": file, **options}
    return ["-blockdev", json.dumps(node)]
