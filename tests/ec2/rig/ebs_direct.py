"""The EBS direct API: a snapshot written and read block by block. moto's version is not used at all."""

import base64
import datetime
import hashlib
import json
import time

from moto.ec2.models import ec2_backends

from .blocks import BLOCK, GIB, Content, Layer
from .calls import Call, Reply
from .snapshots import NO_VOLUME, RigSnapshot, add_snapshot, key_of
from .state import ACCOUNT, Phase, rig

MAX_GIB = 65536
MAX_PENDING = 100
MAX_TAGS = 50
TOKEN_LIFE = 7 * 24 * 3600
PAGE = (100, 10000)


class EbsError(Exception):
    """An error of the service, in its words."""

    def __init__(self, status: int, code: str, reason: str | None, message: str):
        super().__init__(message)
        self.status, self.code, self.reason = status, code, reason


def _invalid(reason, message):
    return EbsError(400, "ValidationException", reason, message)


class Upload:
    """A snapshot that is being written."""

    def __init__(self, layer: Layer, token: str | None, request: dict, minutes: int):
        self.layer = layer
        self.token = token
        self.request = request
        self.limit = minutes * 60
        self.touched = time.monotonic()
        self.digests: dict[int, bytes] = {}
        self.progress = 0
        self.completed = False

    @property
    def expired(self) -> bool:
        return not self.completed and time.monotonic() > self.touched + self.limit


def answer(call: Call) -> Reply:
    actions = {
        "StartSnapshot": _start,
        "PutSnapshotBlock": _put,
        "CompleteSnapshot": _complete,
        "ListSnapshotBlocks": _list,
        "ListChangedBlocks": _list_changed,
        "GetSnapshotBlock": _get,
    }
    try:
        if call.action not in actions:
            raise EbsError(404, "UnknownOperationException", None, call.action)
        return actions[call.action](call)
    except EbsError as error:
        body = {"Message": str(error), **({"Reason": error.reason} if error.reason else {})}
        return Reply(error.status, [("Content-Type", "application/json"), ("x-amzn-ErrorType", error.code)], _json(body))


def _start(call: Call) -> Reply:
    try:
        request = json.loads(call.body or b"{}")
    except ValueError:
        raise _invalid("INVALID_PARAMETER_VALUE", "the body is not JSON") from None
    with rig().lock:
        backend = ec2_backends[ACCOUNT][call.region]
        token = request.get("ClientToken")
        uploads = [each for each in backend.snapshots.values() if each.upload]
        for known in uploads:
            if token and known.upload.token == token:
                if known.upload.request != request:
                    raise EbsError(409, "ConflictException", None, "this ClientToken was used with other parameters")
                return _started(known)
        if sum(each.status == "pending" for each in uploads) >= MAX_PENDING:
            text = f"there are {MAX_PENDING} pending snapshots"
            raise EbsError(400, "ConcurrentLimitExceededException", None, text)
        return _started(_new(backend, request, token))


def _new(backend, request, token) -> RigSnapshot:
    size = request.get("VolumeSize")
    if not isinstance(size, int) or not 1 <= size <= MAX_GIB:
        raise _invalid("INVALID_VOLUME_SIZE", f"VolumeSize must be 1 to {MAX_GIB} GiB")
    minutes = request.get("Timeout", 60)
    if not isinstance(minutes, int) or not 10 <= minutes <= 4320:
        raise _invalid("INVALID_PARAMETER_VALUE", "Timeout must be 10 to 4320 minutes")
    tags = {tag.get("Key", ""): tag.get("Value", "") for tag in request.get("Tags", [])}
    if len(tags) > MAX_TAGS or any(not key or key.startswith("aws:") for key in tags):
        raise _invalid("INVALID_TAG", "too many tags, or one without a key or with `aws:` before it")
    encrypted, key = request.get("Encrypted"), request.get("KmsKeyArn")
    if key and not encrypted:
        raise _invalid("INVALID_PARAMETER_VALUE", "KmsKeyArn needs Encrypted")
    parent, below = None, None
    if parent_id := request.get("ParentSnapshotId"):
        if encrypted is not None:
            raise _invalid("INVALID_PARAMETER_VALUE", "ParentSnapshotId and Encrypted exclude each other")
        parent = _find(backend, parent_id)
        if parent.status != "completed":
            raise _invalid("INVALID_SNAPSHOT_ID", f"{parent_id} is {parent.status}")
        if size < parent.volume_size:
            raise _invalid("INVALID_VOLUME_SIZE", f"the parent has {parent.volume_size} GiB")
        below = parent.content()
        encrypted, key = parent.encrypted, parent.kms_key_id
    encrypted = bool(encrypted or (not parent and backend.ebs_encryption_by_default))
    layer = Layer(rig().settings.run, size * GIB, below.layer if below else None)
    seed = (below.garbage if below else None) or (f"{token}{time.time_ns()}" if encrypted else None)
    snapshot = add_snapshot(
        backend,
        NO_VOLUME,
        size,
        Content(layer, size * GIB, seed),
        None,
        description=request.get("Description", ""),
        encrypted=encrypted,
        kms_key_id=key_of(backend, encrypted, key),
        tags=tags,
    )
    snapshot.upload = Upload(layer, token, request, minutes)
    return snapshot


def _started(snapshot: RigSnapshot) -> Reply:
    request = snapshot.upload.request
    body = {
        "SnapshotId": snapshot.id,
        "OwnerId": snapshot.owner_id,
        "Status": snapshot.status,
        "StartTime": snapshot.start_time.replace(tzinfo=datetime.timezone.utc).timestamp(),
        "VolumeSize": snapshot.volume_size,
        "BlockSize": BLOCK,
        "Description": snapshot.description,
        "Tags": request.get("Tags", []),
        "SseType": "sse-kms" if snapshot.encrypted else "none",
    }
    if request.get("ParentSnapshotId"):
        body["ParentSnapshotId"] = request["ParentSnapshotId"]
    if snapshot.encrypted:
        body["KmsKeyArn"] = snapshot.kms_key_id
    return Reply(201, [("Content-Type", "application/json")], _json(body))


def _writable(call: Call) -> Upload:
    snapshot = _find(ec2_backends[ACCOUNT][call.region], call.parameters["SnapshotId"])
    upload = snapshot.upload
    if not upload or upload.completed:
        raise _invalid("INVALID_SNAPSHOT_ID", f"{snapshot.id} can't be written to: it is {snapshot.status}")
    if upload.expired:
        raise _invalid("WRITE_REQUEST_TIMEOUT", f"nothing was written to {snapshot.id} within its timeout")
    return upload


def _put(call: Call) -> Reply:
    upload = _writable(call)
    index = call.parameters["BlockIndex"]
    if not index.isdigit() or int(index) >= upload.layer.size // BLOCK:
        raise _invalid("INVALID_BLOCK", f"there is no block {index} in {upload.layer.size // GIB} GiB")
    if len(call.body) != BLOCK or _header(call, "Data-Length") != str(BLOCK):
        raise _invalid("INVALID_BLOCK", f"a block has {BLOCK} bytes; {len(call.body)} came")
    if _header(call, "Checksum-Algorithm") != "SHA256":
        raise _invalid("INVALID_PARAMETER_VALUE", "the checksum's algorithm must be SHA256")
    digest = hashlib.sha256(call.body).digest()
    checksum = base64.b64encode(digest).decode()
    if _header(call, "Checksum") != checksum:
        raise _invalid("INVALID_BLOCK", f"block {index} has the checksum {checksum}")
    progress = _header(call, "Progress") or "0"
    if not progress.isdigit() or int(progress) > 100:
        raise _invalid("INVALID_PARAMETER_VALUE", "Progress must be 0 to 100")
    upload.layer.put(int(index), call.body)
    upload.digests[int(index)] = digest
    upload.progress = max(upload.progress, min(99, int(progress)))
    upload.touched = time.monotonic()
    return Reply(201, [("x-amz-Checksum", checksum), ("x-amz-Checksum-Algorithm", "SHA256")], b"")


def _complete(call: Call) -> Reply:
    with rig().lock:
        snapshot = _find(ec2_backends[ACCOUNT][call.region], call.parameters["SnapshotId"])
        upload = snapshot.upload
        # A client that lost the answer asks again and is told the same.
        if upload and upload.completed:
            return Reply(202, [("Content-Type", "application/json")], _json({"Status": snapshot.status}))
        _writable(call)
        count = _header(call, "ChangedBlocksCount")
        if count != str(len(upload.digests)):
            raise _invalid("INVALID_PARAMETER_VALUE", f"ChangedBlocksCount is {count}, but {len(upload.digests)} were put")
        checksum = _header(call, "Checksum")
        if checksum:
            if (_header(call, "Checksum-Algorithm"), _header(call, "Checksum-Aggregation-Method")) != ("SHA256", "LINEAR"):
                raise _invalid("INVALID_PARAMETER_VALUE", "a checksum needs the algorithm SHA256 and the method LINEAR")
            whole = hashlib.sha256(b"".join(upload.digests[block] for block in sorted(upload.digests)))
            if base64.b64encode(whole.digest()).decode() != checksum:
                raise _invalid("INVALID_PARAMETER_VALUE", "the snapshot's checksum is another one")
        upload.layer.freeze()
        upload.completed = True
        snapshot.phase = Phase(rig().settings.snapshot)
        return Reply(202, [("Content-Type", "application/json")], _json({"Status": "pending"}))


def _readable(call: Call, snapshot_id: str) -> RigSnapshot:
    snapshot = _find(ec2_backends[ACCOUNT][call.region], snapshot_id)
    if snapshot.owner_id != ACCOUNT:
        raise EbsError(403, "AccessDeniedException", "UNAUTHORIZED_ACCOUNT", f"{snapshot_id} is not yours")
    if snapshot.status != "completed" or not snapshot.content():
        raise _invalid("INVALID_SNAPSHOT_ID", f"{snapshot_id} can't be read: it is {snapshot.status}")
    return snapshot


def _get(call: Call) -> Reply:
    snapshot = _readable(call, call.parameters["SnapshotId"])
    index = call.parameters["BlockIndex"]
    if call.parameters.get("blockToken") != _token(snapshot.id, index):
        raise _invalid("INVALID_BLOCK_TOKEN", "the token belongs to another block")
    content = snapshot.content().read(int(index))
    checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
    headers = [("x-amz-Data-Length", str(BLOCK)), ("x-amz-Checksum", checksum), ("x-amz-Checksum-Algorithm", "SHA256")]
    return Reply(200, [*headers, ("Content-Type", "application/octet-stream")], content)


def _list(call: Call) -> Reply:
    snapshot = _readable(call, call.parameters["SnapshotId"])
    blocks = sorted(snapshot.content().written())
    return _page(call, snapshot, "Blocks", blocks, lambda block: {"BlockIndex": block, "BlockToken": _token(snapshot.id, block)})


def _list_changed(call: Call) -> Reply:
    second = _readable(call, call.parameters["SnapshotId"])
    new = second.content()
    first_id = call.parameters.get("firstSnapshotId")
    if not first_id:
        changed = sorted(new.written())
        return _page(call, second, "ChangedBlocks", changed, lambda block: _change(block, None, second))
    first = _readable(call, first_id)
    old = first.content()
    if list(old.layer.chain())[-1] is not list(new.layer.chain())[-1]:
        raise _invalid("UNRELATED_SNAPSHOTS", f"{first.id} and {second.id} have no snapshot in common")
    changed = sorted(block for block in old.written() | new.written() if old.layer_of(block) is not new.layer_of(block))
    return _page(call, second, "ChangedBlocks", changed, lambda block: _change(block, first, second))


def _change(block, first, second):
    change = {"BlockIndex": block}
    for name, snapshot in (("FirstBlockToken", first), ("SecondBlockToken", second)):
        if snapshot and snapshot.content().layer_of(block):
            change[name] = _token(snapshot.id, block)
    return change


def _page(call, snapshot, name, blocks, describe) -> Reply:
    limit = call.parameters.get("maxResults", str(PAGE[1]))
    if not limit.isdigit() or not PAGE[0] <= int(limit) <= PAGE[1]:
        raise _invalid("INVALID_PARAMETER_VALUE", f"MaxResults must be {PAGE[0]} to {PAGE[1]}")
    start = int(call.parameters.get("startingBlockIndex", 0))
    if page := call.parameters.get("pageToken"):
        place, _, block = base64.urlsafe_b64decode(page.encode()).decode(errors="replace").partition(" ")
        if place != snapshot.id:
            raise _invalid("INVALID_PAGE_TOKEN", "the token belongs to another list")
        start = int(block)
    left = [block for block in blocks if block >= start]
    body = {
        name: [describe(block) for block in left[: int(limit)]],
        "ExpiryTime": time.time() + TOKEN_LIFE,
        "VolumeSize": snapshot.volume_size,
        "BlockSize": BLOCK,
    }
    if len(left) > int(limit):
        body["NextToken"] = base64.urlsafe_b64encode(f"{snapshot.id} {left[int(limit)]}".encode()).decode()
    return Reply(200, [("Content-Type", "application/json")], _json(body))


def _find(backend, snapshot_id) -> RigSnapshot:
    snapshot = backend.snapshots.get(snapshot_id)
    if not snapshot:
        raise EbsError(404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", f"the snapshot '{snapshot_id}' does not exist")
    return snapshot


def _token(snapshot_id, block):
    return base64.urlsafe_b64encode(hashlib.sha256(f"{snapshot_id} {block}".encode()).digest()).decode()


def _header(call, name):
    return call.environ.get("HTTP_X_AMZ_" + name.upper().replace("-", "_"))


def _json(body):
    return json.dumps(body).encode()
