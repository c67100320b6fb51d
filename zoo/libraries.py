"""Models of other libraries by name: ``timm:NAME`` and ``torchvision:NAME``.

The library's own ``torch.nn.Module`` defines the network; see :func:`trtnet.from_torch`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

from trtnet.errors import UsageError
from trtnet.names import did_you_mean
from trtnet.weights import random_init
from trtnet.weights.torch_import import require
from trtnet.zoo.entry import Entry

if TYPE_CHECKING:
    import torch


def library_of(name: str) -> str | None:
    """The library whose model `name` names, such as ``"timm"`` for ``timm:resnet50d``; ``None``
    for other names."""
    library, colon, _ = name.partition(":")
    return library if colon and library in _LIBRARIES else None


def library_entry(name: str) -> Entry:
    """The model `name` of another library.

    Raises:
        UsageError: the library has no such model; the nearest names are suggested.
        WeightsError: the library is not installed.
    """
    library, _, model = name.partition(":")
    return _LIBRARIES[library](model)


def _timm(name: str) -> Entry:
    timm = require("timm", f"timm:{name}")
    if not timm.is_model(name.partition(".")[0]):
        raise _unknown("timm", name, timm.list_models())
    published = timm.get_pretrained_cfg(name)
    shape = tuple(published.input_size) if published else (3, 224, 224)

    def make(pretrained: bool, channels: int | None, **arguments: Any) -> torch.nn.Module:
        own = {} if channels is None else {"in_chans": channels}  # it adapts published weights
        found: torch.nn.Module = timm.create_model(name, pretrained=pretrained, **own, **arguments)
        return found

    return _entry("timm", name, make, shape)


def _torchvision(name: str) -> Entry:
    models = require("torchvision", f"torchvision:{name}").models
    if name not in models.list_models():
        raise _unknown("torchvision", name, models.list_models())

    def make(pretrained: bool, channels: int | None, **arguments: Any) -> torch.nn.Module:
        weights: dict[str, str | None] = {"weights": "DEFAULT"} if pretrained else {"weights": None}
        if (
            not pretrained
            and "weights_backbone" in signature(models.get_model_builder(name)).parameters
        ):
            weights["weights_backbone"] = None  # by default it would be downloaded
        found: torch.nn.Module = models.get_model(name, **weights, **arguments)
        if channels is None:
            return found
        return random_init.of_channels(found, channels, name, "DEFAULT" if pretrained else None)

    return _entry("torchvision", name, make, (3, 224, 224))


_LISTED = {"timm": "timm.list_models()", "torchvision": "torchvision.models.list_models()"}
_LIBRARIES: Mapping[str, Callable[[str], Entry]] = {"timm": _timm, "torchvision": _torchvision}


def _entry(
    library: str, name: str, make: Callable[..., torch.nn.Module], shape: tuple[int, ...]
) -> Entry:
    def builder(
        num_classes: int | None = None, in_channels: int | None = None, **arguments: Any
    ) -> torch.nn.Module:
        classes = {} if num_classes is None else {"num_classes": num_classes}
        return make(False, in_channels, **classes, **arguments)

    def published(
        num_classes: int | None = None, in_channels: int | None = None, **arguments: Any
    ) -> torch.nn.Module:
        classes = {} if num_classes is None else {"num_classes": num_classes}
        return make(True, in_channels, **classes, **arguments)

    return Entry(name, builder, input_shape=shape, library=library, published=published)


def _unknown(library: str, name: str, known: list[str]) -> UsageError:
    listing = f"{_LISTED[library]} lists all of them"
    near = did_you_mean(name, known, cutoff=0.5)
    return UsageError(
        f"{library} has no model {name!r}",
        got=f"{library}:{name}",
        fix=listing if near is None else f"{near} {listing}",
    )
