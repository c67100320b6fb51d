"""Flags that say where an engine is executed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TypedDict

from trtnet.backend import choices
from trtnet.cli.flags import Group, whole
from trtnet.cli.paths import updated_file, word

if TYPE_CHECKING:
    from trtnet.engines.session import Session

RUNTIMES = ("torch", "openvino", "lean", "dispatch", "auto")


class SessionOptions(TypedDict):
    """Arguments of :class:`trtnet.Session`."""

    runtime: str
    engine_host_code_allowed: bool
    optimization_level: int | None
    timing_cache: str | None


def add_runtime_flags(flag: Group) -> None:
    """Adds ``--runtime`` and ``--engineHostCodeAllowed``."""
    flag("--runtime", choices=RUNTIMES, default="torch",
         help="what runs an engine of the torch backend on a CPU: torch, the default, or openvino; "
         "auto: OpenVINO where it is installed and has all that the network needs. One of TensorRT "
         "that was built with --versionCompatible: lean, or dispatch; auto: full TensorRT where it "
         "is installed")  # fmt: skip
    flag("--engineHostCodeAllowed", action="store_true",
         help="load the runtime that a version-compatible engine of TensorRT brings, which is "
         "code: for engines that you trust")  # fmt: skip


def add_builder_flags(flag: Group) -> None:
    """Adds ``--builderOptimizationLevel`` and ``--timingCacheFile`` of what runs engines; those of
    what builds them are in :mod:`trtnet.cli.arguments`."""
    flag("--builderOptimizationLevel", type=whole(0, 5), metavar="0..5",
         help="how much an engine of the torch backend times on a GPU when it first runs for some "
         "shapes: nothing to everything; default: 3")  # fmt: skip
    flag("--timingCacheFile", type=updated_file, metavar="FILE",
         help="keeps what was found, for the same GPU and versions; it need not exist")  # fmt: skip


def session_options(arguments: argparse.Namespace) -> SessionOptions:
    """The arguments of :class:`trtnet.Session` in the flags of :func:`add_runtime_flags` and
    :func:`add_builder_flags`.

    Raises:
        UsageError: the file is there, and is no timing cache.
    """
    file = arguments.timingCacheFile
    if file is not None:
        from trtnet.engines.torch.tactics.timing_cache import TimingCache  # imports no PyTorch

        TimingCache({}, file)
    return {
        "runtime": arguments.runtime,
        "engine_host_code_allowed": arguments.engineHostCodeAllowed,
        "optimization_level": arguments.builderOptimizationLevel,
        "timing_cache": file,
    }


def notes_of(session: Session) -> list[str]:
    """Lines that say what is not as it was asked for."""
    return [f"note: {note}" for note in session.notes]


def add_device_flags(flag: Group) -> None:
    """Adds ``--backend`` and ``--device``."""
    flag("--backend", choices=choices(), default="auto", help="default: what the engine is for")
    flag("--device", default="auto", type=word, metavar="D",
         help="cpu, cuda or cuda:1; default: a GPU if any")  # fmt: skip
