"""Starts the rig: `python -m rig --port N`. `rig.sh` does it with everything around it."""

import fcntl
import os
import select
import shutil
import signal
import sys
import threading
import time

# Before moto is imported. What it is told here, the rig would have to check itself otherwise.
os.environ.update(MOTO_EC2_LOAD_DEFAULT_AMIS="false", MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION="true")

from moto.ec2.models import ec2_backends  # noqa: E402
from moto.moto_api._internal.models import moto_api_backend  # noqa: E402

from . import accelerator, firewall, image_attributes, images, instances, launch, snapshots  # noqa: E402
from .metadata import MetadataServer  # noqa: E402
from .server import Server, serve  # noqa: E402
from .settings import Settings, parse  # noqa: E402
from .state import ACCOUNT, begin, rig  # noqa: E402

# Imported disks that nobody asked for in this time are removed.
UNUSED = 7 * 24 * 3600


def main() -> None:
    settings, parent = parse(sys.argv[1:])
    make_run(settings)
    for part in (snapshots, images, image_attributes, instances, launch, firewall):
        part.install()
    begin(settings)
    if settings.machines:
        accelerator.choose(settings.accelerator)
        MetadataServer(settings.run / "metadata", find_instance)
    listener = serve(Server(reset), settings.port)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: threading.Thread(target=listener.shutdown).start())
    if parent:
        threading.Thread(target=end_with, args=(parent, listener), daemon=True).start()
    try:
        listener.serve_forever()
    finally:
        end_machines()
        shutil.rmtree(settings.run, ignore_errors=True)
        # Threads may wait for machines that are gone; nothing is left to do for them.
        os._exit(0)


def find_instance(identifier: str):
    """An instance of any region, for the metadata service."""
    for backend in list(ec2_backends[ACCOUNT].values()):
        for each in backend.all_instances():
            if each.id == identifier:
                return each
    return None


def end_machines() -> None:
    for backend in list(ec2_backends[ACCOUNT].values()):
        for each in backend.all_instances():
            if each.machine:
                each.machine.kill()


def reset() -> None:
    """As if the rig had been started anew, but for times that were set."""
    settings = rig().settings
    with rig().lock:
        end_machines()
        moto_api_backend.reset()
        begin(settings)


def make_run(settings: Settings) -> None:
    """The folder of this run. What a rig left that was killed is removed."""
    settings.work.mkdir(parents=True, exist_ok=True)
    with open(settings.work / "runs.lock", "w") as lock:
        # Another rig that starts now must not see a folder without a process in it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_dead_runs(settings)
        settings.run.mkdir()
        (settings.run / "pid").write_text(str(os.getpid()))


def remove_dead_runs(settings: Settings) -> None:
    for folder in settings.work.glob("run-*"):
        try:
            os.kill(int((folder / "pid").read_text()), 0)
        except (OSError, ValueError):
            shutil.rmtree(folder, ignore_errors=True)
    for disk in settings.imports.glob("*"):
        if time.time() - disk.stat().st_mtime > UNUSED:
            disk.unlink(missing_ok=True)
    for log in settings.work.glob("rig-*.log"):
        port = log.stem.removeprefix("rig-")
        # A young one may be of a rig that is starting.
        old = time.time() - log.stat().st_mtime > 600
        if old and port != str(settings.port) and not (settings.work / f"run-{port}").exists():
            log.unlink(missing_ok=True)


def end_with(parent: int, listener) -> None:
    try:
        watched = os.pidfd_open(parent)
    except ProcessLookupError:
        listener.shutdown()
        return
    select.select([watched], [], [])
    listener.shutdown()


main()
