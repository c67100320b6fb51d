"""The models of ``tools/capture_sweep.py`` as engines, inputs for them, and what the reference
computes of these.

Kept in a folder: ``NAME-PRECISION.engine`` and ``NAME-PRECISION.npz``, the arrays. There are
:data:`SETS` sets of inputs of :data:`MOST` images, and one of a single image; where the network
takes a single image alone, :data:`SETS` of that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import verify_detectors
from capture_modules import EXAMPLES
from detector_cases import CASES
from port_rate_checks import varied
from port_rate_models import inputs as inputs_of
from port_rate_models import make

import trtnet
from trtnet import graph, reference, zoo
from trtnet.errors import TrtnetError
from trtnet.files import atomic_write
from trtnet.pipeline import mark_outputs
from trtnet.weights.random_init import random_module
from trtnet.zoo import Entry

SEED = 0
MOST, SETS = 3, 2
SIZES = (64, 96, 128, 160, 192, 224, 256, 320, 384)  # of images; a model gets the first it takes
FREE = {"N": MOST, "H": 20, "W": 24, "T": 9}  # sizes of named axes of examples
PORTED = Path(__file__).resolve().parents[1] / "benchmarks" / "port_rate.jsonl"

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Model:
    """A model that defines networks, and its inputs.

    Attributes:
        call: a module of trtnet.
        shapes: declared for the inputs, by name; the batch axis is open.
        sets: inputs with :data:`MOST` images.
    """

    call: Any
    shapes: Mapping[str, Sequence[int | str]]
    sets: Sequence[Arrays]


@dataclass(frozen=True)
class Prepared:
    """What a cell of the sweep needs.

    Attributes:
        engine: the file.
        sets: inputs by name; all but the last may have several images.
        expected: the reference's outputs by name, of each of `sets`.
    """

    engine: Path
    sets: Sequence[Arrays]
    expected: Sequence[Arrays]


def names(kinds: Sequence[str] = ("zoo", "timm", "module")) -> list[str]:
    """All models: the zoo's; of each of timm's files the smallest that is known to be ported;
    :data:`capture_modules.EXAMPLES`."""
    found = {
        "zoo": zoo.list_models(shipped=True),
        "timm": [row["name"] for row in _ported().values()],
        "module": [f"module:{name}" for name in EXAMPLES],
    }
    return [name for kind in kinds for name in found[kind]]


def _ported() -> dict[str, dict[str, Any]]:
    """The rows of ``tools/port_rate.py`` by model: the smallest of each of timm's files."""
    smallest: dict[str, dict[str, Any]] = {}
    for row in map(json.loads, PORTED.read_text().splitlines()):
        if not row["name"].startswith("timm:") or row["status"] != "passed":
            continue
        best = smallest.setdefault(row["file"], row)
        if row["parameters"] < best["parameters"]:
            smallest[row["file"]] = row
    return {row["name"]: row for row in smallest.values()}


def prepared(name: str, precision: str, folder: Path) -> Prepared:
    """The engine of a model, with inputs and the reference's outputs; made where it is not in
    `folder`."""
    stem = f"{name}-{precision}".replace(":", "_").replace(" ", "_")
    engine, arrays = folder / f"{stem}.engine", folder / f"{stem}.npz"
    if not arrays.exists():  # it is written last
        folder.mkdir(parents=True, exist_ok=True)
        _prepare(model_of(name), precision, engine, arrays)
    with np.load(arrays) as held:
        found = dict(held)
    count = len({key.partition("/")[0] for key in found}) // 2
    parts = [[_part(found, f"{kind}{i}/") for i in range(count)] for kind in ("in", "out")]
    return Prepared(engine, *parts)


def _part(arrays: Arrays, start: str) -> Arrays:
    return {key[len(start) :]: value for key, value in arrays.items() if key.startswith(start)}


def _prepare(model: Model, precision: str, engine: Path, arrays: Path) -> None:
    net, is_open = _defined(model, precision)
    single = [{key: value[:1] for key, value in one.items()} for one in model.sets]
    sets = [*model.sets, single[0]] if is_open else single
    read = graph.read(net.definition)
    profile = _profile(read, sets[0])
    trtnet.build(net, profile).save(engine)
    held: Arrays = {}
    for i, one in enumerate(sets):
        held |= {f"in{i}/{key}": value for key, value in one.items()}
        outputs = reference.run(read, one)
        held |= {f"out{i}/{key}": np.asarray(value) for key, value in outputs.items()}
    with atomic_write(arrays) as file:
        np.savez(file, **held)  # type: ignore[arg-type]  # names are not its flag


def _defined(model: Model, precision: str) -> tuple[trtnet.Network, bool]:
    """The network, and whether its batch axis is open; one that cannot be has one image."""
    try:
        return _network(model, precision, model.shapes), True
    except TrtnetError:
        fixed = {key: (1, *shape[1:]) for key, shape in model.shapes.items()}
        return _network(model, precision, fixed), False


def _network(model: Model, precision: str, shapes: Mapping[str, Any]) -> trtnet.Network:
    net = trtnet.Network("torch", precision=precision)
    types = {key: "float32" if x.dtype.kind == "f" else "int64" for key, x in model.sets[0].items()}
    given = [net.input(key, tuple(shape), dtype=types[key]) for key, shape in shapes.items()]
    mark_outputs(net, model.call(*given))
    return net


def _profile(read: graph.Graph, values: Arrays) -> dict[str, trtnet.Shapes]:
    """From one of each open axis to what `values` have."""
    found = {}
    for name in read.inputs:
        declared, most = read.tensors[name].shape, values[name].shape
        if -1 in declared:
            first = tuple(1 if n < 0 and axis == 0 else m for axis, (n, m) in
                          enumerate(zip(declared, most, strict=True)))  # fmt: skip
            found[name] = trtnet.Shapes(first, most, most)
    return found


def model_of(name: str) -> Model:
    """The model `name` with seeded weights."""
    kind, _, rest = name.rpartition(":")
    if kind == "module":
        return _example(rest)
    if kind == "timm":
        return _of_timm(name)
    entry = zoo.get_entry(name)
    return _detector(entry) if entry.task == "detection" else _of_zoo(entry)


def _example(name: str) -> Model:
    example = EXAMPLES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        module = example.make().eval()
    sizes = [tuple(FREE[n] if isinstance(n, str) else n for n in s) for s in example.shapes]
    random = np.random.default_rng(SEED)

    def drawn(shape: tuple[int, ...]) -> np.ndarray:
        if example.indices:
            return random.integers(0, example.indices, shape)
        return random.standard_normal(shape).astype(np.float32)

    sets = [{f"x{i}": drawn(size) for i, size in enumerate(sizes)} for _ in range(SETS)]
    shapes = {f"x{i}": shape for i, shape in enumerate(example.shapes)}
    return Model(trtnet.from_torch(module), shapes, sets)


def _of_timm(name: str) -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        drawn = varied(make(name).eval())
    known = _ported().get(name, {}).get("size", SIZES[0])
    sizes = [size for size in SIZES if size > known]
    channels = inputs_of(name, drawn, known)[0][1]
    shape = _accepted(drawn, channels, [max(known, SIZES[0]), known, *sizes])
    module = random_module(drawn, SEED, input_shape=shape)
    return Model(trtnet.from_torch(module), {"input": ("N", *shape)}, _images(shape))


def _of_zoo(entry: Entry) -> Model:
    channels, *own = entry.require_input_shape()
    sizes = own[:1] if entry.fixed_size else [*(s for s in SIZES if s < own[0]), own[0]]
    shape = _accepted(entry.torch_model(), channels, sizes)
    module = random_module(entry.torch_model, SEED, input_shape=shape)
    return Model(_loaded(entry, module), {"input": ("N", *shape)}, _images(shape))


def _detector(entry: Entry) -> Model:
    """With heads that find something in the pictures which are its inputs."""
    case = CASES[entry.name]
    module = verify_detectors.seeded(entry, case)
    rules = verify_detectors.preparation(entry, case)
    batch, _ = verify_detectors.padded_batch(verify_detectors.pictures(), rules)
    sets = [{"input": np.roll(batch, -i, 0)[:MOST]} for i in range(SETS)]
    shape = ("N", *batch.shape[1:])
    return Model(_loaded(entry, module, **case.arguments), {"input": shape}, sets)


def _loaded(entry: Entry, module: torch.nn.Module, **arguments: Any) -> Any:
    if entry.makes_torch():
        return trtnet.from_torch(module)
    model = entry.build(**arguments)
    model.load_state_dict({key: value.numpy() for key, value in module.state_dict().items()})
    return model


def _accepted(module: torch.nn.Module, channels: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """The shape of images of the first of `sizes` that PyTorch's module takes."""
    for size in sizes:
        try:
            with torch.inference_mode():
                module(torch.zeros(1, channels, size, size))
        except Exception:  # of many kinds, as the checks of models are
            continue
        return (channels, size, size)
    raise ValueError(f"the module takes images of none of these sizes: {sizes}")


def _images(shape: tuple[int, ...]) -> list[Arrays]:
    random = np.random.default_rng(SEED)
    return [
        {"input": random.standard_normal((MOST, *shape)).astype(np.float32)} for _ in range(SETS)
    ]
