"""Weights of torchvision's models: pretrained, random, or checked against the architecture."""

from __future__ import annotations

import contextlib
import http.client
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from trtnet.errors import UsageError, WeightsError
from trtnet.names import did_you_mean
from trtnet.weights.container import Weights, image_metadata
from trtnet.weights.loading import SUFFIXES, is_path, load, weights_files
from trtnet.weights.random_init import build, random_module
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


def _weights_enum(model: str) -> Any:
    """torchvision's weights enum of `model`, after checking that there is such a model."""
    models = require("torchvision", f"weights for {model}").models
    parts = (models, models.segmentation, models.detection)
    known = [name for part in parts for name in models.list_models(part)]
    if model in known:
        return models.get_model_weights(model)
    listing = "torchvision.models.list_models() lists all of them"
    near = did_you_mean(model, known, cutoff=0.5)
    raise UsageError(
        f"torchvision has no model {model!r}",
        got=model,
        fix=listing if near is None else f"{near} {listing}",
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
            fix="check the network, give a file with --weights FILE, or take --weights random "
            '(weights="FILE", weights="random")',
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
        names = entry.meta.get("categories", [])
        fit = names and len(names) == _outputs(module)
        preprocessing = preprocessing_of(entry.transforms()) or None
        metadata |= image_metadata(preprocessing, names if fit else None)
    return metadata


def preprocessing_of(transforms: Any) -> dict[str, Any]:
    """What weights files say about torchvision's `transforms` of some weights."""
    found = {name: getattr(transforms, name, None) for name in _PREPROCESSING}
    if found["interpolation"] is not None:
        found["interpolation"] = found["interpolation"].value
    return {name: value for name, value in found.items() if value is not None}


def _outputs(module: torch.nn.Module) -> int:
    """The number of classes: the length of the last parameter, the classifier's bias. A detector's
    head that gives classes is in the middle."""
    boxes: Any = getattr(getattr(module, "roi_heads", None), "box_predictor", None)
    if boxes is not None:
        return int(boxes.cls_score.out_features)
    head = getattr(getattr(module, "head", None), "classification_head", None)
    if head is not None:
        return int(getattr(head, "num_classes", None) or head.num_columns)
    return len(list(module.parameters())[-1])
