"""AMIs: registered with all their parameters, refused where AWS refuses, and made of real snapshots."""

import re

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.responses import EC2Response
from moto.ec2.utils import random_ami_id

from .image_rules import check_mappings, check_name, check_parameters
from .snapshots import copy_of, snapshot_volume
from .state import Phase, graft, rig

# What RegisterImage takes as it is and DescribeImages gives back.
KEPT = ("EnaSupport", "BootMode", "TpmSupport", "ImdsSupport", "SriovNetSupport", "KernelId", "RamdiskId", "UefiData")


class Image(TaggedEC2Resource):
    """An AMI. `snapshots` are those of its devices, which decide when it is available."""

    def __init__(self, backend, name, phase, mappings, snapshots, parameters, owner=None):
        self.ec2_backend = backend
        self.id = random_ami_id()
        self.name = name
        self.phase = phase
        self.mappings = mappings
        self.snapshots = snapshots
        self.parameters = parameters
        self.owner_id = owner or backend.account_id
        self.owner_alias = None
        self.creation_date = utcnow()
        self.disabled = False
        self.launch_permissions: list[dict[str, str]] = []
        self.product_codes: set[str] = set()
        self.deprecation_time: str | None = None
        self.deregistration_protection = "disabled"
        self.client_token: str | None = None
        # What moto's model of an instance asks its image for.
        self.architecture = parameters["Architecture"]
        self.virtualization_type = parameters["VirtualizationType"]
        self.root_device_name = parameters["RootDeviceName"]
        self.platform = None
        self.kernel_id = parameters.get("KernelId")

    @property
    def state(self) -> str:
        if self.disabled:
            return "disabled"
        if any(snapshot.status == "error" for snapshot in self.snapshots) or self.phase.failure:
            return "failed"
        if self.phase.pending or any(snapshot.status == "pending" for snapshot in self.snapshots):
            return "pending"
        return "available"

    @property
    def snapshot_ids(self) -> list[str]:
        return [mapping["Ebs"]["SnapshotId"] for mapping in self.mappings if "SnapshotId" in mapping.get("Ebs", {})]

    @property
    def is_public(self) -> bool:
        return {"Group": "all"} in self.launch_permissions

    def describe(self) -> dict:
        state = self.state
        failures = [self.phase.failure, *(snapshot.state_message for snapshot in self.snapshots)]
        failure = next((each for each in failures if each), None) if state == "failed" else None
        return {
            **self.parameters,
            "ImageId": self.id,
            "Name": self.name,
            "State": state,
            "StateReason": {"Code": failure.split(":")[0], "Message": failure} if failure else None,
            "OwnerId": self.owner_id,
            "ImageOwnerAlias": self.owner_alias,
            "ImageLocation": f"{self.owner_id}/{self.name}",
            "ImageType": "machine",
            "Public": self.is_public,
            "CreationDate": self.creation_date,
            "RootDeviceType": "ebs",
            "Hypervisor": "xen",
            "PlatformDetails": "Linux/UNIX",
            "UsageOperation": "RunInstances",
            "BlockDeviceMappings": self.mappings,
            "DeprecationTime": self.deprecation_time,
            "DeregistrationProtection": self.deregistration_protection,
            "Tags": self.tag_set,
        }

    def get_filter_value(self, filter_name, method_name=None):
        told = self.describe()
        # As text, because it may be asked for with a pattern.
        told["CreationDate"] = self.creation_date.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        if filter_name.startswith("block-device-mapping."):
            member = "".join(part.capitalize() for part in filter_name.split(".")[1].split("-"))
            values = [mapping.get("Ebs", {}).get(member, mapping.get(member)) for mapping in self.mappings]
            return [str(each).lower() if isinstance(each, bool) else str(each) for each in values if each is not None]
        special = {"is-public": "Public", "owner-alias": "ImageOwnerAlias", "source-image-id": "SourceImageId"}
        member = special.get(filter_name) or "".join(part.capitalize() for part in filter_name.split("-"))
        if member in told:
            return told[member] if told[member] is not None else ""
        if filter_name.startswith("tag"):
            return super().get_filter_value(filter_name, method_name)
        raise EC2ClientError("InvalidParameterValue", f"The filter '{filter_name}' is invalid")


def find_image(backend, image_id: str) -> Image:
    """An AMI of this region."""
    if not re.fullmatch(r"ami-[0-9a-f]{8,17}", image_id or ""):
        raise EC2ClientError("InvalidAMIID.Malformed", f'Invalid id: "{image_id}" (expecting "ami-...")')
    if image_id in backend.deleted_amis:
        raise EC2ClientError("InvalidAMIID.Unavailable", f"The image ID '{image_id}' is no longer available")
    if image_id not in backend.amis:
        raise EC2ClientError("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
    return backend.amis[image_id]


def own_image(backend, image_id: str) -> Image:
    image = find_image(backend, image_id)
    if image.owner_id != backend.account_id:
        raise EC2ClientError("AuthFailure", f"Not authorized for image:{image_id}")
    return image


def tags_of(response, *kinds: str) -> dict[str, dict[str, str]]:
    """The tags for each kind of resource; other kinds are refused."""
    tags = response._parse_tag_specification()
    for kind in tags:
        if kind not in kinds:
            text = f"'{kind}' is not a valid taggable resource type for this operation."
            raise EC2ClientError("InvalidParameterValue", text)
    return tags


def add(backend, image: Image, tags: dict[str, str]) -> Image:
    backend.amis[image.id] = image
    image.add_tags(tags)
    return image


class ResponseCalls:
    def register_image(self):
        self.error_on_dryrun()
        backend = self.ec2_backend
        name = self._get_param("Name")
        check_name(backend, name)
        parameters = {member: self._get_param(member) for member in KEPT if self._get_param(member) is not None}
        parameters["Description"] = self._get_param("Description", "")
        # Defaults of 2006, which is why they must be given.
        parameters["Architecture"] = self._get_param("Architecture", "i386")
        parameters["VirtualizationType"] = self._get_param("VirtualizationType", "paravirtual")
        parameters["RootDeviceName"] = self._get_param("RootDeviceName")
        check_parameters(parameters)
        mappings, snapshots = check_mappings(backend, self._get_param("BlockDeviceMappings", []), parameters["RootDeviceName"])
        tags = tags_of(self, "image").get("image", {})
        image = Image(backend, name, Phase(rig().settings.image), mappings, snapshots, parameters)
        return ActionResult({"ImageId": add(backend, image, tags).id})

    def create_image(self):
        self.error_on_dryrun()
        backend = self.ec2_backend
        name = self._get_param("Name")
        check_name(backend, name)
        instance = backend.get_instance(self._get_param("InstanceId"))
        if instance.state not in ("running", "stopped", "stopping"):
            raise EC2ClientError("IncorrectInstanceState", f"The instance {instance.id} is {instance.state}")
        if instance.state == "stopping":
            raise EC2ClientError("IncorrectState", f"Instance is not in state 'running' or 'stopped': {instance.id}")
        tags = tags_of(self, "image", "snapshot")
        overrides = {each["DeviceName"]: each for each in self._get_param("BlockDeviceMappings", [])}
        phase = Phase(rig().settings.image)
        reboot = instance.state == "running" and not self._get_param("NoReboot", False)
        mappings, snapshots = [], []
        contents = instance.capture(reboot)
        for device, block in instance.get_block_device_mapping:
            override = overrides.pop(device, {})
            if "NoDevice" in override:
                continue
            volume = backend.get_volume(block.volume_id)
            text = f"Created by CreateImage({instance.id}) for {name}"
            content = contents.get(volume.id)
            own = Phase(rig().settings.snapshot, content)
            snapshot = snapshot_volume(backend, volume, text, own, content, tags.get("snapshot"))
            snapshots.append(snapshot)
            mappings.append(_mapping(device, snapshot, volume, block.delete_on_termination, override.get("Ebs", {})))
        for device, override in overrides.items():
            if "NoDevice" not in override:
                mappings.append({"DeviceName": device, "Ebs": override.get("Ebs", {})})
        source = backend.amis.get(instance.image_id)
        parameters = {**source.parameters} if source else {}
        parameters |= {
            "Description": self._get_param("Description", ""),
            "Architecture": instance.architecture,
            "VirtualizationType": instance.virtualization_type,
            "RootDeviceName": instance.root_device_name,
            "SourceInstanceId": instance.id,
            "SourceImageId": instance.image_id,
        }
        image = Image(backend, name, phase, mappings, snapshots, parameters)
        return ActionResult({"ImageId": add(backend, image, tags.get("image", {})).id})

    def copy_image(self):
        self.error_on_dryrun()
        backend = self.ec2_backend
        token = self._get_param("ClientToken")
        for known in backend.amis.values():
            if token and known.client_token == token:
                return ActionResult({"ImageId": known.id})
        name = self._get_param("Name")
        check_name(backend, name)
        source = find_image(ec2_backends[self.current_account][self._get_param("SourceRegion")], self._get_param("SourceImageId"))
        if source.state != "available":
            raise EC2ClientError("InvalidAMIID.Unavailable", f"The image ID '{source.id}' is {source.state}")
        tags = tags_of(self, "image", "snapshot")
        encrypted, key = self._get_param("Encrypted", False), self._get_param("KmsKeyId")
        if key and not encrypted:
            raise EC2ClientError("InvalidParameterDependency", "KmsKeyId needs Encrypted")
        phase = Phase(rig().settings.image)
        mappings, snapshots = [], []
        for mapping in source.mappings:
            ebs = dict(mapping.get("Ebs", {}))
            if "SnapshotId" in ebs:
                original = next(each for each in source.snapshots if each.id == ebs["SnapshotId"])
                text = f"Copied for DestinationAmi {name} from SourceAmi {source.id}"
                own = Phase(rig().settings.snapshot)
                snapshot = copy_of(backend, original, encrypted, key, text, own, tags.get("snapshot"))
                snapshots.append(snapshot)
                ebs |= {"SnapshotId": snapshot.id, "Encrypted": snapshot.encrypted}
            mappings.append({**mapping, "Ebs": ebs} if ebs else mapping)
        described = self._get_param("Description")
        parameters = {**source.parameters, "SourceImageId": source.id, "SourceImageRegion": source.ec2_backend.region_name}
        parameters |= {"Description": described} if described is not None else {}
        parameters.pop("SourceInstanceId", None)
        image = Image(backend, name, phase, mappings, snapshots, parameters)
        image.client_token = token
        inherited = {tag["key"]: tag["value"] for tag in source.get_tags()} if self._get_param("CopyImageTags", False) else {}
        return ActionResult({"ImageId": add(backend, image, {**inherited, **tags.get("image", {})}).id})

    def deregister_image(self):
        self.error_on_dryrun()
        backend = self.ec2_backend
        image = own_image(backend, self._get_param("ImageId"))
        if image.deregistration_protection != "disabled":
            text = f"The image '{image.id}' is protected from deregistration"
            raise EC2ClientError("OperationNotPermitted", text)
        del backend.amis[image.id]
        backend.deleted_amis.append(image.id)
        results = []
        if self._get_param("DeleteAssociatedSnapshots", False):
            for each in image.snapshot_ids:
                try:
                    backend.delete_snapshot(each)
                    results.append({"SnapshotId": each, "ReturnCode": "success"})
                except EC2ClientError as error:
                    code = "skipped" if error.code == "InvalidSnapshot.InUse" else "client-error"
                    results.append({"SnapshotId": each, "ReturnCode": code})
        return ActionResult({"Return": True, "DeleteSnapshotResults": results})

    def describe_images(self):
        self.error_on_dryrun()
        backend = self.ec2_backend
        wanted = self._get_param("ImageIds", [])
        for each in wanted:
            find_image(backend, each)
        found = backend.describe_images(
            ami_ids=wanted,
            filters=None if wanted else self._filters_from_querystring(),
            exec_users=self._get_param("ExecutableUsers", []),
            owners=self._get_param("Owners", []),
        )
        found = [each for each in found if each.id in wanted or not rig().faults.hidden(each.id)]
        if not self._get_param("IncludeDisabled", False):
            found = [each for each in found if not each.disabled or each.id in wanted]
        return ActionResult({"Images": [each.describe() for each in found]})


def _mapping(device, snapshot, volume, delete, override):
    ebs = {
        "SnapshotId": snapshot.id,
        "VolumeSize": int(override.get("VolumeSize", volume.size)),
        "VolumeType": override.get("VolumeType", volume.volume_type),
        "DeleteOnTermination": override.get("DeleteOnTermination", bool(delete)),
        "Encrypted": snapshot.encrypted,
    }
    return {"DeviceName": device, "Ebs": ebs}


def install() -> None:
    graft(ResponseCalls, EC2Response)
    # moto's own images come with snapshots of volumes that nobody made.
    EC2Backend._load_amis = lambda self: None
