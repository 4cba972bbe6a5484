"""AMIs and snapshots: kept whole, refused where AWS refuses, removed with what belongs to them."""

import datetime

from .common import RigCase, block


class Images(RigCase):
    def setUp(self):
        super().setUp()
        self.snapshot = self.upload({0: block("a")})

    def test_all_parameters_are_kept(self):
        ebs = {"SnapshotId": self.snapshot, "VolumeSize": 3, "VolumeType": "gp3", "DeleteOnTermination": True}
        image = self.register(
            "whole",
            self.snapshot,
            Description="text",
            BootMode="uefi",
            TpmSupport="v2.0",
            ImdsSupport="v2.0",
            SriovNetSupport="simple",
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": ebs}],
            TagSpecifications=[{"ResourceType": "image", "Tags": [{"Key": "k", "Value": "v"}]}],
        )
        told = self.ec2.describe_images(ImageIds=[image])["Images"][0]
        expected = {
            "Name": "whole",
            "Architecture": "x86_64",
            "VirtualizationType": "hvm",
            "EnaSupport": True,
            "BootMode": "uefi",
            "TpmSupport": "v2.0",
            "ImdsSupport": "v2.0",
            "SriovNetSupport": "simple",
            "RootDeviceName": "/dev/xvda",
            "RootDeviceType": "ebs",
            "State": "available",
            "Description": "text",
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {**ebs, "Encrypted": False}}],
            "Tags": [{"Key": "k", "Value": "v"}],
        }
        self.assertEqual({name: told.get(name) for name in expected}, expected)
        for name, value in (("name", "wh*"), ("tag:k", "v"), ("block-device-mapping.snapshot-id", self.snapshot)):
            found = self.ec2.describe_images(Owners=["self"], Filters=[{"Name": name, "Values": [value]}])["Images"]
            self.assertEqual([each["ImageId"] for each in found], [image], name)

    def test_refusals(self):
        self.register("taken", self.snapshot)
        pending = self.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
        root = lambda **ebs: [{"DeviceName": "/dev/xvda", "Ebs": ebs}]  # noqa: E731
        cases = [
            ("InvalidAMIName.Duplicate", {"Name": "taken"}),
            ("InvalidAMIName.Malformed", {"Name": "with:colon"}),
            ("InvalidBlockDeviceMapping", {"RootDeviceName": "/dev/sda1"}),
            ("MissingParameter", {"BlockDeviceMappings": []}),
            ("InvalidSnapshot.NotFound", {"BlockDeviceMappings": root(SnapshotId="snap-00000000000000000")}),
            ("IncorrectState", {"BlockDeviceMappings": root(SnapshotId=pending)}),
            ("InvalidBlockDeviceMapping", {"BlockDeviceMappings": root(VolumeSize=1)}),
            ("InvalidParameterCombination", {"BlockDeviceMappings": root(SnapshotId=self.snapshot, Encrypted=True)}),
            ("InvalidParameterCombination", {"TpmSupport": "v2.0"}),
        ]
        for code, parameters in cases:
            with self.subTest(code, **parameters), self.refused(code):
                self.register(parameters.pop("Name", "new"), self.snapshot, **parameters)
        with self.refused("InvalidSnapshot.NotFound"):
            mapping = [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": self.snapshot}}]
            other = self.client("ec2", "eu-west-1")
            other.register_image(Name="other", RootDeviceName="/dev/xvda", BlockDeviceMappings=mapping)

    def test_forgotten_parameters_show_when_it_is_run(self):
        mapping = [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": self.snapshot}}]
        image = self.ec2.register_image(Name="bare", RootDeviceName="/dev/xvda", BlockDeviceMappings=mapping)["ImageId"]
        with self.refused("InvalidParameterValue"):
            self.ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1)

    def test_copies_to_another_region(self):
        tags = [{"Key": "k", "Value": "v"}]
        source = self.register("source", self.snapshot, TagSpecifications=[{"ResourceType": "image", "Tags": tags}])
        other = self.client("ec2", "eu-west-1")
        order = {"Name": "copy", "SourceImageId": source, "SourceRegion": "us-east-1", "Encrypted": True}
        copy = other.copy_image(**order, CopyImageTags=True, ClientToken="t")["ImageId"]
        self.assertEqual(other.copy_image(**order, CopyImageTags=True, ClientToken="t")["ImageId"], copy)
        told = other.describe_images(ImageIds=[copy])["Images"][0]
        self.assertEqual((told["State"], told["Tags"], told["Architecture"]), ("available", tags, "x86_64"))
        ebs = told["BlockDeviceMappings"][0]["Ebs"]
        self.assertTrue(ebs["Encrypted"])
        self.assertNotEqual(ebs["SnapshotId"], self.snapshot)
        with self.refused("InvalidAMIID.NotFound"):
            self.ec2.describe_images(ImageIds=[copy])

    def test_a_snapshot_in_use_stays(self):
        image = self.register("one", self.snapshot)
        with self.refused("InvalidSnapshot.InUse"):
            self.ec2.delete_snapshot(SnapshotId=self.snapshot)
        answer = self.ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
        self.assertEqual(answer["DeleteSnapshotResults"], [{"SnapshotId": self.snapshot, "ReturnCode": "success"}])
        self.assertEqual(self.alive(), {})
        with self.refused("InvalidAMIID.Unavailable"):
            self.ec2.describe_images(ImageIds=[image])

    def test_protection_and_deprecation(self):
        image = self.register("one", self.snapshot)
        self.ec2.enable_image_deregistration_protection(ImageId=image)
        with self.refused("OperationNotPermitted"):
            self.ec2.deregister_image(ImageId=image)
        self.ec2.disable_image_deregistration_protection(ImageId=image)
        when = datetime.datetime(2031, 1, 2, 3, 4, tzinfo=datetime.timezone.utc)
        self.ec2.enable_image_deprecation(ImageId=image, DeprecateAt=when)
        told = self.ec2.describe_images(ImageIds=[image])["Images"][0]
        self.assertEqual(told["DeprecationTime"], "2031-01-02T03:04:00.000Z")
        self.ec2.disable_image_deprecation(ImageId=image)
        with self.refused("InvalidParameterValue"):
            self.ec2.enable_image_deprecation(ImageId=image, DeprecateAt=when.replace(year=2001))
        self.ec2.deregister_image(ImageId=image)

    def test_sharing(self):
        image = self.register("one", self.snapshot)
        organisation = "arn:aws:organizations::123456789012:organization/o-abcdefghij"
        unit = "arn:aws:organizations::123456789012:ou/o-abcdefghij/ou-abcd-12345678"
        added = [{"UserId": "210987654321"}, {"OrganizationArn": organisation}, {"OrganizationalUnitArn": unit}]
        self.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": added})
        self.ec2.modify_image_attribute(ImageId=image, OperationType="add", UserGroups=["all"], Attribute="launchPermission")
        told = self.ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")["LaunchPermissions"]
        self.assertEqual(told, [*added, {"Group": "all"}])
        self.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Remove": told})
        self.ec2.modify_image_attribute(ImageId=image, ImdsSupport={"Value": "v2.0"})
        self.ec2.modify_image_attribute(ImageId=image, Description={"Value": "other"})
        imds = self.ec2.describe_image_attribute(ImageId=image, Attribute="imdsSupport")["ImdsSupport"]
        self.assertEqual(imds, {"Value": "v2.0"})
        self.assertEqual(self.ec2.describe_images(ImageIds=[image])["Images"][0]["Description"], "other")
        with self.refused("InvalidAMIAttributeItemValue"):
            self.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": "12"}]})
        order = {"Attribute": "createVolumePermission", "OperationType": "add", "UserIds": ["210987654321"]}
        self.ec2.modify_snapshot_attribute(SnapshotId=self.snapshot, **order)

    def test_what_only_the_own_key_opens_is_not_shared(self):
        image = self.register("secret", self.upload({0: block("a")}, Encrypted=True))
        with self.refused("InvalidParameter"):
            self.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": "210987654321"}]})

    def test_parameters_and_public_access(self):
        ssm = self.client("ssm")
        ssm.put_parameter(Name="/golden/latest", Value="ami-1", Type="String", DataType="aws:ec2:image")
        self.assertEqual(self.alive()["parameters"], ["/golden/latest"])
        self.ec2.enable_image_block_public_access(ImageBlockPublicAccessState="block-new-sharing")
        image = self.register("one", self.snapshot)
        with self.refused("OperationNotPermitted"):
            self.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"Group": "all"}]})
