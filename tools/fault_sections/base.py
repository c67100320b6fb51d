"""What a section of ``tools/faults.py`` is."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from trtnet.building.plan import FORMAT_VERSION, Plan

Row = Mapping[str, Any]
"""The result of a case: JSON values. ``lost`` says what went wrong; empty where nothing did."""


class Section(ABC):
    """A kind of fault, tried in numbered cases.

    Attributes:
        title: of the table.
        count: how many cases a whole run has.
        folder: where the cases write. What a case leaves there the next one finds.
    """

    title: ClassVar[str]
    count: ClassVar[int]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def case(self, number: int) -> Row:
        """Tries one case; equal numbers give equal plans and delays."""

    @abstractmethod
    def lines(self, rows: Sequence[Row]) -> list[str]:
        """What was found, as Markdown, but for the losses."""


def plan(size: int, **about: Any) -> Plan:
    """A plan of `size` bytes that no backend can load; it has a sidecar if `about` says
    anything."""
    engine = hashlib.sha256(repr((size, about)).encode()).digest() * (size // 32 + 1)
    stated = {"bytes": len(engine), "sha256": hashlib.sha256(engine).hexdigest()}
    described = {"format_version": FORMAT_VERSION, "engine": stated, **about}
    return Plan(engine, described if about else {})


def forked(work: Callable[[], object]) -> int:
    """The id of a new process that does `work` and ends."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)
