"""The flags that choose a precision, and what they mean."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from trtnet.cli.flags import Group, positive
from trtnet.cli.paths import input_data, input_file, kept_file, word
from trtnet.errors import UsageError
from trtnet.pipeline.precision_suffix import split_precision, unknown_precision
from trtnet.precision.policy import PRESETS, Policy
from trtnet.precision.table import FLAGS, QUANTIZED, TABLE
from trtnet.quantization.table import DEFAULT_ITEMS, DEFAULT_METHOD, METHODS


@dataclass(frozen=True)
class ChosenPrecision:
    """The one precision that flags ask for.

    Attributes:
        precision: the name of a preset, or the policy of a file.
        label: for the names of files: that of the preset, or of the policy's file.
    """

    precision: str | Policy
    label: str

    @property
    def name(self) -> str:
        """The preset's name; of a policy, what it computes in."""
        return self.precision if isinstance(self.precision, str) else self.precision.compute

    @property
    def policy(self) -> Policy:
        """The policy itself."""
        return Policy.preset(self.precision) if isinstance(self.precision, str) else self.precision


def add_precision_flags(flag: Group) -> None:
    """Adds the flags that :func:`settle_precision` reads."""
    for name in FLAGS:
        flag(f"--{name}", action="store_true", help=TABLE[name].help)
    flag("--noTF32", action="store_true", help=TABLE["fp32"].help)
    names = ", ".join(PRESETS)
    flag("--precision", type=word, metavar="P", help=f"{names}; default: tf32, as in trtexec")
    flag(
        "--policy",
        dest="policy_file",
        type=input_file,
        metavar="FILE",
        help="a precision for each module, of a TOML file",
    )


def add_calibration_flags(flag: Group) -> None:
    """Adds the flags of :class:`trtnet.pipeline.CalibrationSettings`."""
    flag(
        "--calib-data",
        type=input_data,
        metavar="DATA",
        help=f"for {' and '.join(QUANTIZED)}, and to check the range of fp16: a folder of images, "
        "a .npy or .npz file, or, for random weights, random",
    )
    flag(
        "--calib-items",
        type=positive,
        default=DEFAULT_ITEMS,
        metavar="N",
        help=f"how many of them to use at most, spread evenly; default {DEFAULT_ITEMS}",
    )
    add_calibrator_flag(flag)
    flag(
        "--calib-table",
        type=kept_file,
        metavar="FILE",
        help="the ranges: read where there is such a file, otherwise written; "
        "default: ENGINE.calib.json",
    )


def add_calibrator_flag(flag: Group) -> None:
    """Adds ``--calibrator``, the method that makes ranges of values."""
    flag("--calibrator", choices=METHODS, default=DEFAULT_METHOD, help=f"default: {DEFAULT_METHOD}")


def settle_precision(arguments: argparse.Namespace) -> ChosenPrecision:
    """The one precision that the flags ask for.

    Raises:
        UsageError: there is no such precision, they ask for several, or the policy's file cannot
            be read.
    """
    shortcuts = [name for name in FLAGS if getattr(arguments, name)]
    chosen = {*shortcuts, *filter(None, [arguments.precision])}
    file = arguments.policy_file
    files = [] if file is None else [str(file)]
    if len(chosen) + len(files) > 1 or (arguments.noTF32 and (files or "tf32" in chosen)):
        asked = [*sorted(chosen), *files, *["noTF32"] * arguments.noTF32]
        raise UsageError("choose one precision", got=", ".join(asked))
    if file is not None:
        return ChosenPrecision(Policy.load(file), file.stem)
    if not chosen:
        return _preset("fp32" if arguments.noTF32 else "tf32")
    (precision,) = chosen
    if precision not in PRESETS:
        raise unknown_precision(precision)
    return _preset(precision)


def named(text: str, arguments: argparse.Namespace) -> tuple[str, ChosenPrecision]:
    """The model and the precision that `text` names: ``resnet50:fp16``, or ``resnet50`` with
    flags.

    Raises:
        UsageError: a precision that does not exist, or one in `text` and another by a flag; see
            :func:`settle_precision`.
    """
    name, precision = split_precision(text)
    chosen = settle_precision(arguments)
    if precision is None:
        return name, chosen
    if _names_one(arguments):
        raise UsageError("choose one precision", got=f"{text} and {chosen.label}")
    return name, _preset(precision)


def _names_one(arguments: argparse.Namespace) -> bool:
    """Whether a flag names a precision."""
    flags = (*FLAGS, "noTF32", "precision", "policy_file")
    return any(getattr(arguments, flag) for flag in flags)


def _preset(name: str) -> ChosenPrecision:
    return ChosenPrecision(name, name)
