"""Instances: moto's model with a machine behind it, and states that follow the machine."""

import contextlib
import copy
import threading
from collections.abc import Iterator

from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend
from moto.ec2.models.instances import Instance, StateReason
from moto.ec2.responses import EC2Response

from . import firewall
from .blocks import Content
from .machine import FIRMWARE, Machine
from .state import Future, after, background, graft, rig

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
CONSOLE = 1 << 16

_moto_terminate = Instance.terminate
_moto_describe_instances = EC2Backend.describe_instances
_moto_describe_key_pairs = EC2Backend.describe_key_pairs
_moto_describe_security_groups = EC2Backend.describe_security_groups


class InstanceCalls:
    """Grafted into moto's `Instance`."""

    def launch(self, reservation_id: str) -> None:
        """The first boot; called once, when the volumes are there."""
        self.reservation_id = reservation_id
        self.address = rig().address()
        # Held while the machine or its disks are worked on.
        self.hands = threading.RLock()
        failing = rig().faults.take("failed")
        lasting = rig().faults.take("pending")
        seconds = rig().settings.pending
        if lasting:
            seconds = lasting.seconds if lasting.seconds is not None else float("inf")
        if failing:
            self.enter("pending")
            reason = failing.message or "Server.InternalError: Internal error on launch"
            after(seconds, lambda: self.terminate_because(reason))
        else:
            self._begin(seconds)

    def enter(self, state: str, reason: str = "") -> None:
        self._state.name, self._state.code = state, CODES[state]
        self._reason = reason
        self.state_reason = StateReason(reason, reason.split(":")[0]) if reason else StateReason()

    def _begin(self, seconds: float) -> None:
        self.enter("pending")
        if rig().settings.machines:
            self.boot()
        if seconds != float("inf"):
            after(seconds, lambda: self.state == "pending" and self.enter("running"))

    def boot(self) -> None:
        """Starts a machine on the instance's volumes, the root volume first."""
        backend = self.ec2_backend
        devices = sorted(self.get_block_device_mapping, key=lambda each: (each[0] != self.root_device_name, each[0]))
        disks = [(block.volume_id, backend.get_volume(block.volume_id).disk) for _, block in devices]
        image = backend.amis.get(self.image_id)
        mode = image.parameters.get("BootMode") if image else self.boot_mode
        self.boot_mode = mode
        uefi = mode in ("uefi", "uefi-preferred") and FIRMWARE.exists()
        self.machine = Machine(rig().settings, self.id, self.instance_type, self.address, disks, uefi, self._ended)
        self.machine.start(firewall.opens_ssh(self))

    def _ended(self, failure: str) -> None:
        """The guest powered itself off, or QEMU died."""
        with rig().lock:
            if self.state not in ("pending", "running"):
                return
            if failure:
                return self.terminate_because(f"Server.InternalError: {failure}")
            reason = "Client.InstanceInitiatedShutdown: Instance initiated shutdown"
            if self.instance_initiated_shutdown_behavior == "terminate":
                self.terminate_because(reason)
            else:
                self.enter("stopping", reason)
                after(rig().settings.stopping, lambda: self.state == "stopping" and self.enter("stopped", reason))

    def start(self):
        before = copy.copy(self._state)
        if self.state not in ("stopped", "running", "pending"):
            raise EC2ClientError("IncorrectInstanceState", f"The instance '{self.id}' is not in a state from which it can be started.")
        if self.state == "stopped":
            lasting = rig().faults.take("pending")
            self._begin(lasting.seconds or float("inf") if lasting else rig().settings.pending)
        return before

    def stop(self, force: bool = False):
        before = copy.copy(self._state)
        if self.state in ("stopping", "stopped"):
            return before
        if self.state != "running":
            raise EC2ClientError("IncorrectInstanceState", f"The instance '{self.id}' is not in a state from which it can be stopped.")
        if self.spot and self.spot["Type"] == "one-time":
            text = f"You can't stop the Spot Instance '{self.id}' because it is associated with a one-time Spot Instance request."
            raise EC2ClientError("UnsupportedOperation", text)
        self.stop_because(f"Client.UserInitiatedShutdown: User initiated shutdown ({utcnow():%Y-%m-%d %H:%M:%S} GMT)", force)
        return before

    def stop_because(self, reason: str, force: bool = False) -> None:
        lasting = rig().faults.take("pending")
        seconds = lasting.seconds or float("inf") if lasting else rig().settings.stopping
        self.enter("stopping", reason)

        def halted():
            if seconds != float("inf"):
                after(seconds, lambda: self.state == "stopping" and self.enter("stopped", reason))

        self._halt(lambda machine: machine.kill() if force else machine.powerdown(), halted)

    def terminate(self):
        before = copy.copy(self._state)
        if self.state not in ("shutting-down", "terminated"):
            self.terminate_because("Client.UserInitiatedShutdown: User initiated shutdown")
        return before

    def terminate_because(self, reason: str) -> None:
        self.enter("shutting-down", reason)
        if self.spot:
            self.spot["State"] = "closed"

        def halted():
            after(rig().settings.terminating, gone)

        def gone():
            _moto_terminate(self)  # detaches the volumes and deletes those that go with the instance
            self.enter("terminated", reason)

        self._halt(lambda machine: machine.kill(), halted)

    def _halt(self, how, then) -> None:
        """Ends the machine, which takes its time, and goes on then."""
        if not self.machine:
            return then()

        def run():
            with self.hands:
                how(self.machine)
            then()

        background(run)

    def reboot(self) -> None:
        def run():
            with self.hands:
                self.machine.powerdown()
                if self.state == "running":
                    self.boot()

        if self.state == "running" and self.machine:
            background(run)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """While this runs, the guest writes nothing."""
        with self.hands:
            alive = self.machine and self.state == "running"
            if alive:
                self.machine.pause()
            try:
                yield
            finally:
                if alive:
                    self.machine.resume()

    def capture(self, reboot: bool) -> dict[str, Content | Future]:
        """What is on the volumes. With a reboot it comes later, and nothing comes where there are no machines."""
        volumes = [self.ec2_backend.get_volume(block.volume_id) for _, block in self.get_block_device_mapping]
        if not rig().settings.machines:
            return {}
        if not reboot:
            with self.frozen():
                return {volume.id: volume.disk.snapshot() for volume in volumes}
        contents: dict[str, Future] = {volume.id: Future() for volume in volumes}

        def run():
            with self.hands:
                try:
                    self.machine.powerdown()
                    for volume in volumes:
                        contents[volume.id].set_result(volume.disk.snapshot())
                except BaseException as error:  # noqa: BLE001 - makes the snapshots fail
                    for each in contents.values():
                        if not each.done():
                            each.set_exception(error)
                if self.state == "running":
                    self.boot()

        background(run)
        return contents

    @property
    def private_ip_address(self) -> str | None:
        return self.address if self.state != "terminated" else None

    @property
    def public_ip_address(self) -> str | None:
        return self.address if self.associate_public_ip and self.state in ("pending", "running") else None

    @property
    def spot_instance_request_id(self) -> str | None:
        return self.spot["SpotInstanceRequestId"] if self.spot else None


class BackendCalls:
    def describe_instances(self, filters=None):
        found = _moto_describe_instances(self, filters)
        return [each for each in found if not any(rig().faults.hidden(instance.id) for instance in each.instances)]

    def describe_key_pairs(self, key_names, *others, **named):
        found = _moto_describe_key_pairs(self, key_names, *others, **named)
        return [each for each in found if key_names or not rig().faults.hidden(each.key_name)]

    def describe_security_groups(self, group_ids=None, *others, **named):
        found = _moto_describe_security_groups(self, group_ids, *others, **named)
        return [each for each in found if group_ids or not rig().faults.hidden(each.id)]


class ResponseCalls:
    def get_console_output(self):
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        console = rig().settings.run / f"{instance.id}.console"
        text = console.read_bytes()[-CONSOLE:] if console.exists() else b""
        output = Base64EncodedString.from_raw_string(text.decode(errors="replace")) if text else None
        return ActionResult({"InstanceId": instance.id, "Timestamp": utcnow(), "Output": output})

    def stop_instances(self):
        self.error_on_dryrun()
        instances = self.ec2_backend.get_multi_instances_by_id(self._get_param("InstanceIds", []))
        force = self._get_param("Force", False)
        changes = [(each, each.stop(force)) for each in instances]
        stopping = [
            {"InstanceId": each.id, "CurrentState": _told(each.state), "PreviousState": before} for each, before in changes
        ]
        return ActionResult({"StoppingInstances": stopping})


def _told(state):
    return {"Code": CODES[state], "Name": state}


def install() -> None:
    Instance.machine = None
    Instance.interruption = None
    Instance.spot = None
    Instance.address = None
    Instance.boot_mode = None
    graft(InstanceCalls, Instance)
    Instance.private_ip = InstanceCalls.private_ip_address
    Instance.public_ip = InstanceCalls.public_ip_address
    graft(BackendCalls, EC2Backend)
    graft(ResponseCalls, EC2Response)
