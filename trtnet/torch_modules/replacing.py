"""Modules of PyTorch that something of trtnet takes the place of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from trtnet.errors import UsageError
from trtnet.module import Module
from trtnet.torch_modules.traced import first_traced

Replacements = Mapping[type[torch.nn.Module], Callable[[Any], Any]]
"""Class of modules to what makes the replacement from such a module."""


class Replacement(torch.nn.Module):
    """Stands in a PyTorch module for a module or plugin of trtnet, and calls it on its tensors.

    Attributes:
        target: the module of trtnet, or what is called with trtnet's tensors.
    """

    target: Any

    def __init__(self, target: Callable[..., Any]) -> None:
        super().__init__()
        object.__setattr__(self, "target", target)  # not one of PyTorch's modules

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What `target` gives."""
        first = first_traced([args, kwargs])
        if first is None:
            raise UsageError(
                f"{type(self.target).__name__} was called without a tensor of the network",
                fix="replace a module that is called on what depends on the inputs",
            )
        run = first.tracing
        return run.wrap(self.target(*run.operands(args), **run.operands(kwargs)))


def replaced(module: torch.nn.Module, replacements: Replacements) -> torch.nn.Module:
    """`module`, which is changed, with each module of a class in `replacements` replaced.

    Raises:
        UsageError: a class that does not occur; something that is not a class, or made something
            that cannot be called.
    """
    made: dict[int, torch.nn.Module] = {}
    found: set[type] = set()

    def visit(part: torch.nn.Module, path: str) -> torch.nn.Module:
        if id(part) not in made:
            kind = next((kind for kind in replacements if isinstance(part, kind)), None)
            if kind is not None:
                found.add(kind)
                made[id(part)] = _replacement(part, replacements[kind], path)
            else:
                made[id(part)] = part
                for name, child in part._modules.items():
                    if child is not None:
                        part._modules[name] = visit(child, f"{path}.{name}".lstrip("."))
        return made[id(part)]

    whole = visit(module, "")
    missing = [kind.__name__ for kind in replacements if kind not in found]
    if missing:
        raise UsageError(
            "no module of a class that is to be replaced",
            got=", ".join(missing),
            expected=", ".join(sorted({type(part).__name__ for part in module.modules()})),
        )
    return whole


def _replacement(old: torch.nn.Module, make: Callable[[Any], Any], path: str) -> torch.nn.Module:
    new = make(old)
    if isinstance(new, torch.nn.Module):
        return new.eval()
    if not callable(new):
        raise UsageError(
            "the replacement cannot be called",
            module=path,
            expected="a trtnet.Module, a torch.nn.Module, or a function of trtnet's tensors",
            got=type(new).__name__,
        )
    if isinstance(new, Module):
        slots = [*new.parameters(), *(buffer for _, buffer in new.named_buffers())]
        if any(not slot.has_values and not slot.optional for slot in slots):
            new.load_state_dict({name: value.detach() for name, value in old.state_dict().items()})
    return Replacement(new)
