"""What the whole rig shares. moto calls the rig's functions without giving them anything, so this is a module's variable."""

import ipaddress
import itertools
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from .blocks import Content
from .faults import Faults
from .settings import Settings

ACCOUNT = "123456789012"


class State:
    """Replaced by a new one on `POST /_rig/reset`."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.faults = Faults()
        # moto's models are not made for threads, so one call is carried out at a time, and so is each change of a state.
        self.lock = threading.RLock()
        self._addresses = itertools.count(int(ipaddress.ip_address(settings.network)) + 10)

    def address(self) -> str:
        """A loopback address that nothing else uses. In a /16, they come round again after 65,000 instances."""
        while True:
            number = next(self._addresses) - int(ipaddress.ip_address(self.settings.network))
            address = str(ipaddress.ip_address(self.settings.network) + number % 65000)
            if not self.settings.machines:
                return address
            with socket.socket() as attempt:
                try:
                    attempt.bind((address, self.settings.ssh_port))
                except PermissionError:
                    raise RuntimeError(
                        f"port {self.settings.ssh_port} is for root only: start the rig with `--ssh-port 2222`"
                    ) from None
                except OSError:
                    continue
                return address


_state: State | None = None


def rig() -> State:
    """The rig's state of now."""
    assert _state is not None
    return _state


def begin(settings: Settings) -> State:
    """A new state; the caller has ended what belonged to the old one."""
    global _state
    _state = State(settings)
    return _state


class Phase:
    """Something that AWS does not finish at once: pending for its time and until its work is done, then done or failed.

    It asks the faults whether this one shall stay pending or fail.
    """

    def __init__(self, seconds: float, content: "Content | Future | None" = None):
        lasting = rig().faults.take("pending")
        failing = rig().faults.take("failed")
        if lasting:
            seconds = lasting.seconds if lasting.seconds is not None else float("inf")
        self._begin = time.monotonic()
        self._seconds = seconds
        self._work = content if isinstance(content, Future) else None
        self._failure = failing.message or "Server.InternalError: Internal error" if failing else None

    def _working(self) -> bool:
        return self._work is not None and not self._work.done()

    @property
    def pending(self) -> bool:
        return time.monotonic() < self._begin + self._seconds or self._working()

    @property
    def failure(self) -> str | None:
        """Why it failed; absent while it is pending too."""
        if self.pending:
            return None
        if self._failure is None and self._work and self._work.exception():
            return f"Server.InternalError: {self._work.exception()}"
        return self._failure

    @property
    def progress(self) -> int:
        if not self.pending:
            return 100
        share = (time.monotonic() - self._begin) / self._seconds if self._seconds else 0.99
        return min(99, int(share * 100))


def value(content: Content | Future | None) -> Content | None:
    """A content that may still be in the making."""
    return content.result() if isinstance(content, Future) else content


def graft(source: type, target: type) -> None:
    """Puts the functions of a class into one of moto's, over what is there."""
    for name, function in vars(source).items():
        if not name.startswith("__"):
            setattr(target, name, function)


def background(work: Callable[[], Any]) -> Future:
    """Carries something out in a thread of its own."""
    future: Future = Future()

    def run():
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def after(seconds: float, change: Callable[[], Any]) -> None:
    """Changes a state later, if the rig has not been reset until then. Without seconds it is done at once."""
    state = rig()

    def run():
        with state.lock:
            if state is _state:
                change()

    if seconds <= 0:
        return run()
    timer = threading.Timer(seconds, run)
    timer.daemon = True
    timer.start()
