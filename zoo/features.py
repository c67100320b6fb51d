"""Backbones: a model that returns the outputs of modules inside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtnet.errors import UsageError
from trtnet.module import Module
from trtnet.names import did_you_mean
from trtnet.tensor import Tensor, tensors_in


class _AllFound(BaseException):
    """Ends a model's forward once all wanted outputs are known. Not an error."""


class Features(Module):
    """Calls `model` until the modules at `paths` have returned, and returns their outputs by path.

    The modules and parameters have the same names as in `model`, so that its state_dict loads
    strictly. The layers that `model` would add afterwards are not in the network. Of a module that
    is called several times, the output of the first call is returned.

    Args:
        model: is not changed, and shares its modules and weights with this one.
        paths: of modules, such as ``layer2``. The outputs are in this order.

    Raises:
        UsageError: no paths, or one that the model does not have; when called, a module that the
            model does not call.
    """

    def __init__(self, model: Module, paths: Sequence[str]) -> None:
        super().__init__()
        for name, parameter in model._parameters.items():
            self.register_parameter(name, parameter)
        for name, buffer in model._buffers.items():
            self.register_buffer(name, buffer)
        for name, child in model.named_children():
            self.add_module(name, child)
        self.ignored_keys = model.ignored_keys
        self.wanted = {path: _module_at(path, model) for path in paths}
        if not self.wanted:
            raise UsageError("no features", expected="paths of modules",
                             fix="leave features= out for the whole model")  # fmt: skip
        self._run = model.forward  # the method: the model is no module of this one

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        ids = {id(module) for module in self.wanted.values()}
        found: dict[int, Any] = {}

        def note(path: str, module: Module, result: Any) -> None:
            if id(module) in ids and id(module) not in found:
                found[id(module)] = result
                if len(found) == len(ids):
                    raise _AllFound

        network = tensors_in([args, kwargs])[0].network
        try:
            with network.watching(note):
                self._run(*args, **kwargs)
        except _AllFound:
            if len(found) < len(ids):
                raise  # raised by a Features module inside this one's caller
        for path, module in self.wanted.items():
            if id(module) not in found:
                raise UsageError("the model does not call this module", module=path,
                                 fix="name one of the modules in it")  # fmt: skip
        return {path: found[id(module)] for path, module in self.wanted.items()}


def _module_at(path: str, model: Module) -> Module:
    modules = dict(model.named_modules())
    if path and path in modules:
        return modules[path]
    children = ", ".join(name for name, _ in model.named_children())
    raise UsageError(
        f"the model has no module {path!r}",
        got=path,
        fix=did_you_mean(path, modules) or f"choose {children}, or a module inside one of them",
    )
