"""One connection of a guest to the metadata service: standard input and output to the rig's socket and back.

QEMU starts this for each connection to 169.254.169.254:80. It is a program of its own and imports next to nothing,
because a guest's cloud-init makes some thirty connections.
"""

import os
import select
import socket
import sys


def main(path: str, instance: str) -> None:
    rig = socket.socket(socket.AF_UNIX)
    rig.connect(path)
    # The rig learns who asks: the guest's own words must not say it.
    rig.sendall(instance.encode() + b"\n")
    while True:
        for ready in select.select([0, rig], [], [])[0]:
            if ready is rig:
                content = rig.recv(65536)
                if not content:
                    return
                os.write(1, content)
            else:
                content = os.read(0, 65536)
                if not content:
                    return
                rig.sendall(content)


if __name__ == "__main__":
    main(*sys.argv[1:])
