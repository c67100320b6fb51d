"""What plugin layers compute in :mod:`trtnet.reference`: their declaration's reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtnet.graph.plugins import identity
from trtnet.plugins import registry

if TYPE_CHECKING:
    from trtnet.reference.layer_context import LayerContext, TorchCall


def plugin_operation(layer: LayerContext) -> TorchCall:
    """The call that computes a ``PLUGIN_V3`` layer.

    Raises:
        UnsupportedError: nobody has declared the plugin in this process.
    """
    from trtnet.plugins.running import reference  # PyTorch is loaded where a layer is compiled
    from trtnet.reference.layer_context import TorchCall

    fields = layer.get("fields")
    if fields is None:
        raise layer.unsupported(
            "layers of type PLUGIN_V3 can be executed where trtnet.plugin declares them",
            layer["plugin_name"],
        )
    name, version = identity(layer.layer)
    registry.find(name, version, layer.layer.name)
    dtypes = tuple(layer.output_dtype(i) for i in range(len(layer.layer.outputs)))
    return TorchCall(reference, (name, version, fields, dtypes, *layer.inputs))
