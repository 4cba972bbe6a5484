"""Each kind of fault strikes where it was ordered, and the log and the list of what is alive say what happened."""

import threading
import time

from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, HTTPClientError

from .common import RigCase, block

LOST = (ConnectionClosedError, EndpointConnectionError, HTTPClientError)


class Faults(RigCase):
    def run_one(self, **parameters):
        given = {"ImageId": self.image, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}
        return self.ec2.run_instances(**(given | parameters))["Instances"][0]["InstanceId"]

    def setUp(self):
        super().setUp()
        self.image = self.base()

    def state(self, instance):
        return self.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]["State"]["Name"]

    def test_throttling(self):
        self.fault("DescribeImages", "throttle", nth=2, count=2)
        self.ec2.describe_images()
        for _ in range(2):
            with self.refused("RequestLimitExceeded", 503):
                self.ec2.describe_images()
        self.ec2.describe_images()
        self.fault("StartSnapshot", "throttle")
        with self.refused("RequestThrottledException", 400):
            self.ebs.start_snapshot(VolumeSize=1)
        calls = self.control("GET", "calls")
        self.assertEqual([each["outcome"] for each in calls], ["ok", *["RequestLimitExceeded"] * 2, "ok", "RequestThrottledException"])
        self.assertEqual(calls[1]["fault"], "throttle")
        self.assertEqual(calls[-1]["parameters"], ["VolumeSize"] if "ClientToken" not in calls[-1]["parameters"] else ["ClientToken", "VolumeSize"])

    def test_half_of_all_calls_are_throttled_and_the_sdk_goes_on(self):
        self.fault("*", "throttle", rate=0.5, count=None, seed=3)
        patient = self.client("ec2", attempts=20)
        patient.describe_images()
        self.assertTrue(self.control("GET", "faults")[0]["struck"] > 0 or patient.describe_images())

    def test_errors_before_and_after_the_effect(self):
        self.fault("ImportKeyPair", "error", code="Unavailable", status=503)
        key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1VzzJ7dOYbGkOpVNHLUWJQ1uXcLTq3c0LLRyMfXEsx"
        with self.refused("Unavailable", 503):
            self.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=key)
        self.assertEqual(self.alive(), {})
        self.fault("ImportKeyPair", "error-after")
        with self.refused("InternalError", 500):
            self.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=key)
        self.assertEqual(self.alive(), {"key_pairs": ["k"]})

    def test_lost_requests_and_replies(self):
        self.fault("CreateSecurityGroup", "lost-request")
        with self.assertRaises(LOST):
            self.ec2.create_security_group(GroupName="g", Description="d")
        self.assertEqual(self.alive(), {})
        self.fault("CreateSecurityGroup", "lost-reply")
        with self.assertRaises(LOST):
            self.ec2.create_security_group(GroupName="g", Description="d")
        self.assertEqual(len(self.alive()["security_groups"]), 1)
        self.assertEqual([each["outcome"] for each in self.control("GET", "calls")], ["no answer", "done, no answer"])

    def test_a_token_brings_back_what_a_lost_reply_made(self):
        self.fault("RunInstances", "lost-reply")
        with self.assertRaises(LOST):
            self.run_one(ClientToken="t")
        instance = self.run_one(ClientToken="t")
        self.assertEqual(self.alive()["instances"], [instance])
        with self.refused("IdempotentParameterMismatch"):
            self.run_one(ClientToken="t", InstanceType="t3.large")

    def test_not_found_right_after_create(self):
        self.fault("RunInstances", "not-found", describes=2)
        instance = self.run_one()
        with self.refused("InvalidInstanceID.NotFound"):
            self.state(instance)
        self.assertEqual(self.ec2.describe_instances()["Reservations"], [])
        self.assertEqual(self.state(instance), "running")
        self.fault("StartSnapshot", "not-found")
        snapshot = self.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
        with self.refused("ResourceNotFoundException", 404):
            self.put(snapshot, 0, block("a"))
        self.put(snapshot, 0, block("a"))

    def test_no_capacity_in_one_zone(self):
        self.fault("RunInstances", "capacity", zone="us-east-1a", count=None)
        subnets = {each["AvailabilityZone"]: each["SubnetId"] for each in self.ec2.describe_subnets()["Subnets"]}
        with self.refused("InsufficientInstanceCapacity", 500):
            self.run_one(SubnetId=subnets["us-east-1a"])
        self.assertEqual(self.alive(), {})
        self.run_one(SubnetId=subnets["us-east-1b"])

    def test_pending_that_lasts(self):
        self.fault("RunInstances", "pending", seconds=0.3)
        instance = self.run_one()
        self.assertEqual(self.state(instance), "pending")
        self.until(lambda: self.state(instance) == "running")
        self.fault("CreateImage", "pending")
        image = self.ec2.create_image(InstanceId=instance, Name="one")["ImageId"]
        time.sleep(0.2)
        self.assertEqual(self.ec2.describe_images(ImageIds=[image])["Images"][0]["State"], "pending")
        with self.refused("InvalidAMIID.Unavailable"):
            self.run_one(ImageId=image)

    def test_failures_that_show_later(self):
        self.fault("RunInstances", "failed", message="Client.VolumeLimitExceeded: Volume limit exceeded")
        lost = self.run_one()
        told = self.ec2.describe_instances(InstanceIds=[lost])["Reservations"][0]["Instances"][0]
        self.assertEqual((told["State"]["Name"], told["StateReason"]["Code"]), ("terminated", "Client.VolumeLimitExceeded"))
        self.fault("CreateImage", "failed")
        image = self.ec2.create_image(InstanceId=self.run_one(), Name="one")["ImageId"]
        told = self.ec2.describe_images(ImageIds=[image])["Images"][0]
        self.assertEqual((told["State"], told["StateReason"]["Code"]), ("failed", "Server.InternalError"))
        self.fault("CompleteSnapshot", "failed")
        snapshot = self.upload({0: block("a")})
        self.assertEqual(self.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"], "error")

    def test_spot(self):
        spot = {"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.001"}}
        with self.refused("SpotMaxPriceTooLow"):
            self.run_one(InstanceMarketOptions=spot)
        instance = self.run_one(InstanceMarketOptions={"MarketType": "spot"})
        told = self.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
        self.assertEqual(told["InstanceLifecycle"], "spot")
        self.assertEqual(self.alive()["spot_requests"], [told["SpotInstanceRequestId"]])
        with self.refused("UnsupportedOperation"):
            self.ec2.stop_instances(InstanceIds=[instance])
        self.control("POST", "interrupt", {"InstanceId": instance, "notice": 0.1})
        self.until(lambda: self.state(instance) == "terminated")
        self.assertEqual(self.alive(), {})

    def test_delays_and_silence(self):
        self.fault("DescribeImages", "delay", seconds=0.3)
        begin = time.monotonic()
        self.ec2.describe_images()
        self.assertGreater(time.monotonic() - begin, 0.3)
        self.fault("DescribeImages", "hang", seconds=1)
        waiting = threading.Thread(target=lambda: self.assertRaises(LOST, self.ec2.describe_images))
        waiting.start()
        self.client("ec2").describe_regions()
        waiting.join()

    def test_an_unknown_action_is_no_reason_to_try_again(self):
        with self.refused("InvalidAction", 400):
            self.ec2.get_console_screenshot(InstanceId="i-00000000000000000")


class Instances(RigCase):
    """Instances as states."""

    def test_a_life(self):
        image = self.base()
        group = self.ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
        tags = [{"ResourceType": each, "Tags": [{"Key": "k", "Value": "v"}]} for each in ("instance", "volume")]
        given = {"InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1, "SecurityGroupIds": [group]}
        mapping = [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 20, "VolumeType": "gp3", "Encrypted": True}}]
        run = self.ec2.run_instances(ImageId=image, TagSpecifications=tags, BlockDeviceMappings=mapping, **given)
        instance = run["Instances"][0]["InstanceId"]
        volume = self.ec2.describe_volumes()["Volumes"][0]
        self.assertEqual((volume["Size"], volume["Encrypted"], volume["Tags"]), (20, True, [{"Key": "k", "Value": "v"}]))
        with self.refused("DependencyViolation"):
            self.ec2.delete_security_group(GroupId=group)
        self.ec2.stop_instances(InstanceIds=[instance])
        told = self.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
        self.assertEqual(told["State"]["Name"], "stopped")
        self.assertTrue(told["PrivateIpAddress"].startswith("127.42."))
        specification = [{"ResourceType": each, "Tags": [{"Key": "k", "Value": each}]} for each in ("image", "snapshot")]
        made = self.ec2.create_image(InstanceId=instance, Name="made", TagSpecifications=specification)["ImageId"]
        with self.refused("InvalidAMIName.Duplicate"):
            self.ec2.create_image(InstanceId=instance, Name="made")
        told = self.ec2.describe_images(ImageIds=[made])["Images"][0]
        ebs = told["BlockDeviceMappings"][0]["Ebs"]
        self.assertEqual((ebs["VolumeSize"], ebs["Encrypted"], told["EnaSupport"]), (20, True, True))
        snapshot = self.ec2.describe_snapshots(SnapshotIds=[ebs["SnapshotId"]])["Snapshots"][0]
        self.assertEqual((snapshot["Tags"], snapshot["Progress"]), ([{"Key": "k", "Value": "snapshot"}], "100%"))
        self.ec2.start_instances(InstanceIds=[instance])
        self.ec2.terminate_instances(InstanceIds=[instance])
        self.ec2.delete_security_group(GroupId=group)
        self.assertEqual(self.alive(), {"images": [made], "snapshots": [ebs["SnapshotId"]]})

    def test_dry_run_and_refusals(self):
        image = self.base()
        given = {"ImageId": image, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}
        for code, order in [
            ("DryRunOperation", {"DryRun": True}),
            ("InvalidAMIID.NotFound", {"ImageId": "ami-00000000000000000"}),
            ("InvalidKeyPair.NotFound", {"KeyName": "none"}),
            ("InvalidBlockDeviceMapping", {"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 1}}]}),
            ("InvalidParameterValue", {"InstanceType": "t4g.small"}),
        ]:
            with self.subTest(code), self.refused(code):
                self.ec2.run_instances(**(given | order))
        self.assertEqual(self.alive(), {})
