"""Darknet's ``.weights`` files: a header, then every number of the network, without names.

https://github.com/pjreddie/darknet, in the public domain: of each convolution the biases, or the
shifts, scales, means and variances of its batch normalisation, and then the kernel.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from trtnet.errors import WeightsError
from trtnet.reading.darknet import read_cfg
from trtnet.weights.darknet_layers import Layer, planned
from trtnet.weights.places import Place

SUFFIX = ".weights"

_START = struct.Struct("<iii")  # version: major, minor, revision
_NORM = ("bias", "weight", "running_mean", "running_var")
_LATEST = 1000  # a version has smaller parts


def keys_and_shapes(layers: Sequence[Layer]) -> dict[str, tuple[int, ...]]:
    """The tensors of a network in the order of the file. Layer 3 is ``layers.3``."""
    found: dict[str, tuple[int, ...]] = {}
    for index, layer in enumerate(layers):
        if layer.kind != "convolutional":
            continue
        size, _, _, groups = layer.kernel
        names = [f"bn.{name}" for name in _NORM] if layer.has_norm else ["conv.bias"]
        found.update({f"layers.{index}.{name}": (layer.channels,) for name in names})
        kernel = (layer.channels, layer.in_channels // groups, size, size)
        found[f"layers.{index}.conv.weight"] = kernel
    return found


def shapes_of(places: Mapping[str, Place]) -> dict[str, tuple[int, ...]]:
    """The same of the state_dict of a darknet network; empty for another model's."""
    found: dict[str, tuple[int, ...]] = {}
    for start in _starts(places):
        names = [f"bn.{name}" for name in _NORM]
        if f"{start}bn.weight" not in places:
            names = ["conv.bias"]
        for name in (*names, "conv.weight"):
            if f"{start}{name}" not in places:
                return {}
            found[start + name] = places[start + name].shape
    return found


def _starts(places: Mapping[str, Place]) -> Iterator[str]:
    for key in places:
        parts = key.split(".")
        if len(parts) == 4 and parts[0] == "layers" and parts[2:] == ["conv", "weight"]:
            yield f"layers.{parts[1]}."


def cfg_beside(path: Path) -> Path | None:
    """The ``.cfg`` file of the same name, where it is there."""
    beside = path.with_suffix(".cfg")
    return beside if beside.is_file() else None


def read(
    content: bytes, path: Path, cfg: Path | None, places: Mapping[str, Place] | None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of a file by key, views of `content`, and the metadata: the number of classes,
    if a description says it.

    Args:
        content: of the file.
        path: its path, for messages.
        cfg: the description of its network; the one beside it where it is ``None``.
        places: what a model wants, which tells the layers where there is no description.

    Raises:
        WeightsError: nothing tells the layers; the file ends in the middle of a layer, or has
            more numbers than the network.
    """
    cfg = cfg or cfg_beside(path)
    layers = [] if cfg is None else planned(read_cfg(cfg, WeightsError))
    shapes = shapes_of(places or {}) if cfg is None else keys_and_shapes(layers)
    if not shapes:
        raise WeightsError(
            f"{path} is a file of darknet's, which does not say what its numbers are",
            expected=f"the description of its network, {path.with_suffix('.cfg').name}, beside it",
            fix="copy the .cfg file there, or name it: trtnet weights convert --cfg FILE, in "
            "Python trtnet.weights.load(path, cfg=FILE)",
        )
    classes = {layer.section.values["classes"] for layer in layers if layer.kind == "yolo"}
    metadata = {"num_classes": classes.pop()} if len(classes) == 1 else {}
    return _split(_values(content, path), shapes, path, cfg), metadata


def _split(
    values: np.ndarray, shapes: Mapping[str, tuple[int, ...]], path: Path, cfg: Path | None
) -> dict[str, np.ndarray]:
    """`values` as tensors of `shapes`, one after the other."""
    arrays: dict[str, np.ndarray] = {}
    at = 0
    for key, shape in shapes.items():
        end = at + math.prod(shape)
        if end > len(values):
            raise _wrong_size(path, key, f"{len(values)} numbers", f"{end} up to here", cfg)
        arrays[key] = values[at:end].reshape(shape)
        at = end
    if at != len(values):
        raise _wrong_size(path, key, f"{len(values)} numbers", f"{at}, to its end", cfg)
    return arrays


def _values(content: bytes, path: Path) -> np.ndarray:
    """The numbers behind the header."""
    major, minor, _ = _START.unpack_from(content.ljust(_START.size, b"\0"))
    wide = major * 10 + minor >= 2 and major < _LATEST and minor < _LATEST
    start = _START.size + (8 if wide else 4)  # how many images it has seen
    if major < 0 or minor < 0 or len(content) < start or (len(content) - start) % 4:
        raise WeightsError(
            f"{path} is not a file of darknet's weights",
            expected="the version, the number of images, and numbers of 4 bytes",
            got=f"{len(content)} bytes, version {major}.{minor}",
            fix="the file is damaged or incomplete: copy or download it again",
        )
    values = np.frombuffer(content, "<f4", offset=start)
    return values if values.flags.aligned else values.copy()


def _wrong_size(path: Path, key: str, got: str, wanted: str, cfg: Path | None) -> WeightsError:
    return WeightsError(
        f"{path} does not have the numbers of its network",
        module=key,
        expected=wanted,
        got=got,
        fix=f"the file is incomplete, or of another network than {cfg or 'the model'}: put its own "
        ".cfg file beside it",
    )
