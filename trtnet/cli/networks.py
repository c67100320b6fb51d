"""``trtnet inspect``, ``verify``, ``cost``, ``diff`` and ``lint``: thin printers of the library."""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from trtnet import graph, reference
from trtnet.cli.flags import positive
from trtnet.cli.gpu_flags import add_gpu_flags, chosen_gpu
from trtnet.cli.paths import input_model, output_file
from trtnet.cli.precision import named
from trtnet.cli.random_weights import weights_lines
from trtnet.cli.report import divergence_lines, failure, human_stream, write_json
from trtnet.cli.streams import say
from trtnet.cli.tables import table
from trtnet.cli.target_flags import HELP, find, parser
from trtnet.errors import UsageError
from trtnet.pipeline.files import is_built_engine, unreadable
from trtnet.pipeline.model import is_random
from trtnet.pipeline.target import Target
from trtnet.pipeline.verify_report import verify_summary


def inspect(argv: Sequence[str]) -> int:
    """Lists the layers of a network."""
    command = parser("inspect", "Lists what TensorRT holds, layer by layer.")
    command.add_argument("target", type=input_model, metavar="MODEL|GRAPH", help=HELP)
    command.add_argument(
        "--save", metavar="PATH", type=output_file, help="also save the graph there"
    )
    command.add_argument("--code", action="store_true", help="print it as PyTorch code instead")
    arguments = command.parse_args(argv)
    saves = arguments.save is not None
    stream = human_stream(arguments.json)
    if is_built_engine(arguments.target):
        if saves or arguments.code:
            raise unreadable(arguments.target)
        return _inspect_engine(arguments, stream)
    found = find(arguments.target, arguments, values=saves, ranges=saves)
    if arguments.code:
        say(*reference.compile(found.graph).code.split("\n"), stream=stream)
    else:
        _print_layers(found.graph, stream)
    if arguments.save is not None:
        graph.save(arguments.save, found.graph)
        say(f"saved to {arguments.save}", stream=stream)
    return _finish(arguments, _structure(found), 0)


def _print_layers(read: graph.Graph, stream: TextIO) -> None:
    rows = []
    for layer in read.layers:
        info = read.tensors[layer.outputs[0]] if layer.outputs else None
        shape = "x".join("?" if n < 0 else str(n) for n in info.shape) if info else ""
        weights = sum(array.size for array in layer.weights.values())
        count = f"{weights:,}" if weights else ""
        rows.append((layer.name, layer.type, shape, info.dtype if info else "", count))
    columns = (("layer", "left"), ("type", "left"), ("output", "left"), ("dtype", "left"))
    counts = Counter(layer.type for layer in read.layers).most_common()
    types = ", ".join(f"{count} {type}" for type, count in counts)
    ends = f"inputs {', '.join(read.inputs)}; outputs {', '.join(read.outputs)}"
    say(f"{len(read.layers)} layers: {types}", ends, "", stream=stream)
    table((*columns, ("weights", "right")), rows, stream)


def _inspect_engine(arguments: argparse.Namespace, stream: TextIO) -> int:
    """What the sidecar of a built engine says; its layers are TensorRT's own secret."""
    from trtnet.building.plan import Plan

    plan = Plan.load(arguments.target)  # checks the engine against its sidecar
    valid = "the engine is the one that its sidecar describes" if plan.sidecar else (
        "no sidecar beside it: only TensorRT's runtime can tell more")  # fmt: skip
    say(*str(plan).split("\n"), valid, stream=stream)
    engine = {"bytes": len(plan.engine), "sidecar": dict(plan.sidecar)}
    return _finish(arguments, {"name": arguments.target, **engine}, 0)


def _structure(found: Target) -> dict[str, Any]:
    read = found.graph
    return {
        "name": found.name,
        "inputs": list(read.inputs),
        "outputs": list(read.outputs),
        "tensors": {name: dataclasses.asdict(info) for name, info in read.tensors.items()},
        "layers": [
            {
                "name": layer.name,
                "type": layer.type,
                "inputs": list(layer.inputs),
                "outputs": list(layer.outputs),
                "attributes": dict(layer.attributes),
                "weights": {name: list(array.shape) for name, array in layer.weights.items()},
            }
            for layer in read.layers
        ],
    }


def verify(argv: Sequence[str]) -> int:
    """Compares a model with PyTorch, module by module; 1 if it differs."""
    command = parser("verify", "Compares a model with PyTorch, module by module.")
    command.add_argument(
        "target",
        type=input_model,
        metavar="MODEL",
        help="such as resnet50, resnet50:fp16 or net.py:Net",
    )
    command.add_argument("--verify-inputs", type=positive, default=1, metavar="N", help="images")
    arguments = command.parse_args(argv)
    found = find(arguments.target, arguments, values=True, ranges=True)
    if found.defined is None:
        raise UsageError("a saved graph has no PyTorch model to compare with", got=found.name,
                         fix="name a model, or use trtnet diff")  # fmt: skip
    compared = found.defined.verify(arguments.verify_inputs, arguments.seed)
    result = compared.verification
    weights = found.defined.model.weights
    told = {"weights": weights.source, "weights_notes": [*weights.notes]}
    report = {**verify_summary(compared), **told}
    stream = human_stream(arguments.json)
    rows = [
        (row.module, "x".join(map(str, row.shape)), f"{row.max_abs:.3e}", f"{row.rel_l2:.3e}",
         f"{row.cosine:.6f}", f"{row.sqnr_db:.1f}")
        for row in (*result.rows, *result.outputs)
    ]  # fmt: skip
    columns = (("module", "left"), ("shape", "left"), ("max abs", "right"), ("rel L2", "right"))
    say(str(result), *weights_lines(weights.source, is_random(weights)), stream=stream)
    if compared.passed:
        checked = compared.budget
        budget = "" if checked is None else f", {checked.measured} over {checked.items} items, " \
            f"within the budget {checked.budget}"  # fmt: skip
        say(f"equal to {report['against']}{budget}", "", stream=stream)
    else:
        from trtnet.cli.next_command import next_lines  # all commands that it may name

        verdict = f"FAILED: {failure(report)}; against {report['against']}"
        advice = next_lines(arguments, *named(arguments.target, arguments), found.defined, report)
        say(*divergence_lines(report), verdict, *advice, "", stream=stream)
    table((*columns, ("cosine", "right"), ("SQNR dB", "right")), rows, stream)
    return _finish(arguments, report, 0 if compared.passed else 1)


def cost(argv: Sequence[str]) -> int:
    """What each layer costs, and the least time it can take on a GPU."""
    command = parser("cost", "What each layer costs, and the least time it takes on a GPU.")
    command.add_argument("target", type=input_model, metavar="MODEL|GRAPH", help=HELP)
    add_gpu_flags(command.add_argument, None, "roofline bound")
    arguments = command.parse_args(argv)
    gpu = chosen_gpu(arguments)
    found = find(arguments.target, arguments, values=False)
    counted = graph.cost(found.graph, found.shapes)
    bound = None if gpu is None else counted.bound(gpu)
    stream = human_stream(arguments.json)
    rows = []
    for index, layer in enumerate(counted.layers):
        row = [layer.name, layer.type, f"{layer.macs / 1e6:,.2f}", f"{layer.parameters:,}",
               f"{layer.bytes_read / 1e6:,.2f}", f"{layer.bytes_written / 1e6:,.2f}",
               f"{layer.intensity:.1f}"]  # fmt: skip
        if bound is not None:
            limit = bound.layers[index]
            row += [f"{limit.seconds * 1e6:.2f}", limit.limit]
        rows.append(row)
    columns = [("layer", "left"), ("type", "left"), ("MMAC", "right"), ("weights", "right"),
               ("MB read", "right"), ("MB written", "right"), ("FLOP/byte", "right")]  # fmt: skip
    if bound is not None:
        columns += [("µs", "right"), ("limit", "left")]
    say(str(counted), stream=stream)
    report = _cost_report(found, counted, bound)
    if bound is not None:
        batch = next(iter(found.shapes.values()), (1,))[0]
        least, most = bound.seconds * 1e3, batch / bound.seconds
        line = f"on {bound.gpu.name}: at least {least:.4g} ms, at most {most:,.0f} images/s"
        say(f"{line} ({bound.gpu.source})", stream=stream)
    say("", stream=stream)
    table(columns, rows, stream)
    return _finish(arguments, report, 0)


def _cost_report(found: Target, counted: graph.Cost, bound: graph.Bound | None) -> dict[str, Any]:
    layers = [{**dataclasses.asdict(layer), "intensity": layer.intensity}
              for layer in counted.layers]  # fmt: skip
    for layer in layers:
        del layer["parts"]
    report: dict[str, Any] = {
        "name": found.name,
        "shapes": {name: list(shape) for name, shape in found.shapes.items()},
        "macs": counted.macs,
        "parameters": counted.parameters,
        "bytes_read": counted.bytes_read,
        "bytes_written": counted.bytes_written,
        "layers": layers,
    }
    if bound is not None:
        for layer, limit in zip(layers, bound.layers, strict=True):
            layer |= {"seconds": limit.seconds, "limit": limit.limit}
        report["bound"] = {"gpu": bound.gpu.key, "seconds": bound.seconds}
    return report


def diff(argv: Sequence[str]) -> int:
    """What differs between two networks; with ``--exit-code`` 1 if anything does."""
    command = parser("diff", "What differs between two networks.")
    command.add_argument("--exit-code", action="store_true", help="1 where anything differs")
    command.add_argument("a", type=input_model, metavar="A", help=HELP)
    command.add_argument("b", type=input_model, metavar="B", help="likewise")
    arguments = command.parse_args(argv)
    has_weights = arguments.weights is not None
    a, b = (find(one, arguments, values=has_weights) for one in (arguments.a, arguments.b))
    # The weights of a model that are not loaded are all 1, those of a file are its own.
    files = [one.defined is None for one in (a, b)]
    values = has_weights or files[0] == files[1]
    found = graph.diff(a.graph, b.graph, (a.shapes, b.shapes), values=values)
    say(*str(found).split("\n"), stream=human_stream(arguments.json))
    if not (has_weights or all(files)):
        say("", "the values of weights are not compared: --weights loads those of the model "
            "(weights=)", stream=human_stream(arguments.json))  # fmt: skip
    report = {
        "a": a.name,
        "b": b.name,
        "layers": {kind: list(pair) for kind, pair in found.layers.items()},
        "casts": {kind: list(pair) for kind, pair in found.casts.items()},
        "macs": list(found.macs),
        "parameters": list(found.parameters),
        "differences": [dataclasses.asdict(one) for one in found.differences],
    }
    return _finish(arguments, report, 1 if found.differences and arguments.exit_code else 0)


def lint(argv: Sequence[str]) -> int:
    """Mistakes and waste that TensorRT accepts without a warning; 1 if there is anything."""
    command = parser("lint", "Finds mistakes and waste that TensorRT accepts without a warning.")
    command.add_argument("target", type=input_model, metavar="MODEL|GRAPH", help=HELP)
    command.add_argument("--explain", action="store_true", help="say why each finding matters")
    arguments = command.parse_args(argv)
    found = graph.lint(find(arguments.target, arguments, values=True).graph)
    stream = human_stream(arguments.json)
    say(*found, stream=stream)
    if arguments.explain:
        for code in sorted({finding.code for finding in found}):
            say("", f"{code}: {graph.explain(code)}", stream=stream)
    say(f"{len(found)} finding(s)" if found else "nothing found", stream=stream)
    report = {"findings": [finding._asdict() for finding in found]}
    return _finish(arguments, report, 1 if found else 0)


def _finish(arguments: argparse.Namespace, report: dict[str, Any], status: int) -> int:
    if arguments.json is not None:
        write_json(report, arguments.json)
    return status


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "inspect": inspect,
    "verify": verify,
    "cost": cost,
    "diff": diff,
    "lint": lint,
}


def main(argv: Sequence[str]) -> int:
    """Runs ``argv[0]``.

    Returns:
        0, or 1 where a network differs from PyTorch, with ``--exit-code`` from another one, where
        a rule finds something or the work fails; 2 for bad usage.
    """
    return COMMANDS[argv[0]](argv[1:])
