"""What helps after a verification that failed."""

from __future__ import annotations

import argparse
import math
import re
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trtnet.cli import policy as policy_command
from trtnet.cli import target_flags
from trtnet.cli.commands import carried
from trtnet.cli.precision import ChosenPrecision
from trtnet.cli.search import search_parser
from trtnet.pipeline.model import RANDOM, is_random
from trtnet.precision.policy import Policy
from trtnet.precision.table import FLAGS, HALF, TABLE

if TYPE_CHECKING:
    from trtnet.pipeline.defined import DefinedModel

_PRECISION_FLAGS = (*(f"--{name}" for name in FLAGS), "--noTF32", "--no-t-f32", "--precision",
                    "--policy")  # fmt: skip
_CALIBRATION = ("--calib-data", "--calib-items", "--calib-table", "--calibrator")


def next_lines(
    arguments: argparse.Namespace,
    name: str,
    chosen: ChosenPrecision,
    model: DefinedModel,
    verify: Mapping[str, Any],
) -> list[str]:
    """What to do after a verification that failed, as lines of which the last is a command.

    Args:
        arguments: of ``trtnet zoo`` or ``trtnet verify``.
        name: of the model, as it was given.
        chosen: the precision.
        model: what was verified.
        verify: its report.
    """
    blame = verify["blame"]
    if blame is not None and blame["kind"] not in ("rounding", "quantization"):
        advice = "the definition differs from PyTorch's there; its layers are listed by"
        return [advice, _listing(arguments, name, chosen, "inspect")]
    data, lowered = arguments.calib_data, _lowered(chosen.policy)
    if data is None and is_random(model.model.weights):
        data = RANDOM
    if data is not None and lowered is not None:
        command = _search_command(arguments, name, chosen.policy, lowered, model, data)
        return ["the fastest mix within this limit is found by", command]
    start = "" if data else "the inputs were noise: compare it on --calib-data; "
    advice = (
        "a policy keeps what loses most in a wider precision; what each module gets now is "
        "listed by"
    )
    return [start + advice, _listing(arguments, name, chosen, "policy")]


def _lowered(policy: Policy) -> str | None:
    """The precision whose modules a search can set back; ``None`` where it has none."""
    coarsest = policy.calibrated_for or policy.coarsest
    return coarsest if policy.calibrated_for or coarsest in HALF else None


def _listing(
    arguments: argparse.Namespace, name: str, chosen: ChosenPrecision, command: str
) -> str:
    """``trtnet inspect`` or ``policy`` of the same model in the same precision."""
    if command == "policy":
        parser = policy_command.policy_parser()
    else:
        parser = target_flags.parser(command, "")
    words = ["trtnet", command, name, *carried(arguments.given, parser, _CALIBRATION)]
    if not any(one.flag in _PRECISION_FLAGS for one in arguments.given):
        words += ["--precision", chosen.name]
    return shlex.join(words)


def _search_command(
    arguments: argparse.Namespace,
    name: str,
    policy: Policy,
    lowered: str,
    model: DefinedModel,
    data: str,
) -> str:
    shapes = model.model.shapes
    words = ["trtnet", "search", name, *carried(arguments.given, search_parser())]
    if arguments.minShapes:
        words += ["--input", f"{shapes.name}:{'x'.join(map(str, shapes.typical[0]))}"]
    if arguments.batch is None:
        words += ["--batch", str(shapes.typical[0][0])]
    words += ["--to", lowered, "--budget", str(policy.budget or _budget_of(lowered))]
    file = re.sub(r"[^\w.+-]", "_", model.model.entry.name.rpartition(":")[2])
    return shlex.join([*words, "--data", data, "-o", f"{file}-mix.toml"])


def _budget_of(precision: str) -> str:
    """The limit of outputs in `precision`, as a budget."""
    limits = TABLE[precision].limits
    if math.isinf(limits.rel_l2):
        return f"cosine>={limits.cosine:g}"
    return f"sqnr>={-20 * math.log10(limits.rel_l2):.3g}dB"
