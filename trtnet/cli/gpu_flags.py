"""The flags that choose whose roofline gives times: ``--gpu`` and ``--ceilings``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from trtnet import graph
from trtnet.cli.paths import input_file, word
from trtnet.errors import UsageError
from trtnet.graph import Gpu
from trtnet.names import did_you_mean


def add_gpu_flags(flag: Callable[..., Any], default: str | None, use: str) -> None:
    """Adds the flags that :func:`chosen_gpu` reads.

    Args:
        flag: adds one.
        default: the key of the GPU where none is named; ``None`` for none.
        use: what it is for, in words.
    """
    names = ", ".join(graph.gpus())
    told = "" if default is None else f"default {default}; "
    flag("--gpu", type=word, metavar="GPU", help=f"{use}; {told}one of {names}, or of --ceilings")
    flag("--ceilings", type=input_file, metavar="FILE",
         help="peak rates of other processors, as trtnet ceilings writes them; --gpu names the one "
         "to take where there are several")  # fmt: skip


def chosen_gpu(arguments: argparse.Namespace, default: str | None = None) -> Gpu | None:
    """The processor that the flags name; ``None`` where they and `default` name none.

    Raises:
        UsageError: there is none of that name, or none is named and the file has several.
    """
    key = arguments.gpu
    if arguments.ceilings is None:
        key = key or default
        return None if key is None else graph.find_gpu(key)
    own = graph.load_ceilings(arguments.ceilings)
    if key is None and len(own) == 1:
        (only,) = own.values()
        return only
    if key not in own:
        raise UsageError(
            f"{arguments.ceilings} has several processors" if key is None
            else f"{arguments.ceilings} has no processor {key!r}",
            expected=", ".join(own),
            got=key,
            fix=(did_you_mean(key, own) if key else None) or "name one of them with --gpu (gpu=)",
        )  # fmt: skip
    return own[key]
