"""Module: a tree of hyperparameters, named parameters and ``forward``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from trtnet.errors import NetworkError
from trtnet.host import as_host, as_torch, network_of
from trtnet.module.casting import Casting
from trtnet.module.counterpart import call_counterpart
from trtnet.module.hooks import Hooks
from trtnet.module.loading import IncompatibleKeys
from trtnet.module.registration import assign, delete, look_up, register, register_place
from trtnet.module.state import load, states
from trtnet.module.tree import Tree
from trtnet.tensor import Parameter


class Module(Tree, Hooks, Casting):
    """Base class of every layer and model, as ``torch.nn.Module``.

    Subclasses assign Parameters and Modules as attributes in ``__init__`` and define
    ``forward``. Calling a module on Tensors adds its layers to their network; it never changes
    the module, so one module can fill any number of networks. Modules always behave as PyTorch's
    do in ``eval()``: :attr:`training` is ``False``.
    """

    computes = ""
    """Kind of work its precision depends on, one of :data:`trtnet.precision.KINDS`; ``""``
    for a module that takes the type of its input, or only calls others."""

    ignored_keys: tuple[str, ...] = ()
    """Patterns of keys that a state_dict may have and this module does not take, such as
    ``"aux1.*"`` for a head that serves training alone."""

    training = False
    """Always ``False``; kept for code that asks for it."""

    def __init__(self) -> None:
        for table in ("_parameters", "_buffers", "_modules"):
            object.__setattr__(self, table, {})
        object.__setattr__(self, "_non_persistent_buffers_set", set())
        self._init_hooks()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; defined by subclasses."""
        raise TypeError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Adds its layers to the network of the arguments. Called on values of the host, such as a
        parameter or a table of positions, it computes on the host."""
        network = network_of((args, kwargs))
        if network is not None:
            return network.call(self, args, kwargs)
        if any(_is_foreign(value) for value in (*args, *kwargs.values())) or not _binds(
            self.forward, args, kwargs
        ):
            raise NetworkError(
                f"{type(self).__name__} was called without a trtnet.Tensor",
                got=", ".join(type(arg).__name__ for arg in args) or "no argument",
                fix='call it on net.input("input", shape) or on a tensor made from it',
            )
        if type(self).forward.__module__.startswith("trtnet.nn.") and self.computes:
            return as_host(call_counterpart(self, as_torch(args), as_torch(kwargs)))
        return self.forward_with_hooks(args, kwargs)

    # Attributes

    def __setattr__(self, name: str, value: Any) -> None:
        assign(self, name, value)

    def __getattr__(self, name: str) -> Any:
        return look_up(self, name)

    def __delattr__(self, name: str) -> None:
        delete(self, name)

    def __dir__(self) -> list[str]:
        tables = (self._parameters, self._buffers, self._modules)
        return sorted({*super().__dir__(), *(name for table in tables for name in table)})

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Adds a parameter; ``None`` marks one that this configuration leaves out."""
        register_place(self, "_parameters", name)
        register(self, "_parameters", name, param)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Adds a buffer, such as a running mean.

        Args:
            tensor: its values (a Parameter, a tensor of PyTorch, an array), or ``None``.
            persistent: whether it belongs to the state_dict.
        """
        register_place(self, "_buffers", name)
        register(self, "_buffers", name, tensor)
        if not persistent:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Adds a submodule under `name`; where there is one, the new one takes its place."""
        register_place(self, "_modules", name)
        register(self, "_modules", name, module)

    register_module = add_module

    # Modes

    def train(self, mode: bool = True) -> Any:
        """This module, unchanged: trtnet's modules are always in evaluation mode."""
        return self

    def eval(self) -> Any:
        """This module: trtnet's modules are always in evaluation mode."""
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing: there are no gradients."""

    # Weights

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, np.ndarray]:
        """The loaded arrays by name: parameters and persistent buffers, without optional ones left
        out. A parameter that two modules share has both names.

        Args:
            prefix: put before every name.
            keep_vars: has no effect.
        """
        return states(self, prefix)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Loads arrays (numpy or torch) by name, without copying numpy arrays.

        Keys must be the module's, as in PyTorch: :func:`trtnet.weights.load` with ``model=`` drops
        prefixes such as ``module.``. What a module's `ignored_keys` match is left out. Weights of
        a file without shapes take the module's.
        Nothing is loaded unless everything fits. `assign` has no effect. A parameter or module at
        several places has all their keys; as in PyTorch the value of the last one counts, but one
        of them is enough: safetensors' ``save_model`` writes only one.

        Raises:
            WeightsError: names a prefix that makes the keys differ; otherwise mis-shaped, missing
                and unexpected keys at once, counted where they are many. With ``strict=False``
                only mis-shaped ones are an error.
        """
        return load(self, state_dict, strict)

    # Printing

    def extra_repr(self) -> str:
        """The arguments that ``repr`` shows."""
        return ""

    def __repr__(self) -> str:
        lines = [
            f"({name}): " + repr(child).replace("\n", "\n  ")
            for name, child in self._modules.items()
        ]
        inner = "\n  " + "\n  ".join(lines) + "\n" if lines else self.extra_repr()
        return f"{type(self).__name__}({inner})"


def _binds(forward: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether `forward` can be called with these arguments."""
    try:
        inspect.signature(forward).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _is_foreign(value: Any) -> bool:
    """Whether `value` is an array, or a tensor of PyTorch that code outside of trtnet made."""
    kind = type(value)
    is_torchs = kind.__name__ == "Tensor" and kind.__module__ == "torch"
    return is_torchs or isinstance(value, np.ndarray)
