"""``python -m trtnet.weights``: extract, inspect and convert weights files."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtnet.cli.arguments import add_training_flags, add_weights_key_flag
from trtnet.cli.flags import Group, Parser, positive, seed
from trtnet.cli.guard import program
from trtnet.cli.paths import input_file, input_weights, input_weights_file, output_file, word
from trtnet.cli.preprocess_flags import (
    add_class_names_flag,
    add_preprocess_flags,
    stated_class_names,
    stated_preprocessing,
)
from trtnet.cli.streams import say
from trtnet.cli.tables import table
from trtnet.errors import UsageError
from trtnet.files.roles import NamedFile, Use

if TYPE_CHECKING:
    from trtnet.imaging.preprocessing import Preprocessing
    from trtnet.pipeline.preprocessing import StatedPreprocessing
    from trtnet.weights import Weights

_EPILOG = "Exit status: 0 done, 1 failed, 2 bad usage."
_ARGUMENTS = ("num_classes", "in_channels", "image_size", "norm_eps", "transform_input")
_CFG = "of darknet's .weights: the network, where it is not beside the file under its name"
_COLUMNS = (("key", "left"), ("shape", "left"), ("dtype", "left"))


@program
def main(argv: Sequence[str]) -> int:
    """Runs one command; errors go to stderr as text.

    Returns:
        0 when it is done, 1 when it failed, 2 for bad usage; see :mod:`trtnet.cli.guard`.
    """
    arguments = _parser().parse_args(argv)
    status: int = arguments.run(arguments)
    return status


def _parser() -> Parser:
    parser = Parser(prog="python -m trtnet.weights", description=__doc__, epilog=_EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    extract = commands.add_parser(
        "extract", help="write a model's weights to a file", epilog=_EPILOG
    )
    extract.add_argument(
        "model",
        type=word,
        help="a model of the zoo, such as resnet50 or lenet5, of torchvision, or timm:NAME; or a "
        "file of weights, such as best.pt",
    )
    extract.add_argument(
        "--weights",
        type=input_weights,
        help="random, DEFAULT, a torchvision enum name such as IMAGENET1K_V2, or the path of a "
        "weights file; default: what is shipped, or else random",
    )
    add_weights_key_flag(extract.add_argument)
    extract.add_argument("--seed", type=seed, default=0, help="for --weights random")
    extract.add_argument("--num-classes", type=positive, help="size of the classifier")
    extract.add_argument("--in-channels", type=positive, help="of the images: 1 for gray")
    extract.add_argument("--image-size", type=positive, help="of the images, where models have one")
    add_training_flags(extract.add_argument)
    extract.add_argument("-o", "--output", type=output_file, help="default: MODEL.safetensors")
    extract.set_defaults(run=_extract)

    inspect = commands.add_parser("inspect", help="show what a weights file holds", epilog=_EPILOG)
    inspect.add_argument("file", type=input_weights_file)
    add_weights_key_flag(inspect.add_argument)
    inspect.add_argument("--cfg", type=input_file, help=_CFG)
    inspect.set_defaults(run=_inspect)

    convert = commands.add_parser(
        "convert",
        help="convert between safetensors, PyTorch checkpoints, .wts and timm's names",
        epilog=_EPILOG,
    )
    convert.add_argument("source", type=input_weights_file)
    convert.add_argument("target", type=output_file, help="its extension says which format")
    convert.add_argument(
        "--model",
        type=word,
        help="a model of the zoo, such as resnet50: the weights must fit it, and a .wts file takes "
        "its shapes; or timm's name of one, such as timm/vit_base_patch16_224, for timm's keys",
    )
    add_weights_key_flag(convert.add_argument)
    convert.add_argument("--cfg", type=input_file, help=_CFG)
    convert.add_argument("--num-classes", type=positive, help="of --model")
    convert.add_argument("--in-channels", type=positive, help="of --model: 1 for gray images")
    convert.add_argument("--image-size", type=positive, help="of --model, where it has one")
    add_training_flags(convert.add_argument)
    stored = Group(convert, "what a safetensors file says about images and classes")
    add_preprocess_flags(stored)
    add_class_names_flag(stored)
    convert.set_defaults(run=_convert)

    for command in (extract, inspect, convert):
        command.add_argument("--json", action="store_true", help="print a JSON report")
    parser.following = _extracted
    return parser


def _default_output(model: str) -> Path:
    from trtnet.weights.loading import READABLE

    name = Path(model).stem if model.endswith(READABLE) else model.rpartition(":")[2]
    return Path(re.sub(r"[^-\w.]", "_", name) + ".safetensors")


def _extracted(arguments: argparse.Namespace) -> Iterator[NamedFile]:
    """The file of ``extract`` where no flag names it."""
    if arguments.command == "extract" and arguments.output is None:
        yield NamedFile("-o", _default_output(arguments.model), Use.WRITE)


def _extract(arguments: argparse.Namespace) -> int:
    from trtnet.weights import extract
    from trtnet.weights.loading import READABLE

    started = time.perf_counter()
    path = arguments.output or _default_output(arguments.model)
    if path.suffix != ".safetensors":
        raise UsageError(
            "extract writes safetensors files",
            expected="*.safetensors",
            got=path,
            fix=f"name it {path.with_suffix('.safetensors').name}; `convert` makes another format "
            "of it",
        )
    written = extract(
        arguments.model,
        path,
        arguments.weights,
        arguments.seed,
        key=arguments.weights_key,
        **_model_arguments(arguments),
    )
    _say_notes(written, arguments.model if arguments.model.endswith(READABLE) else path)
    seconds = round(time.perf_counter() - started, 3)
    _print_report(written, arguments.json, written.notes, seconds=seconds)
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    from trtnet.weights import convert, load

    chosen = _model_arguments(arguments)
    if chosen and arguments.model is None:
        raise UsageError(
            "--num-classes, --in-channels, --image-size, --norm-eps and --transform-input are of a "
            "model",
            fix="name it: --model",
        )
    stated = stated_preprocessing(arguments)
    rules = None if stated is None else stated.over(_said(arguments.source, stated))
    written = convert(
        arguments.source,
        arguments.target,
        arguments.model,
        key=arguments.weights_key,
        cfg=arguments.cfg,
        preprocessing=None if rules is None else rules.as_dict(),
        class_names=stated_class_names(arguments),
        **chosen,
    )
    stored = load(arguments.target)
    _print_report(stored, arguments.json, written.notes)
    _say_notes(written, arguments.source)
    if written.metadata and not stored.metadata:
        left_out = ", ".join(written.metadata)
        say(f"note: {arguments.target.suffix} files have no metadata; left out: {left_out}",
            stream=sys.stderr)  # fmt: skip
    return 0


def _model_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(arguments, name) for name in _ARGUMENTS}
    return {name: value for name, value in given.items() if value is not None}


def _said(path: Path, stated: StatedPreprocessing) -> Preprocessing | None:
    """What a weights file says about preprocessing, where single entries of it are to change."""
    from trtnet.imaging.preprocessing import checked_preprocessing
    from trtnet.weights import load

    said = load(path).preprocessing if stated.base is None else None
    return None if said is None else checked_preprocessing(said)


def _inspect(arguments: argparse.Namespace) -> int:
    from trtnet.weights import data_sha256
    from trtnet.weights.loading import read
    from trtnet.weights.prefixes import counted, without_wrappers

    weights = read(arguments.file, arguments.weights_key, cfg=arguments.cfg)
    dropped = without_wrappers(weights).prefixes.items()
    weights = weights.noted(tuple(
        f"{counted(count)} the prefix `{prefix}`, which is dropped where the weights are loaded"
        for prefix, count in dropped
    ))  # fmt: skip
    _say_notes(weights, arguments.file)
    recorded = None if arguments.weights_key else weights.metadata.get("sha256")
    intact = recorded is None or recorded == data_sha256(weights)
    if arguments.json:
        keys = {
            name: {"shape": list(array.shape), "dtype": str(array.dtype)}
            for name, array in weights.items()
        }
        _print_report(weights, True, weights.notes, keys=keys, intact=intact)
    else:
        _print_report(weights, False)
        say("")
        rows = [(key, "x".join(map(str, weights[key].shape)), weights[key].dtype)
                for key in _in_model_order(weights)]  # fmt: skip
        table(_COLUMNS, rows, sys.stdout)
    if not intact:
        problem = f"error: {weights.path}: the tensors differ from the recorded sha256"
        say(problem, "  fix: copy or extract the file again", stream=sys.stderr)
    return 0 if intact else 1


def _say_notes(weights: Weights, file: Path | str) -> None:
    """What of `file` was taken, dropped and concluded."""
    say(*(f"note: {file}: {note}" for note in weights.notes), stream=sys.stderr)


def _in_model_order(weights: Weights) -> list[str]:
    """The keys in the order of a state_dict, which safetensors files do not keep: that of the model
    that the file names, or else layers by number."""
    from trtnet.weights.places import wanted
    from trtnet.zoo.registry import registered

    if weights.path is None or weights.path.suffix != ".safetensors":
        return list(weights)
    entry = registered(weights.metadata.get("architecture", ""))
    order = {key: place for place, key in enumerate(wanted(entry.build()) if entry else ())}

    def rank(key: str) -> tuple[int, list[tuple[int, str]]]:
        parts = re.split(r"(\d+)", key)
        return order.get(key, len(order)), [(int(p), "") if p.isdigit() else (0, p) for p in parts]

    return sorted(weights, key=rank)


def _print_report(weights: Weights, as_json: bool, notes: Sequence[str] = (), **more: Any) -> None:
    """The file in a few lines, or as one JSON object with `notes` and the keys of `more` added."""
    from trtnet.weights import parameter_count
    from trtnet.weights.folders import size_of

    assert weights.path is not None  # every command reports on a file
    report: dict[str, Any] = {
        "file": str(weights.path),
        "bytes": size_of(weights.path),
        "tensors": len(weights),
        "parameters": parameter_count(weights),
        "sha256": weights.sha256,
        **more,
    }
    if as_json:
        told = {"notes": [*notes], "metadata": weights.metadata}
        say(*json.dumps({**report, **told}, indent=1).split("\n"))
        return
    shown = {**report, "bytes": f"{report['bytes'] / 1e6:,.2f} MB"}
    for key, value in shown.items():
        title = "size" if key == "bytes" else key
        say(f"{title:16}{value:,}" if isinstance(value, int) else f"{title:16}{value}")
    for key, text in weights.metadata.items():
        say(f"  {key}: {text if len(text) <= 90 else text[:87] + '...'}")
