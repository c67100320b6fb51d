"""Flags that say where an engine is executed."""

from __future__ import annotations

from trtnet.backend import choices
from trtnet.cli.flags import Group
from trtnet.cli.paths import word


def add_device_flags(flag: Group) -> None:
    """Adds ``--backend`` and ``--device``."""
    flag("--backend", choices=choices(), default="auto", help="default: what the engine is for")
    flag("--device", default="auto", type=word, metavar="D",
         help="cpu, cuda or cuda:1; default: a GPU if any")  # fmt: skip
