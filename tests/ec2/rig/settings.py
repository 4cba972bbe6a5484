"""What can be set, and the folders where everything lies."""

import argparse
import dataclasses
import os
from pathlib import Path


@dataclasses.dataclass
class Settings:
    """All values that a user of the rig may choose; `POST /_rig/settings` changes those that are times."""

    port: int = 0
    work: Path = Path("/var/tmp/ec2-rig")
    # False: instances are states and disks are nothing, for sequences of calls by the thousand.
    machines: bool = True
    accelerator: str = "auto"
    memory_mib: int = 1024
    cpus: int = 1
    # Port 22 of the instance's own loopback address; another one for users who may not bind it.
    ssh_port: int = 22
    network: str = "127.42.0.0"
    # How long things take that AWS takes its time for, in seconds.
    pending: float = 1.0
    stopping: float = 0.5
    terminating: float = 0.5
    snapshot: float = 1.0
    image: float = 1.0
    # EC2 waits some minutes for a guest to power itself off; a test has no minutes.
    powerdown_limit: float = 40.0
    spot_price: float = 0.05

    TIMES = ("pending", "stopping", "terminating", "snapshot", "image", "powerdown_limit", "spot_price")

    @property
    def run(self) -> Path:
        """Files of this run of the rig; removed when it ends."""
        return self.work / f"run-{self.port}"

    @property
    def imports(self) -> Path:
        """Imported disks as raw files, kept from run to run."""
        return self.work / "imports"


def parse(arguments: list[str]) -> tuple[Settings, int | None]:
    """The settings, and the process whose end is the rig's end."""
    parser = argparse.ArgumentParser(prog="rig")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--work", type=Path, default=Settings.work)
    parser.add_argument("--no-machines", action="store_true", help="instances are only states")
    parser.add_argument("--fast", action="store_true", help="nothing takes time that needs none")
    parser.add_argument("--accelerator", choices=["auto", "kvm", "tcg"], default="auto")
    parser.add_argument("--memory", type=int, default=Settings.memory_mib, metavar="MIB")
    parser.add_argument("--cpus", type=int, default=Settings.cpus)
    parser.add_argument("--ssh-port", type=int, default=Settings.ssh_port)
    parser.add_argument("--network", default=Settings.network, help="a /16 of loopback addresses")
    parser.add_argument("--with-parent", type=int, metavar="PID", help="end when that process ends")
    chosen = parser.parse_args(arguments)
    settings = Settings(
        port=chosen.port,
        work=Path(os.path.abspath(chosen.work)),
        machines=not chosen.no_machines,
        accelerator=chosen.accelerator,
        memory_mib=chosen.memory,
        cpus=chosen.cpus,
        ssh_port=chosen.ssh_port,
        network=chosen.network,
    )
    if chosen.fast:
        settings.pending = settings.stopping = settings.terminating = settings.snapshot = settings.image = 0.0
    return settings, chosen.with_parent
