"""The operations of layer types that are defined above the reference.

What TensorRT's own layers compute is defined in this room. What the layers of plugins
(``PLUGIN_V3``) compute is defined by their declarations in :mod:`trtnet.plugins`; the package
``trtnet`` registers the operation when it is imported. This module does not import PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtnet.errors import UsageError

if TYPE_CHECKING:
    from trtnet.reference.layer_context import Operation

_REGISTERED: dict[str, Operation] = {}


def register_operation(layer_type: str, operation: Operation) -> None:
    """Makes `operation` define what layers of `layer_type` compute; called at import time.

    Args:
        layer_type: the name of a ``trt.LayerType``, such as ``"PLUGIN_V3"``.
        operation: takes the :class:`~trtnet.reference.layer_context.LayerContext` of a layer and
            returns the :class:`~trtnet.reference.layer_context.TorchCall` that computes it. The
            call takes and gives values of the tensors' own types.

    Raises:
        UsageError: another operation is registered for this type.
    """
    if _REGISTERED.setdefault(layer_type, operation) is not operation:
        raise UsageError(f"layers of type {layer_type} have an operation already")


def registered_operation(layer_type: str) -> Operation | None:
    """The operation registered for `layer_type`, or ``None``."""
    return _REGISTERED.get(layer_type)
