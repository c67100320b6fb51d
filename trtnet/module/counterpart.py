"""PyTorch's layer for a layer of trtnet: it computes on the host, and initializes weights."""

from __future__ import annotations

from typing import Any

from trtnet.errors import NetworkError
from trtnet.host import pytorch, without_gradients


def counterpart(module: Any) -> Any:
    """The layer of ``torch.nn`` of the same class, with the same arguments, that shares the memory
    of the parameters. ``None`` where PyTorch has no such class for the module or a child.
    """
    torch = pytorch(f"nn.{type(module).__name__} on the host")
    own = (kind for kind in type(module).__mro__ if kind.__module__.startswith("trtnet.nn."))
    kind = next((getattr(torch.nn, base.__name__, None) for base in own), None)
    children = {name: counterpart(child) for name, child in module.named_children()}
    if kind is None or None in children.values():
        return None
    made = kind.__new__(kind)
    torch.nn.Module.__init__(made)
    for name, value in module.__dict__.items():
        made.__dict__.setdefault(name, value)
    for name, child in children.items():
        made.add_module(name, child)
    for name, entry in module._parameters.items():
        values = None if entry is None else torch.nn.Parameter(_plain(entry), requires_grad=False)
        made.register_parameter(name, values)
    for name, entry in module._buffers.items():
        made.register_buffer(name, None if entry is None else _plain(entry))
    return made.eval()


def _plain(entry: Any) -> Any:
    return entry.data.as_subclass(pytorch().Tensor)


def call_counterpart(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What PyTorch's layer gives for values of the host.

    Raises:
        NetworkError: PyTorch has no such layer.
    """
    made = counterpart(module)
    if made is None:
        raise NetworkError(
            f"{type(module).__name__} cannot compute on the host",
            fix="call it on a trtnet.Tensor",
        )
    with without_gradients():
        return made(*args, **kwargs)
