"""The EBS direct API keeps the rules that AWS documents."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from .common import BLOCK, RigCase, aggregate, block

sys.path.insert(0, str(Path(__file__).parent.parent))
from rig.blocks import Content, Layer, garbage  # noqa: E402

ZEROS = bytes(BLOCK)


class EbsDirect(RigCase):
    def test_what_was_put_is_read_and_listed_in_order(self):
        snapshot = self.upload({7: block("b"), 2: block("a"), 5: ZEROS})
        self.assertEqual(list(self.read(snapshot).items()), [(2, block("a")), (5, ZEROS), (7, block("b"))])

    def test_block_size_and_states(self):
        started = self.ebs.start_snapshot(VolumeSize=1, Tags=[{"Key": "run", "Value": "1"}], Description="text")
        self.assertEqual((started["BlockSize"], started["Status"]), (BLOCK, "pending"))
        described = self.ec2.describe_snapshots(SnapshotIds=[started["SnapshotId"]])["Snapshots"][0]
        self.assertEqual((described["State"], described["Tags"]), ("pending", [{"Key": "run", "Value": "1"}]))
        self.assertEqual(self.alive()["uploads"], [started["SnapshotId"]])
        with self.refused("ValidationException"):
            self.ebs.list_snapshot_blocks(SnapshotId=started["SnapshotId"])
        self.put(started["SnapshotId"], 0, block("a"))
        self.ebs.complete_snapshot(SnapshotId=started["SnapshotId"], ChangedBlocksCount=1)
        self.assertNotIn("uploads", self.alive())
        with self.refused("ValidationException"):
            self.put(started["SnapshotId"], 1, block("a"))

    def test_a_snapshot_completes_after_a_moment(self):
        self.control("POST", "settings", {"snapshot": 0.5})
        snapshot = self.upload({0: block("a")})
        state = lambda: self.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"]  # noqa: E731
        self.assertEqual(state(), "pending")
        self.until(lambda: state() == "completed")
        self.control("POST", "settings", {"snapshot": 0})

    def test_wrong_blocks_are_refused(self):
        snapshot = self.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
        with self.refused("ValidationException") as caught:
            self.put(snapshot, 0, b"abc")
        self.assertEqual(caught.exception.response["Reason"], "INVALID_BLOCK")
        with self.refused("ValidationException"):
            self.put(snapshot, 2048, block("a"))
        wrong = {"Checksum": "AAAA", "ChecksumAlgorithm": "SHA256", "DataLength": BLOCK}
        with self.refused("ValidationException"):
            self.ebs.put_snapshot_block(SnapshotId=snapshot, BlockIndex=0, BlockData=block("a"), **wrong)
        with self.refused("ResourceNotFoundException", 404):
            self.put("snap-00000000000000000", 0, block("a"))

    def test_wrong_completions_are_refused(self):
        snapshot = self.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
        self.put(snapshot, 0, block("a"))
        with self.refused("ValidationException"):
            self.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=2)
        with self.refused("ValidationException"):
            self.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1, **aggregate({0: block("b")}))
        self.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1, **aggregate({0: block("a")}))

    def test_tokens_are_idempotent(self):
        first = self.ebs.start_snapshot(VolumeSize=1, ClientToken="t")
        self.assertEqual(self.ebs.start_snapshot(VolumeSize=1, ClientToken="t")["SnapshotId"], first["SnapshotId"])
        with self.refused("ConflictException", 409):
            self.ebs.start_snapshot(VolumeSize=2, ClientToken="t")

    def test_limits(self):
        for wrong in ({"VolumeSize": 65537}, {"VolumeSize": 1, "Timeout": 10, "KmsKeyArn": "arn:aws:kms:x"}):
            with self.refused("ValidationException"):
                self.ebs.start_snapshot(**wrong)
        for _ in range(100):
            self.ebs.start_snapshot(VolumeSize=1)
        with self.refused("ConcurrentLimitExceededException", 400):
            self.ebs.start_snapshot(VolumeSize=1)

    def test_a_child_has_its_parents_blocks(self):
        parent = self.upload({0: block("a"), 1: block("b")})
        with self.refused("ValidationException"):
            self.ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=parent, Encrypted=True)
        child = self.upload({1: block("c"), 2: block("d")}, ParentSnapshotId=parent)
        self.assertEqual(self.read(child), {0: block("a"), 1: block("c"), 2: block("d")})
        changed = self.ebs.list_changed_blocks(FirstSnapshotId=parent, SecondSnapshotId=child)["ChangedBlocks"]
        self.assertEqual([(each["BlockIndex"], "FirstBlockToken" in each) for each in changed], [(1, True), (2, False)])
        stranger = self.upload({0: block("a")})
        with self.refused("ValidationException"):
            self.ebs.list_changed_blocks(FirstSnapshotId=stranger, SecondSnapshotId=child)
        self.ec2.delete_snapshot(SnapshotId=parent)
        self.assertEqual(self.read(child)[0], block("a"))

    def test_lists_come_in_pages(self):
        snapshot = self.upload({index: ZEROS for index in range(250)})
        found, page = [], {}
        while True:
            answer = self.ebs.list_snapshot_blocks(SnapshotId=snapshot, MaxResults=100, **page)
            found += [each["BlockIndex"] for each in answer["Blocks"]]
            if "NextToken" not in answer:
                break
            page = {"NextToken": answer["NextToken"]}
        self.assertEqual(found, list(range(250)))
        with self.refused("ValidationException"):
            self.ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=1, BlockToken=answer["Blocks"][0]["BlockToken"])

    def test_an_upload_without_a_put_runs_out(self):
        snapshot = self.ebs.start_snapshot(VolumeSize=1, Timeout=10)["SnapshotId"]
        self.control("POST", "expire", {"SnapshotId": snapshot})
        with self.refused("ValidationException") as caught:
            self.put(snapshot, 0, block("a"))
        self.assertEqual(caught.exception.response["Reason"], "WRITE_REQUEST_TIMEOUT")
        self.assertEqual(self.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"], "error")
        self.ec2.delete_snapshot(SnapshotId=snapshot)

    def test_an_encrypted_copy_shows_garbage_where_nothing_was_put(self):
        parent = self.upload({0: block("a")}, Encrypted=True)
        child = self.upload({1: block("b")}, ParentSnapshotId=parent)
        self.assertTrue(self.ec2.describe_snapshots(SnapshotIds=[child])["Snapshots"][0]["Encrypted"])
        self.assertEqual(self.read(child), {0: block("a"), 1: block("b")})


class WhatQemuReads(unittest.TestCase):
    """The files that machines boot from say the same as the API."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def raw(self, view):
        out = self.folder / "out.raw"
        subprocess.run(["qemu-img", "convert", "-O", "raw", view, out], check=True)
        return out.read_bytes()

    def test_layers_and_garbage(self):
        size = 16 * BLOCK
        bottom = Layer(self.folder, size)
        bottom.put(0, block("a"))
        bottom.put(1, ZEROS)
        bottom.freeze()
        top = Layer(self.folder, size, bottom)
        top.put(3, os.urandom(BLOCK))
        top.put(0, ZEROS)
        top.freeze()
        for seed in (None, "snap-1"):
            content = Content(top, size, seed)
            expected = b"".join(content.read(index) for index in range(16))
            self.assertEqual(self.raw(content.view(self.folder / "mask.qcow2")), expected)
            never = garbage(seed) if seed else ZEROS
            self.assertEqual([content.read(index) == never for index in (1, 2, 15)], [seed is None, True, True])
            self.assertEqual(content.read(0), ZEROS)
        subprocess.run(["qemu-img", "check", "-q", self.folder / "mask.qcow2"], check=True)
