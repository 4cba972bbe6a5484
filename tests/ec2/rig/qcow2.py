"""Writes qcow2 files that hold no data: their clusters point into a raw file, or all to one cluster.

The rig keeps the blocks of a snapshot in a sparse raw file, where block N is at N times its size, and which blocks were
ever written in a set. QEMU reads such a pair through the file written here: with clusters as large as EBS's blocks, a
written block points into the raw file (an "external data file") and another one falls through to the backing file.
"""

import os
import struct
from collections.abc import Iterable
from pathlib import Path

CLUSTER_BITS = 19
CLUSTER = 1 << CLUSTER_BITS
COPIED = 1 << 63
L2_ENTRIES = CLUSTER // 8
EXTERNAL_DATA_FILE = 1 << 2
EXTENSION_DATA_FILE = 0x44415441
EXTENSION_BACKING_FORMAT = 0xE2792ACA
REFCOUNT_ORDER = 5  # 32 bits: a cluster that stands for a whole disk is referred to often


def write_layer(path: Path, size: int, data: Path, written: Iterable[int], backing: Path | None) -> None:
    """A view of `data` where its written blocks are, and of `backing` elsewhere."""
    entries = {block: (block << CLUSTER_BITS) | COPIED for block in written}
    _write(path, size, entries, backing, data_file=data, shared=None)


def write_mask(path: Path, size: int, content: bytes, blocks: Iterable[int], backing: Path | None) -> None:
    """A view of `backing` in which each of `blocks` reads as `content`, which is stored once."""
    assert len(content) == CLUSTER
    _write(path, size, {block: None for block in blocks}, backing, data_file=None, shared=content)


def _write(path, size, entries, backing, data_file, shared):
    tables = max(1, -(-(-(-size // CLUSTER)) // L2_ENTRIES))
    # Header, table of refcounts, one block of refcounts, L1, then the L2 tables, then the shared cluster.
    first_table = 4
    shared_at = first_table + tables
    clusters = shared_at + (1 if shared else 0)
    per_table: dict[int, bytearray] = {}
    for block, entry in entries.items():
        table = per_table.setdefault(block // L2_ENTRIES, bytearray(CLUSTER))
        # Without COPIED: many entries refer to the shared cluster, so it must not be written in place.
        value = shared_at << CLUSTER_BITS if entry is None else entry
        struct.pack_into(">Q", table, block % L2_ENTRIES * 8, value)
    with open(path, "wb") as out:
        out.write(_header(size, tables, backing, data_file))
        out.seek(1 << CLUSTER_BITS)
        out.write(struct.pack(">Q", 2 << CLUSTER_BITS))
        out.seek(2 << CLUSTER_BITS)
        counts = [1] * clusters
        if shared:
            counts[shared_at] = max(1, len(entries))
        out.write(struct.pack(f">{clusters}I", *counts))
        out.seek(3 << CLUSTER_BITS)
        for table in range(tables):
            used = table in per_table
            out.write(struct.pack(">Q", ((first_table + table) << CLUSTER_BITS) | COPIED if used else 0))
        for table, content in per_table.items():
            out.seek((first_table + table) << CLUSTER_BITS)
            out.write(content)
        if shared:
            out.seek(shared_at << CLUSTER_BITS)
            out.write(shared)
        out.truncate(clusters << CLUSTER_BITS)


def _header(size, l1_size, backing, data_file):
    extensions = b""
    if data_file:
        extensions += _extension(EXTENSION_DATA_FILE, os.fsencode(data_file))
    if backing:
        extensions += _extension(EXTENSION_BACKING_FORMAT, b"qcow2")
    extensions += struct.pack(">II", 0, 0)
    name = os.fsencode(backing) if backing else b""
    length = 104
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        b"QFI\xfb",
        3,
        length + len(extensions) if backing else 0,
        len(name),
        CLUSTER_BITS,
        size,
        0,  # not encrypted
        l1_size,
        3 << CLUSTER_BITS,
        1 << CLUSTER_BITS,
        1,  # clusters of the refcount table
        0,  # no snapshots
        0,
        EXTERNAL_DATA_FILE if data_file else 0,
        0,
        0,
        REFCOUNT_ORDER,
        length,
    )
    return header + extensions + name


def _extension(kind, content):
    return struct.pack(">II", kind, len(content)) + content + b"\0" * (-len(content) % 8)
