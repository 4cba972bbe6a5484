"""Does KVM work on this host? That `/dev/kvm` is there does not say so: on some hosts, machines inside machines most of
all, a guest gets through the firmware and stops where its kernel begins.

A boot sector is run that does what a kernel's first moments do and reports back; it is the one of
crates/dsimg-qemu/src/kvm-probe.S, assembled.
"""

import base64
import functools
import os
import subprocess
import tempfile

BOOT_SECTOR = base64.b64decode(
    "+uoGfAAAMcCO2I7AjtC88G9mvwAQAABmMcBmuQAUAABm86tmxwYAEAMgAABmxwYAIAMwAABmxwYAMIMAAAAPIOBmg8ggDyLgZrgA"
    "EAAADyLYZrmAAADADzJmDQABAAAPMA8gwGYNAQAAgA8iwGYPARb4fGbqe3wAAAgAZrgQAI7YjsCO0EjHxPBvAAC5QEIPAOL+uNd8"
    "AABmiQQlMFAAAGbHBCUyUAAACABmxwQlNFAAAACOwegQZokEJTZQAAAPARwl/nwAALsBAAAAzInYZrr0AO706/27KgAAAEjPZpAA"
    "AAAAAAAAAP//AAAAmq8A//8AAACSzwAXAOB8AAA/AABQ"
)
# `isa-debug-exit` ends QEMU with twice the value that was written, plus one: (0x2a << 1) | 1.
WORKS = 85
LIMIT = 15


@functools.cache
def choose(wanted: str) -> str:
    """`kvm` or `tcg`; `auto` is KVM where it works."""
    if wanted != "auto":
        return wanted
    return "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) and _works() else "tcg"


def _works() -> bool:
    with tempfile.NamedTemporaryFile(suffix=".raw") as disk:
        disk.write(BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa")
        disk.truncate(1 << 20)
        disk.flush()
        command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        command += ["-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "32M"]
        command += ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]
        command += ["-drive", f"file={disk.name},format=raw,if=virtio"]
        try:
            return subprocess.run(command, capture_output=True, timeout=LIMIT).returncode == WORKS
        except (subprocess.TimeoutExpired, OSError):
            return False
