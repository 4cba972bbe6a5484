"""A rig for a class of tests, and clients that talk to it."""

import base64
import contextlib
import hashlib
import json
import os
import re
import subprocess
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

RIG = Path(__file__).parent.parent / "rig.sh"
BLOCK = 524288


class RigCase(unittest.TestCase):
    """Each class has a rig of its own, and each test a new account."""

    options: tuple[str, ...] = ("--no-machines", "--fast")

    @classmethod
    def setUpClass(cls):
        command = [RIG, "start", f"--with-parent={os.getpid()}", *cls.options]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        cls.url = re.search(r"AWS_ENDPOINT_URL=(\S+)", printed)[1]
        cls.addClassCleanup(subprocess.run, [RIG, "stop", cls.url.rsplit(":", 1)[1]], check=True)

    def setUp(self):
        self.control("POST", "reset")
        self.ec2 = self.client("ec2")
        self.ebs = self.client("ebs")

    def client(self, service, region="us-east-1", attempts=1):
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=region,
            aws_access_key_id="AKIARIGRIGRIGRIGRIG0",
            aws_secret_access_key="rig",
            config=Config(retries={"total_max_attempts": attempts, "mode": "standard"}, proxies={}),
        )

    def control(self, method, path, body=None):
        content = json.dumps(body or {}).encode()
        request = urllib.request.Request(f"{self.url}/_rig/{path}", content, method=method)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            self.fail(f"{method} {path}: {error.read().decode()}")

    def fault(self, action, kind, **order):
        return self.control("POST", "faults", {"action": action, "kind": kind, **order})

    def alive(self, *without):
        """What is alive, without empty kinds."""
        return {kind: each for kind, each in self.control("GET", "alive").items() if each and kind not in without}

    @contextlib.contextmanager
    def refused(self, code, status=None):
        with self.assertRaises(ClientError) as caught:
            yield caught
        self.assertEqual(caught.exception.response["Error"]["Code"], code)
        if status:
            self.assertEqual(caught.exception.response["ResponseMetadata"]["HTTPStatusCode"], status)

    def until(self, look, limit=30):
        """Waits until `look` gives something true, and returns it."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            found = look()
            if found:
                return found
            time.sleep(0.05)
        self.fail("waited in vain")

    def put(self, snapshot, index, content):
        checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
        return self.ebs.put_snapshot_block(
            SnapshotId=snapshot,
            BlockIndex=index,
            BlockData=content,
            DataLength=len(content),
            Checksum=checksum,
            ChecksumAlgorithm="SHA256",
        )

    def upload(self, blocks, **start):
        """A completed snapshot of these blocks."""
        snapshot = self.ebs.start_snapshot(**{"VolumeSize": 1, **start})["SnapshotId"]
        for index, content in blocks.items():
            self.put(snapshot, index, content)
        self.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=len(blocks), **aggregate(blocks))
        return snapshot

    def read(self, snapshot):
        """All listed blocks of a snapshot."""
        listed = self.ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]
        return {each["BlockIndex"]: self.get(snapshot, each) for each in listed}

    def get(self, snapshot, listed):
        answer = self.ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=listed["BlockIndex"], BlockToken=listed["BlockToken"])
        return answer["BlockData"].read()

    def register(self, name, snapshot, **parameters):
        given = {
            "Name": name,
            "Architecture": "x86_64",
            "VirtualizationType": "hvm",
            "EnaSupport": True,
            "RootDeviceName": "/dev/xvda",
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
        }
        return self.ec2.register_image(**(given | parameters))["ImageId"]

    def base(self, **order):
        return self.control("POST", "images", {"name": "base", **order})["ImageId"]


def aggregate(blocks):
    digests = b"".join(hashlib.sha256(blocks[index]).digest() for index in sorted(blocks))
    return {
        "Checksum": base64.b64encode(hashlib.sha256(digests).digest()).decode(),
        "ChecksumAlgorithm": "SHA256",
        "ChecksumAggregationMethod": "LINEAR",
    }


def block(letter):
    return letter.encode() * BLOCK
