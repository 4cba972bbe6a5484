"""Machines without an operating system: their processes, disks and states, and that none outlives the rig."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from .common import BLOCK, RIG, RigCase


class Processes(RigCase):
    options = ("--fast", "--accelerator", "tcg", "--memory", "64")

    def setUp(self):
        super().setUp()
        self.control("POST", "settings", {"powerdown_limit": 0.5})
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        disk = Path(folder.name) / "empty.raw"
        with open(disk, "wb") as out:
            out.write(b"x" * 1000)
            out.truncate(1 << 30)
        self.image = self.base(path=str(disk), boot_mode="legacy-bios")

    def run_one(self, **parameters):
        given = {"ImageId": self.image, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}
        return self.ec2.run_instances(**(given | parameters))["Instances"][0]["InstanceId"]

    def told(self, instance):
        return self.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]

    def wait_for(self, instance, state):
        self.until(lambda: self.told(instance)["State"]["Name"] == state)

    def machines(self):
        """Processes of instances' machines on this host."""
        found = []
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = line.read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0] == b"qemu-system-x86_64" and words[2].startswith(b"i-"):
                found.append((words[2].decode(), int(line.parent.name)))
        return dict(found)

    def test_states_follow_the_process(self):
        instance = self.run_one()
        self.wait_for(instance, "running")
        process = self.machines()[instance]
        self.ec2.stop_instances(InstanceIds=[instance])
        self.assertEqual(self.told(instance)["State"]["Name"], "stopping")
        self.wait_for(instance, "stopped")
        self.assertNotIn(instance, self.machines())
        self.assertNotIn("PublicIpAddress", self.told(instance))
        self.ec2.start_instances(InstanceIds=[instance])
        self.wait_for(instance, "running")
        self.assertNotEqual(self.machines()[instance], process)
        os.kill(self.machines()[instance], signal.SIGKILL)
        self.wait_for(instance, "stopped")
        self.ec2.terminate_instances(InstanceIds=[instance])
        self.wait_for(instance, "terminated")
        self.assertEqual(self.alive(), {})

    def test_an_image_of_a_running_instance_needs_a_reboot(self):
        instance = self.run_one()
        process = self.machines()[instance]
        image = self.ec2.create_image(InstanceId=instance, Name="made")["ImageId"]
        self.assertEqual(self.ec2.describe_images(ImageIds=[image])["Images"][0]["State"], "pending")
        self.until(lambda: self.ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "available")
        self.until(lambda: self.machines().get(instance, process) != process)
        self.assertEqual(self.told(instance)["State"]["Name"], "running")
        mapping = self.ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"][0]
        self.assertEqual(self.read(mapping["Ebs"]["SnapshotId"])[0][:1001], b"x" * 1000 + b"\0")
        # The volume and the layers under it stay as long as somebody uses them.
        self.ec2.terminate_instances(InstanceIds=[instance])
        self.wait_for(instance, "terminated")
        second = self.run_one(ImageId=image)
        self.ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
        self.wait_for(second, "running")

    def test_an_upload_is_booted(self):
        snapshot = self.upload({0: b"y" * BLOCK}, Encrypted=True)
        image = self.register("uploaded", snapshot)
        instance = self.run_one(ImageId=image)
        self.wait_for(instance, "running")
        volume = self.ec2.describe_volumes()["Volumes"][0]
        self.assertTrue(volume["Encrypted"])
        copy = self.ec2.create_snapshot(VolumeId=volume["VolumeId"])["SnapshotId"]
        self.until(lambda: self.ec2.describe_snapshots(SnapshotIds=[copy])["Snapshots"][0]["State"] == "completed")
        self.assertEqual(self.read(copy), {0: b"y" * BLOCK})

    def test_groups_open_the_port(self):
        group = self.ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
        instance = self.run_one(SecurityGroupIds=[group])
        self.wait_for(instance, "running")
        address = (self.told(instance)["PublicIpAddress"], 22)
        order = {"GroupId": group, "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIp": "192.0.2.1/32"}
        self.assertRaises(ConnectionRefusedError, socket.create_connection, address)
        self.ec2.authorize_security_group_ingress(**order)
        socket.create_connection(address).close()
        self.ec2.revoke_security_group_ingress(**order)
        self.assertRaises(ConnectionRefusedError, socket.create_connection, address)

    def test_nothing_outlives_the_rig(self):
        for end in ("kill", "parent", "stop"):
            with self.subTest(end):
                self.end_a_rig(end)

    def end_a_rig(self, end):
        with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as parent:
            command = [RIG, "start", f"--with-parent={parent.pid}", *self.options]
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            url = re.search(r"AWS_ENDPOINT_URL=(\S+)", printed)[1]
            port = url.rsplit(":", 1)[1]
            work = Path(os.environ.get("DSIMG_EC2_RIG", "/var/tmp/ec2-rig")) / f"run-{port}"
            rig = int((work / "pid").read_text())
            mine, type(self).url = type(self).url, url
            try:
                RigCase.setUp(self)
                with tempfile.NamedTemporaryFile(suffix=".raw") as disk:
                    disk.truncate(1 << 30)
                    self.image = self.base(path=disk.name, boot_mode="legacy-bios")
                    instance = self.run_one()
            finally:
                type(self).url = mine
            self.until(lambda: instance in self.machines())
            if end == "kill":
                os.kill(rig, signal.SIGKILL)
            elif end == "stop":
                subprocess.run([RIG, "stop", port], check=True)
            parent.stdin.close()
            self.until(lambda: instance not in self.machines(), 10)
            if end != "kill":
                self.until(lambda: not work.exists(), 10)
