"""A session for images: on an engine file, or on a model of the zoo that is built for them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trtnet import zoo
from trtnet.backend import TORCH, load
from trtnet.building.builder import build
from trtnet.building.plan import Plan
from trtnet.building.profiles import Shapes
from trtnet.cli.abilities import abilities
from trtnet.cli.defining import define
from trtnet.cli.doctor import examine
from trtnet.cli.model import load_weights, model_arguments
from trtnet.cli.progress import Progress
from trtnet.cli.report import human_stream
from trtnet.cli.shapes import INPUT, InputShapes
from trtnet.engines.session import Session
from trtnet.errors import BackendError, UsageError
from trtnet.hardware import missing_gpu
from trtnet.imaging import prepared_size, upright_size

_PRECISION = "tf32"  # what the zoo builds by default
_FLOATS = ("float32", "float16")

Preprocessing = Mapping[str, Any]
Settle = Callable[[Preprocessing], Preprocessing]


def open_session(
    arguments: argparse.Namespace, task: str, paths: Sequence[Path], settle: Settle
) -> Session:
    """A session on the engine or model ``arguments.target``.

    Args:
        task: what a model must be for, see :class:`trtnet.zoo.Entry`.
        paths: the images that a model is built for.
        settle: changes what the weights say about preprocessing.

    Raises:
        UsageError: no such model, one for another task, or an engine that takes no images.
        BackendError, PlanError: it cannot run here.
    """
    if Path(arguments.target).is_file():
        session = Session(arguments.target, backend=arguments.backend, device=arguments.device)
    else:
        with Progress(human_stream(arguments.json)).step("build"):
            plan = _plan(arguments, task, paths, settle)
        session = Session(plan, device=arguments.device)
    inputs = session.inputs
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].dtype not in _FLOATS:
        session.close()
        raise UsageError(
            f"{arguments.target} does not take images",
            expected=f"one input (N, channels, height, width), {' or '.join(_FLOATS)}",
            got=", ".join(f"{b.name} {b.dtype} {b.shape}" for b in inputs),
            fix="trtnet run takes arrays",
        )
    return session


def preprocessing_of(plan: Plan) -> Preprocessing:
    """What the sidecar says; raises :class:`UsageError` where it says nothing."""
    found = plan.sidecar.get("preprocessing")
    if isinstance(found, Mapping):
        return found
    raise _unknown_preprocessing("preprocessing in the sidecar beside the engine")


def _plan(arguments: argparse.Namespace, task: str, paths: Sequence[Path], settle: Settle) -> Plan:
    """The engine of a model, for the sizes that `paths` will have."""
    entry = zoo.get_entry(arguments.target)
    if entry.task != task:
        raise UsageError(
            f"{entry.name} is a model for {entry.task}, not for {task}",
            fix="trtnet zoo --list shows the models",
        )
    backend = _backend(arguments.backend, arguments.device)
    chosen = model_arguments(entry, arguments)
    if "argmax" in entry.arguments:
        chosen["argmax"] = True
    weights = load_weights(entry, arguments.weights, arguments.seed, chosen)
    if weights.preprocessing is None:
        raise _unknown_preprocessing("preprocessing in the metadata of the weights")
    module = entry.build(**chosen)
    module.load_state_dict(weights)
    shapes = _shapes(entry.input_shape, paths, settle(weights.preprocessing))
    network = define(load(backend), _PRECISION, shapes, module)
    about = {
        "model": entry.name,
        "weights": {"source": weights.source, "origin": weights.metadata.get("weights")},
        "preprocessing": weights.preprocessing,
        "class_names": weights.class_names,
    }
    return build(network, {INPUT: shapes.profiles[0]}, sidecar=about)


def _backend(asked: str, device: str) -> str:
    """The backend to build for: TensorRT, where it can run here, otherwise PyTorch.

    Raises:
        BackendError: one that was `asked` for cannot run here.
    """
    if asked == TORCH or (asked == "auto" and (device == "cpu" or missing_gpu() is not None)):
        return TORCH
    found = {ability.task: ability for ability in abilities(examine())}
    if asked == "auto":
        able = [name for name in ("tensorrt", "rtx") if found[f"run {name}"].problem is None]
        return able[0] if able else TORCH
    if (problem := found[f"run {asked}"].problem) is not None:
        raise BackendError(problem, fix=found[f"run {asked}"].fix)
    return asked


def _shapes(
    image: tuple[int, int, int], paths: Sequence[Path], preprocessing: Preprocessing
) -> InputShapes:
    """Of one image at a time; height and width are dynamic where those of `paths` differ. Files
    that cannot be read are left out: the run will tell."""
    sizes = []
    for path in paths:
        try:
            sizes.append(prepared_size(upright_size(path), preprocessing))
        except UsageError:
            continue
    sizes = sorted(sizes or [image[1:]])
    low, high = (tuple(map(pick, zip(*sizes, strict=True))) for pick in (min, max))
    declared = [a if a == b else name for name, a, b in zip("HW", low, high, strict=True)]
    opt = sizes[len(sizes) // 2]
    start = (1, image[0])
    profile = Shapes((*start, *low), (*start, *opt), (*start, *high))
    return InputShapes((*start, *declared), (profile,))


def _unknown_preprocessing(expected: str) -> UsageError:
    return UsageError(
        "nothing says how images are to be prepared for this network",
        expected=expected,
        fix="weights of --weights DEFAULT, and files of trtnet weights extract, have it",
    )
