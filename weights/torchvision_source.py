"""Weights of torchvision's models: pretrained, random, or checked against the architecture."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from trtnet.errors import UsageError, WeightsError
from trtnet.finite import check_finite
from trtnet.names import did_you_mean
from trtnet.weights.container import Weights
from trtnet.weights.loading import SUFFIXES, is_path, load, weights_files
from trtnet.weights.random_init import build, random_module
from trtnet.weights.safetensors_writer import save
from trtnet.weights.torch_import import require

if TYPE_CHECKING:
    import torch

FORMAT_VERSION = "1"
_PREPROCESSING = ("resize_size", "crop_size", "mean", "std", "interpolation", "antialias")


def resolve(model: str, weights: str = "random", seed: int = 0, **model_args: Any) -> Weights:
    """The weights that a command line's ``--weights`` means.

    Args:
        model: a torchvision model's name; with a path, any name.
        weights: ``random``, ``DEFAULT``, a torchvision enum name such as ``IMAGENET1K_V2``, or
            the path of a weights file (for which PyTorch is not needed).
        seed: for ``random``.
        **model_args: for torchvision's builder, such as ``num_classes``.

    Raises:
        UsageError: unknown model or enum name; the nearest, or all, are listed.
        WeightsError: a file or a download cannot be used.
    """
    if is_path(weights):
        return load(weights)
    enum = _weights_enum(model)
    if weights == "random":
        module = random_module(model, seed, **model_args)
        metadata = _metadata(model, "random", module, getattr(enum, "DEFAULT", None))
        metadata["seed"] = str(seed)
    else:
        entry = _entry(model, enum, weights)
        module = _download(model, entry, model_args)
        metadata = _metadata(model, str(entry), module, entry)
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    return Weights(state, metadata)


def extract(
    model: str,
    path: str | os.PathLike[str],
    weights: str = "random",
    seed: int = 0,
    **model_args: Any,
) -> Weights:
    """Writes a torchvision model's state_dict as a safetensors file, and loads that file.

    The metadata says: ``architecture, weights, seed, torch, torchvision, parameters,
    preprocessing`` and ``class_names`` (JSON), ``sha256`` (:func:`trtnet.weights.data_sha256` of
    the tensors) and ``format_version``. `weights` may be a file, which must then fit the model.

    Raises:
        UsageError: as :func:`resolve`; a model that torchvision does not have.
        WeightsError: as :func:`resolve`; a tensor that is not finite; keys or shapes that do not
            fit the model; the file cannot be written. No half file is left.
    """
    _weights_enum(model)
    found = resolve(model, weights, seed, **model_args)
    metadata, file = dict(found.metadata), found.path
    if file is not None:
        with require("torch", "checking weights").device("meta"):
            module = build(model, **model_args)
        found = _checked_fit(model, module, found)
        metadata = {**_metadata(model, file.name, module, None), **metadata}
    for name, array in found.items():
        check_finite(name, array)
    save(path, found, metadata, checksum=True)
    return load(path)


def _weights_enum(model: str) -> Any:
    """torchvision's weights enum of `model`, after checking that there is such a model."""
    models = require("torchvision", f"weights for {model}").models
    known = [*models.list_models(models), *models.list_models(models.segmentation)]
    if model in known:
        return models.get_model_weights(model)
    raise UsageError(
        f"torchvision has no model {model!r}",
        got=model,
        fix=did_you_mean(model, known) or f"choose {', '.join(sorted(known))}",
    )


def _entry(model: str, enum: Any, weights: str) -> Any:
    name = weights.removeprefix(f"{enum.__name__}.")
    if name in enum.__members__:
        return enum[name]
    names = ", ".join(enum.__members__)
    near = did_you_mean(weights, ["random", *enum.__members__, *weights_files(Path())])
    raise UsageError(
        f"no weights called {weights!r}",
        module=model,
        expected=f"random, {names + ', ' if names else ''}or the path of a file "
        f"({', '.join(SUFFIXES)})",
        got=weights,
        fix=near or "choose one of the names, or check the path of the file",
    )


def _download(model: str, entry: Any, model_args: dict[str, Any]) -> torch.nn.Module:
    # PyTorch's progress bar moves the cursor, which a command's stderr does not pass on.
    stream = getattr(sys.stderr, "unescaped", sys.stderr)
    shows = stream is not None and stream.isatty()
    try:
        with contextlib.redirect_stderr(stream):
            return build(model, entry, progress=shows, **model_args).eval()
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise WeightsError(
            f"{entry} cannot be downloaded from {urlparse(entry.url).hostname}",
            module=model,
            expected=f"{entry.url}, or a copy of it in torch.hub.get_dir()/checkpoints",
            got=error,
            fix="check the network, give a file with --weights PATH, or take --weights random",
        ) from error


def _metadata(model: str, weights: str, module: torch.nn.Module, entry: Any) -> dict[str, str]:
    """What a weights file says about itself; `entry` brings preprocessing and class names."""
    metadata = {
        "architecture": model,
        "weights": weights,
        "parameters": str(sum(parameter.numel() for parameter in module.parameters())),
        "torch": require("torch", "weights").__version__,
        "torchvision": require("torchvision", "weights").__version__,
        "format_version": FORMAT_VERSION,
    }
    if entry is not None:
        metadata["preprocessing"] = json.dumps(preprocessing_of(entry.transforms()))
        names = entry.meta.get("categories", [])
        if names and len(names) == _outputs(module):
            metadata["class_names"] = json.dumps(names, ensure_ascii=False)
    return metadata


def preprocessing_of(transforms: Any) -> dict[str, Any]:
    """What weights files say about torchvision's `transforms` of some weights."""
    found = {name: getattr(transforms, name, None) for name in _PREPROCESSING}
    if found["interpolation"] is not None:
        found["interpolation"] = found["interpolation"].value
    return {name: value for name, value in found.items() if value is not None}


def _outputs(module: torch.nn.Module) -> int:
    """The number of classes: the length of the last parameter, the classifier's bias."""
    return len(list(module.parameters())[-1])


def _checked_fit(model: str, module: torch.nn.Module, weights: Weights) -> Weights:
    """The weights in the model's shapes. Every difference between the file and the model's
    state_dict is in one error."""
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    if weights.flat:
        weights = weights.shaped(expected)
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    wrong = [f"missing {name}" for name in sorted(expected.keys() - weights.keys() - counters)]
    wrong += [f"unexpected {name}" for name in sorted(weights.keys() - expected.keys())]
    for name in sorted(expected.keys() & weights.keys()):
        if weights[name].shape != expected[name]:
            wrong.append(f"{name} is {weights[name].shape}, not {expected[name]}")
    if wrong:
        raise WeightsError(
            f"{weights.path} does not fit the model",
            module=model,
            got="".join(f"\n    {line}" for line in wrong),
            fix="name the architecture the file was made for, or give --num-classes",
        )
    return weights
