"""A machine's whole life, with a real one: built on, made into an AMI, and booted from that.

Needs DSIMG_EC2_BASE, a bootable disk image with cloud-init, and some minutes where there is no KVM.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from .common import BLOCK, RigCase

BASE = os.environ.get("DSIMG_EC2_BASE")
USER = os.environ.get("DSIMG_EC2_USER", "debian")
BOOT = 300


@unittest.skipUnless(BASE, "DSIMG_EC2_BASE names no disk image")
class Machine(RigCase):
    options = ()

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.key = Path(folder.name) / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        self.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=self.key.with_suffix(".pub").read_bytes())

        group = self.ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
        rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "192.0.2.1/32"}]}
        self.rules = {"GroupId": group, "IpPermissions": [rule]}

    def run_one(self, image, **parameters):
        given = {"ImageId": image, "InstanceType": "t3.small", "KeyName": "k", "MinCount": 1, "MaxCount": 1}
        given["SecurityGroupIds"] = [self.rules["GroupId"]]
        return self.ec2.run_instances(**(given | parameters))["Instances"][0]["InstanceId"]

    def told(self, instance):
        return self.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]

    def wait_for_state(self, instance, state):
        self.until(lambda: self.told(instance)["State"]["Name"] == state, 90)

    def ssh(self, instance, command):
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
        address = f"{USER}@{self.told(instance)['PublicIpAddress']}"
        return subprocess.run(["ssh", "-F", "none", "-i", self.key, *options, address, command], capture_output=True, text=True)

    def wait_for_ssh(self, instance):
        self.until(lambda: self.ssh(instance, "cloud-init status --wait >/dev/null; true").returncode == 0, BOOT)

    def in_guest(self, instance, command):
        done = self.ssh(instance, command)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def image_of(self, instance, name, **parameters):
        image = self.ec2.create_image(InstanceId=instance, Name=name, **parameters)["ImageId"]
        self.until(lambda: self.ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "available", 120)
        return image

    def test_an_ami_is_built_and_booted(self):
        base = self.base(path=BASE)
        data = "#cloud-config\nruncmd: ['echo from-user-data >/etc/from-user-data']\n"
        required = {"HttpTokens": "required"}
        first = self.run_one(base, UserData=data, MetadataOptions=required)
        self.assertEqual(self.told(first)["State"]["Name"], "pending")
        self.wait_for_state(first, "running")
        # The machine is there, but its group lets nobody in.
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection((self.told(first)["PublicIpAddress"], 22))
        self.ec2.authorize_security_group_ingress(**self.rules)
        begin = time.monotonic()
        self.wait_for_ssh(first)
        print(f"\nssh after {time.monotonic() - begin:.0f} s", file=sys.stderr)
        self.assertEqual(self.in_guest(first, "cat /etc/from-user-data"), "from-user-data")
        self.assertEqual(self.in_guest(first, "cloud-init query instance_id"), first)
        self.assertEqual(self.in_guest(first, "cloud-init query cloud_name"), "aws")
        self.in_guest(first, "echo built | sudo tee /etc/built; sudo sync")
        self.assertIn("cloud-init", self.ec2.get_console_output(InstanceId=first, Latest=True)["Output"])
        # Crash-consistent, from the running machine.
        running = self.image_of(first, "running", NoReboot=True)
        self.ec2.stop_instances(InstanceIds=[first])
        self.assertEqual(self.told(first)["State"]["Name"], "stopping")
        self.wait_for_state(first, "stopped")
        made = self.image_of(first, "made")
        self.ec2.terminate_instances(InstanceIds=[first])
        self.wait_for_state(first, "terminated")
        self.assertEqual(sorted(self.alive("key_pairs", "security_groups")), ["images", "snapshots"])

        second = self.run_one(made, InstanceInitiatedShutdownBehavior="terminate")
        mapping = [{"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True}}]
        third = self.run_one(running, BlockDeviceMappings=mapping)
        for each in (second, third):
            self.wait_for_ssh(each)
            self.assertEqual(self.in_guest(each, "cat /etc/built"), "built")
            self.assertEqual(self.in_guest(each, "cloud-init query instance_id"), each)
        self.ssh(second, "sudo poweroff")
        self.wait_for_state(second, "terminated")
        self.assertEqual(self.told(second)["StateReason"]["Code"], "Client.InstanceInitiatedShutdown")
        self.ec2.terminate_instances(InstanceIds=[third])
        self.wait_for_state(third, "terminated")

        snapshots = {each: self.ec2.describe_images(ImageIds=[each])["Images"][0] for each in (made, running)}
        ids = [each["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"] for each in snapshots.values()]
        self.assertEqual(self.alive("key_pairs", "security_groups"), {"images": [running, made], "snapshots": ids[::-1]})
        listed = self.ebs.list_snapshot_blocks(SnapshotId=ids[0])["Blocks"]
        self.assertEqual(len(self.get(ids[0], listed[0])), BLOCK)
        self.assertEqual(self.get(ids[0], listed[0])[510:512], b"\x55\xaa")
        for image in (made, running):
            self.ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
        self.assertEqual(self.alive("key_pairs", "security_groups"), {})
