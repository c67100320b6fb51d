"""How fast and in how much memory a weights file becomes a filled ``INetworkDefinition``.

    python tools/bench_define.py [--repeats 5] [--markdown benchmarks/define.md]

Every trial is a fresh process; imports are not timed on either side. The two sides take turns,
so that a machine whose speed drifts slows both. Needs ``pip install -e ".[rtx,torch,dev]"``.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from installed import versions

SHAPE = (1, 3, 224, 224)
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}
"""That of each trial: an installed package has its bytecode."""


def define_with_trtnet(name: str, path: str) -> dict[str, Any]:
    """From the file to a filled network, with trtnet."""
    import trtnet
    from trtnet import backend, weights, zoo

    zoo.get_entry(name)
    rtx = backend.load("rtx")
    load, make_network = weights.load, trtnet.Network  # imported on first use
    start = time.perf_counter()
    model = zoo.get_model(name)
    model.load_state_dict(load(path))
    network = make_network(rtx)
    network.output("logits", model(network.input("input", SHAPE)))
    return {"seconds": time.perf_counter() - start, "layers": len(network.definition)}


def define_with_onnx(name: str, path: str, dynamo: bool) -> dict[str, Any]:
    """From the file to a filled network, through ``torch.onnx.export`` and ``OnnxParser``."""
    import warnings

    import onnxscript  # noqa: F401  (the exporter imports it; imports are not timed)
    import safetensors.torch
    import torch
    import torchvision

    from trtnet import backend

    warnings.simplefilter("ignore")
    rtx = backend.load("rtx")
    start = time.perf_counter()
    model = torchvision.models.get_model(name, weights=None).eval()
    model.load_state_dict(safetensors.torch.load_file(path))
    example = torch.zeros(SHAPE)
    if dynamo:
        program = torch.onnx.export(model, (example,), dynamo=True, verbose=False)
        assert program is not None
        serialized = program.model_proto.SerializeToString()
    else:
        exported = f"{path}.onnx"
        torch.onnx.export(model, (example,), exported, dynamo=False)
        serialized = Path(exported).read_bytes()
    builder = rtx.builder()
    network = rtx.create_network(builder)
    parser = rtx.trt.OnnxParser(network, rtx.logger)
    assert parser.parse(serialized), rtx.take_errors()
    return {"seconds": time.perf_counter() - start, "layers": len(network)}


def define_from_torch(name: str, path: str) -> dict[str, Any]:
    """A PyTorch module in memory to a filled network, with ``trtnet.from_torch``."""
    import timm
    import torchvision

    library = torchvision.models if hasattr(torchvision.models, name) else timm.models
    module = getattr(library, name)().eval()
    return _timed_call(lambda: trtnet_module(module))


def define_written(name: str, path: str) -> dict[str, Any]:
    """The same with the zoo's hand-written model, whose weights are in memory too."""
    from trtnet import weights, zoo

    model = zoo.get_model(name)
    model.load_state_dict(weights.load(path))
    return _timed_call(lambda: model)


def trtnet_module(module: Any) -> Any:
    """`module`, one of PyTorch, as a module of trtnet."""
    import trtnet

    return trtnet.from_torch(module)


def _timed_call(model: Callable[[], Any]) -> dict[str, Any]:
    """Seconds to make a module and to call it on the input of a network. Once before, with a small
    module, so that what is imported on first use is not timed."""
    import torch

    import trtnet

    small = trtnet.Network("rtx")
    trtnet_module(torch.nn.ReLU())(small.input("x", (1, 2)))
    settle()
    network = trtnet.Network("rtx")
    start = time.perf_counter()
    network.output("logits", model()(network.input("input", SHAPE)))
    return {"seconds": time.perf_counter() - start}


def settle() -> None:
    """Leaves neither dirty pages nor the imports' garbage for what is timed next to clean up."""
    os.sync()
    gc.collect()


def save_with_trtnet(name: str, path: str) -> dict[str, Any]:
    """Extraction: a state_dict in memory to a file, with check, metadata, hash and fsync."""
    import torchvision

    from trtnet import weights

    module = torchvision.models.get_model(name, weights=None)
    settle()
    start = time.perf_counter()
    state = {key: tensor.numpy() for key, tensor in module.state_dict().items()}
    for key, array in state.items():
        weights.check_finite(key, array)
    weights.save(path, state, {"architecture": name}, checksum=True)
    return {"seconds": time.perf_counter() - start}


def save_with_safetensors(name: str, path: str) -> dict[str, Any]:
    """A plain ``safetensors.torch.save_file`` of the same state_dict."""
    import safetensors.torch
    import torchvision

    state = torchvision.models.get_model(name, weights=None).state_dict()
    settle()
    start = time.perf_counter()
    safetensors.torch.save_file(state, path)
    return {"seconds": time.perf_counter() - start}


TRIALS: dict[str, Callable[..., dict[str, Any]]] = {
    "trtnet": define_with_trtnet,
    "dynamo": lambda name, path: define_with_onnx(name, path, dynamo=True),
    "legacy": lambda name, path: define_with_onnx(name, path, dynamo=False),
    "written": define_written,
    "from_torch": define_from_torch,
    "save": save_with_trtnet,
    "save_file": save_with_safetensors,
}


def run(trial: str, name: str, path: str) -> dict[str, Any]:
    """One trial in a fresh process. Before each, memory is touched and freed: on a virtual machine
    the first process to use memory after a pause waits for the host to hand it back, which would
    be charged to whoever comes first."""
    touch = "import numpy; numpy.ones(1 << 28)"  # 2 GB
    subprocess.run([sys.executable, "-c", touch], check=True)
    command = [sys.executable, __file__, "--trial", trial, name, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    if done.returncode:
        sys.exit(f"{trial} {name} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def command_seconds(*arguments: str) -> float:
    """Seconds that ``python -m trtnet.zoo`` takes with `arguments`."""
    command = [sys.executable, "-m", "trtnet.zoo", *arguments]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    return time.perf_counter() - start


Row = tuple[str, str, str, str]


def measure(repeats: int) -> list[Row]:
    """Rows of (what, trtnet, the other side, ratio and aim)."""
    with tempfile.TemporaryDirectory() as folder:
        files = {
            name: f"{folder}/{name}.safetensors" for name in ("resnet18", "resnet50", "resnet152")
        }
        for name, path in files.items():
            run("save", name, path)
        return [
            *exporter_rows(files["resnet50"], repeats),
            *from_torch_rows(files["resnet50"], repeats),
            depth_row(files, repeats),
            write_row(f"{folder}/out.safetensors", repeats),
            *(command_row(flag, repeats) for flag in ("--help", "--list")),
        ]


def in_turns(
    trials: Sequence[tuple[str, str]], path: str, repeats: int
) -> list[list[dict[str, Any]]]:
    """The results of each of `trials`, (trial, model) pairs that take turns."""
    for trial, name in trials:
        run(trial, name, path)  # leaves bytecode and files in memory
    rounds = [[run(trial, name, path) for trial, name in trials] for _ in range(repeats)]
    return [list(results) for results in zip(*rounds, strict=True)]


def exporter_rows(path: str, repeats: int) -> list[Row]:
    """Rows against PyTorch's two exporters to ONNX and TensorRT's parser."""
    aims = {"dynamo": 30, "legacy": 12}
    trials = [(trial, "resnet50") for trial in ("trtnet", *aims)]
    found = dict(zip(("trtnet", *aims), in_turns(trials, path, repeats), strict=True))
    seconds = {trial: _median(results, "seconds") for trial, results in found.items()}
    peak = {trial: _median(results, "peak_gb") for trial, results in found.items()}
    rows = [
        (
            f"define ResNet-50 FP32, against {trial} export + OnnxParser",
            f"{seconds['trtnet']:.3f} s",
            f"{seconds[trial]:.2f} s",
            f"{seconds[trial] / seconds['trtnet']:.1f}x faster (aim {aim}x)",
        )
        for trial, aim in aims.items()
    ]
    memory = (
        "peak memory of the same",
        f"{peak['trtnet']:.2f} GB",
        f"{peak['dynamo']:.2f} GB",
        f"{peak['trtnet'] / peak['dynamo']:.2f} of it (aim 0.25)",
    )
    return [rows[0], memory, rows[1]]


def depth_row(files: dict[str, str], repeats: int) -> Row:
    """Row that shows whether time grows with the number of layers alone."""
    per_layer = {}
    for name in ("resnet18", "resnet152"):
        results = [run("trtnet", name, files[name]) for _ in range(repeats)]
        per_layer[name] = _median(results, "seconds") / results[0]["layers"] * 1e3
    return (
        "time per layer, resnet152 against resnet18",
        f"{per_layer['resnet152']:.3f} ms",
        f"{per_layer['resnet18']:.3f} ms",
        f"{per_layer['resnet152'] / per_layer['resnet18']:.2f} (aim 1.3)",
    )


def write_row(path: str, repeats: int) -> Row:
    """Row of the time to write a weights file."""
    trials = [("save", "resnet50"), ("save_file", "resnet50")]
    mine, plain = (_median(results, "seconds") for results in in_turns(trials, path, repeats))
    return (
        "write ResNet-50's weights, against safetensors.torch.save_file",
        f"{mine:.3f} s",
        f"{plain:.3f} s",
        f"{mine / plain:.2f} (aim 1.2)",
    )


def command_row(flag: str, repeats: int) -> Row:
    """Row of a command that must answer at once."""
    command_seconds(flag)  # leaves bytecode
    seconds = statistics.median(command_seconds(flag) for _ in range(repeats))
    return f"python -m trtnet.zoo {flag}", f"{seconds:.2f} s", "", "(aim 0.3 s)"


def from_torch_rows(path: str, repeats: int) -> list[Row]:
    """Rows of ``from_torch``; the weights of the hand-written model are in the file `path`."""
    vit = "vit_base_patch16_224"
    trials = [("from_torch", "resnet50"), ("written", "resnet50"), ("from_torch", vit)]
    found = in_turns(trials, path, repeats)
    made, written, large = (_median(results, "seconds") for results in found)
    return [
        ("define torchvision's ResNet-50 with from_torch, against the hand-written model",
         f"{made:.3f} s", f"{written:.3f} s", f"{made / written:.2f} (aim 2)"),
        (f"define timm's {vit} with from_torch", f"{large:.3f} s", "", "(aim 2 s)"),
    ]  # fmt: skip


def _median(results: list[dict[str, Any]], key: str) -> float:
    values: list[float] = [result[key] for result in results]
    return statistics.median(values)


def table(rows: list[Row], repeats: int) -> str:
    """The page."""
    packages = ("tensorrt-rtx", "torch", "torchvision", "onnxscript", "numpy")
    lines = [
        "# From a weights file to a filled network definition",
        "",
        f"`python tools/bench_define.py --repeats {repeats}`: medians of {repeats} fresh "
        "processes each, imports not timed.",
        "",
        f"{datetime.date.today()}; {os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}; {versions(*packages)}; no GPU.",
        "",
        "| what | trtnet | other | ratio |",
        "|---|---|---|---|",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def main() -> None:
    """Measures, prints, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    parser.add_argument("--trial", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.trial:
        trial, name, path = args.trial
        result = TRIALS[trial](name, path)
        result["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(json.dumps(result))
        return
    text = table(measure(args.repeats), args.repeats)
    print(text)
    if args.markdown:
        args.markdown.parent.mkdir(parents=True, exist_ok=True)
        args.markdown.write_text(text)


if __name__ == "__main__":
    main()
