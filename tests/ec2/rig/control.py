"""The control path, `/_rig/…`: faults, the log of calls, what is alive, images to start from."""

import datetime
import json
import subprocess
import time
import traceback
from pathlib import Path

from moto.ec2.models import ec2_backends

from .alive import alive
from .calls import CallLog, Reply
from .faults import BadFault
from .images import Image, add
from .launch import interrupt
from .settings import Settings
from .snapshots import NO_VOLUME, add_snapshot
from .state import ACCOUNT, Phase, rig
from .volumes import import_disk

DEBIAN = "136693071363"


class BadRequest(Exception):
    """The text says what is wrong with it."""


class Control:
    def __init__(self, server, reset):
        self._server = server
        self._reset = reset

    def answer(self, environ) -> Reply:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        try:
            body = json.loads(environ["wsgi.input"].read(length) or b"{}")
            result = self._carry_out(environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix("/_rig").strip("/"), body)
            status = 200
        except (BadRequest, BadFault, KeyError, ValueError, OSError) as error:
            result, status = {"error": f"{type(error).__name__}: {error}"}, 400
        except Exception as bug:  # noqa: BLE001 - the caller shall see it
            traceback.print_exc()
            result, status = {"error": f"the rig failed: {type(bug).__name__}: {bug}"}, 500
        return Reply(status, [("Content-Type", "application/json")], json.dumps(result, indent=1).encode() + b"\n")

    def _carry_out(self, method, path, body):
        match method, path:
            case "GET", "calls":
                return self._server.log.entries()
            case "DELETE", "calls":
                self._server.log = CallLog()
            case "GET", "alive":
                with rig().lock:
                    return alive()
            case "GET", "faults":
                return rig().faults.all()
            case "POST", "faults":
                return {"id": rig().faults.add(body).id}
            case "DELETE", "faults":
                rig().faults.clear(body.get("id"))
            case "GET", "settings":
                return {name: getattr(rig().settings, name) for name in Settings.TIMES}
            case "POST", "settings":
                for name, value in body.items():
                    if name not in Settings.TIMES:
                        raise BadRequest(f"`{name}` can't be set; there are {', '.join(Settings.TIMES)}")
                    setattr(rig().settings, name, float(value))
            case "POST", "images":
                return import_image(**body)
            case "POST", "interrupt":
                with rig().lock:
                    interrupt(_instance(body["InstanceId"]), float(body.get("notice", 120)))
            case "POST", "expire":
                _upload(body["SnapshotId"]).touched = time.monotonic() - 1e9
            case "POST", "reset":
                self._reset()
                self._server.log = CallLog()
            case _:
                raise BadRequest(f"there is no {method} /_rig/{path}")
        return {}


def import_image(
    name: str,
    path: str | None = None,
    owner: str = DEBIAN,
    owner_alias: str | None = None,
    region: str = "us-east-1",
    root_device: str = "/dev/xvda",
    boot_mode: str | None = "uefi-preferred",
    architecture: str = "x86_64",
    description: str = "",
    created: str | None = None,
) -> dict:
    """A public AMI of somebody else, made of a disk image; without one it can't be booted, for calls without machines."""
    settings = rig().settings
    if path is None and settings.machines:
        raise BadRequest("an image needs the `path` of a qcow2 or raw file")
    try:
        content = import_disk(Path(path), settings.imports, settings.run) if path and settings.machines else None
    except subprocess.CalledProcessError as error:
        raise BadRequest(f"{path}: {error.stderr.decode().strip()}") from None
    with rig().lock:
        backend = ec2_backends[ACCOUNT][region]
        gib = content.size >> 30 if content else 8
        snapshot = add_snapshot(backend, NO_VOLUME, gib, content, Phase(0), description=f"imported for {name}")
        snapshot.owner_id = owner
        ebs = {"SnapshotId": snapshot.id, "VolumeSize": gib, "VolumeType": "gp3", "DeleteOnTermination": True, "Encrypted": False}
        parameters = {
            "Architecture": architecture,
            "VirtualizationType": "hvm",
            "RootDeviceName": root_device,
            "EnaSupport": True,
            "SriovNetSupport": "simple",
            "Description": description,
        }
        if boot_mode:
            parameters["BootMode"] = boot_mode
        image = Image(backend, name, Phase(0), [{"DeviceName": root_device, "Ebs": ebs}], [snapshot], parameters, owner)
        image.owner_alias = owner_alias
        image.launch_permissions = [{"Group": "all"}]
        if created:
            image.creation_date = datetime.datetime.fromisoformat(created.replace("Z", "+00:00"))
        add(backend, image, {})
    return {"ImageId": image.id, "SnapshotId": snapshot.id}


def _instance(identifier):
    for backend in ec2_backends[ACCOUNT].values():
        for each in backend.all_instances():
            if each.id == identifier:
                return each
    raise BadRequest(f"there is no instance {identifier}")


def _upload(identifier):
    for backend in ec2_backends[ACCOUNT].values():
        snapshot = backend.snapshots.get(identifier)
        if snapshot and snapshot.upload:
            return snapshot.upload
    raise BadRequest(f"there is no upload {identifier}")
