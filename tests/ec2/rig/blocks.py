"""What is in a snapshot: layers of blocks, shared by all snapshots that have them in common.

A layer holds the blocks that one upload or one snapshot of a volume brought, and lies on the layer it was made from, as
EBS's snapshots do. A layer's files live as long as something refers to it.
"""

import dataclasses
import functools
import hashlib
import itertools
import os
import threading
import weakref
from pathlib import Path

from . import qcow2

BLOCK = qcow2.CLUSTER
GIB = 1 << 30
ZEROS = bytes(BLOCK)

_numbers = itertools.count(1)


class Layer:
    """Blocks in a sparse raw file, over a parent. `frozen` layers no longer change and can be booted from."""

    def __init__(self, folder: Path, size: int, parent: "Layer | None" = None, data: Path | None = None):
        stem = folder / f"layer-{next(_numbers)}"
        self.parent = parent
        self.size = size
        self.data = data or stem.with_suffix(".raw")
        self.view = stem.with_suffix(".qcow2")
        self.written: set[int] = set()
        self._lock = threading.Lock()
        owned = [self.view] if data else [self.view, self.data]
        if not data:
            with open(self.data, "wb") as out:
                out.truncate(size)
        self._file = os.open(self.data, os.O_RDONLY if data else os.O_RDWR)
        # Not `__del__`: a finalizer is also run when the rig exits.
        self._finalizer = weakref.finalize(self, _remove, self._file, owned)

    def put(self, block: int, content: bytes) -> None:
        """Stores a whole block."""
        if content == ZEROS and not (block in self.written):
            pass  # the file has a hole there, which reads the same
        else:
            os.pwrite(self._file, content, block * BLOCK)
        with self._lock:
            self.written.add(block)

    def own(self, block: int) -> bytes:
        """A block of this very layer."""
        content = os.pread(self._file, BLOCK, block * BLOCK)
        return content + bytes(BLOCK - len(content))

    def freeze(self) -> None:
        """Makes the layer visible to QEMU."""
        backing = self.parent.view if self.parent else None
        qcow2.write_layer(self.view, self.size, self.data, self.written, backing)

    def chain(self):
        """This layer and all under it."""
        layer = self
        while layer:
            yield layer
            layer = layer.parent


def _remove(file, paths):
    os.close(file)
    for path in paths:
        path.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class Content:
    """A snapshot's content. `garbage` is the seed of what never-written blocks read as, or absent: zeros."""

    layer: Layer
    size: int
    garbage: str | None = None

    @property
    def blocks(self) -> int:
        return -(-self.size // BLOCK)

    def written(self) -> set[int]:
        """All blocks that were ever written, here or in a parent."""
        found: set[int] = set()
        for layer in self.layer.chain():
            found |= layer.written
        return found

    def read(self, block: int) -> bytes:
        for layer in self.layer.chain():
            if block in layer.written:
                return layer.own(block)
        return garbage(self.garbage) if self.garbage else ZEROS

    def layer_of(self, block: int) -> Layer | None:
        """Which layer a block comes from: the same layer means the same content."""
        return next((layer for layer in self.layer.chain() if block in layer.written), None)

    def encrypted(self, seed: str) -> "Content":
        """The same under a key. Blocks that nobody wrote are then "decrypted" from nothing."""
        return self if self.garbage else dataclasses.replace(self, garbage=seed)

    def view(self, mask: Path) -> Path:
        """A qcow2 to boot from; `mask` is a file that this may write and that must live as long as the boot."""
        if not self.garbage:
            return self.layer.view
        never = set(range(self.blocks)) - self.written()
        qcow2.write_mask(mask, self.size, garbage(self.garbage), never, self.layer.view)
        return mask


@functools.lru_cache(maxsize=16)
def garbage(seed: str) -> bytes:
    """What a never-put block of an encrypted snapshot reads as: the same for each such block of a snapshot."""
    return hashlib.shake_256(seed.encode()).digest(BLOCK)
