"""What is there in the account: what a test looks at to see that nothing was left."""

from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.ssm.models import ssm_backends

from .launch import spot_requests
from .state import ACCOUNT


def alive() -> dict[str, list[str]]:
    """Identifiers by kind, of all regions; all kinds are there, also empty ones."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for backend in list(ec2_backends[ACCOUNT].values()):
        for kind, look in KINDS.items():
            found[kind] += look(backend)
    for region, backend in list(ssm_backends[ACCOUNT].items()):
        found["parameters"] += [name for name in backend._parameters if not name.startswith("/aws/")]
    found["roles"] = [role.name for role in iam_backends[ACCOUNT]["aws"].roles.values()]
    found["instance_profiles"] = [each.name for each in iam_backends[ACCOUNT]["aws"].instance_profiles.values()]
    return found


def _security_groups(backend):
    return [group.id for groups in backend.groups.values() for group in groups.values() if group.name != "default"]


KINDS = {
    "instances": lambda backend: [each.id for each in backend.all_instances() if each.state != "terminated"],
    "volumes": lambda backend: list(backend.volumes),
    "snapshots": lambda backend: [each.id for each in backend.snapshots.values() if each.owner_id == ACCOUNT],
    "images": lambda backend: [each.id for each in backend.amis.values() if each.owner_id == ACCOUNT],
    "key_pairs": lambda backend: list(backend.key_pairs),
    "security_groups": _security_groups,
    "uploads": lambda backend: [each.id for each in backend.snapshots.values() if each.upload and not each.upload.completed],
    "spot_requests": lambda backend: [
        each["SpotInstanceRequestId"] for each in spot_requests(backend) if each["State"] in ("open", "active")
    ],
    "launch_templates": lambda backend: list(backend.launch_templates),
    "parameters": lambda backend: [],
    "roles": lambda backend: [],
    "instance_profiles": lambda backend: [],
}
