"""Faults that a test orders by action, and when each of them strikes."""

import contextlib
import dataclasses
import itertools
import random
import threading
from collections.abc import Iterator

from .calls import Call

# Kinds that replace or damage an answer, and kinds that change what the action does; see docs/ec2-rig.md.
ANSWERS = ("throttle", "error", "error-after", "lost-request", "lost-reply", "delay", "hang", "not-found")
EFFECTS = ("pending", "failed", "capacity", "interrupt")
# Parameters that refer to nothing that is there.
NO_REFERENCES = ("TagSpecification", "Tag.", "Filter.", "GroupName", "Name", "Description", "ClientToken")


class BadFault(Exception):
    """An order that the rig does not understand."""


@dataclasses.dataclass
class Fault:
    action: str
    kind: str
    # The first call that it strikes, counted among those that fit, and how many it strikes from there on.
    nth: int = 1
    count: int | None = 1
    # Strikes each fitting call with this probability only; the same seed gives the same calls.
    rate: float | None = None
    seed: int = 0
    match: dict[str, str] = dataclasses.field(default_factory=dict)
    code: str | None = None
    status: int | None = None
    message: str | None = None
    seconds: float | None = None
    describes: int = 1
    zone: str | None = None
    instance_type: str | None = None
    id: int = 0
    seen: int = 0
    struck: int = 0

    def __post_init__(self):
        if self.kind not in ANSWERS + EFFECTS:
            raise BadFault(f"`{self.kind}` is no kind of fault; there are {', '.join(ANSWERS + EFFECTS)}")
        self._random = random.Random(self.seed)

    def strikes(self, call: Call) -> bool:
        if self.action not in ("*", call.action, f"{call.service}:{call.action}"):
            return False
        if any(call.parameters.get(name) != wanted for name, wanted in self.match.items()):
            return False
        self.seen += 1
        if self.seen < self.nth or (self.count is not None and self.struck >= self.count):
            return False
        if self.rate is not None and self._random.random() >= self.rate:
            return False
        self.struck += 1
        return True


class Faults:
    """All faults that were ordered, and the call that each thread is carrying out."""

    def __init__(self):
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._numbers = itertools.count(1)
        self._current = threading.local()
        # What was made a moment ago and is not seen yet, with the number of calls until it is.
        self._hidden: dict[str, int] = {}

    def add(self, order: dict) -> Fault:
        try:
            fault = Fault(**order)
        except TypeError as error:
            raise BadFault(str(error)) from None
        fault.id = next(self._numbers)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self, number: int | None = None) -> None:
        with self._lock:
            self._faults = [fault for fault in self._faults if number is not None and fault.id != number]

    def all(self) -> list[dict]:
        return [dataclasses.asdict(fault) for fault in self._faults]

    def answer(self, call: Call) -> Fault | None:
        """The fault that strikes this call's answer."""
        with self._lock:
            return next((fault for fault in self._faults if fault.kind in ANSWERS and fault.strikes(call)), None)

    @contextlib.contextmanager
    def during(self, call: Call, entry: dict) -> Iterator[None]:
        """While this runs, `take` is about this call."""
        self._current.call, self._current.entry, self._current.asked = call, entry, set()
        try:
            yield
        finally:
            self._current.call = None

    def take(self, kind: str, **facts: str | None) -> Fault | None:
        """A fault of an effect of the call that is being carried out. `facts` are what the action came to know."""
        call = getattr(self._current, "call", None)
        if not call:
            return None
        with self._lock:
            for fault in self._faults:
                fits = all(getattr(fault, name) in (None, fact) for name, fact in facts.items())
                # Asked about once a call: an image and its snapshots come from one CreateImage.
                if fault.kind != kind or not fits or fault.id in self._current.asked:
                    continue
                self._current.asked.add(fault.id)
                if fault.strikes(call):
                    self._current.entry["fault"] = kind
                    return fault
        return None

    def hide(self, identifier: str, calls: int) -> None:
        """The next calls that ask for this get "not found"."""
        with self._lock:
            self._hidden[identifier] = calls

    def hidden(self, identifier: str) -> bool:
        """Whether it is not seen yet, counted as one call."""
        with self._lock:
            left = self._hidden.get(identifier, 0)
            if left > 0:
                self._hidden[identifier] = left - 1
            return left > 0

    def hidden_parameter(self, call: Call) -> str | None:
        """Which not yet seen thing the call names, if any.

        Tags and names of other things may have the same text, and what a filter looks for is left out of the list.
        """
        named = (each for name, each in call.parameters.items() if not name.startswith(NO_REFERENCES))
        return next((each for each in named if each in self._hidden and self.hidden(each)), None)
