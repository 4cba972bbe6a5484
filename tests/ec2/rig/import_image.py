"""A disk image as a public AMI of a running rig: `rig.sh import NAME FILE`. Prints the AMI's id."""

import argparse
import json
import os
import urllib.request
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="rig.sh import")
    parser.add_argument("name")
    parser.add_argument("path", type=Path)
    parser.add_argument("--owner", default="136693071363", help="an account's number (default: Debian's)")
    parser.add_argument("--region", default=os.environ.get("AWS_REGION", "us-east-1"))
    parser.add_argument("--boot-mode", default="uefi-preferred")
    given = parser.parse_args()
    order = vars(given) | {"path": str(given.path.absolute())}
    request = urllib.request.Request(os.environ["AWS_ENDPOINT_URL"] + "/_rig/images", json.dumps(order).encode())
    # Not by a proxy that the environment names: the rig is on this host.
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        print(json.load(answer)["ImageId"])


if __name__ == "__main__":
    main()
