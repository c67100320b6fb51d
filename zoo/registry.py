"""Which models there are, and what builds each of them.

A model is known by its name in the registry, where those of trtnet are registered when they are
asked for (:mod:`trtnet.zoo.families`), by the name that an installed distribution offers it
under (:mod:`trtnet.zoo.installed`), or by its address (:mod:`trtnet.zoo.addresses`).
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from trtnet.errors import UsageError
from trtnet.importing import PRIVATE
from trtnet.module import Module
from trtnet.names import did_you_mean
from trtnet.zoo import addresses
from trtnet.zoo.entry import Entry, is_torch_module
from trtnet.zoo.families import HOMES, SHIPPED, check_listed
from trtnet.zoo.features import Features
from trtnet.zoo.installed import Offer, offers
from trtnet.zoo.libraries import library_entry, library_of
from trtnet.zoo.pretrained import Pretrained

if TYPE_CHECKING:
    import torch

Builder = TypeVar("Builder", bound=Callable[..., Module])

_IMAGENET = (3, 224, 224)
_ENTRIES: dict[tuple[str, str], Entry] = {}
"""By scope and name. The scope is empty, except for a file that was addressed by its path: the
names in it are its own, so that two versions of one file can be compared."""

_FILES = (".engine", ".plan", ".trt", ".graph", ".safetensors", ".onnx")  # of networks


@overload
def register(builder: Builder, /) -> Builder: ...


@overload
def register(
    *,
    name: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    twin: Callable[..., torch.nn.Module] | None = None,
    torchvision: bool = False,
    embedded: Mapping[str, str] | None = None,
    default_weights: str = "random",
    pretrained: Sequence[Pretrained] = (),
    switches: Mapping[str, Callable[..., torch.nn.Module]] | None = None,
    task: str = "classification",
    fixed_size: bool = False,
    preprocessing: Mapping[str, Any] | None = None,
    telling: Callable[[Mapping[str, tuple[int, ...]]], Mapping[str, Any]] | None = None,
) -> Callable[[Builder], Builder]: ...


def register(
    builder: Builder | None = None,
    /,
    *,
    name: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    torchvision: bool = False,
    embedded: Mapping[str, str] | None = None,
    pretrained: Sequence[Pretrained] = (),
    switches: Mapping[str, Callable[..., torch.nn.Module]] | None = None,
    **details: Any,
) -> Builder | Callable[[Builder], Builder]:
    """Decorates a function, or a subclass of :class:`trtnet.Module`, that makes a model: adds it
    to the zoo. Works with arguments and without::

        @register
        def small_net(num_classes: int = 10) -> trtnet.Module: ...

        @register(input_shape=(3, 32, 32), twin=torch_small_net)
        class SmallNet(trtnet.Module): ...

    Args:
        name: what the model is called; by default the name of the function or class.
        input_shape: (channels, height, width) of one input; for torchvision's models
            (3, 224, 224) by default.
        twin: makes the same model in PyTorch, with the same arguments and state_dict keys. With
            it the model is verified against PyTorch.
        torchvision, embedded, default_weights, pretrained, switches, task, fixed_size,
            preprocessing, telling: see :class:`Entry`.

    Returns:
        the function or class, unchanged.

    Raises:
        ValueError: another function has registered the name; both places are named. A function
            that is defined again, in a module that is reloaded, replaces its former self. A
            function of trtnet itself whose name is not in ``zoo/families.py``.
        UsageError: `input_shape` is no shape, or `task` is unknown.
    """

    def add(function: Builder) -> Builder:
        for detail in ("twin", "task"):
            if details.get(detail) is None and hasattr(function, detail):
                details[detail] = getattr(function, detail)
        shape = getattr(function, "input_shape", None) if input_shape is None else input_shape
        entry = Entry(
            name or function.__name__,
            function,
            input_shape=_IMAGENET if torchvision and shape is None else shape,
            torchvision=torchvision,
            embedded=embedded or {},
            pretrained=tuple(pretrained),
            switches=switches or {},
            **details,
        )
        module = function.__module__
        if module.startswith(SHIPPED):
            check_listed(entry.name, module)
        key = (module if module.startswith(PRIVATE) else "", entry.name)
        former = _ENTRIES.get(key) if key[0] else registered(entry.name)
        if former is not None and former.place != entry.place:
            raise ValueError(
                f"a model named {entry.name!r} is registered already, by {former.place}; "
                f"{entry.place} needs another name: @register(name=...)"
            )
        _ENTRIES[key] = entry
        return function

    return add if builder is None else add(builder)


def list_models(pattern: str | None = None, *, shipped: bool = False) -> list[str]:
    """The names of all models, or of those that match a shell pattern such as ``resne*t*``.

    Those of installed distributions are among them. No model is imported.

    Args:
        shipped: only the models that come with trtnet.
    """
    names = set(HOMES)
    if not shipped:
        names.update(name for scope, name in _ENTRIES if not scope)
        names.update(offers())
    return sorted(name for name in names if fnmatchcase(name, pattern or "*"))


def registered(name: str) -> Entry | None:
    """The model that is registered as `name`; the file of one of trtnet's is imported now."""
    if name in HOMES:
        importlib.import_module(HOMES[name])
    return _ENTRIES.get(("", name))


def get_entry(name: str) -> Entry:
    """The :class:`Entry` of the model that `name` names. Nothing else is imported.

    Args:
        name: a name in the zoo or of an installed distribution; ``timm:NAME`` or
            ``torchvision:NAME``; ``file.py:callable`` with the path of a Python file, or
            ``package.module:callable``. The callable is a function that returns a
            :class:`trtnet.Module` or a ``torch.nn.Module``, or a subclass of one of them. One
            that was not registered may have the attributes ``input_shape``, ``twin`` and ``task``.

    Raises:
        UsageError: there is no such model (near names are suggested), it cannot be imported, or
            several models have the name.
    """
    if library_of(name):
        return library_entry(name)
    if addresses.is_address(name):
        return _at(addresses.parse(name))
    own = registered(name)
    if own is not None and own.shipped:  # no distribution takes the place of a model of trtnet
        return own
    offered = offers().get(name, ())
    found = [own] if own else []
    found += [_offered(offer) for offer in offered]
    if not found and Path(name).is_dir():
        raise UsageError(f"{name} is a folder, and not a model", got=name, fix=_near_models(name))
    if not found and _looks_like_a_file(name):
        raise UsageError(
            f"{name} {'is a file, and not a model' if Path(name).exists() else 'does not exist'}",
            expected="the path of a file that is there, or a model by name or address",
            got=name,
            fix=_files_beside(Path(name)),
        )
    if not found:
        raise UsageError(f"there is no model {name!r}", got=name, fix=_near_models(name))
    if any(other.builder is not found[0].builder for other in found):
        places = [f"{own.place} (registered)"] if own else []
        places += [f"{offer.address} (of {offer.distribution})" for offer in offered]
        raise UsageError(f"several models are named {name!r}", got=", ".join(places),
                         fix=f"name one by its address, such as {found[-1].place}")  # fmt: skip
    return found[0]


def get_model(name: str, *, features: Sequence[str] | None = None, **kwargs: Any) -> Module:
    """The model that `name` names, without weights; `kwargs` such as ``num_classes`` go to its
    builder.

    Args:
        name: a name or an address, as for :func:`get_entry`.
        features: paths of modules whose outputs the model is to return, by path, in place of its
            own: ``["layer2", "layer4"]``. See :class:`trtnet.zoo.features.Features`.

    Raises:
        UsageError: no such model or module (the nearest names are suggested) or no such argument.
    """
    model = get_entry(name).build(**kwargs)
    return model if features is None else Features(model, features)


def _near_models(name: str) -> str:
    """Advice: the nearest names, and what lists all of them."""
    near = did_you_mean(name.lower().replace("-", "_"), list_models(), cutoff=0.5)
    listing = "trtnet zoo --list shows all models (in Python trtnet.zoo.list_models())"
    return listing if near is None else f"{near} {listing}"


def _looks_like_a_file(name: str) -> bool:
    return Path(name).suffix.lower() in _FILES or os.sep in name


def _files_beside(file: Path) -> str:
    """Advice that names the files in the folder of a `file` that is no model."""
    try:
        there = [each.name for each in sorted(file.parent.iterdir()) if each.suffix in _FILES]
    except OSError:
        return f"there is no folder {file.parent}: check the path"
    others = [other for other in there if other != file.name]
    near = did_you_mean(file.name, others)
    return near or (f"name one of {', '.join(others[:5])}" if others else "check the path")


def _offered(offer: Offer) -> Entry:
    """The model of an installed distribution, imported now."""
    try:
        address = addresses.parse(offer.address)
        return dataclasses.replace(_at(address), name=offer.name)
    except UsageError as error:
        raise UsageError(
            f"the model of the distribution {offer.distribution} cannot be used: {error.problem}",
            module=offer.name,
            expected=error.expected,
            got=error.got if error.got is not None else offer.address,
            fix=f"install another version of {offer.distribution.split()[0]}, or remove it",
        ) from error


def _at(address: addresses.Address) -> Entry:
    """The registered or new entry of the callable at an address."""
    found = addresses.find(address)
    for entry in _ENTRIES.values():
        if entry.builder is found.value:
            return dataclasses.replace(entry, folder=found.folder)
    return _entry_of(found.value, address, found.folder)


def _entry_of(value: Any, address: addresses.Address, folder: Path | None) -> Entry:
    """The entry of a callable that was not registered."""
    name = address.attribute
    is_model = isinstance(value, Module) or is_torch_module(value)
    if is_model or not callable(value):
        kind = "a model itself" if is_model else f"{type(value).__name__}"
        raise UsageError(
            f"{address} is no function that makes a model",
            module=name,
            expected="a function that returns a trtnet.Module or a torch.nn.Module, or a subclass",
            got=kind,
            fix=f"write a function that returns it, and name that in place of {name}",
        )
    return Entry(
        name,
        value,
        input_shape=getattr(value, "input_shape", None),
        twin=getattr(value, "twin", None),
        task=getattr(value, "task", "classification"),
        folder=folder,
    )
