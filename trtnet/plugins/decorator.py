"""``@trtnet.plugin``: declares an operator that TensorRT lacks."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from trtnet.errors import UsageError, located
from trtnet.plugins import registry
from trtnet.plugins.attributes import Attributes
from trtnet.plugins.checking import check_rule
from trtnet.plugins.declaration import Plugin
from trtnet.plugins.emission import emit
from trtnet.plugins.kernels import Kernel, PythonKernel, as_kernel
from trtnet.plugins.spec import Format

_REQUIRED = ("outputs", "formats", "reference")


class _EmittedPlugin(Plugin):
    """A plugin whose call adds it to the network of its inputs."""

    def forward(self, *inputs: Any) -> Any:
        return emit(self, inputs)


def plugin(name: str, version: str = "1") -> Callable[[type], Any]:
    """Declares the decorated class as the plugin `name`.

    :class:`trtnet.plugins.Plugin` lists what such a class has. Where PyTorch is installed, the
    shape rule is compared with the reference on tiny inputs.

    Args:
        name: ``"namespace::name"``.
        version: a number as text; change it when the meaning of the name changes.

    Returns:
        A decorator that returns a subclass of :class:`trtnet.plugins.Plugin`.

    Raises:
        UsageError: the declaration lacks something or contradicts itself; the message says what.

    >>> import trtnet
    >>> @trtnet.plugin("example::halve")
    ... class Halve:
    ...     formats = [("fp32", "->", "fp32")]
    ...     def outputs(self, x): return x
    ...     def reference(self, x): return x / 2
    ...     def native(self, x): return x * 0.5
    >>> net = trtnet.Network("rtx")
    >>> Halve()(net.input("x", ("N", 8))).shape
    (N, 8)
    """

    # Any: a type checker cannot express "the declared class and Plugin".
    def declare(declared: type) -> Any:
        with located(name):
            kind = _make(declared, name, version)
            _check_parts(kind)
            if importlib.util.find_spec("torch") is not None:
                check_rule(kind)
        registry.declare(kind)
        return kind

    registry.check_name(name, version)
    return declare


def _make(declared: Any, name: str, version: str) -> type[Plugin]:
    """Returns the plugin class of a declaration."""
    if issubclass(declared, Plugin):
        raise UsageError(
            "a plugin cannot be made from another one",
            got=f"a subclass of {declared.__mro__[1].__name__}",
            fix="share code through a class without @trtnet.plugin",
        )
    for part in _REQUIRED:
        if not hasattr(declared, part):
            raise UsageError(f"the declaration lacks {part}")
    attributes = Attributes(declared)
    taken = set(attributes.types) & {*dir(Plugin), *inspect.get_annotations(Plugin)}
    if taken:
        raise UsageError(
            "an attribute has a name that plugins use",
            got=", ".join(sorted(taken)),
            fix="choose another name for it",
        )
    inputs = _parameters(declared.reference)
    space = {
        "__doc__": declared.__doc__,
        "__module__": declared.__module__,
        "__qualname__": declared.__qualname__,
        "name": name,
        "version": version,
        "inputs": inputs,
        "attributes": attributes,
        "kernels": _kernels(declared, inputs),
    }
    return type(declared.__name__, (declared, _EmittedPlugin), space)


def _parameters(method: Callable[..., Any]) -> tuple[str, ...]:
    """Returns the names of a method's parameters, without ``self``."""
    return tuple(inspect.signature(method).parameters)[1:]


def _kernels(declared: Any, inputs: tuple[str, ...]) -> dict[Format, Kernel | None]:
    """Returns the kernel of each format."""
    shared = getattr(declared, "kernel", None)
    formats = declared.formats
    pairs = formats.items() if isinstance(formats, Mapping) else [(f, shared) for f in formats]
    kernels: dict[Format, Kernel | None] = {}
    for entry, kernel in pairs:
        parsed = Format.parse(entry)
        if len(parsed.inputs) != len(inputs):
            raise UsageError(
                f"the format {parsed} does not have a type for each input",
                expected=f"types of {', '.join(inputs)}",
                got=len(parsed.inputs),
            )
        kernels[parsed] = as_kernel(kernel, declared.__module__)
    if len({len(entry.outputs) for entry in kernels}) != 1:
        raise UsageError(
            "formats have the same number of outputs",
            expected="at least one format, and as many outputs in each",
            got="; ".join(map(str, kernels)) or "none",
        )
    has_native = getattr(declared, "native", None) is not None
    lacking = [str(entry) for entry, kernel in kernels.items() if kernel is None]
    if lacking and (len(lacking) < len(kernels) or not has_native):
        raise UsageError(
            f"the format {lacking[0]} has no kernel",
            fix="declare kernel = triton_kernel(...), cuda_kernel(...) or a function"
            + ("" if has_native else "; or native() from TensorRT's layers"),
        )
    return kernels


def _check_parts(kind: type[Plugin]) -> None:
    """Checks that all parts of a declaration take the same inputs."""
    for part in ("outputs", "native", "cost"):
        method = getattr(kind, part)
        if method is not None and len(_parameters(method)) != len(kind.inputs):
            raise UsageError(
                f"{part}() and reference() take different inputs",
                expected=", ".join(kind.inputs),
                got=", ".join(_parameters(method)),
            )
    for entry, kernel in kind.kernels.items():
        if isinstance(kernel, PythonKernel):
            wanted = len(entry.inputs) + len(entry.outputs)
            if len(_parameters(kernel.function)) != wanted:
                raise UsageError(
                    "kernel() takes all inputs, then all outputs",
                    expected=f"{wanted} tensors for the format {entry}",
                    got=", ".join(_parameters(kernel.function)),
                )
