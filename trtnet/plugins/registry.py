"""The plugins that have been declared, by name and version."""

from __future__ import annotations

import functools
import importlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from trtnet.errors import PlanError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from trtnet.plugins.declaration import Plugin

_NAME = re.compile(r"[A-Za-z_]\w*::[A-Za-z_]\w*")
_RESERVED = ("trt", "tensorrt", "std")  # namespaces that TensorRT keeps for itself

_DECLARED: dict[tuple[str, str], type[Plugin]] = {}


def check_name(name: str, version: str) -> None:
    """Raises :class:`UsageError` for what TensorRT takes for no name or version."""
    if not _NAME.fullmatch(name) or name.partition("::")[0] in _RESERVED:
        raise UsageError(
            f"{name!r} cannot be the name of a plugin",
            expected=f"namespace::name; the namespaces {', '.join(_RESERVED)} are TensorRT's",
        )
    if not re.fullmatch(r"\d+", version):
        raise UsageError("the version of a plugin is a number", module=name, got=repr(version))


def declare(plugin: type[Plugin]) -> None:
    """Makes `plugin` known. A module that is loaded again declares its plugins again.

    Raises:
        UsageError: another class has the name.
    """
    key = plugin.name, plugin.version
    known = _DECLARED.get(key)
    if known is not None and place(known) != place(plugin):
        raise UsageError(
            f"the plugin {plugin.name} version {plugin.version} is declared twice",
            got=f"{place(known)} and {place(plugin)}",
            fix="choose another name, or another version",
        )
    _DECLARED[key] = plugin
    instance.cache_clear()


def find(name: str, version: str, owner: str | None = None) -> type[Plugin]:
    """The class of a declared plugin.

    Args:
        owner: the layer that needs it, for the message.

    Raises:
        UnsupportedError: nobody has declared it in this process.
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
    """Every plugin that is declared in this process."""
    return list(_DECLARED.values())


@functools.lru_cache(256)
def instance(name: str, version: str, fields: str) -> Plugin:
    """The plugin with the attributes `fields`, as :func:`trtnet.plugins.attributes.to_json`
    wrote them."""
    return find(name, version)(**json.loads(fields))


def require(plugins: object) -> None:
    """Refuses what a sidecar's entry ``plugins`` names and nobody has declared, unless the engine
    holds its kernels.

    Raises:
        PlanError: names the import that is missing.
    """
    for entry in plugins if isinstance(plugins, list) else ():
        if not isinstance(entry, Mapping) or entry.get("embedded"):
            continue
        if not _is_declared(str(entry.get("name")), str(entry.get("version"))):
            raise PlanError(
                f"the engine needs the plugin {entry.get('name')} version {entry.get('version')}",
                got=_known(),
                fix=f"import {entry.get('module')} before the engine is loaded",
            )


def _is_declared(name: str, version: str) -> bool:
    """Whether that plugin is known; those that come with trtnet are declared on first use."""
    from trtnet.plugins.shipped import PLACES

    namespace, _, plain = name.partition("::")
    if namespace == "trtnet" and plain in PLACES:
        importlib.import_module(PLACES[plain].partition(":")[0])
    return (name, version) in _DECLARED


def _known() -> str:
    return ", ".join(f"{name} version {v}" for name, v in sorted(_DECLARED)) or "no plugin at all"


def place(plugin: type[Plugin]) -> str:
    """Where `plugin` is declared, as it is named in an import: ``my_plugins:LeakyGate``."""
    return f"{plugin.__module__}:{plugin.__qualname__}"


def load(path: str) -> type[Plugin]:
    """The plugin at an import path such as ``my_plugins:LeakyGate``, or the only one declared in
    the module ``my_plugins``.

    Raises:
        UsageError: there is no such module or plugin.
    """
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"the module {module_name} cannot be imported",
            got=error,
            fix=f"run trtnet in the folder of {module_name.partition('.')[0]}, or set PYTHONPATH",
        ) from error
    own = {kind.__name__: kind for kind in _DECLARED.values() if kind.__module__ == module.__name__}
    if attribute in own or (not attribute and len(own) == 1):
        return own[attribute] if attribute else next(iter(own.values()))
    raise UsageError(
        f"{path} names no plugin",
        expected=", ".join(f"{module_name}:{name}" for name in own) or "a module with plugins",
        got=path,
    )
