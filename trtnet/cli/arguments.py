"""The flags of ``python -m trtnet.zoo``: trtexec's names where trtexec has them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from trtnet.backend import choices
from trtnet.building.options import PROFILING_VERBOSITIES
from trtnet.cli.flags import Group, Parser, positive, real, seed, whole
from trtnet.cli.options import LEVELS
from trtnet.cli.paths import (
    input_model,
    input_weights,
    output_engine,
    output_report,
    updated_file,
    word,
)
from trtnet.cli.precision import add_calibration_flags, add_precision_flags, named
from trtnet.cli.preprocess_flags import add_class_names_flag, add_preprocess_flags
from trtnet.cli.removed_flags import refuse_removed_flags
from trtnet.errors import UsageError
from trtnet.files.roles import NamedFile, Place, Use
from trtnet.network.forms import FORMS, NATIVE, NMS
from trtnet.pipeline.recipe import default_engine

_EPILOG = """\
Flags in camel case are accepted in kebab case too: --save-engine is --saveEngine.
Exit status: 0 done and verified, 1 verification or build failed, 2 bad usage."""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments; ``chosen`` is the one precision that they ask for, and ``model`` is without
    it.

    Raises:
        UsageError: an argument that is unknown, removed, or in conflict.
        SystemExit: after ``--help``.
    """
    refuse_removed_flags(argv)
    arguments = zoo_parser().parse_args(argv)
    if arguments.backend not in choices():
        raise UsageError(f"no backend {arguments.backend!r}", expected=", ".join(choices()))
    if arguments.list is None and arguments.model is None:
        raise UsageError("name a model", fix="--list shows them, --help the flags")
    arguments.model, arguments.chosen = named(arguments.model or "", arguments)
    return arguments


def zoo_parser() -> Parser:
    """The parser of ``python -m trtnet.zoo``."""
    parser = Parser(
        prog="python -m trtnet.zoo",
        usage="%(prog)s MODEL [flags]\n       %(prog)s --list [PATTERN]",
        description="Builds a TensorRT engine of a model and verifies it against PyTorch.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "model", nargs="?", type=input_model, metavar="MODEL", help="such as resnet50"
    )
    parser.add_argument(
        "--list",
        nargs="?",
        const="*",
        type=word,
        metavar="PATTERN",
        help="list models, such as 'resne*t*'",
    )
    add_model_flags(Group(parser, "model"))
    add_precision_flags(Group(parser, "precision"))
    add_calibration_flags(Group(parser, "calibration"))
    images = Group(parser, "preprocessing of images: for --calib-data, and for the sidecar")
    add_preprocess_flags(images)
    add_class_names_flag(images)
    add_shape_flags(Group(parser, "shapes"))
    _add_output_flags(Group(parser, "engine, verification, report"))
    _add_builder_flags(Group(parser, "builder options"))
    parser.following = _default_folder
    return parser


def _default_folder(arguments: argparse.Namespace) -> Iterator[NamedFile]:
    """The folder of the engine where no flag names it."""
    if arguments.saveEngine is None and arguments.list is None:
        folder = default_engine("", "").parent
        yield NamedFile("--saveEngine", folder, Use.WRITE, "the folder", Place.FOLDERS)


def add_model_flags(flag: Group) -> None:
    """Adds flags for weights and the model's arguments."""
    flag(
        "--weights",
        type=input_weights,
        metavar="W",
        help="random, DEFAULT, a torchvision enum name such as IMAGENET1K_V2, or a file; "
        "default: what is shipped, or else random",
    )
    add_weights_key_flag(flag)
    flag("--seed", type=seed, default=0, help="of random weights and of verification's inputs")
    add_architecture_flags(flag)


def add_weights_key_flag(flag: Group | Callable[..., Any]) -> None:
    """Adds ``--weights-key``; see :func:`trtnet.weights.load`."""
    flag(
        "--weights-key",
        type=word,
        metavar="KEY",
        help="which of several weights in a file: an entry, such as state_dict_ema, or what the "
        "keys to take begin with, such as teacher.backbone",
    )


def add_architecture_flags(flag: Group) -> None:
    """Adds flags for arguments of the model's builder."""
    flag("--num-classes", type=positive, metavar="N")
    flag("--in-channels", type=positive, metavar="N", help="of the images: 1 for gray")
    flag("--image-size", type=positive, metavar="N", help="height and width")
    switch = {"action": "store_const", "const": True}
    flag("--argmax", **switch, help="segmentation: classes (N, H, W) in INT32 instead of logits")
    flag("--aux-loss", **switch, help="segmentation: also the output of the auxiliary head")
    add_training_flags(flag)
    flag("--output-format", type=word, metavar="F", help="detection: efficientnms, the default: "
         "num_dets, det_boxes, det_scores and det_classes; rows6: detections; or raw: boxes and "
         "scores before suppression")  # fmt: skip


def add_training_flags(flag: Group | Callable[..., Any]) -> None:
    """Adds flags for arguments of the model's builder that weights were trained with, where the
    weights themselves do not say them; see :mod:`trtnet.zoo.trained_arguments`."""
    flag("--norm-eps", type=real(0, 1), metavar="E", help="detectors on ResNet-50: what BatchNorm "
         "adds to variances; what was trained from torchvision's COCO_V1 needs 0")  # fmt: skip
    flag("--transform-input", action="store_const", const=True, help="googlenet, inception_v3: "
         "what was trained from torchvision's weights needs it")  # fmt: skip


def add_input_flag(flag: Group) -> None:
    """Adds ``--input``: name and shape of a model's input."""
    flag(
        "--input",
        dest="model_input",
        action="append",
        default=[],
        type=word,
        metavar="SPEC",
        help="input:1x3x224x224, the name and the shape of the input, for models that do not "
        "state one",
    )


def add_shape_flags(flag: Group) -> None:
    """Adds ``--input``, ``--batch``, and those of :func:`trtnet.cli.shapes.parse_profiles`."""
    add_input_flag(flag)
    flag("--batch", type=positive, metavar="N", help="static batch size, default 1")
    for which in ("min", "opt", "max"):
        flag(
            f"--{which}Shapes",
            action="append",
            default=[],
            type=word,
            metavar="SPEC",
            help="input:1x3x224x224; axes that differ between the three become dynamic; "
            "repeat all three for further profiles"
            if which == "min"
            else None,
        )


def add_backend_flag(flag: Group) -> None:
    """Adds ``--backend``, for which the network is defined, ``--plugins`` and ``--nms``."""
    flag("--backend", choices=choices(), default="auto")
    add_plugins_flag(flag)


def add_plugins_flag(flag: Group) -> None:
    """Adds ``--plugins`` and ``--nms``; see :class:`trtnet.Network`."""
    flag(
        "--plugins",
        choices=FORMS,
        default="auto",
        help="what custom plugins become: layers with their own kernels, or TensorRT's layers; "
        "default: the first of the two that the backend has",
    )
    flag(
        "--nms",
        choices=NMS,
        default=NATIVE,
        help="who suppresses the boxes of a detector: layers that every backend has (default), "
        "TensorRT's NMS layer (not rtx), or the plugin greedy_nms",
    )


def _add_output_flags(flag: Group) -> None:
    names = ", ".join(choices())
    flag("--backend", type=word, metavar="B", default="auto", help=f"{names}; default: auto")
    add_plugins_flag(flag)
    flag(
        "--compute-capability",
        type=_comma_separated,
        default=(),
        metavar="CC",
        help="GPUs to build for, such as 8.6,8.9 (rtx)",
    )
    flag(
        "--saveEngine",
        type=output_engine,
        metavar="PATH",
        help="default: engines/MODEL-PRECISION.engine, or a longer name where that is an engine of "
        "another backend, shape or number of classes; what is known about it goes to PATH.json",
    )
    flag("--force", action="store_true", help="build even if nothing has changed")
    flag("--skip-verify", action="store_true", help="do not compare with PyTorch")
    flag(
        "--verify-inputs",
        type=positive,
        default=1,
        metavar="N",
        help="number of seeded images to compare, rounded up to whole batches; default 1",
    )
    flag(
        "--verify-shapes",
        action="append",
        default=[],
        type=word,
        metavar="SPEC",
        help="input:1x3x333x517, repeatable: sizes to compare; default: opt, and for images of "
        "dynamic size also min and an odd size in between",
    )
    flag("--json", type=output_report, metavar="PATH", help="write a report; - for stdout")


_WHERE = "of TensorRT's builder; an engine of the torch backend takes it where it runs: trtnet run"


def _add_builder_flags(flag: Group) -> None:
    flag(
        "--memPoolSize",
        type=word,
        metavar="SPEC",
        help="workspace:1024,tacticSharedMem:48K; MiB by default",
    )
    flag("--timingCacheFile", type=updated_file, metavar="PATH", help=_WHERE)
    flag("--builderOptimizationLevel", type=whole(0, 5), metavar="0..5", help=_WHERE)
    flag(
        "--tacticSources",
        type=word,
        metavar="SPEC",
        help="such as -JIT_CONVOLUTIONS,+EDGE_MASK_CONVOLUTIONS",
    )
    flag("--avgTiming", type=whole(1, 1024), metavar="N")
    flag("--maxAuxStreams", type=whole(0, 1024), metavar="N")
    flag("--profilingVerbosity", type=word, metavar="V", help=", ".join(PROFILING_VERBOSITIES))
    flag("--versionCompatible", action="store_true",
         help="for later TensorRT releases too, by a runtime that it brings")  # fmt: skip
    flag("--excludeLeanRuntime", action="store_true",
         help="of --versionCompatible: without that runtime; TensorRT's lean runtime of the same "
         "release runs the engine")  # fmt: skip
    flag("--hardwareCompatibilityLevel", type=word, metavar="L", help=", ".join(LEVELS))
    flag("--stripWeights", action="store_true",
         help="leave out the weights; trtnet refit puts them in")  # fmt: skip
    flag("--refit", action="store_true",
         help="let trtnet refit put weights of another checkpoint in")  # fmt: skip
    flag(
        "--refit-individual",
        action="append",
        default=[],
        type=word,
        metavar="PATTERN",
        help="of --refit, for weights alone whose keys match, such as 'head.*'; repeatable",
    )


def _comma_separated(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
