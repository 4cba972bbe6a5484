"""What AWS refuses when an AMI is registered."""

import re

from moto.ec2.exceptions import EC2ClientError

from .snapshots import find_completed

NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}")
BOOT_MODES = ("legacy-bios", "uefi", "uefi-preferred")


def check_name(backend, name: str | None) -> None:
    if not name:
        raise EC2ClientError("MissingParameter", "The request must contain the parameter name")
    if not NAME.fullmatch(name):
        text = "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', '.', '-', '/' and '_'"
        raise EC2ClientError("InvalidAMIName.Malformed", text)
    for image in backend.amis.values():
        if image.name == name and image.owner_id == backend.account_id:
            raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {image.id}")


def check_parameters(parameters: dict) -> None:
    def refuse(code, text):
        raise EC2ClientError(code, text)

    if parameters["Architecture"] not in ("i386", "x86_64", "arm64"):
        refuse("InvalidParameterValue", f"Value ({parameters['Architecture']}) for parameter architecture is invalid.")
    if parameters["VirtualizationType"] not in ("hvm", "paravirtual"):
        refuse("InvalidParameterValue", "the virtualization type must be hvm or paravirtual")
    mode = parameters.get("BootMode")
    if mode is not None and mode not in BOOT_MODES:
        refuse("InvalidParameterValue", f"Value ({mode}) for parameter bootMode is invalid.")
    if parameters.get("TpmSupport", "v2.0") != "v2.0" or parameters.get("ImdsSupport", "v2.0") != "v2.0":
        refuse("InvalidParameterValue", "tpmSupport and imdsSupport can only be v2.0")
    if "TpmSupport" in parameters and mode != "uefi":
        refuse("InvalidParameterCombination", "TPM support needs the boot mode uefi")
    if parameters.get("SriovNetSupport", "simple") != "simple":
        refuse("InvalidParameterValue", "sriovNetSupport can only be simple")
    if parameters["VirtualizationType"] != "hvm" and (parameters.get("EnaSupport") or mode):
        refuse("InvalidParameterCombination", "ENA and boot modes need the virtualization type hvm")


def check_mappings(backend, given: list[dict], root: str | None) -> tuple[list[dict], list]:
    """The devices as DescribeImages tells them, and their snapshots."""
    if not given:
        raise EC2ClientError("MissingParameter", "The request must contain the parameter blockDeviceMapping")
    if not root:
        raise EC2ClientError("MissingParameter", "The request must contain the parameter rootDeviceName")
    devices = [each.get("DeviceName") for each in given]
    if len(set(devices)) != len(devices):
        raise EC2ClientError("InvalidBlockDeviceMapping", "a device is mapped twice")
    mappings, snapshots = [], []
    for each in given:
        ebs = dict(each.get("Ebs", {}))
        if each.get("DeviceName") == root and "SnapshotId" not in ebs:
            raise EC2ClientError("InvalidBlockDeviceMapping", f"the root device {root} needs a snapshot")
        if "SnapshotId" in ebs:
            if "Encrypted" in ebs:
                raise EC2ClientError("InvalidParameterCombination", "Encrypted can't be given with a snapshot")
            snapshot = find_completed(backend, ebs["SnapshotId"])
            size = int(ebs.setdefault("VolumeSize", snapshot.volume_size))
            if size < snapshot.volume_size:
                text = f"Volume of size {size}GB is smaller than snapshot '{snapshot.id}', expect size >= {snapshot.volume_size}GB"
                raise EC2ClientError("InvalidBlockDeviceMapping", text)
            snapshots.append(snapshot)
            ebs["Encrypted"] = snapshot.encrypted
        ebs.setdefault("DeleteOnTermination", True)
        ebs.setdefault("VolumeType", "gp2")
        mappings.append({**each, "Ebs": ebs} if "NoDevice" not in each else each)
    if root not in devices:
        raise EC2ClientError("InvalidBlockDeviceMapping", f"the root device {root} is not mapped")
    return mappings, snapshots
