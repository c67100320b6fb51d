"""Whole networks: layers that engines fuse, a dynamic batch, a plugin, models of the zoo."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from trtnet.certify.networks.lab import Compared, Defined, Lab
from trtnet.graph import Graph, read
from trtnet.network import Network


def dynamic_batch(lab: Lab) -> None:
    """Convolution, activation, pooling, reshape and product with a batch of any size."""
    trt, x = lab.trt, lab.input(3, 3, 12, 12, batch=True)
    kernel = lab.weights(lab.normal(8, 3, 3, 3) / 4)
    conv = lab.emit("convolution", "add_convolution_nd", x, 8, (3, 3), kernel, lab.weights(None),
                    padding_nd=(1, 1))  # fmt: skip
    relu = lab.emit("relu", "add_activation", conv, trt.ActivationType.RELU)
    mean = lab.emit("mean", "add_reduce", relu, trt.ReduceOperation.AVG, 0b1100, False)
    weight, op = lab.constant(lab.normal(8, 5)), trt.MatrixOperation
    product = lab.emit("product", "add_matrix_multiply", mean, op.NONE, weight, op.NONE)
    lab.emit("softmax", "add_softmax", product, axes=0b10)


def plugin(lab: Lab) -> None:
    """A shipped plugin: the class of each pixel, of logits that are resized."""
    from trtnet.plugins.shipped import ClassMap

    lab.keep("class_map", ClassMap(size=(9, 11))(lab.input(1, 5, 6, 7)))


def model(name: str, image_size: int | None) -> Callable[..., Defined]:
    """What defines the model `name` of the zoo, as ``define(backend, precision, tapped)``; see
    :func:`zoo_model`."""

    def define(backend: Any, precision: str, tapped: bool) -> Defined:
        return zoo_model(backend, precision, name, image_size, tapped)

    define.__doc__ = f"The zoo's {name}."
    return define


def zoo_model(
    backend: Any, precision: str, name: str, image_size: int | None, tapped: bool
) -> Defined:
    """A model of the zoo, with shipped or seeded random weights and a seeded picture.

    Args:
        backend: a loaded one.
        image_size: in place of the model's own.
        tapped: whether the output of each module is an output of the network, which keeps the
            engine from fusing; otherwise the model's own outputs alone are compared.
    """
    from trtnet.pipeline import Recipe, load_model
    from trtnet.quantization import calibrate

    recipe = Recipe(name, precision, image_size=image_size, backend=backend.name)
    loaded = load_model(recipe)
    loaded = dataclasses.replace(loaded, backend=backend)
    policy, name_in = recipe.policy, loaded.shapes.name
    images = _pictures(loaded.shapes.typical[0])
    network = loaded.define(policy)
    if network.observed:
        data = [{name_in: images}]
        found = calibrate(network.definition, network.observed, data)
        table = found.table("minmax", weights_sha256=network.weights_sha256)
        network = loaded.define(policy, table)
    if tapped:
        _tap(network)
    graph = read(network.definition)
    return Defined(network, {name_in: images}, {}, _compared(network, graph), graph)


def _tap(network: Network) -> None:
    """Marks the output of each module."""
    seen = {tensor.name for tensor in network.outputs.values()}
    for path, tensor in network.module_outputs.items():
        if path and tensor.name not in seen:
            seen.add(tensor.name)
            network.output(f"{path}:", tensor)


def _compared(network: Network, graph: Graph) -> dict[str, Compared]:
    """The outputs, in execution order, each with the layer that computes it."""
    outputs = set(network.outputs)
    return {
        name: Compared(layer.name, layer.type)
        for layer in graph.layers
        for name in layer.outputs
        if name in outputs
    }


def _pictures(shape: tuple[int, ...]) -> np.ndarray:
    """Seeded squares and discs on a light ground, values near 0 to 1: things that a detector of
    shapes finds."""
    random, (height, width) = np.random.default_rng(20), shape[-2:]
    rows, columns = np.mgrid[:height, :width]
    images = 0.92 + random.normal(0, 0.02, shape)
    for number in range(6):
        row, column = random.uniform(0.15, 0.85, 2) * (height, width)
        radius = random.uniform(0.06, 0.14) * height
        down, along = np.abs(rows - row), np.abs(columns - column)
        inside = np.maximum(down, along) < radius if number % 2 else np.hypot(down, along) < radius
        images[..., inside] = random.uniform(0, 0.8, (*shape[:2], 1))
    return images.astype(np.float32)
