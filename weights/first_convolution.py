"""The first convolution of a model for images, which takes as many channels as they have."""

from __future__ import annotations

from typing import Any, TypeVar

from trtnet.errors import UsageError

Model = TypeVar("Model")
NAME = "in_channels"
"""The argument of models that says how many channels their images have."""


def with_in_channels(model: Model, count: int, name: str) -> Model:
    """`model` with a new first convolution, for images of `count` channels; its weights are those
    of a new layer.

    Args:
        model: a PyTorch module, or a :class:`trtnet.Module` without weights.
        count: of channels.
        name: of the model, for errors.

    Raises:
        UsageError: no convolution comes first.
    """
    modules: Any = model
    found = [(path, layer) for path, layer in modules.named_modules()
             if type(layer).__name__ == "Conv2d"]  # fmt: skip
    if not found or found[0][1].groups != 1:
        raise UsageError(f"{NAME} is for models that begin with a convolution", module=name)
    path, old = found[0]
    if old.in_channels == count:
        return model
    new = type(old)(
        count,
        old.out_channels,
        old.kernel_size,
        stride=old.stride,
        padding=old.padding,
        dilation=old.dilation,
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    )
    parent, _, child = path.rpartition(".")
    setattr(modules.get_submodule(parent), child, new)
    return model
