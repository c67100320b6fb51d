"""Which models there are, and what builds each of them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from trtnet.errors import UsageError
from trtnet.module import Module
from trtnet.zoo.features import Features

if TYPE_CHECKING:
    import torch

Builder = TypeVar("Builder", bound=Callable[..., Module])


@dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    Attributes:
        name: what :func:`get_model` calls it; torchvision's name where it has the model.
        builder: makes the trtnet module; its keyword arguments are the model's.
        input_shape: (channels, height, width) of one input by default.
        twin: makes the same model in PyTorch, with the same arguments and state_dict;
            ``None`` for torchvision's builder of this name.
        embedded: name of weights shipped with trtnet → file in the package ``trtnet.weights``.
        default_weights: the name of the weights to take where none are asked for.
        pretrained: arguments that torchvision's own weights were trained with.
        switches: name of a boolean argument that torchvision's builder does not have → what does
            the same to torchvision's model when it is true. No weights depend on it.
        task: ``"classification"``, whose output is ``logits`` of shape (N, classes), or
            ``"segmentation"``, whose outputs are named by the model's ``forward``.
    """

    name: str
    builder: Callable[..., Module]
    input_shape: tuple[int, int, int] = (3, 224, 224)
    twin: Callable[..., torch.nn.Module] | None = None
    embedded: Mapping[str, str] = field(default_factory=dict)
    default_weights: str = "random"
    pretrained: Mapping[str, Any] = field(default_factory=dict)
    switches: Mapping[str, Callable[..., torch.nn.Module]] = field(default_factory=dict)
    task: str = "classification"

    @property
    def home(self) -> ModuleType:
        """The module that the model is written in."""
        found = inspect.getmodule(self.builder)
        assert found is not None
        return found

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the arguments that :meth:`build` and :meth:`torch_model` take."""
        return tuple(inspect.signature(self.builder).parameters)

    def build(self, **kwargs: Any) -> Module:
        """The model, without weights.

        Raises:
            UsageError: an argument that the model does not have.
        """
        self._check(kwargs)
        return self.builder(**kwargs)

    def torch_model(self, **kwargs: Any) -> torch.nn.Module:
        """The same model in PyTorch, freshly initialised, in evaluation mode.

        Raises:
            UsageError: an argument that the model does not have.
        """
        self._check(kwargs)
        if self.twin is not None:
            return self.twin(**kwargs).eval()
        from trtnet.weights.random_init import build

        known = {name: value for name, value in kwargs.items() if name not in self.switches}
        model = build(self.name, **known).eval()
        for name, switch in self.switches.items():
            model = switch(model) if kwargs.get(name) else model
        return model

    def _check(self, kwargs: Mapping[str, Any]) -> None:
        for argument in kwargs:
            if argument not in self.arguments:
                raise UsageError("the model has no such argument", module=self.name, got=argument,
                                 expected=", ".join(self.arguments))  # fmt: skip


_ENTRIES: dict[str, Entry] = {}


def register(**details: Any) -> Callable[[Builder], Builder]:
    """Decorates a builder: registers it under its own name, with `details` of its
    :class:`Entry`.

    Raises:
        ValueError: the name is taken.
    """

    def add(builder: Builder) -> Builder:
        name = builder.__name__
        if name in _ENTRIES:
            raise ValueError(f"a model named {name!r} is registered already")
        _ENTRIES[name] = Entry(name, builder, **details)
        return builder

    return add


def list_models(pattern: str | None = None) -> list[str]:
    """The names of all models, or of those that match a shell pattern such as ``resne*t*``."""
    return sorted(name for name in _ENTRIES if fnmatchcase(name, pattern or "*"))


def get_entry(name: str) -> Entry:
    """The :class:`Entry` of the model `name`.

    Raises:
        UsageError: there is no such model; the nearest names are suggested.
    """
    if name in _ENTRIES:
        return _ENTRIES[name]
    near = difflib.get_close_matches(name.lower().replace("-", "_"), _ENTRIES, n=3)
    raise UsageError(
        f"there is no model {name!r}",
        got=name,
        fix=f"did you mean {', '.join(near)}?" if near else f"choose {', '.join(list_models())}",
    )


def get_model(name: str, *, features: Sequence[str] | None = None, **kwargs: Any) -> Module:
    """The model `name`, without weights; `kwargs` such as ``num_classes`` go to its builder.

    Args:
        features: paths of modules whose outputs the model is to return, by path, in place of its
            own: ``["layer2", "layer4"]``. See :class:`trtnet.zoo.features.Features`.

    Raises:
        UsageError: no such model or module (the nearest names are suggested) or no such argument.
    """
    model = get_entry(name).build(**kwargs)
    return model if features is None else Features(model, features)
