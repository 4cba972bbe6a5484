"""RunInstances: what EC2 checks before it starts anything, spot requests, and interruptions."""

import datetime
import hashlib
import json
import re

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses import EC2Response
from moto.ec2.utils import random_spot_request_id

from .images import find_image
from .snapshots import find_completed
from .state import after, graft, rig

_moto_run_instances = EC2Response.run_instances
# Types that can only be had with enhanced networking, and those with an ARM processor.
NEEDS_ENA = re.compile(r"(t3|t3a|t4g|[cmr][5-9][a-z]*)\.")
ARM = re.compile(r"[a-z]+\d+g[a-z]*\.")


def find_by_token(backend, token: str | None, fingerprint: str):
    """The reservation that an earlier call with this token made."""
    for reservation in backend.reservations.values():
        if token and reservation.instances and reservation.instances[0].client_token == token:
            if reservation.fingerprint != fingerprint:
                text = "The token was used with other parameters."
                raise EC2ClientError("IdempotentParameterMismatch", text)
            return reservation
    return None


class ResponseCalls:
    def run_instances(self):
        backend = self.ec2_backend
        image_id = self._get_param("ImageId")
        if template := self._get_param("LaunchTemplate"):
            image_id = image_id or backend._get_template_from_args(template).data.get("ImageId")
        fingerprint = hashlib.sha256(json.dumps(sorted(self.data.items())).encode()).hexdigest()
        known = find_by_token(backend, self._get_param("ClientToken"), fingerprint)
        if known:
            return ActionResult(known)
        image = find_image(backend, image_id)
        instance_type = self._get_param("InstanceType", "m1.small")
        _check_image(backend, image, instance_type)
        key = self._get_param("KeyName")
        if key and key not in backend.key_pairs:
            raise EC2ClientError("InvalidKeyPair.NotFound", f"The key pair '{key}' does not exist")
        market = self._get_param("InstanceMarketOptions", {})
        self.params["BlockDeviceMappings"] = _devices(backend, image, self._get_param("BlockDeviceMappings", []))
        self.error_on_dryrun()
        zone = _zone(self, backend)
        if rig().faults.take("capacity", zone=zone, instance_type=instance_type):
            text = f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested ({zone})."
            raise EC2ClientError("InsufficientInstanceCapacity", text)
        spot = _spot_options(market)
        interruption = rig().faults.take("interrupt") if spot else None
        result = _moto_run_instances(self)
        reservation = result._result
        reservation.fingerprint = fingerprint
        for instance in reservation.instances:
            if image.parameters.get("ImdsSupport") == "v2.0" and not self._get_param("MetadataOptions", {}).get("HttpTokens"):
                instance.metadata_options.http_tokens = "required"
            instance.instance_initiated_shutdown_behavior = self._get_param("InstanceInitiatedShutdownBehavior") or "stop"
            for interface in self._get_param("NetworkInterfaces", []):
                instance.associate_public_ip = interface.get("AssociatePublicIpAddress", instance.associate_public_ip)
            if spot:
                instance.spot = _spot_request(instance, spot)
            instance.launch(reservation.id)
            if interruption:
                after(interruption.seconds or 1, lambda each=instance: interrupt(each, 1))
        return result

    def describe_spot_instance_requests(self):
        wanted = self._get_param("SpotInstanceRequestIds", [])
        requests = spot_requests(self.ec2_backend)
        missing = set(wanted) - {each["SpotInstanceRequestId"] for each in requests}
        if missing:
            raise EC2ClientError("InvalidSpotInstanceRequestID.NotFound", f"{missing.pop()} does not exist")
        found = [each for each in requests if not wanted or each["SpotInstanceRequestId"] in wanted]
        return ActionResult({"SpotInstanceRequests": found})

    def cancel_spot_instance_requests(self):
        wanted = self._get_param("SpotInstanceRequestIds", [])
        cancelled = [each for each in spot_requests(self.ec2_backend) if each["SpotInstanceRequestId"] in wanted]
        for each in cancelled:
            each["State"] = "cancelled"
        return ActionResult({"CancelledSpotInstanceRequests": cancelled})


def interrupt(instance, notice: float) -> None:
    """EC2 takes a spot instance back: the guest is told, and after the notice it is gone."""
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=notice)
    action = (instance.spot or {}).get("InstanceInterruptionBehavior", "terminate")
    instance.interruption = {"action": action, "time": when.strftime("%Y-%m-%dT%H:%M:%SZ")}
    reason = "Server.SpotInstanceTermination: Spot instance termination"

    def take_back():
        if instance.state in ("pending", "running"):
            instance.stop_because(reason) if action == "stop" else instance.terminate_because(reason)

    after(notice, take_back)


def spot_requests(backend) -> list[dict]:
    return [each.spot for each in backend.all_instances() if each.spot]


def _check_image(backend, image, instance_type):
    if image.state != "available":
        raise EC2ClientError("InvalidAMIID.Unavailable", f"The image ID '{image.id}' is {image.state}")
    allowed = image.owner_id == backend.account_id or image.is_public
    if not allowed and {"UserId": backend.account_id} not in image.launch_permissions:
        raise EC2ClientError("AuthFailure", f"Not authorized for images: [{image.id}]")
    architecture = "arm64" if ARM.match(instance_type) else "x86_64"
    if image.architecture != architecture:
        text = (
            f"The architecture '{architecture}' of the specified instance type does not match the architecture "
            f"'{image.architecture}' of the specified AMI."
        )
        raise EC2ClientError("InvalidParameterValue", text)
    if NEEDS_ENA.match(instance_type):
        if image.virtualization_type != "hvm":
            text = f"Virtualization type 'hvm' is required for instances of type '{instance_type}'."
            raise EC2ClientError("InvalidParameterCombination", text)
        if not image.parameters.get("EnaSupport"):
            text = f"Enhanced networking with the Elastic Network Adapter (ENA) is required for the '{instance_type}' instance type."
            raise EC2ClientError("InvalidParameterCombination", text)


def _devices(backend, image, given):
    """The image's devices with the caller's changes, as moto wants them."""
    overrides = {each["DeviceName"]: each for each in given}
    merged = []
    for mapping in image.mappings:
        override = overrides.pop(mapping["DeviceName"], {})
        if "NoDevice" in override or "NoDevice" in mapping:
            continue
        ebs = {**mapping["Ebs"], **override.get("Ebs", {})}
        # The snapshot says whether it is encrypted; only a caller who wants encryption says so.
        if not override.get("Ebs", {}).get("Encrypted"):
            ebs.pop("Encrypted", None)
        merged.append({"DeviceName": mapping["DeviceName"], "Ebs": ebs})
    for each in overrides.values():
        if "NoDevice" not in each:
            merged.append({**each, "Ebs": {"DeleteOnTermination": True, **each.get("Ebs", {})}})
    # Checked before anything is made: moto would leave half an instance.
    for each in merged:
        if snapshot_id := each["Ebs"].get("SnapshotId"):
            snapshot = find_completed(backend, snapshot_id)
            size = int(each["Ebs"].get("VolumeSize") or snapshot.volume_size)
            if size < snapshot.volume_size:
                text = f"Volume of size {size}GB is smaller than snapshot '{snapshot_id}', expect size >= {snapshot.volume_size}GB"
                raise EC2ClientError("InvalidBlockDeviceMapping", text)
    return merged


def _zone(response, backend):
    subnet = response._get_param("SubnetId")
    for interface in response._get_param("NetworkInterfaces", []):
        subnet = subnet or interface.get("SubnetId")
    if subnet:
        return backend.get_subnet(subnet).availability_zone
    return response._get_param("Placement.AvailabilityZone") or f"{backend.region_name}a"


def _spot_options(market):
    if market.get("MarketType") != "spot":
        return None
    options = dict(market.get("SpotOptions", {}))
    price = options.get("MaxPrice")
    if price is not None and float(price) < rig().settings.spot_price:
        text = f"Your Spot request price of {price} is lower than the minimum required Spot request fulfillment price of {rig().settings.spot_price}."
        raise EC2ClientError("SpotMaxPriceTooLow", text)
    return {"Type": options.get("SpotInstanceType", "one-time"), **options}


def _spot_request(instance, options):
    return {
        "SpotInstanceRequestId": random_spot_request_id(),
        "InstanceId": instance.id,
        "State": "active",
        "Status": {"Code": "fulfilled", "Message": "Your Spot request is fulfilled."},
        "Type": options["Type"],
        "SpotPrice": str(options.get("MaxPrice", rig().settings.spot_price)),
        "InstanceInterruptionBehavior": options.get("InstanceInterruptionBehavior", "terminate"),
        "LaunchedAvailabilityZone": instance.availability_zone,
    }


def install() -> None:
    graft(ResponseCalls, EC2Response)
