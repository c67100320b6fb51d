"""What ``trtnet sensitivity`` and ``trtnet search`` share: flags, setup, and JSON of rows."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from trtnet.cli.arguments import add_backend_flag, add_input_flag, add_model_flags
from trtnet.cli.flags import Group, Parser, positive
from trtnet.cli.gpu_flags import add_gpu_flags, chosen_gpu
from trtnet.cli.paths import input_data, input_model, journal_file, output_file, output_report
from trtnet.cli.precision import add_calibrator_flag
from trtnet.cli.preprocess_flags import add_preprocess_flags
from trtnet.cli.progress import Progress
from trtnet.cli.random_weights import weights_lines
from trtnet.cli.recipes import model_recipe
from trtnet.pipeline.search_setup import SearchSettings, SearchSetup, set_up_search
from trtnet.precision.table import QUANTIZED, TENSOR_TYPES
from trtnet.quantization.table import DEFAULT_BATCH
from trtnet.search.metrics import Metrics
from trtnet.search.mixable_network import TARGETS
from trtnet.search.plot_format import check_format

if TYPE_CHECKING:
    from trtnet.search.data import Data
    from trtnet.search.sensitivities import Sensitivity


_GPU = "l40s"


def parser(command: str, description: str, items: int) -> Parser:
    """A parser with the flags of both commands; `items` is the default of ``--items``."""
    made = Parser(prog=f"trtnet {command}", description=description, allow_abbrev=False)
    made.add_argument("target", type=input_model, metavar="MODEL",
                      help="such as resnet50 or net.py:Net")  # fmt: skip
    flag = Group(made, "precision and data")
    flag("--to", choices=TARGETS, default="int8", help="what modules are changed to; default int8")
    flag("--base", choices=TENSOR_TYPES, default="fp16",
         help=f"of the others, beside {' and '.join(QUANTIZED)}; default fp16")  # fmt: skip
    flag("--data", required=True, type=input_data, metavar="DATA",
         help="a folder of images, which may hold boxes in annotations.json; a .npy file, or a "
         ".npz file, which may hold labels or boxes; or, for random weights, random")  # fmt: skip
    flag("--items", type=positive, default=items, metavar="N",
         help=f"how many of them to use at most, spread evenly; default {items}")  # fmt: skip
    add_calibrator_flag(flag)
    flag(
        "--batch",
        type=positive,
        default=DEFAULT_BATCH,
        metavar="N",
        help=f"batch size of the network, whose time is estimated; default {DEFAULT_BATCH}",
    )
    add_gpu_flags(flag, _GPU, "whose roofline gives times")
    model = Group(made, "model")
    add_model_flags(model)
    add_input_flag(model)
    add_preprocess_flags(Group(made, "preprocessing of the images of --data"))
    output = Group(made, "backend and output")
    add_backend_flag(output)
    output("--journal", type=journal_file, metavar="FILE",
           help="keeps results; goes on where it ended")  # fmt: skip
    output("--plot", type=output_file, metavar="FILE", help="a .png or .svg")
    output("--json", type=output_report, metavar="PATH", help="write a report; - for stdout")
    return made


def set_up(arguments: argparse.Namespace, progress: Progress) -> SearchSetup:
    """:func:`trtnet.pipeline.set_up_search` of the flags.

    Raises:
        UsageError: flags, data or a model that cannot be used.
    """
    if arguments.plot is not None:
        check_format(arguments.plot)
    settings = SearchSettings(
        data=arguments.data,
        items=arguments.items,
        to=arguments.to,
        base=arguments.base,
        gpu=chosen_gpu(arguments, _GPU) or _GPU,
        method=arguments.calibrator,
    )
    return set_up_search(model_recipe(arguments, arguments.target), settings, progress)


def about_json(setup: SearchSetup) -> dict[str, Any]:
    """What both reports begin with; ``left_out`` has the metrics that the data does not tell, and
    why."""
    return {
        "model": setup.name,
        "weights": setup.weights,
        "weights_notes": [*setup.notes],
        "random": setup.random,
        "to": setup.subject.to,
        "gpu": setup.subject.ceilings.key,
        "items": setup.data.items,
        "left_out": _left_out(setup.data),
    }


def _left_out(data: Data) -> dict[str, str]:
    """The metrics of labels that `data` does not tell, and why. Data without boxes is not said to
    lack them, nor is data with boxes said to lack classes."""
    if data.truth is not None:
        return {} if data.lacks_map is None else {"map_drop": data.lacks_map}
    return {} if data.lacks_top1 is None else {"top1_drop": data.lacks_top1}


def data_lines(setup: SearchSetup) -> list[str]:
    """What has to be known of weights and data to read the numbers."""
    names = {"top1_drop": "the drop of top-1", "map_drop": "the drop of mAP"}
    left_out = [
        f"{'left out':10}{names[name]}: {why}" for name, why in _left_out(setup.data).items()
    ]
    return weights_lines(setup.weights, setup.random) + left_out


def row_json(row: Sensitivity, data: Data) -> dict[str, Any]:
    """One module for the report."""
    return {
        "module": row.module,
        "kind": row.kind,
        **metrics_json(row.metrics, data),
        "seconds_saved": row.seconds_saved,
    }


def metrics_json(metrics: Metrics, data: Data) -> dict[str, Any]:
    """JSON values: ``None`` for infinity, and for what `data` does not tell; ``spread`` has the
    standard errors, see :class:`trtnet.search.Spread`."""
    values = metrics.as_json()
    if data.lacks_top1 is not None:
        values["top1_drop"] = None
    if data.lacks_map is not None:
        values["map_drop"] = None
    return values
