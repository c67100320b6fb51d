"""Cases for the files that trtnet checks against schemas."""

from __future__ import annotations

import contextlib
import functools
import json
import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import trtnet
from fuzzing.mutations import RAW, changed_bytes, document, odd_value
from trtnet import graph, nn, weights
from trtnet.benchmark import trace
from trtnet.building.plan import Plan, sidecar_path
from trtnet.engines.session import Session
from trtnet.pipeline.random_weights import random_weights
from trtnet.plugins import aot_compile, registry
from trtnet.precision.budget import Budget
from trtnet.precision.policy import Policy
from trtnet.quantization import activations, calibrate
from trtnet.quantization.table import METHODS, CalibrationTable
from trtnet.search.journal import MeasuredOn, SearchJournal, StoredSensitivity, StoredTrial

_SHA = "0123456789abcdef" * 4
_PREPROCESSING = {
    "resize_size": [16],
    "crop_size": [8],
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "interpolation": "bilinear",
    "antialias": True,
}
_LETTERBOX = {
    "letterbox_size": [12, 16],
    "pad_color": [1, 2, 3],
    "pad_position": "top-left",
    "upscale": False,
    "channels": "bgr",
    "scale": "1/255",
    "mean": 0.5,
    "std": [0.5, 0.5, 0.5],
}


@functools.cache
def _folder() -> Path:
    """A folder for the files of this process."""
    return Path(tempfile.mkdtemp(prefix="trtnet-fuzz-"))


@functools.cache
def _plan() -> Plan:
    """An engine of the torch backend with dynamic axes, and a sidecar that says all it can."""
    network = trtnet.Network("torch")
    x = network.input("x", (trtnet.Axis("N", 1, 4), 3, 8, 8))
    layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    layer.load_state_dict(random_weights(layer, "tiny"))
    network.output("y", layer(x))
    about = {
        "model": "tiny",
        "weights": {"source": "random (seed 0)", "origin": "random"},
        "preprocessing": _PREPROCESSING,
        "class_names": ["cat", "dog", "fox"],
        "calibration": {"method": "mse", "items": 3, "key": "k", "sha256": _SHA, "reused": True},
        "plugins": [],
    }
    shapes = trtnet.Shapes((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))
    plan = trtnet.build(network, {"x": shapes}, sidecar=about)
    needed = {"name": "trtnet::class_map", "version": "1", "module": "m", "embedded": False}
    return Plan(plan.engine, {**plan.sidecar, "plugins": [needed]})


def sidecar(draw: random.Random) -> None:
    """A sidecar: the engine is loaded, executed, and images are prepared for it."""
    from PIL import Image

    from trtnet.imaging import image_mode, prepare
    from trtnet.pipeline import preprocessing_of

    path = _folder() / "sidecar.engine"
    plan = _plan()
    path.write_bytes(plan.engine)
    sidecar_path(path).write_bytes(document(plan.sidecar, draw))
    with Session(path, device="cpu") as session:
        session(np.zeros((1, 3, 8, 8), np.float32))
        found = preprocessing_of(session.plan)
        prepare(Image.new(image_mode(found), (20, 10)), found)


def calibration_table(draw: random.Random) -> None:
    """The file of a calibration table: it is loaded, and its ranges are looked up."""
    path = _folder() / "table.json"
    CalibrationTable({"a": 1.5, "b.c": 1e-3}, "mse", _SHA, items=8).save(path)
    path.write_bytes(document(json.loads(path.read_bytes()), draw))
    table = CalibrationTable.load(path)
    table.require_weights(_SHA)
    table.amax("a")


def calibration_journal(draw: random.Random) -> None:
    """The journal of a calibration: a run goes on from it."""
    network, batches, stored = _calibration()
    path = _folder() / "calibration.journal"
    arrays = {name: array.copy() for name, array in stored.items()}
    metadata: dict[str, str] = dict(stored.metadata)
    where = draw.randrange(3)
    if where == 0:
        text = document(json.loads(metadata["position"]), draw)
        metadata["position"] = text.decode("utf-8", "replace")
    elif where == 1:
        name = draw.choice(list(arrays))
        arrays[name] = _changed_array(arrays[name], draw)
    content = weights.dumps(arrays, metadata)
    path.write_bytes(changed_bytes(content, draw) if where == 2 else content)
    found = calibrate(network, activations(network)[:2], batches, resume=path, every=1)
    found.table(draw.choice(METHODS), weights_sha256=_SHA)


def _changed_array(array: np.ndarray, draw: random.Random) -> np.ndarray:
    options: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda x: x[:-1],
        lambda x: x[::-1],
        lambda x: -x,
        lambda x: x + np.array(2**31 - 1, x.dtype),
        lambda x: x.astype(np.float32),
        lambda x: x.astype(np.uint8),
        lambda x: x.reshape(1, *x.shape),
        lambda x: np.concatenate([x, x]),
        lambda x: x * 0,
        lambda x: (x.astype(np.float64) * 1e15).astype(x.dtype),
    ]
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(draw.choice(options)(array))


@functools.cache
def _calibration() -> tuple[Any, list[Any], Any]:
    """A network, its data, and the journal after the first batch."""
    network = graph.loads(_plan().engine)
    values = np.random.default_rng(1).standard_normal((4, 3, 8, 8)).astype(np.float32)
    batches = [{"x": values[:2]}, {"x": values[2:]}]
    path = _folder() / "whole.journal"

    def stop(done: int, *rest: object) -> None:
        if done == 4:
            raise InterruptedError

    with contextlib.suppress(InterruptedError):
        calibrate(network, activations(network)[:2], batches, resume=path, every=1, progress=stop)
    found = weights.load(path)
    return (
        network,
        batches,
        weights.Weights({name: array.copy() for name, array in found.items()}, found.metadata),
    )


_MEASURED_ON = {
    **dict.fromkeys(("weights", "graph", "data"), "0" * 64),
    "to": "int8",
    "base": "fp16",
    "gpu": "l40s",
    "method": "mse",
    "items": 8,
}


def search_journal(draw: random.Random) -> None:
    """A search's journal: it is read, and every result is asked for."""
    metrics = {"rel_l2": 0.1, "cosine": 0.99, "top1_drop": None}
    lines = [
        {"format": SearchJournal.format, "job": "job"},
        {"key": "module a", "value": {**metrics, "seconds_saved": -1e-6}},
        {"key": "trial a b", "value": {"metrics": metrics, "seconds": 1e-3}},
        {"key": "measured on", "value": _MEASURED_ON},
    ]
    which = draw.randrange(len(lines) + 1)
    texts = [
        document(line, draw) if index == which else json.dumps(line).encode()
        for index, line in enumerate(lines)
    ]
    content = b"\n".join(texts) + b"\n"
    path = _folder() / "search.journal"
    path.write_bytes(changed_bytes(content, draw) if which == len(lines) else content)
    journal = SearchJournal(path, "job")
    if (found := journal.get("module a", StoredSensitivity)) is not None:
        _ = found.plain.sqnr_db
    journal.get("trial a b", StoredTrial)
    journal.get("measured on", MeasuredOn)
    journal.put("trial c", {"metrics": metrics, "seconds": 1.0})
    assert SearchJournal(path, "job").get("trial c", StoredTrial) is not None


def policy(draw: random.Random) -> None:
    """A policy's file: it is loaded, and asked for a module."""
    path = _folder() / "policy.toml"
    budget = Budget.parse("sqnr>=26dB")
    Policy("int8", keep={"layer4": "fp16", "a.*.b": "fp32"}, budget=budget).save(path)
    content = path.read_bytes()
    match draw.randrange(6):
        case 0:
            content = changed_bytes(content, draw)
        case 1:
            old = draw.choice([b'"fp16"', b'"sqnr>=26dB"'])
            content = content.replace(old, _toml(odd_value(draw)))
        case 2:
            key = draw.choice(["a." * draw.choice([1, 30, 40, 50_000]) + "b", "[x]", '"', "a b"])
            content = key.encode() + b' = "fp16"\n' + content
        case 3:
            deep = draw.choice(
                ["[", "{a=", "{a.a.a=", '"""', "'''", "[[", "[a.", "\\", "a.b.", "="]
            )
            content += b"keep = " + (deep * draw.choice([3, 70, 10_000])).encode()
    path.write_bytes(content)
    found = Policy.load(path)
    found.precision_of("layer4.0.conv1", "convolution")
    found.save(path)
    assert Policy.load(path) == found


def _toml(value: Any) -> bytes:
    """`value` in TOML's syntax, or nearly so."""
    if isinstance(value, dict):
        pairs = (json.dumps(str(key)).encode() + b"=" + _toml(v) for key, v in value.items())
        return b"{" + b",".join(pairs) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(_toml, value)) + b"]"
    if isinstance(value, str) and value.startswith(RAW):
        return value.removeprefix(RAW).encode()
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def plugin_fields(draw: random.Random) -> None:
    """The attributes of a plugin, as an engine stores them: a plugin is made of them."""
    kind = registry.load("trtnet.plugins.shipped.normalize_image.declaration:NormalizeImage")
    valid = json.loads(kind(size=(8, 8)).fields)
    registry.restore(kind, document(valid, draw).decode("utf-8", "replace"))


def cached_kernel(draw: random.Random) -> None:
    """A file of the kernel cache: the right kernel comes back, from the file or compiled again."""
    path = _folder() / "kernel.json"
    kernel = aot_compile.PtxKernel("k", ".version 8.0", 128, 0)
    entry = {
        "sha256": aot_compile._entry_sha256(kernel, "key"),
        "kernel": {"name": "k", "ptx": ".version 8.0", "threads": 128, "shared": 0},
    }
    path.write_bytes(document(entry, draw))
    assert aot_compile._read_entry(path, "key") == kernel


def timing_trace(draw: random.Random) -> None:
    """A file of ``--exportTimes``."""
    query = trace.Query(0, 0.0, 0.1, 0.1, 0.2, 0.2, 1.5, 1.5, 1.6)
    found = trace.from_json(document(trace.to_json([query, query]), draw))
    for one in found:
        _ = one.latency


def metadata(draw: random.Random) -> None:
    """What a weights file says about images and classes."""
    from trtnet.imaging import prepared_size

    texts = {
        "preprocessing": document(draw.choice([_PREPROCESSING, _LETTERBOX]), draw).decode(
            "utf-8", "replace"
        ),
        "class_names": document(["cat", "dog"], draw).decode("utf-8", "replace"),
    }
    stored = weights.Weights({}, texts)
    prepared_size((30, 20), stored.preprocessing or {})
    _ = stored.class_names


def preprocessing(draw: random.Random) -> None:
    """A TOML file with a table ``[preprocess]``: an image is prepared, also for another input."""
    from PIL import Image

    from trtnet.imaging import placement, prepare
    from trtnet.imaging.fitting import ImageInput, fitted
    from trtnet.imaging.presets import load_preprocessing

    stated: dict[str, Any] = dict(draw.choice([_PREPROCESSING, _LETTERBOX]))
    if draw.random() < 0.7:
        stated[draw.choice([*stated, "resize_mode", "what"])] = odd_value(draw)
    lines = [json.dumps(key).encode() + b" = " + _toml(value) for key, value in stated.items()]
    content = b"\n".join([b"[preprocess]", *lines])
    path = _folder() / "preprocessing.toml"
    path.write_bytes(changed_bytes(content, draw) if draw.random() < 0.3 else content)
    rules = load_preprocessing(path)
    image = Image.new("RGB", (20, 10))
    for one in (rules, fitted(rules, ImageInput.exactly(1, 9, 5))):
        if placement(image.size, one).size[0] * placement(image.size, one).size[1] < 1 << 20:
            prepare(image, one)


def box_annotations(draw: random.Random) -> None:
    """Boxes beside images, in COCO's format: they are moved with their images, and measured."""
    from PIL import Image

    from trtnet.detection.average_precision import average_precision
    from trtnet.detection.matching import Boxes
    from trtnet.quantization.box_labels import ANNOTATIONS, boxes_in_folder

    folder = _folder() / "boxes"
    folder.mkdir(exist_ok=True)
    paths = [folder / "a.png", folder / "b.png"]
    for path in paths:
        if not path.exists():
            Image.new("RGB", (20, 10)).save(path)
    about = {"width": 20, "height": 10}
    images = [{"id": i, "file_name": path.name, **about} for i, path in enumerate(paths)]
    boxes = [
        {"id": 1, "image_id": 0, "category_id": 3, "bbox": [1, 2, 10.5, 4], "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 0, "bbox": [0, 0, 20, 10], "iscrowd": 1},
    ]
    valid = {"images": images, "annotations": boxes, "categories": [{"id": 3, "name": "cat"}]}
    (folder / ANNOTATIONS).write_bytes(document(valid, draw))
    rules = draw.choice([_PREPROCESSING, _LETTERBOX])
    found = boxes_in_folder(folder, paths, rules) or []
    assert all(np.isfinite(truth.corners).all() for truth in found)
    same = [Boxes(one.corners, np.ones(len(one.classes)), one.classes) for one in found]
    precision = average_precision(same, found)
    assert precision is None or 0 <= precision <= 1


def archive(draw: random.Random) -> None:
    """A network's archive: it is checked, costed, loaded and executed."""
    arrays, stored = _archive()
    if draw.random() < 0.2:
        text = changed_bytes(stored["graph"].encode(), draw).decode("utf-8", "replace")
    else:
        text = document(json.loads(stored["graph"]), draw).decode("utf-8", "replace")
    content = weights.dumps(arrays, {**stored, "graph": text})
    network = graph.loads(content)
    graph.lint(network)
    _accepted(lambda: graph.cost(network))
    with Session(Plan(content), device="cpu") as session:
        session(np.zeros((1, 3, 8, 8), np.float32))


def _accepted(call: Callable[[], object]) -> None:
    """Calls `call`, whose refusal does not end the case."""
    with contextlib.suppress(trtnet.TrtnetError):
        call()


@functools.cache
def _archive() -> tuple[dict[str, np.ndarray], Mapping[str, str]]:
    stored = weights.loads(_plan().engine, "the engine")
    return {name: array.copy() for name, array in stored.items()}, stored.metadata


CASES: dict[str, Callable[[random.Random], None]] = {
    "archive": archive,
    "box-annotations": box_annotations,
    "cached-kernel": cached_kernel,
    "calibration-journal": calibration_journal,
    "calibration-table": calibration_table,
    "metadata": metadata,
    "plugin-fields": plugin_fields,
    "policy": policy,
    "preprocessing": preprocessing,
    "search-journal": search_journal,
    "sidecar": sidecar,
    "timing-trace": timing_trace,
}
