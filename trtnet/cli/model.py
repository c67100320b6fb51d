"""The model a command line asks for: its arguments, its weights, its PyTorch counterpart."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trtnet.weights
from trtnet.errors import UsageError
from trtnet.weights.torch_import import without_memory

if TYPE_CHECKING:
    import torch

    from trtnet.module import Module
    from trtnet.weights import Weights
    from trtnet.zoo import Entry


def model_arguments(entry: Entry, arguments: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments for the model's builder.

    Raises:
        UsageError: a flag for an argument that the model does not have.
    """
    chosen = {}
    for name in ("num_classes", "aux_loss", "argmax"):
        value = getattr(arguments, name)
        if value is None:
            continue
        if name not in entry.arguments:
            raise UsageError(f"{entry.name} does not take --{name.replace('_', '-')}")
        chosen[name] = value
    if arguments.image_size is not None and "image_size" in entry.arguments:
        chosen["image_size"] = arguments.image_size
    if entry.pretrained and _are_torchvisions(entry, arguments.weights):
        chosen |= entry.pretrained
    return chosen


def _are_torchvisions(entry: Entry, name: str | None) -> bool:
    """Whether ``--weights`` asks for what torchvision has trained, from there or in a file."""
    if name is None or name == "random" or name in entry.embedded:
        return False
    if not Path(name).is_file():
        return True
    stated = trtnet.weights.load(name).metadata.get("weights", "random")
    return stated != "random"


def load_weights(entry: Entry, name: str | None, seed: int, chosen: dict[str, Any]) -> Weights:
    """What ``--weights`` means for this model: shipped, random, from torchvision, or a file."""
    name = name or entry.default_weights
    if name == "DEFAULT" and entry.embedded:
        name = entry.default_weights
    if name in entry.embedded:
        shipped = trtnet.weights.load(Path(trtnet.weights.__file__).parent / entry.embedded[name])
        return trtnet.weights.Weights(shipped, shipped.metadata)  # known by name, not by path
    if name == "random" and entry.twin is not None:
        return _random_weights(entry, seed, chosen)
    theirs = {key: value for key, value in chosen.items() if key not in entry.switches}
    return trtnet.weights.resolve(entry.name, name, seed, **theirs)


def torch_model(entry: Entry, model: Module, chosen: dict[str, Any]) -> torch.nn.Module:
    """The PyTorch counterpart of `model`, with the weights that `model` holds."""
    import torch

    with without_memory():
        counterpart = entry.torch_model(**chosen)
    state = counterpart.state_dict()  # MNASNet looks for the version that PyTorch keeps in it
    for name, array in model.state_dict().items():
        values = torch.tensor(array)
        state[name] = values.float() if values.is_floating_point() else values
    counterpart.load_state_dict(state, assign=True)
    return counterpart


def _random_weights(entry: Entry, seed: int, chosen: dict[str, Any]) -> Weights:
    """Random weights of a model that torchvision does not have."""
    state = trtnet.weights.random_state(
        entry.torch_model, seed, input_shape=entry.input_shape, **chosen
    )
    metadata = {"architecture": entry.name, "weights": "random", "seed": str(seed)}
    return trtnet.weights.Weights(state, metadata)
