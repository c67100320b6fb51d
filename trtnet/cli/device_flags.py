"""Flags that say where an engine is executed."""

from __future__ import annotations

from trtnet.backend import choices
from trtnet.cli.flags import Group
from trtnet.cli.paths import word

RUNTIMES = ("torch", "openvino", "auto")


def add_runtime_flag(flag: Group) -> None:
    """Adds ``--runtime``."""
    flag("--runtime", choices=RUNTIMES, default="torch",
         help="what runs an engine of the torch backend on a CPU; auto: OpenVINO where it is "
         "installed and has all that the network needs; default: torch")  # fmt: skip


def add_device_flags(flag: Group) -> None:
    """Adds ``--backend`` and ``--device``."""
    flag("--backend", choices=choices(), default="auto", help="default: what the engine is for")
    flag("--device", default="auto", type=word, metavar="D",
         help="cpu, cuda or cuda:1; default: a GPU if any")  # fmt: skip
