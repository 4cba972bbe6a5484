"""A call as the rig sees it, whichever protocol it came by, and the log of all calls."""

import dataclasses
import json
import re
import threading
import time
from urllib.parse import parse_qsl

EBS_PATHS = (
    ("POST", re.compile(r"/snapshots/?$"), "StartSnapshot"),
    ("POST", re.compile(r"/snapshots/completion/(?P<SnapshotId>[^/]+)$"), "CompleteSnapshot"),
    ("PUT", re.compile(r"/snapshots/(?P<SnapshotId>[^/]+)/blocks/(?P<BlockIndex>[^/]+)$"), "PutSnapshotBlock"),
    ("GET", re.compile(r"/snapshots/(?P<SnapshotId>[^/]+)/blocks/(?P<BlockIndex>[^/]+)$"), "GetSnapshotBlock"),
    ("GET", re.compile(r"/snapshots/(?P<SnapshotId>[^/]+)/blocks/?$"), "ListSnapshotBlocks"),
    ("GET", re.compile(r"/snapshots/(?P<SnapshotId>[^/]+)/changedblocks/?$"), "ListChangedBlocks"),
)
_SCOPE = re.compile(r"Credential=[^/]+/\d+/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")


@dataclasses.dataclass
class Call:
    service: str
    action: str
    region: str
    # Form fields, members of a JSON body, or parts of the path: names are as they were sent.
    parameters: dict[str, str]
    body: bytes
    environ: dict


@dataclasses.dataclass
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


def read_call(environ: dict) -> Call:
    """Reads the whole request and leaves it readable for moto."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length) if length else b""
    scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
    region = scope["region"] if scope else "us-east-1"
    service = scope["service"] if scope else ""
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    if service == "ebs":
        for verb, pattern, action in EBS_PATHS:
            match = pattern.fullmatch(path)
            if verb == method and match:
                members = _members(body) if action == "StartSnapshot" else {}
                return Call(service, action, region, {**members, **query, **match.groupdict()}, body, environ)
    target = environ.get("HTTP_X_AMZ_TARGET")
    if target:
        return Call(service, target.rsplit(".", 1)[-1], region, _members(body), body, environ)
    form = query
    if "form-urlencoded" in environ.get("CONTENT_TYPE", ""):
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
    action = form.pop("Action", f"{method} {path}")
    return Call(service, action, region, form, body, environ)


def _members(body):
    try:
        members = json.loads(body or b"{}")
    except ValueError:
        return {}
    return {name: each if isinstance(each, str) else json.dumps(each) for name, each in members.items()}


def error_code(reply: Reply) -> str | None:
    """The code in an answer that is an error."""
    if reply.status < 400:
        return None
    kind = dict((name.lower(), each) for name, each in reply.headers).get("x-amzn-errortype")
    if kind:
        return kind.split(":")[0]
    match = re.search(rb"<Code>([^<]+)</Code>", reply.body) or re.search(rb'"__type"\s*:\s*"([^"]+)"', reply.body)
    return match[1].decode().split("#")[-1] if match else f"HTTP {reply.status}"


class CallLog:
    """Every call in the order of its arrival."""

    def __init__(self):
        self._lock = threading.Lock()
        self._entries: list[dict] = []

    def begin(self, call: Call) -> dict:
        with self._lock:
            entry = {
                "number": len(self._entries) + 1,
                "time": time.time(),
                "service": call.service,
                "action": call.action,
                "region": call.region,
                "outcome": "running",
                "fault": None,
                "parameters": sorted(call.parameters),
            }
            self._entries.append(entry)
        return entry

    def entries(self) -> list[dict]:
        with self._lock:
            return list(self._entries)
