"""``@trtnet.plugin``: declares an operator that TensorRT lacks."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from trtnet.errors import UsageError, located
from trtnet.plugins import registry
from trtnet.plugins.attributes import Attributes
from trtnet.plugins.axes import Axes, example_of
from trtnet.plugins.checking import check_rule
from trtnet.plugins.declaration import Plugin
from trtnet.plugins.emission import emit
from trtnet.plugins.kernels import Kernel, PythonKernel, as_kernel
from trtnet.plugins.spec import ARROW, Format
from trtnet.plugins.transform import dataclass_transform

_Declared = TypeVar("_Declared")
_REQUIRED = {
    "formats": 'formats = [("fp32", "->", "fp32")], the types of inputs and outputs',
    "reference": "def reference(self, x): return ..., what it computes in PyTorch",
}


class _EmittedPlugin(Plugin):
    """A plugin whose call adds it to the network of its inputs."""

    def forward(self, *inputs: Any) -> Any:
        return emit(self, inputs)


@dataclass_transform()
def plugin(name: str, version: str = "1") -> Callable[[type[_Declared]], type[_Declared]]:
    """Declares the decorated class as the plugin `name`.

    :class:`trtnet.plugins.Plugin` lists what such a class has. Where PyTorch is installed, the
    shape rule is compared with the reference on tiny inputs.

    Args:
        name: ``"namespace::name"``.
        version: a number as text; change it when the meaning of the name changes.

    Returns:
        A decorator that returns a subclass of the class and of :class:`trtnet.plugins.Plugin`. For
        type checkers it is the class itself, with a constructor that takes its attributes; declare
        it as ``class Halve(trtnet.plugins.Plugin)`` to have it known as a module.

    Raises:
        UsageError: the declaration lacks something or contradicts itself; the message says what.

    >>> import trtnet
    >>> @trtnet.plugin("example::halve")
    ... class Halve:
    ...     formats = [("fp32", "->", "fp32")]
    ...     axes = ("N C", "->", "N C")
    ...     def reference(self, x): return x / 2
    ...     def native(self, x): return x * 0.5
    >>> net = trtnet.Network("rtx")
    >>> Halve()(net.input("x", ("N", 8))).shape
    (N, 8)
    """

    def declare(declared: type[_Declared]) -> type[_Declared]:
        with located(name):
            kind = _make(declared, name, version)
            _check_parts(kind)
            if importlib.util.find_spec("torch") is not None:
                check_rule(kind)
        registry.declare(kind)
        made: Any = kind  # a type checker cannot express "the declared class and Plugin"
        return made  # type: ignore[no-any-return]

    registry.check_name(name, version)
    return declare


def _make(declared: Any, name: str, version: str) -> type[Plugin]:
    """Returns the plugin class of a declaration."""
    if not inspect.isclass(declared):
        raise UsageError("a plugin is declared as a class", got=repr(declared))
    if issubclass(declared, _EmittedPlugin):
        raise UsageError(
            "a plugin cannot be made from another one",
            got=f"a subclass of {declared.__mro__[1].__name__}",
            fix="share code through a class without @trtnet.plugin",
        )
    parts: dict[str, Any] = {part: getattr(declared, part, None) for part in _REQUIRED}
    for part, text in _REQUIRED.items():
        if parts[part] is None:
            raise UsageError(f"the declaration lacks {part}", fix=f"add {text}")
    attributes = Attributes(declared)
    taken = set(attributes.types) & {*dir(Plugin), *inspect.get_annotations(Plugin)}
    if taken:
        raise UsageError(
            "an attribute has a name that plugins use",
            got=", ".join(sorted(taken)),
            fix="choose another name for it",
        )
    inputs = _inputs(parts["reference"])
    axes = _axes(declared, inputs, attributes)
    space = {
        "__doc__": declared.__doc__,
        "__module__": declared.__module__,
        "__qualname__": declared.__qualname__,
        "name": name,
        "version": version,
        "inputs": inputs,
        "attributes": attributes,
        "kernels": _kernels(declared, inputs, axes),
        "stated_axes": axes,
    }
    return type(declared.__name__, (declared, _EmittedPlugin), space)


def _inputs(reference: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the inputs: the parameters of ``reference()``.

    Raises:
        UsageError: it does not take ``self`` and a fixed number of inputs.
    """
    parameters = list(inspect.signature(reference).parameters.values())
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if len(parameters) < 2 or any(each.kind not in plain for each in parameters):
        raise UsageError(
            "reference() takes self, and then each input by name",
            expected="such as def reference(self, x, gate)",
            got=f"reference{inspect.signature(reference)}",
        )
    return tuple(each.name for each in parameters[1:])


def _axes(declared: Any, inputs: tuple[str, ...], attributes: Attributes) -> Axes | None:
    """What the declaration states as ``axes``."""
    has_rule = getattr(declared, "outputs", None) is not None
    whole = [name for name, kind in attributes.types.items() if kind is int]
    stated = getattr(declared, "axes", ())
    axes = None if stated == () else Axes.of(stated, inputs, whole)
    has_axes = axes is not None and axes.outputs is not None
    if has_rule == has_axes:
        raise UsageError(
            "the shapes of the outputs are stated twice, by axes and by outputs()"
            if has_rule
            else "the declaration does not state the shapes of the outputs",
            fix="leave out outputs(), or the arrow in axes and what follows it"
            if has_rule
            else f"add them to axes, such as axes = {example_of(inputs)}; or, for inputs of any "
            f"rank, declare def outputs(self, {', '.join(inputs)}): return {inputs[0]}",
        )
    return axes


def _parameters(method: Callable[..., Any]) -> tuple[str, ...]:
    """Returns the names of a method's parameters, without ``self``."""
    return tuple(inspect.signature(method).parameters)[1:]


def _kernels(
    declared: Any, inputs: tuple[str, ...], axes: Axes | None
) -> dict[Format, Kernel | None]:
    """Returns the kernel of each format."""
    shared = getattr(declared, "kernel", None)
    formats = declared.formats
    if not isinstance(formats, (list, tuple, Mapping)):
        formats = [formats]  # which is refused below, with the form that it should have
    pairs = formats.items() if isinstance(formats, Mapping) else [(f, shared) for f in formats]
    kernels: dict[Format, Kernel | None] = {}
    for entry, kernel in pairs:
        parsed = Format.parse(entry)
        if len(parsed.inputs) != len(inputs):
            raise UsageError(
                f"the format {parsed} does not have a type for each input",
                expected=f"types of {', '.join(inputs)}, the parameters of reference()",
                got=len(parsed.inputs),
                fix=_matching(parsed, inputs),
            )
        if axes is not None and len(parsed.outputs) != len(axes.outputs or parsed.outputs):
            raise UsageError(
                f"the format {parsed} and axes have different outputs",
                expected=f"{len(axes.outputs or ())}, as axes states",
                got=f"{len(parsed.outputs)} in the format",
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


def _matching(entry: Format, inputs: tuple[str, ...]) -> str:
    """The declaration of `formats` with one type for each input."""
    first = entry.inputs[0].value if entry.inputs else "float32"
    types = [*[first] * len(inputs), ARROW, *(dtype.value for dtype in entry.outputs)]
    return f"formats = [{tuple(types)}]".replace("'", '"')


def _check_example(kind: type[Plugin]) -> None:
    """Checks that ``example`` can be called on the class."""
    stated = inspect.getattr_static(kind, "example")
    if not isinstance(stated, classmethod) or len(inspect.signature(kind.example).parameters) != 1:
        raise UsageError(
            "example() is a classmethod that takes draw",
            expected="@classmethod above def example(cls, draw)",
            got=f"{type(stated).__name__} example{_signature(stated)}",
            fix=f"write: @classmethod; def example(cls, draw): return cls(), {_arrays(kind)}",
        )


def _signature(stated: Any) -> str:
    function = getattr(stated, "__func__", stated)
    return str(inspect.signature(function)) if callable(function) else ""


def _arrays(kind: type[Plugin]) -> str:
    return "[{}]".format(", ".join("draw.array(2, 4)" for _ in kind.inputs))


def _check_parts(kind: type[Plugin]) -> None:
    """Checks that all parts of a declaration take the same inputs."""
    _check_example(kind)
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
