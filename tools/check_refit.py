"""Refitted engines of the torch backend against new ones, on a CPU or a GPU.

    python tools/check_refit.py --prepare DIR
    python tools/check_refit.py --plans DIR [--device cuda] [--json REPORT.json]

The first needs TensorRT or TensorRT-RTX, which define networks; it writes plans without weights, of
a few hundred kilobytes. The second fills each of them with seeded weights A and B, and checks:

* the engine of A, refitted with B, has the bytes of the engine filled with B;
* a session of A that is refitted with B gives B's outputs bit for bit, those of a session opened on
  B with the same timing cache, and A's again after another refit; on a GPU with captured CUDA
  graphs, which stay;
* while threads call a session that is refitted again and again, every result is A's or B's.

The exit status is 1 where something differs.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from installed import versions

import trtnet
from trtnet import BuildConfig, Network, Plan, Session
from trtnet.engines.torch import engine as torch_engine
from trtnet.engines.torch import refitting
from trtnet.quantization.table import CalibrationTable
from trtnet.weights import data_sha256
from trtnet.weights.places import wanted

State = dict[str, np.ndarray]
_TURNS = 10


def main() -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--prepare", type=Path, metavar="DIR")
    parser.add_argument("--plans", type=Path, metavar="DIR")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.prepare is not None:
        prepare(arguments.prepare)
        return 0
    networks: dict[str, Any] = {}
    report: dict[str, Any] = {
        "device": _device(arguments.device),
        "versions": versions("torch", "triton"),
        "networks": networks,
    }
    for path in sorted(arguments.plans.glob("*.engine")):
        networks[path.stem] = found = check(Plan.load(path), arguments.device)
        print(path.stem, json.dumps(found), flush=True)
    report["passed"] = all(found["passed"] for found in networks.values())
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if report["passed"] and networks else 1


def prepare(folder: Path) -> None:
    """Writes the plans."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (make, shape, precision) in _networks().items():
        module = make()
        module.load_state_dict(_state({k: p.shape for k, p in wanted(module).items()}, 0))
        ranges = _define(module, shape, precision).observed
        table = None
        if ranges:
            digest = data_sha256(module.state_dict())
            table = CalibrationTable(_ranges(ranges, 0), "minmax", digest, precision)
        net = _define(module, shape, precision, table)
        trtnet.build(net, config=BuildConfig(strip_weights=True)).save(folder / f"{name}.engine")
        print(name, flush=True)


def _networks() -> dict[str, tuple[Callable[[], Any], tuple[int, ...], str]]:
    import torchvision

    def model(name: str, **arguments: Any) -> Callable[[], Any]:
        return lambda: trtnet.zoo.get_model(name, **arguments)

    def vit() -> Any:
        return trtnet.from_torch(torchvision.models.VisionTransformer(224, 16, 6, 6, 384, 1536))

    image = (4, 3, 224, 224)
    return {
        "resnet50": (model("resnet50"), image, "fp16"),
        "detector": (model("yolox_tiny"), (1, 3, 416, 416), "fp16"),
        "vit": (vit, image, "fp16"),
        "unet": (model("unet"), (1, 3, 128, 128), "fp16"),
        "mobilenet_v2": (model("mobilenet_v2"), image, "fp16"),
        "resnet50-int8": (model("resnet50"), image, "int8"),
    }


def _define(
    module: Any, shape: tuple[int, ...], precision: str, table: CalibrationTable | None = None
) -> Network:
    net = Network("torch", precision, calibration=table)
    result = module(net.input("x", shape))
    for name, tensor in (result if isinstance(result, Mapping) else {"y": result}).items():
        net.output(name, tensor)
    return net


def check(stripped: Plan, device: str) -> dict[str, Any]:
    """What was found of one network."""
    stated = stripped.described.refit
    assert stated is not None
    shapes = {key: tuple(known.shape) for key, known in stated.keys.items()}
    names = [str(s.options["tensor"]) for s in stated.plain_steps() if s.op == "range"]
    states, tables = [_state(shapes, seed) for seed in (0, 1)], []
    for seed, state in enumerate(states):
        tables.append(
            CalibrationTable(_ranges(names, seed), "minmax", data_sha256(state), "int8")
            if names else None
        )  # fmt: skip
    plans = [stripped.refit(s, calibration=t) for s, t in zip(states, tables, strict=True)]
    begun = time.perf_counter()
    made = plans[0].refit(states[1], calibration=tables[1])
    found: dict[str, Any] = {
        "plan_refit_s": round(time.perf_counter() - begun, 3),
        "same_bytes": made.engine == plans[1].engine != plans[0].engine,
        **_running(plans, states, tables, device),
    }
    truths = ("same_bytes", "new_outputs", "old_outputs_again", "never_mixed")
    found["passed"] = all(found[name] for name in truths)
    return found


def _running(
    plans: list[Plan], states: list[State], tables: list[Any], device: str
) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    x = {i.name: rng.random(i.shape, np.float32) for i in plans[0].described.inputs or ()}
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"device": device}
        if device == "cuda":
            options["timing_cache"] = Path(folder) / "t.cache"
        with Session(plans[0], **options) as session:
            first = _outputs(session, x)
            with Session(plans[1], **options) as fresh:
                want = _outputs(fresh, x)
            prepared: list[Any] = []
            seconds = []
            results = []
            for turn in (1, 0):
                begun = time.perf_counter()
                with _noted(prepared):
                    session.refit(states[turn], calibration=tables[turn])
                seconds.append(round(time.perf_counter() - begun, 3))
                results.append(_outputs(session, x))
            mixed = _mixed(session, x, states, tables, {first, want})
    return {
        "session_refit_s": seconds,
        "keeps_graphs": [made.keeps_contexts for made in prepared],
        "new_outputs": results[0] == want != first,
        "old_outputs_again": results[1] == first,
        "never_mixed": mixed == 0,
    }


@contextmanager
def _noted(found: list[Any]) -> Iterator[None]:
    """Appends to `found` what is prepared for refits inside the block; when it has been applied, it
    says whether captured graphs were kept."""

    def prepare(*args: Any) -> Any:
        found.append(refitting.prepare(*args))
        return found[-1]

    with mock.patch.object(torch_engine, "prepare", prepare):
        yield


def _mixed(
    session: Session, x: Mapping[str, np.ndarray], states: list[State], tables: list[Any],
    known: set[bytes],
) -> int:  # fmt: skip
    """How many results of calls during refits are neither A's nor B's."""
    wrong, stop = [0], threading.Event()

    def work() -> None:
        while not stop.is_set():
            wrong[0] += _outputs(session, x, calls=1) not in known

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(1, _TURNS):
            session.refit(states[turn % 2], calibration=tables[turn % 2])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return wrong[0]


def _outputs(session: Session, x: Mapping[str, np.ndarray], calls: int = 4) -> bytes:
    """The bytes of all outputs; of the last call, in which a captured graph runs."""
    for _ in range(calls):
        found = session(dict(x))
    return b"".join(found[name].tobytes() for name in sorted(found))


def _state(shapes: Mapping[str, tuple[int, ...]], seed: int) -> State:
    """Seeded weights with which activations stay inside of FP16's range."""
    rng = np.random.default_rng(seed)
    found: State = {}
    for key, shape in shapes.items():
        if key.endswith("num_batches_tracked"):
            found[key] = np.array(0, np.int64)
            continue
        values = rng.standard_normal(shape, np.float32)
        if key.endswith("running_var"):
            values = rng.uniform(0.8, 1.2, shape).astype(np.float32)
        elif len(shape) > 1:
            values *= np.float32(math.sqrt(1 / max(math.prod(shape[1:]), 1)))
        else:
            values = values * np.float32(0.05) + np.float32(key.endswith("weight"))
        found[key] = values
    return found


def _ranges(names: Iterable[str], seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    return {name: float(rng.uniform(2, 4)) for name in names}


def _device(device: str) -> str:
    if device == "cpu":
        return platform.processor() or platform.machine()
    import torch

    return str(torch.cuda.get_device_name())


if __name__ == "__main__":
    sys.exit(main())
