"""Disks of instances: an overlay over a snapshot's content, and how a snapshot is taken of one."""

import json
import os
import subprocess
from pathlib import Path

from .blocks import BLOCK, GIB, Content, Layer


class Disk:
    """A volume's file. The content under it is referred to, so that a deleted snapshot stays while it is in use."""

    def __init__(self, folder: Path, name: str, gib: int, base: Content | None):
        self.size = gib * GIB
        self.base = base
        self.path = folder / f"{name}.qcow2"
        self._mask = folder / f"{name}-mask.qcow2"
        self._folder = folder
        command = ["qemu-img", "create", "-q", "-f", "qcow2"]
        if base:
            command += ["-b", str(base.view(self._mask)), "-F", "qcow2"]
        subprocess.run([*command, str(self.path), str(self.size)], check=True, capture_output=True)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._mask.unlink(missing_ok=True)

    def resize(self, gib: int) -> None:
        self.size = gib * GIB
        subprocess.run(["qemu-img", "resize", "-q", str(self.path), str(self.size)], check=True, capture_output=True)

    def snapshot(self) -> Content:
        """What is on the disk now: only what was written since is copied. No machine may write meanwhile."""
        below = self.base
        layer = Layer(self._folder, self.size, below.layer if below else None)
        source = os.open(self.path, os.O_RDONLY)
        try:
            for block, pieces in self._written_blocks().items():
                layer.put(block, _compose(block, pieces, source, below))
        finally:
            os.close(source)
        layer.freeze()
        return Content(layer, self.size, below.garbage if below else None)

    def _written_blocks(self):
        """Block number to the pieces written in it: (offset in the block, length, offset in the file or None: zeros)."""
        # -U: a paused machine still has the file open.
        command = ["qemu-img", "map", "-U", "--output=json", "-f", "qcow2", str(self.path)]
        entries = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        blocks: dict[int, list[tuple[int, int, int | None]]] = {}
        for entry in entries:
            if entry["depth"] != 0 or not entry["present"]:
                continue
            at, end = entry["start"], entry["start"] + entry["length"]
            while at < end:
                length = min(end, (at // BLOCK + 1) * BLOCK) - at
                place = entry["offset"] + at - entry["start"] if entry["data"] else None
                blocks.setdefault(at // BLOCK, []).append((at % BLOCK, length, place))
                at += length
        return blocks


def _compose(block, pieces, source, below):
    whole = bytearray(below.read(block) if below and block * BLOCK < below.size else BLOCK)
    for offset, length, place in pieces:
        content = bytes(length) if place is None else os.pread(source, length, place)
        whole[offset : offset + length] = content.ljust(length, b"\0")
    return bytes(whole)


def import_disk(source: Path, cache: Path, folder: Path) -> Content:
    """A disk from outside as content. The raw copy is kept for the next run, as unpacking takes seconds.

    It counts as written everywhere: most image files do not tell a zero that was written from one that was not.
    """
    status = source.stat()
    cache.mkdir(parents=True, exist_ok=True)
    raw = cache / f"{source.name}-{status.st_ino}-{status.st_size}-{status.st_mtime_ns}.raw"
    if not raw.exists():
        partial = raw.with_suffix(f".{os.getpid()}.partial")
        subprocess.run(["qemu-img", "convert", "-O", "raw", str(source), str(partial)], check=True, capture_output=True)
        os.truncate(partial, -(-partial.stat().st_size // GIB) * GIB)
        partial.rename(raw)
    os.utime(raw)
    size = raw.stat().st_size
    layer = Layer(folder, size, data=raw)
    layer.written = set(range(size // BLOCK))
    layer.freeze()
    return Content(layer, size)
