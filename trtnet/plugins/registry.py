"""The plugins that have been declared, by name and version."""

from __future__ import annotations

import functools
import importlib
import re
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from trtnet import importing
from trtnet.errors import PlanError, UnsupportedError, UsageError
from trtnet.names import did_you_mean
from trtnet.plugins.declaration import Plugin
from trtnet.plugins.shipped_paths import IMPORT_PATHS
from trtnet.reading.documents import Source, from_json, shortened
from trtnet.reading.schema import checked

_NAME = re.compile(r"[A-Za-z_]\w*::[A-Za-z_]\w*")
_RESERVED = ("trt", "tensorrt", "std")  # namespaces that TensorRT keeps for itself
_PLACE = "my_plugins.py:LeakyGate or my_plugins:LeakyGate"


@dataclass(frozen=True)
class NeededPlugin:
    """A plugin whose layers are in an engine, as the sidecar says it.

    Attributes:
        name: ``"namespace::name"``.
        version: its version.
        module: which declares it: its name, or the name of its file, as ``--import`` takes it.
        embedded: whether the engine holds its kernels, and needs no declaration.
    """

    name: str
    version: str
    module: str = ""
    embedded: bool = False


_DECLARED: dict[tuple[str, str], type[Plugin]] = {}


def check_name(name: str, version: str) -> None:
    """Checks the name and the version of a plugin.

    Raises:
        UsageError: TensorRT does not accept them.
    """
    if not _NAME.fullmatch(name) or name.partition("::")[0] in _RESERVED:
        raise UsageError(
            f"{name!r} cannot be the name of a plugin",
            expected=f"namespace::name; the namespaces {', '.join(_RESERVED)} are TensorRT's",
        )
    if not re.fullmatch(r"\d+", version):
        raise UsageError("the version of a plugin is a number", module=name, got=repr(version))


def declare(plugin: type[Plugin]) -> None:
    """Adds `plugin`, or replaces the class of the same place (a module or file loaded again).

    Raises:
        UsageError: a class of another place has this name and version.
    """
    key = plugin.name, plugin.version
    known = _DECLARED.get(key)
    if known is not None and not _is_same_place(known, plugin):
        raise UsageError(
            f"the plugin {plugin.name} version {plugin.version} is declared twice",
            got=f"{import_path(known)} and {import_path(plugin)}",
            fix="import only one of the two, or choose another name or version",
        )
    _DECLARED[key] = plugin
    instance.cache_clear()


def find(name: str, version: str, owner: str | None = None) -> type[Plugin]:
    """Returns the class of a declared plugin.

    Args:
        name: ``"namespace::name"``.
        version: its version.
        owner: name of the layer that needs it, for the message.

    Raises:
        UnsupportedError: it is not declared in this process.
    """
    if not _is_declared(name, version):
        raise UnsupportedError(
            f"the plugin {name} version {version} is not declared",
            module=owner,
            got=_known(),
            fix="import the module that declares it first; on a command line: --import MODULE",
        )
    return _DECLARED[name, version]


def declared() -> list[type[Plugin]]:
    """Returns every plugin that is declared in this process."""
    return list(_DECLARED.values())


@functools.lru_cache(256)
def instance(name: str, version: str, fields: str) -> Plugin:
    """Returns the plugin with the attributes `fields`.

    Args:
        name: ``"namespace::name"``.
        version: its version.
        fields: the attributes as JSON, see :func:`trtnet.plugins.attributes.to_json`.

    Raises:
        UnsupportedError: it is not declared in this process.
    """
    return restore(find(name, version), fields)


def restore(plugin: type[Plugin], fields: str) -> Plugin:
    """A plugin of the class `plugin` with the attributes `fields`, which an engine stores.

    Raises:
        PlanError: `fields` is not the JSON of its attributes.
    """
    source = Source(
        "",
        f"the stored attributes of the plugin {plugin.name}",
        PlanError,
        "build the engine again, with the plugin that is declared here",
    )
    values = checked(from_json(fields, source), dict[str, Any], source)
    known = plugin.attributes.types
    if unknown := [name for name in values if name not in known]:
        raise source.refuse(
            "an unknown attribute",
            expected=", ".join(known) or "none",
            got=shortened(unknown[0]),
        )
    try:
        return plugin(**values)
    except UsageError as error:
        raise source.refuse(error.problem, error.expected, error.got) from error


def require(plugins: Iterable[NeededPlugin]) -> None:
    """Checks that the plugins an engine needs are declared.

    Raises:
        PlanError: one is not declared; the message names the module to import.
    """
    for needed in plugins:
        if not needed.embedded and not _is_declared(needed.name, needed.version):
            raise PlanError(
                f"the engine needs the plugin {needed.name} version {needed.version}",
                expected="a module that declares it, imported before the engine is loaded",
                got=_known(),
                fix=_import_advice(needed.module),
            )


def import_flags(plugins: Iterable[NeededPlugin]) -> str:
    """The flags with which a command in the present folder opens an engine that needs `plugins`,
    which are declared here: empty, or such as ``" --import gates.py"``."""
    modules = {
        _DECLARED[needed.name, needed.version].__module__: None
        for needed in plugins
        if not needed.embedded and (needed.name, needed.version) in _DECLARED
    }
    places = [importing.shell_place(name) for name in modules if not name.startswith("trtnet.")]
    return "".join(f" --import {shlex.quote(place)}" for place in places)


def _import_advice(place: str) -> str:
    """How to import `place`, which a file states: it is named only where it can be no more than
    the name of a module or file."""
    if not importing.MODULE.fullmatch(place.removesuffix(".py")):
        place = "MODULE"
    in_python = "it" if place.endswith(".py") or place == "MODULE" else place
    return (
        f"on a command line: --import {place}, in the folder of its file or with the path of the "
        f"file; in Python: import {in_python} first"
    )


def _is_declared(name: str, version: str) -> bool:
    """Returns whether a plugin is declared; imports it first if it comes with trtnet."""
    namespace, _, plain = name.partition("::")
    if namespace == "trtnet" and plain in IMPORT_PATHS:
        importlib.import_module(IMPORT_PATHS[plain].partition(":")[0])
    return (name, version) in _DECLARED


def _known() -> str:
    return ", ".join(f"{name} version {v}" for name, v in sorted(_DECLARED)) or "no plugin at all"


def import_path(plugin: type[Plugin]) -> str:
    """Returns where `plugin` is declared, such as ``my_plugins:LeakyGate``."""
    return f"{importing.place_of(plugin.__module__)}:{plugin.__qualname__}"


def _is_same_place(known: type[Plugin], plugin: type[Plugin]) -> bool:
    """Whether one declaration made both: of one module, or of one file under two names."""
    if known.__qualname__ != plugin.__qualname__:
        return False
    files = {getattr(sys.modules.get(kind.__module__), "__file__", None)
             for kind in (known, plugin)}  # fmt: skip
    return known.__module__ == plugin.__module__ or (len(files) == 1 and None not in files)


def load(text: str) -> type[Plugin]:
    """Imports a module and returns a plugin that it declares.

    Args:
        text: ``my_plugins.py:LeakyGate`` with the path of a file, or ``my_plugins:LeakyGate`` with
            the name of a module; the class may be left out where it is alone. Or the name of a
            plugin that is declared already, ``my_ops::leaky_gate``.

    Raises:
        UsageError: there is no such module or plugin, or the module cannot be imported.
    """
    if "::" in text:
        return _named(text)
    place, _, attribute = ("", "", "") if text.endswith(".py") else text.rpartition(":")
    place, attribute = (place, attribute) if place else (text, "")
    module = importing.import_place(place, _PLACE, text)
    own = {kind.__name__: kind for kind in _DECLARED.values() if kind.__module__ == module.__name__}
    if attribute in own or (not attribute and len(own) == 1):
        return own[attribute] if attribute else next(iter(own.values()))
    near = did_you_mean(attribute, own) if attribute else None
    raise UsageError(
        f"{text} names no plugin",
        expected=", ".join(f"{place}:{name}" for name in own) or "a module with plugins",
        got=text,
        fix=near or ("name one of them" if own else "declare one: @trtnet.plugin(...)"),
    )


def _named(name: str) -> type[Plugin]:
    """The declared plugin `name`, of the latest version."""
    found = {version: kind for (known, version), kind in _DECLARED.items() if known == name}
    if not found:
        raise UsageError(
            f"the plugin {name} is not declared",
            got=_known(),
            fix="name the file that declares it, or --import it",
        )
    return found[max(found, key=int)]
