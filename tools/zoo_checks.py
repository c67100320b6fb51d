"""Holds one model of the zoo against PyTorch: what ``tools/verify_zoo.py`` does with each.

    python tools/zoo_checks.py MODEL

prints the record that goes to the journal, as JSON. The weights are those of ``--weights random``
(see ``weights/random_init.py``), settled on smaller images where a model's own are large.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torchvision
from zoo_exact import EXACT, make_batch_norm_exact, make_constants_exact

import trtnet
from trtnet import graph, zoo
from trtnet.pipeline import mark_outputs
from trtnet.verification import Verification
from trtnet.weights.random_init import random_module
from trtnet.zoo import Entry

SEED = 0
MACS_TOLERANCE = 0.005
MACS_ROUNDING = 0.5e6
SETTLED_SIZE = 224  # of the images that settle BatchNorms: 32 of 600×600 would take ten minutes
LARGEST_BUILT = 160  # of models that are built for an image size
OTHER_SIZE = (203, 171)  # odd, no square, and not large: float64 is slow
ROUNDED = ("definition", "fp32", "fp16")
CHECKS = (*ROUNDED, "exact")


@dataclass(frozen=True)
class Published:
    """What torchvision states about a model at its default image size.

    Attributes:
        parameters: without those of a head that serves training alone.
        macs: rounded to millions.
    """

    parameters: int
    macs: float

    def agrees(self, parameters: int, macs: int) -> bool:
        """Whether the parameters are equal, and the MACs within 0.5% or the rounding."""
        tolerance = max(MACS_TOLERANCE * self.macs, MACS_ROUNDING)
        return parameters == self.parameters and abs(macs - self.macs) <= tolerance


@dataclass(frozen=True)
class Setting:
    """A network of a model, and what is checked of it.

    Attributes:
        shape: (N, C, H, W) of the images it is verified with.
        dynamic_batch: whether its batch axis is dynamic.
        checks: of :data:`CHECKS`.
        engine: whether its FP16 engine is built; with a dynamic batch for one to twice `shape`'s.
        model_args: what the model needs to take images of that size.
        fixed_size: whether the model takes no images of another size.
    """

    shape: tuple[int, ...]
    dynamic_batch: bool = False
    checks: tuple[str, ...] = CHECKS
    engine: bool = True
    model_args: Mapping[str, Any] = field(default_factory=dict)
    fixed_size: bool = False

    @property
    def image(self) -> tuple[int, ...]:
        """(C, H, W) of one image."""
        return self.shape[1:]

    @property
    def settled(self) -> tuple[int, ...]:
        """The shape of the images that settle the BatchNorms."""
        if self.model_args or self.fixed_size or len(self.image) != 3:
            return (1, *self.image)
        channels, height, width = self.image
        return (1, channels, min(height, SETTLED_SIZE), min(width, SETTLED_SIZE))

    @property
    def declared(self) -> tuple[int | str, ...]:
        """The shape of the network's input."""
        return ("N", *self.image) if self.dynamic_batch else self.shape

    @property
    def profile(self) -> dict[str, trtnet.Shapes]:
        """For building."""
        if not self.dynamic_batch:
            return {}
        batch, *image = self.shape
        smallest, largest = (1, *image), (2 * batch, *image)
        return {"input": trtnet.Shapes(min=smallest, opt=self.shape, max=largest)}


@dataclass(frozen=True)
class Result:
    """What was measured in one setting; `engine_bytes` and `build_s` are zero without an engine."""

    verifications: dict[str, Verification]
    macs: int
    engine_bytes: int = 0
    build_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every verification passed."""
        return all(found.passed for found in self.verifications.values())


def settings(entry: Entry) -> dict[str, Setting]:
    """By name: at the default size with one image, with a dynamic batch, and at another size
    where the architecture has one."""
    default = entry.require_input_shape()
    other = other_size(entry)
    made = {
        "default": Setting((1, *default), checks=ROUNDED, fixed_size=entry.fixed_size),
        "dynamic batch": Setting(
            (2, *default),
            dynamic_batch=True,
            checks=ROUNDED if other else CHECKS,
            fixed_size=entry.fixed_size,
        ),
    }
    return {**made, "other size": other} if other else made


def other_size(entry: Entry) -> Setting | None:
    """Another image size than the default one; ``None`` for a model of one size, or whose inputs
    are no images."""
    shape = entry.require_input_shape()
    if entry.fixed_size or len(shape) != 3:
        return None
    channels, height, _ = shape
    if "image_size" in entry.arguments:  # position embeddings: a square, and built for
        size = _size_to_build(entry)
        return Setting((1, channels, size, size), model_args={"image_size": size})
    if "input_size" in entry.arguments:  # windows and grids: a square, a multiple, and built for
        size = 2 * height
        return Setting((1, channels, size, size), model_args={"input_size": (size, size)})
    return Setting((1, channels, *OTHER_SIZE))


def _size_to_build(entry: Entry) -> int:
    """The largest image size up to 160 that the model can be built for, not its default one."""
    for size in range(LARGEST_BUILT, 0, -1):
        with contextlib.suppress(trtnet.ShapeError):
            if size != entry.require_input_shape()[1]:
                entry.build(image_size=size)
                return size
    raise trtnet.UsageError("the model can be built for no image size", module=entry.name,
                            expected=f"a size from 1 to {LARGEST_BUILT}",
                            fix="register it with fixed_size=True")  # fmt: skip


def published(name: str) -> Published | None:
    """torchvision's own numbers, ``None`` for a model that it does not have."""
    entry = zoo.get_entry(name)
    if not entry.torchvision:
        return None
    available = torchvision.models.get_model_weights(name)
    size = entry.require_input_shape()[1]
    of_size = [entry for entry in available if _image_size(entry) == [size]]
    meta = (of_size or [available.DEFAULT])[0].meta
    return Published(meta["num_params"] - _training_only(name), meta["_ops"] * 1e9)


def _image_size(weights: Any) -> list[int]:
    transforms = weights.transforms()
    found: list[int] = getattr(transforms, "crop_size", None) or transforms.resize_size
    return found


def _training_only(name: str) -> int:
    """Parameters of an auxiliary head where torchvision counts it: in Inception v3 alone."""
    if name != "inception_v3":
        return 0
    with torch.device("meta"):
        model = torchvision.models.inception_v3(weights=None, init_weights=False)
    return sum(parameter.numel() for parameter in model.AuxLogits.parameters())


def published_args(entry: Entry) -> dict[str, Any]:
    """The arguments of the model that torchvision's numbers are of: with an auxiliary head."""
    return {"aux_loss": True} if entry.torchvision and "aux_loss" in entry.arguments else {}


def twin(entry: Entry, shape: tuple[int, ...], **model_args: Any) -> torch.nn.Module:
    """The PyTorch model with the weights of ``--weights random``, none of them constant.

    Args:
        shape: of the images that settle its BatchNorms, with a batch axis.
    """
    return random_module(entry.torch_model, SEED, input_shape=shape[1:], **model_args)


def equal_pair(
    entry: Entry, shape: tuple[int, ...], **model_args: Any
) -> tuple[torch.nn.Module, trtnet.Module]:
    """The PyTorch model and ours, with equal weights; arguments as of :func:`twin`."""
    theirs, ours = twin(entry, shape, **model_args), entry.build(**model_args)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def seeded_input(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Normally distributed float32 values for the input ``input``."""
    values = np.random.default_rng(SEED).standard_normal(shape)
    return {"input": values.astype(np.float32)}


def define(model: trtnet.Module, shape: tuple[Any, ...], **options: Any) -> trtnet.Network:
    """A network with the input ``input`` and the output ``logits``, or those the model names."""
    network = trtnet.Network(**options)
    mark_outputs(network, model(network.input("input", shape)))
    return network


def check(
    torch_model: torch.nn.Module, model: trtnet.Module, setting: Setting, backend: str = "rtx"
) -> Result:
    """Measures one setting. The models are changed by the check ``"exact"``, which comes last.

    Args:
        torch_model, model: of the same weights.
    """
    inputs, found = seeded_input(setting.shape), {}

    def verify(**options: Any) -> Verification:
        result = trtnet.verify(network, torch_model, inputs, **options)
        gc.collect()  # modules that PyTorch traces are in cycles, and hold copies of the weights
        return result

    network = define(model, setting.declared, backend=backend)
    macs = graph.macs(graph.read(network.definition), {"input": setting.shape})
    if "definition" in setting.checks:
        found["definition"] = verify(float64=True)
    if "fp32" in setting.checks:
        found["fp32"] = verify()
    del network  # before the next one: it holds a copy of the weights
    engine_bytes, build_s = 0, 0.0
    if "fp16" in setting.checks or setting.engine:
        network = define(model, setting.declared, backend=backend, precision="fp16")
        if "fp16" in setting.checks:
            found["fp16"] = verify()
        if setting.engine:
            start = time.perf_counter()
            engine_bytes = len(trtnet.build(network, shapes=setting.profile).engine)
            build_s = time.perf_counter() - start
        del network
    if "exact" in setting.checks:
        make_constants_exact(torch_model)
        make_batch_norm_exact(torch_model, model)
        network = define(model, setting.declared, backend=backend, fold_batch_norm=False)
        found["exact"] = verify(float64=True, tolerance=EXACT)
    return Result(found, macs, engine_bytes, build_s)


def measure(name: str, backend: str = "rtx") -> dict[str, Any]:
    """All settings of a model: the record of the journal.

    Args:
        name: a name or an address, as for :func:`trtnet.zoo.get_entry`.

    Raises:
        UsageError: the model has no counterpart in PyTorch, or no default input shape.
    """
    start, entry = time.perf_counter(), zoo.get_entry(name)
    if not entry.has_counterpart():
        raise trtnet.UsageError("there is no PyTorch model to compare with", module=name,
                                fix="give it one: @register(twin=...)")  # fmt: skip
    stated, shared = published(name), published_args(entry)
    record: dict[str, Any] = {"model": name, "settings": {}}
    pair, image = None, None
    for title, setting in settings(entry).items():
        if pair is None or setting.image != image:
            pair, image = None, setting.image  # before the next: only one in memory
            pair = equal_pair(entry, setting.settled, **shared, **setting.model_args)
        result = check(*pair, setting, backend)
        if title == "default":
            record["parameters"] = sum(parameter.numel() for parameter in pair[1].parameters())
            record["macs"] = result.macs
        record["settings"][title] = _plain(setting, result)
        del result
        gc.collect()
    agrees = stated is None or stated.agrees(record["parameters"], record["macs"])
    record["published"] = stated and {"parameters": stated.parameters, "macs": stated.macs}
    record["passed"] = agrees and all(plain["passed"] for plain in record["settings"].values())
    record["seconds"] = round(time.perf_counter() - start, 1)
    return record


def _plain(setting: Setting, result: Result) -> dict[str, Any]:
    """JSON values; of FP16 the smallest cosine, of others the largest relative L2 distance."""
    plain: dict[str, Any] = {"input": list(setting.shape), "passed": result.passed}
    for kind, found in result.verifications.items():
        rows = (*found.rows, *found.outputs)
        plain["modules"] = len(found.rows)
        plain[kind] = min(row.cosine for row in rows) if kind == "fp16" else found.worst.rel_l2
        if found.blame:
            plain[f"{kind} fails"] = f"{found.blame.where}: {found.blame.message}"
    if setting.engine:
        plain |= {"engine_bytes": result.engine_bytes, "build_s": round(result.build_s, 2)}
    return plain


def main() -> int:
    """Prints the record of one model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "--backend", choices=sorted(trtnet.backend.names(defining=True)), default="rtx"
    )
    args = parser.parse_args()
    print(json.dumps(measure(args.model, args.backend)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
