"""The metadata service that a guest sees at 169.254.169.254 (version 2 with tokens, version 1 where it is allowed)."""

import base64
import http.server
import json
import secrets
import socketserver
import threading
import time
from pathlib import Path

from .machine import mac

VERSIONS = ("1.0", "2009-04-04", "2016-09-02", "2018-09-24", "2021-03-23", "latest")
TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
MAX_TTL = 21600


class MetadataServer(socketserver.ThreadingUnixStreamServer):
    """One for all instances; `relay.py` says which one a connection is from."""

    daemon_threads = True

    def __init__(self, path: Path, find_instance):
        path.unlink(missing_ok=True)
        super().__init__(str(path), _Handler)
        self.find_instance = find_instance
        self.tokens: dict[str, tuple[str, float]] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "EC2ws", ""

    def setup(self):
        super().setup()
        self.instance_id = self.rfile.readline().decode().strip()
        self.client_address = (self.instance_id, 0)

    def log_message(self, *_):
        pass

    def do_PUT(self):
        if self.path != "/latest/api/token":
            return self._answer(404)
        ttl = self.headers.get(TTL, "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= MAX_TTL:
            return self._answer(400)
        # Real ones refuse requests that came through a proxy, so that a fooled proxy gives nothing away.
        if "X-Forwarded-For" in self.headers:
            return self._answer(403)
        token = secrets.token_urlsafe(40)
        self.server.tokens[token] = (self.instance_id, time.monotonic() + int(ttl))
        self._answer(200, token, **{TTL: ttl})

    def do_GET(self):
        instance = self.server.find_instance(self.instance_id)
        if not instance or instance.metadata_options.http_endpoint == "disabled":
            return self._answer(403)
        token = self.headers.get(TOKEN)
        if token is None and instance.metadata_options.http_tokens == "required":
            return self._answer(401)
        if token is not None:
            owner, until = self.server.tokens.get(token, ("", 0))
            if owner != self.instance_id or until < time.monotonic():
                return self._answer(401)
        found = look_up(tree(instance), self.path)
        self._answer(404) if found is None else self._answer(200, found)

    def _answer(self, status, body="", **headers):
        content = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def look_up(root: dict, path: str) -> str | bytes | None:
    """A leaf's text, or a folder's listing; sub-folders end in a slash there."""
    node = root
    for part in path.split("?")[0].strip("/").split("/"):
        if part == "" and node is root:
            continue
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    if not isinstance(node, dict):
        return node
    if node.get("public-keys-listing"):
        return node["public-keys-listing"]
    return "\n".join(name + ("/" if isinstance(value, dict) else "") for name, value in node.items())


def tree(instance) -> dict:
    """All that the service says about an instance."""
    versions = {"meta-data": _meta_data(instance), "dynamic": _dynamic(instance)}
    if instance.user_data is not None:
        versions["user-data"] = base64.b64decode(str(instance.user_data))
    return dict.fromkeys(VERSIONS, versions)


def _meta_data(instance) -> dict:
    address = instance.private_ip_address
    hardware = mac(instance.id)
    groups = "\n".join(group.name for group in instance.security_groups)
    interface = {
        "device-number": "0",
        "interface-id": instance.nics[0].id,
        "local-hostname": instance.private_dns_name,
        "local-ipv4s": address,
        "mac": hardware,
        "owner-id": instance.owner_id,
        "security-groups": groups,
        "subnet-id": instance.subnet_id or "",
        "vpc-id": instance.vpc_id or "",
    }
    zone = instance.availability_zone
    data = {
        "ami-id": instance.image_id,
        "ami-launch-index": str(instance.ami_launch_index),
        "block-device-mapping": {"ami": instance.root_device_name, "root": instance.root_device_name},
        "hostname": instance.private_dns_name,
        "instance-action": "none",
        "instance-id": instance.id,
        "instance-life-cycle": instance.lifecycle or "on-demand",
        "instance-type": instance.instance_type,
        "local-hostname": instance.private_dns_name,
        "local-ipv4": address,
        "mac": hardware,
        "network": {"interfaces": {"macs": {hardware: interface}}},
        "placement": {"availability-zone": zone, "region": zone[:-1]},
        "profile": "default-hvm",
        "reservation-id": instance.reservation_id,
        "security-groups": groups,
        "services": {"domain": "amazonaws.com", "partition": "aws"},
    }
    if instance.public_ip_address:
        data["public-ipv4"] = interface["public-ipv4s"] = instance.public_ip_address
        data["public-hostname"] = interface["public-hostname"] = instance.public_dns_name or ""
    key = instance.ec2_backend.key_pairs.get(instance.key_name) if instance.key_name else None
    if key:
        keys = {"openssh-key": key.public_key.strip() + "\n"}
        data["public-keys"] = {"0": keys, "public-keys-listing": f"0={instance.key_name}"}
    if instance.metadata_options.instance_metadata_tags == "enabled":
        data["tags"] = {"instance": {tag["key"]: tag["value"] for tag in instance.get_tags()}}
    if instance.interruption:
        data["spot"] = {"instance-action": json.dumps(instance.interruption)}
        data["spot"]["termination-time"] = instance.interruption["time"]
    return data


def _dynamic(instance) -> dict:
    zone = instance.availability_zone
    document = {
        "accountId": instance.owner_id,
        "architecture": instance.architecture,
        "availabilityZone": zone,
        "imageId": instance.image_id,
        "instanceId": instance.id,
        "instanceType": instance.instance_type,
        "pendingTime": instance.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "privateIp": instance.private_ip_address,
        "region": zone[:-1],
        "version": "2017-09-30",
    }
    return {"instance-identity": {"document": json.dumps(document, indent=2)}}
