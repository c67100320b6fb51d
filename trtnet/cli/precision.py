"""The flags that choose a precision, and what they mean."""

from __future__ import annotations

import argparse
from pathlib import Path

from trtnet.cli.flags import Group, positive
from trtnet.errors import UsageError
from trtnet.precision.policy import PRESETS, Policy
from trtnet.precision.table import FLAGS, QUANTIZED, TABLE
from trtnet.quantization.table import METHODS


def add_precision_flags(flag: Group) -> None:
    """Settled by :func:`settle_precision` and :func:`settle_policy`."""
    for name in FLAGS:
        flag(f"--{name}", action="store_true", help=TABLE[name].help)
    flag("--noTF32", action="store_true", help=TABLE["fp32"].help)
    flag("--precision", metavar="P", help=f"{', '.join(PRESETS)}; default: tf32, as in trtexec")
    flag("--policy", type=Path, metavar="FILE", help="a precision for each module, of a TOML file")


def add_calibration_flags(flag: Group) -> None:
    """See :mod:`trtnet.cli.calibrating`."""
    flag(
        "--calib-data",
        metavar="DATA",
        help=f"for {' and '.join(QUANTIZED)}, and to check the range of fp16: a folder of images, "
        "a .npy or .npz file, or, for random weights, random",
    )
    flag("--calib-items", type=positive, default=512, metavar="N",
         help="how many of them to use at most, spread evenly; default 512")  # fmt: skip
    flag("--calibrator", choices=METHODS, default="mse", help="default: mse")
    flag(
        "--calib-table",
        type=Path,
        metavar="FILE",
        help="the ranges: read where there is such a file, otherwise written; "
        "default: ENGINE.calib.json",
    )


def settle_precision(arguments: argparse.Namespace) -> str:
    """The one precision that the flags ask for; of a policy, what it computes in.

    Raises:
        UsageError: there is no such precision, or they ask for several.
    """
    shortcuts = [name for name in FLAGS if getattr(arguments, name)]
    chosen = {*shortcuts, *filter(None, [arguments.precision])}
    files = [] if arguments.policy is None else [str(arguments.policy)]
    if len(chosen) + len(files) > 1 or (arguments.noTF32 and (files or "tf32" in chosen)):
        asked = [*sorted(chosen), *files, *["noTF32"] * arguments.noTF32]
        raise UsageError("choose one precision", got=", ".join(asked))
    if files:
        return Policy.load(arguments.policy).compute
    if not chosen:
        return "fp32" if arguments.noTF32 else "tf32"
    (precision,) = chosen
    if precision not in PRESETS:
        raise UsageError(f"unknown precision {precision!r}", expected=", ".join(PRESETS))
    return precision


def settle_policy(arguments: argparse.Namespace) -> Policy:
    """The policy that the flags ask for; raises what :func:`settle_precision` raises."""
    precision = settle_precision(arguments)
    if arguments.policy is not None:
        return Policy.load(arguments.policy)
    return Policy.preset(precision)


def named(text: str, arguments: argparse.Namespace) -> tuple[str, Policy]:
    """The model and the policy that `text` names: ``resnet50:fp16``, or ``resnet50`` with flags.

    Raises:
        UsageError: a precision that does not exist.
    """
    name, colon, precision = text.partition(":")
    if not colon:
        return name, settle_policy(arguments)
    if precision not in PRESETS:
        raise UsageError(f"unknown precision {precision!r}", expected=", ".join(PRESETS))
    return name, Policy.preset(precision)
