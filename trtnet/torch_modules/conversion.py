"""``trtnet.from_torch``: a ``torch.nn.Module`` as a module of trtnet."""

from __future__ import annotations

from typing import Any

import torch

from trtnet import nn
from trtnet.errors import UsageError
from trtnet.module import Module
from trtnet.tensor import tensors_in
from trtnet.torch_modules.copying import private_copy
from trtnet.torch_modules.parameters import SharedParameter
from trtnet.torch_modules.results import InnerCall, outputs
from trtnet.torch_modules.traced import first_traced
from trtnet.torch_modules.tracing import Tracing


def from_torch(module: torch.nn.Module) -> TorchModule:
    """`module`, a module of PyTorch, as a module of trtnet: its own code, unchanged, defines the
    network when it is called on a :class:`trtnet.Tensor`.

    Modules have the paths, and parameters the names, that they have in PyTorch. The tensors are
    shared, not copied; the tree of modules is taken as it is now. It always behaves as in
    ``eval()``.

    Raises:
        UsageError: something else than a ``torch.nn.Module``.
        UnsupportedError: it cannot be copied.

    >>> import torch, trtnet
    >>> net = trtnet.Network("rtx")
    >>> block = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
    >>> net.output("y", trtnet.from_torch(block)(net.input("x", (1, 3, 8, 8)))).shape
    (1, 8, 6, 6)
    """
    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            "from_torch takes a torch.nn.Module",
            got=type(module).__name__,
            fix="call it with an instance, such as from_torch(torchvision.models.resnet50())",
        )
    return _tree(private_copy(module), {})


class TorchModule(Module):
    """A ``torch.nn.Module`` whose own code defines layers; made by :func:`from_torch`.

    Attributes:
        torch_module: the PyTorch module, a private copy that shares the tensors of the original.
        groups: of a convolution; 1 for all else.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.torch_module = module
        self.groups = getattr(module, "groups", 1)
        for name, parameter in module._parameters.items():
            shared = None if parameter is None else SharedParameter(module._parameters, name)
            self.register_parameter(name, shared)
        for name, buffer in module._buffers.items():
            if buffer is not None and name not in module._non_persistent_buffers_set:
                self.register_buffer(name, SharedParameter(module._buffers, name))
        self._own_forward = module.forward
        module.forward = self._called

    def _called(self, *args: Any, **kwargs: Any) -> Any:
        """What PyTorch's code runs by calling the module: its forward, in the module's scope."""
        first = first_traced([args, kwargs])
        if first is None:  # a computation on weights alone, such as a parametrization
            return self._own_forward(*args, **kwargs)
        call = InnerCall(self._own_forward, args, kwargs)
        first.tracing.network.call(self, (call,), {})
        return call.result

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], InnerCall):
            return args[0].run()
        tracing = self._tracing(tensors_in([args, kwargs])[0].network)
        with tracing, torch.no_grad():
            result = self._own_forward(*tracing.wrap(args), **tracing.wrap(kwargs))
            return outputs(result, tracing.real)

    def _tracing(self, network: Any) -> Tracing:
        module = self.torch_module
        tensors = [*module.parameters(), *module.buffers()]
        floating = (tensor.dtype for tensor in tensors if tensor.is_floating_point())
        device = tensors[0].device if tensors else torch.device("cpu")
        return Tracing(network, next(floating, torch.float32), device, tensors)

    def extra_repr(self) -> str:
        return self.torch_module.extra_repr()


def _tree(module: torch.nn.Module, known: dict[int, TorchModule]) -> TorchModule:
    """`module` and all inside it; one that occurs in several places stays one."""
    if id(module) not in known:
        made = known[id(module)] = _class_for(type(module))(module)
        for name, child in module._modules.items():
            if child is not None:
                made.add_module(name, _tree(child, known))
    return known[id(module)]


def _class_for(kind: type[torch.nn.Module]) -> type[TorchModule]:
    """A class with the name of `kind`, and the kind of work of the layer of PyTorch that it is or
    derives from: policies and reports show both."""
    layers = (getattr(nn, base.__name__, None) for base in kind.__mro__ if _is_torchs(base))
    computes = next((layer.computes for layer in layers if layer is not None), "")
    return type(kind.__name__, (TorchModule,), {"computes": computes, "__doc__": kind.__doc__})


def _is_torchs(kind: type) -> bool:
    return kind.__module__.startswith("torch.nn.") and kind is not torch.nn.Module
