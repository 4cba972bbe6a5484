"""Volumes and snapshots: moto's models, with files behind them and states that take their time."""

from types import SimpleNamespace

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models.elastic_block_store import Snapshot, Volume
from moto.ec2.responses import EC2Response
from moto.ec2.utils import random_snapshot_id
from moto.kms import kms_backends

from .blocks import Content
from .state import Phase, graft, rig, value
from .volumes import Disk

_moto_create_volume = EC2Backend.create_volume
_moto_delete_volume = EC2Backend.delete_volume
_moto_modify_volume = EC2Backend.modify_volume
# What a snapshot that was not taken of a volume is said to be of.
NO_VOLUME = "vol-ffffffff"
# The key that AWS holds for each account by itself.
OWN_KEY = "alias/aws/ebs"


class RigSnapshot(Snapshot):
    """A snapshot with content. `phase` says when it is completed."""

    def __init__(self, backend, volume_id, gib, content, phase, description="", encrypted=False, kms_key_id=None):
        self.phase = phase
        # moto asks the volume for the size, and a volume may be gone.
        volume = SimpleNamespace(id=volume_id, size=gib, encrypted=encrypted)
        super().__init__(backend, random_snapshot_id(), volume, description, encrypted)
        self.kms_key_id = kms_key_id
        self._content = content
        self.upload = None

    def content(self) -> Content | None:
        """Nothing where the rig has no machines and nobody uploaded anything."""
        return value(self._content)

    @property
    def status(self) -> str:
        if self.phase is None or self.phase.pending:
            return "error" if self.upload and self.upload.expired else "pending"
        return "error" if self.phase.failure else "completed"

    @status.setter
    def status(self, _):
        pass  # moto's constructor says "completed"

    @property
    def state_message(self) -> str | None:
        return self.phase.failure if self.phase else None

    @property
    def progress(self) -> str:
        return f"{self.phase.progress if self.phase else self.upload.progress}%"


def find_snapshot(backend, snapshot_id: str) -> RigSnapshot:
    """A snapshot of this region."""
    snapshot = backend.snapshots.get(snapshot_id)
    if not snapshot:
        raise EC2ClientError("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
    return snapshot


def find_completed(backend, snapshot_id: str) -> RigSnapshot:
    snapshot = find_snapshot(backend, snapshot_id)
    if snapshot.status != "completed":
        raise EC2ClientError("IncorrectState", f"Snapshot is in invalid state - {snapshot.status}: '{snapshot_id}'")
    return snapshot


def add_snapshot(backend, *arguments, tags=None, **named) -> RigSnapshot:
    """A new snapshot, known to the region."""
    snapshot = RigSnapshot(backend, *arguments, **named)
    backend.snapshots[snapshot.id] = snapshot
    snapshot.add_tags(tags or {})
    return snapshot


def key_of(backend, encrypted: bool, kms_key_id: str | None) -> str | None:
    """The key that something is encrypted with: the account's own one by default."""
    if not encrypted:
        return None
    return kms_key_id or backend.default_kms_key_id or backend._create_default_encryption_key()


def snapshot_volume(backend, volume, description, phase, content=None, tags=None) -> RigSnapshot:
    """A snapshot of what is on the volume now, unless its content comes later."""
    if content is None and volume.disk:
        content = volume.disk.snapshot()
    return add_snapshot(
        backend,
        volume.id,
        volume.size,
        content,
        phase,
        description=description,
        encrypted=volume.encrypted,
        kms_key_id=volume.kms_key_id,
        tags=tags,
    )


class BackendCalls:
    def create_volume(self, size, zone_name, snapshot_id=None, encrypted=False, kms_key_id=None, **named):
        snapshot = find_completed(self, snapshot_id) if snapshot_id else None
        encrypted = bool(encrypted or self.ebs_encryption_by_default or (snapshot and snapshot.encrypted))
        size = int(size) if size else snapshot and snapshot.volume_size
        if snapshot and size < snapshot.volume_size:
            text = f"Volume of size {size}GB is smaller than snapshot '{snapshot_id}', expect size >= {snapshot.volume_size}GB"
            raise EC2ClientError("InvalidBlockDeviceMapping", text)
        if encrypted and not kms_key_id and snapshot:
            kms_key_id = snapshot.kms_key_id
        # The snapshot's size and key are settled here; moto knows only snapshots that come from its own volumes.
        volume = _moto_create_volume(self, size, zone_name, None, encrypted, kms_key_id, **named)
        volume.snapshot_id = snapshot_id or ""
        if rig().settings.machines:
            base = snapshot.content() if snapshot else None
            if base and encrypted:
                base = base.encrypted(snapshot_id)
            volume.disk = Disk(rig().settings.run, volume.id, size, base)
        return volume

    def modify_volume(self, volume_id, target_size=None, *others, **named):
        modified = _moto_modify_volume(self, volume_id, target_size, *others, **named)
        if target_size and modified.disk and not modified.attachment:
            modified.disk.resize(int(target_size))
        return modified

    def delete_volume(self, volume_id):
        volume = _moto_delete_volume(self, volume_id)
        if volume.disk:
            volume.disk.remove()
        return volume

    def create_snapshot(self, volume_id, description, owner_id=None, from_ami=None):
        volume = self.get_volume(volume_id)
        instance = volume.attachment.instance if volume.attachment else None
        phase = Phase(rig().settings.snapshot)
        if not instance or not volume.disk:
            return snapshot_volume(self, volume, description, phase)
        with instance.frozen():
            return snapshot_volume(self, volume, description, phase)

    def delete_snapshot(self, snapshot_id):
        find_snapshot(self, snapshot_id)
        for image in self.amis.values():
            if snapshot_id in image.snapshot_ids:
                text = f"The snapshot {snapshot_id} is currently in use by {image.id}"
                raise EC2ClientError("InvalidSnapshot.InUse", text)
        return self.snapshots.pop(snapshot_id)


def copy_of(backend, source: RigSnapshot, encrypted, kms_key_id, description, phase, tags=None) -> RigSnapshot:
    """A copy, in this backend's region. Under a new key, what nobody wrote becomes garbage."""
    encrypted = bool(encrypted or source.encrypted or backend.ebs_encryption_by_default)
    content = source.content()
    if content and encrypted:
        content = content.encrypted(source.id)
    return add_snapshot(
        backend,
        NO_VOLUME,
        source.volume_size,
        content,
        phase,
        description=description,
        encrypted=encrypted,
        kms_key_id=key_of(backend, encrypted, kms_key_id),
        tags=tags,
    )


class ResponseCalls:
    def get_ebs_default_kms_key_id(self):
        """AWS names the account's own key by its alias, and one that the account chose by its ARN."""
        backend = self.ec2_backend
        own = kms_backends[backend.account_id][backend.region_name].get_key_id_from_alias(OWN_KEY)
        chosen = backend.default_kms_key_id
        is_own = not chosen or (own and chosen.endswith(own))
        return ActionResult({"KmsKeyId": OWN_KEY if is_own else chosen})

    def copy_snapshot(self):
        self.error_on_dryrun()
        source_region = self._get_param("SourceRegion")
        source = find_completed(ec2_backends[self.current_account][source_region], self._get_param("SourceSnapshotId"))
        snapshot = copy_of(
            self.ec2_backend,
            source,
            self._get_param("Encrypted", False),
            self._get_param("KmsKeyId"),
            self._get_param("Description", ""),
            Phase(rig().settings.snapshot),
            self._parse_tag_specification().get("snapshot", {}),
        )
        return ActionResult({"SnapshotId": snapshot.id, "Tags": snapshot.tag_set})

    def delete_snapshot(self):
        self.error_on_dryrun()
        self.ec2_backend.delete_snapshot(self._get_param("SnapshotId"))
        return EmptyResult()

    def describe_snapshots(self):
        backend = self.ec2_backend
        wanted = self._get_param("SnapshotIds", [])
        for each in wanted:
            find_snapshot(backend, each)
        owners = [self.current_account if each == "self" else each for each in self._get_param("OwnerIds", [])]
        found = backend.describe_snapshots(wanted, self._filters_from_querystring())
        found = [each for each in found if not owners or each.owner_id in owners]
        found = [each for each in found if each.id in wanted or not rig().faults.hidden(each.id)]
        return ActionResult({"Snapshots": [_description(each) for each in found]})


def _description(snapshot: RigSnapshot) -> dict:
    return {
        "SnapshotId": snapshot.id,
        "VolumeId": snapshot.volume_id,
        "VolumeSize": snapshot.volume_size,
        "State": snapshot.status,
        "StateMessage": snapshot.state_message,
        "Progress": snapshot.progress,
        "Description": snapshot.description,
        "Encrypted": snapshot.encrypted,
        "KmsKeyId": snapshot.kms_key_id,
        "OwnerId": snapshot.owner_id,
        "StartTime": snapshot.start_time,
        "StorageTier": snapshot.storage_tier,
        "Tags": snapshot.tag_set,
    }


def install() -> None:
    Volume.disk = None
    graft(BackendCalls, EC2Backend)
    graft(ResponseCalls, EC2Response)
