"""What is changed on an AMI after it was made: who may launch it, deprecation, protection, description."""

import datetime
import re

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend
from moto.ec2.responses import EC2Response

from .images import own_image
from .state import graft

# Member of a permission, and how ModifyImageAttribute names its list in the short form.
TARGETS = {
    "UserId": "UserIds",
    "Group": "UserGroups",
    "OrganizationArn": "OrganizationArns",
    "OrganizationalUnitArn": "OrganizationalUnitArns",
}
SHAPES = {
    "UserId": re.compile(r"\d{12}"),
    "Group": re.compile("all"),
    "OrganizationArn": re.compile(r"arn:aws[\w-]*:organizations::\d{12}:organization/o-[a-z0-9]{10,32}"),
    "OrganizationalUnitArn": re.compile(r"arn:aws[\w-]*:organizations::\d{12}:ou/o-[a-z0-9]{10,32}/ou-[0-9a-z-]+"),
}
SINGLE = {
    "description": ("Description", "Description"),
    "kernel": ("KernelId", "KernelId"),
    "ramdisk": ("RamdiskId", "RamdiskId"),
    "sriovNetSupport": ("SriovNetSupport", "SriovNetSupport"),
    "bootMode": ("BootMode", "BootMode"),
    "tpmSupport": ("TpmSupport", "TpmSupport"),
    "uefiData": ("UefiData", "UefiData"),
    "imdsSupport": ("ImdsSupport", "ImdsSupport"),
    "lastLaunchedTime": ("LastLaunchedTime", "LastLaunchedTime"),
}
MAX_DEPRECATION = datetime.timedelta(days=3653)


class ResponseCalls:
    def describe_image_attribute(self):
        image = own_image(self.ec2_backend, self._get_param("ImageId"))
        attribute = self._get_param("Attribute")
        result = {"ImageId": image.id}
        if attribute == "launchPermission":
            result["LaunchPermissions"] = image.launch_permissions
        elif attribute == "productCodes":
            result["ProductCodes"] = []
        elif attribute == "deregistrationProtection":
            result["DeregistrationProtection"] = {"Value": image.deregistration_protection}
        elif attribute in SINGLE:
            member, parameter = SINGLE[attribute]
            result[member] = {"Value": image.parameters.get(parameter)}
        else:
            raise EC2ClientError("InvalidRequest", f"The request received was invalid: {attribute}")
        return ActionResult(result)

    def modify_image_attribute(self):
        self.error_on_dryrun()
        backend = self.ec2_backend
        image = own_image(backend, self._get_param("ImageId"))
        lists = self._get_param("LaunchPermission", {})
        added, removed = list(lists.get("Add", [])), list(lists.get("Remove", []))
        operation = self._get_param("OperationType")
        for member, short in TARGETS.items():
            targets = [{member: each} for each in self._get_param(short, [])]
            (removed if operation == "remove" else added).extend(targets)
        for permission in added + removed:
            for member, text in permission.items():
                if not SHAPES[member].fullmatch(text):
                    code = "InvalidAMIAttributeItemValue"
                    raise EC2ClientError(code, f"Invalid attribute item value \"{text}\" for {member} item type.")
        if added:
            _refuse_foreign_key(backend, image)
            if {"Group": "all"} in added and backend.image_block_public_access == "block-new-sharing":
                raise EC2ClientError("OperationNotPermitted", "You can't publicly share this image: it is blocked")
        kept = [each for each in image.launch_permissions if each not in removed]
        image.launch_permissions = kept + [each for each in added if each not in kept]
        for name in ("Description", "ImdsSupport"):
            given = self._get_param(name)
            if given is None and self._get_param("Attribute", "").lower() == name.lower():
                given = self._get_param("Value")
            if given is not None:
                image.parameters[name] = given.get("Value") if hasattr(given, "get") else given
        return EmptyResult()

    def reset_image_attribute(self):
        own_image(self.ec2_backend, self._get_param("ImageId")).launch_permissions = []
        return EmptyResult()

    def enable_image_deprecation(self):
        self.error_on_dryrun()
        image = own_image(self.ec2_backend, self._get_param("ImageId"))
        wanted = self._get_param("DeprecateAt")
        when = datetime.datetime.fromisoformat(str(wanted).replace("Z", "+00:00"))
        when = when.replace(tzinfo=when.tzinfo or datetime.timezone.utc)
        now = datetime.datetime.now(datetime.timezone.utc)
        if not now < when <= now + MAX_DEPRECATION:
            raise EC2ClientError("InvalidParameterValue", "the date must be in the future and within ten years")
        image.deprecation_time = when.strftime("%Y-%m-%dT%H:%M:00.000Z")
        return ActionResult({"Return": True})

    def disable_image_deprecation(self):
        own_image(self.ec2_backend, self._get_param("ImageId")).deprecation_time = None
        return ActionResult({"Return": True})

    def enable_image_deregistration_protection(self):
        self.error_on_dryrun()
        image = own_image(self.ec2_backend, self._get_param("ImageId"))
        cooldown = self._get_param("WithCooldown", False)
        image.deregistration_protection = "enabled-with-cooldown" if cooldown else "enabled-without-cooldown"
        return ActionResult({"Return": "true"})

    def disable_image_deregistration_protection(self):
        # With a cooldown, AWS keeps the protection for another 24 hours; a test would not wait for them.
        own_image(self.ec2_backend, self._get_param("ImageId")).deregistration_protection = "disabled"
        return ActionResult({"Return": "true"})

    def disable_image(self):
        own_image(self.ec2_backend, self._get_param("ImageId")).disabled = True
        return ActionResult({"Return": True})

    def enable_image(self):
        own_image(self.ec2_backend, self._get_param("ImageId")).disabled = False
        return ActionResult({"Return": True})

    def enable_image_block_public_access(self):
        self.ec2_backend.image_block_public_access = "block-new-sharing"
        return ActionResult({"ImageBlockPublicAccessState": "block-new-sharing"})

    def disable_image_block_public_access(self):
        self.ec2_backend.image_block_public_access = "unblocked"
        return ActionResult({"ImageBlockPublicAccessState": "unblocked"})

    def get_image_block_public_access_state(self):
        return ActionResult({"ImageBlockPublicAccessState": self.ec2_backend.image_block_public_access})


def _refuse_foreign_key(backend, image):
    """What is encrypted with the account's own key can't be read by anyone else, so AWS refuses to share it."""
    own = backend.default_kms_key_id
    if any(snapshot.encrypted and snapshot.kms_key_id == own for snapshot in image.snapshots):
        text = f"Snapshots of {image.id} encrypted with the AWS Managed CMK can't be shared"
        raise EC2ClientError("InvalidParameter", text)


def install() -> None:
    EC2Backend.image_block_public_access = "unblocked"
    graft(ResponseCalls, EC2Response)
