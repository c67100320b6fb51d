"""A model without its end: the outputs of modules inside it, for what is built on a backbone."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from trtnet.errors import UsageError
from trtnet.module import Module
from trtnet.tensor import Tensor, tensors_in


class _AllFound(BaseException):
    """Ends the forward of a model none of whose further layers is wanted: no error."""


class Features(Module):
    """Calls `model` until the modules at `paths` have returned; gives what they returned.

    The paths and parameters are the model's, so that its state_dict loads strictly; what comes
    behind the last of `paths` is not in the network. Of a module that is called several times, it
    is the first call that counts.

    Args:
        model: is not changed, and shares its modules and weights with this one.
        paths: of modules, such as ``layer2``; their outputs are returned by path, in this order.

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

        def note(module: Module, result: Any) -> None:
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
                raise  # it was meant for a call around this one
        for path, module in self.wanted.items():
            if id(module) not in found:
                raise UsageError("the model does not call this module", module=path,
                                 fix="name one of the modules in it")  # fmt: skip
        return {path: found[id(module)] for path, module in self.wanted.items()}


def _module_at(path: str, model: Module) -> Module:
    modules = dict(model.named_modules())
    if path and path in modules:
        return modules[path]
    near = difflib.get_close_matches(path, modules, n=3)
    children = ", ".join(name for name, _ in model.named_children())
    raise UsageError(
        f"the model has no module {path!r}",
        got=path,
        fix=f"did you mean {', '.join(near)}?" if near else f"choose {children}, or one in them",
    )
