"""The plugins that have been declared, by name and version."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from trtnet.errors import PlanError, UnsupportedError, UsageError
from trtnet.plugins.declaration import Plugin
from trtnet.plugins.shipped_paths import IMPORT_PATHS
from trtnet.reading.documents import Source, from_json, shortened
from trtnet.reading.schema import checked

_NAME = re.compile(r"[A-Za-z_]\w*::[A-Za-z_]\w*")
_RESERVED = ("trt", "tensorrt", "std")  # namespaces that TensorRT keeps for itself


@dataclass(frozen=True)
class NeededPlugin:
    """A plugin whose layers are in an engine, as the sidecar says it.

    Attributes:
        name: ``"namespace::name"``.
        version: its version.
        module: which declares it.
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
    """Adds `plugin`, or replaces the class of the same import path (a module loaded again).

    Raises:
        UsageError: a class of another import path has this name and version.
    """
    key = plugin.name, plugin.version
    known = _DECLARED.get(key)
    if known is not None and import_path(known) != import_path(plugin):
        raise UsageError(
            f"the plugin {plugin.name} version {plugin.version} is declared twice",
            got=f"{import_path(known)} and {import_path(plugin)}",
            fix="choose another name, or another version",
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
            fix="import the module that declares it first",
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
                got=_known(),
                fix=f"import {needed.module} before the engine is loaded",
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
    return f"{plugin.__module__}:{plugin.__qualname__}"


def load(path: str) -> type[Plugin]:
    """Imports a module and returns a plugin that it declares.

    Args:
        path: an import path such as ``my_plugins:LeakyGate``, or the module ``my_plugins`` where
            it declares only one plugin.

    Raises:
        UsageError: there is no such module or plugin.
    """
    module_name, _, attribute = path.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise UsageError(
            f"{path!r} is no import path",
            expected="such as my_plugins:LeakyGate",
            fix="run trtnet in the folder of the file, and name it without a folder and .py",
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"the module {module_name} cannot be imported",
            got=error,
            fix=f"run trtnet in the folder of {module_name.partition('.')[0]}, or set PYTHONPATH",
        ) from error
    except (Exception, SystemExit) as error:  # whatever the code of the module does
        raise UsageError(
            f"the module {module_name} fails when it is imported",
            got=f"{type(error).__name__}: {error}",
        ) from error
    own = {kind.__name__: kind for kind in _DECLARED.values() if kind.__module__ == module.__name__}
    if attribute in own or (not attribute and len(own) == 1):
        return own[attribute] if attribute else next(iter(own.values()))
    raise UsageError(
        f"{path} names no plugin",
        expected=", ".join(f"{module_name}:{name}" for name in own) or "a module with plugins",
        got=path,
    )
