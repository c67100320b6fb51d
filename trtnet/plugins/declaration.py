"""``@trtnet.plugin``: an operator that TensorRT lacks, declared once."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from trtnet.errors import UsageError
from trtnet.module import Module
from trtnet.plugins import registry
from trtnet.plugins.attributes import Attributes, to_json
from trtnet.plugins.emission import emit
from trtnet.plugins.kernels import Kernel, PythonKernel, as_kernel
from trtnet.plugins.spec import Format, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    from trtnet.plugins.examples import Draw

_WANTED = ("outputs", "formats", "reference")


class Plugin(Module):
    """Base of every declared plugin: a module without weights whose call is one layer.

    A declaration gives

    * annotated attributes, which are the constructor's arguments and are stored in the engine,
    * ``outputs(self, *inputs)``: shapes and types, from :class:`TensorSpec` to TensorSpec,
    * ``formats``: combinations of types, ``("fp16", "fp16", "->", "fp16")`` for two inputs and
      an output; or a mapping from these to the kernel of each,
    * ``reference(self, *inputs)``: what it computes, on PyTorch tensors of any floating type,
    * ``kernel``: :func:`triton_kernel`, :func:`cuda_kernel`, or a function
      ``kernel(self, *inputs, *outputs)`` that fills PyTorch tensors on a GPU,
    * ``native(self, *inputs)``, optional: the same from TensorRT's layers, on
      :class:`trtnet.Tensor`,
    * ``axes``, or ``example(cls, draw)``, optional: what inputs look like that fit together,
    * ``cost(self, *shapes)``, optional: multiply-accumulates for inputs of these shapes.

    Attributes:
        name, version: what TensorRT knows it by.
        inputs: names of the inputs.
        kernels: by format; None where there is only a native form.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    attributes: ClassVar[Attributes]
    kernels: ClassVar[Mapping[Format, Kernel | None]]
    axes: ClassVar[Sequence[str]] = ()

    outputs: Callable[..., Any]
    reference: Callable[..., Any]
    native: ClassVar[Callable[..., Any] | None] = None
    cost: ClassVar[Callable[..., int] | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        for name, value in self.attributes.bind(args, kwargs).items():
            setattr(self, name, value)

    @property
    def values(self) -> dict[str, Any]:
        """The attributes by name."""
        return {name: getattr(self, name) for name in self.attributes.types}

    @property
    def fields(self) -> str:
        """The attributes as the engine and archives keep them."""
        return to_json(self.values)

    def rule(self, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """What ``outputs`` says about `inputs`."""
        said = self.outputs(*inputs)
        found = said if isinstance(said, tuple) else (said,)
        if not all(isinstance(spec, TensorSpec) for spec in found):
            raise UsageError(
                "outputs() gives something else",
                module=self.name,
                expected="a TensorSpec such as x.like(shape=...), or a tuple of them",
                got=repr(said),
            )
        return found

    def forward(self, *inputs: Any) -> Any:
        return emit(self, inputs)

    @classmethod
    def example(cls, draw: Draw) -> tuple[Plugin, Sequence[np.ndarray]]:
        """An instance, and float arrays that it can take (integers where it takes integers)."""
        return cls(), draw.named(*cls.axes) if cls.axes else draw.alike(len(cls.inputs))

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        return f"{type(self).__name__}({given})"


def plugin(name: str, version: str = "1") -> Callable[[type], Any]:
    """Declares the class it decorates as the plugin `name`; see :class:`trtnet.plugins.Plugin`
    for what such a class has.

    Where PyTorch is installed the shape rule is held against the reference, on tiny inputs.

    Args:
        name: ``"namespace::name"``.
        version: another one for another meaning of the same name.

    Raises:
        UsageError: a declaration that lacks something, or contradicts itself; says what.

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

    def declare(declared: type) -> Any:
        made = _make(declared, name, version)
        _check_parts(made)
        if importlib.util.find_spec("torch") is not None:
            from trtnet.plugins.checking import check_rule

            check_rule(made)
        registry.declare(made)
        return made

    registry.check_name(name, version)
    return declare


def _make(declared: type, name: str, version: str) -> type[Plugin]:
    if issubclass(declared, Plugin):
        raise UsageError("a plugin cannot be made from another one", module=name)
    for wanted in _WANTED:
        if not hasattr(declared, wanted):
            raise UsageError(f"the declaration lacks {wanted}", module=name)
    attributes = Attributes(declared, name)
    taken = set(attributes.types) & {*dir(Plugin), *inspect.get_annotations(Plugin)}
    if taken:
        raise UsageError(
            "an attribute has a name that plugins use", module=name, got=", ".join(sorted(taken))
        )
    inputs = _parameters(declared.reference)  # type: ignore[attr-defined]
    space = {
        "__doc__": declared.__doc__,
        "__module__": declared.__module__,
        "__qualname__": declared.__qualname__,
        "name": name,
        "version": version,
        "inputs": inputs,
        "attributes": attributes,
        "kernels": _kernels(declared, name, inputs),
    }
    return type(declared.__name__, (declared, Plugin), space)


def _parameters(method: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(method).parameters)[1:]


def _kernels(declared: Any, name: str, inputs: tuple[str, ...]) -> dict[Format, Kernel | None]:
    """The kernel of each format."""
    shared = getattr(declared, "kernel", None)
    stated = declared.formats
    pairs = stated.items() if isinstance(stated, Mapping) else [(f, shared) for f in stated]
    kernels: dict[Format, Kernel | None] = {}
    for entry, kernel in pairs:
        parsed = Format.parse(entry, name)
        if len(parsed.inputs) != len(inputs):
            raise UsageError(
                f"the format {parsed} does not have a type for each input",
                module=name,
                expected=f"types of {', '.join(inputs)}",
                got=len(parsed.inputs),
            )
        kernels[parsed] = as_kernel(kernel, name, declared.__module__)
    if len({len(entry.outputs) for entry in kernels}) != 1:
        raise UsageError(
            "formats have the same number of outputs",
            module=name,
            expected="at least one format",
            got="; ".join(map(str, kernels)) or "none",
        )
    has_native = getattr(declared, "native", None) is not None
    lacking = [str(entry) for entry, kernel in kernels.items() if kernel is None]
    if lacking and (len(lacking) < len(kernels) or not has_native):
        raise UsageError(
            f"the format {lacking[0]} has no kernel",
            module=name,
            fix="declare kernel = triton_kernel(...), cuda_kernel(...) or a function"
            + ("" if has_native else "; or native() from TensorRT's layers"),
        )
    return kernels


def _check_parts(made: type[Plugin]) -> None:
    """All parts take the same inputs."""
    for part in ("outputs", "native", "cost"):
        method = getattr(made, part)
        if method is not None and len(_parameters(method)) != len(made.inputs):
            raise UsageError(
                f"{part}() and reference() take different inputs",
                module=made.name,
                expected=", ".join(made.inputs),
                got=", ".join(_parameters(method)),
            )
    for entry, kernel in made.kernels.items():
        if isinstance(kernel, PythonKernel):
            wanted = len(entry.inputs) + len(entry.outputs)
            if len(_parameters(kernel.function)) != wanted:
                raise UsageError(
                    "kernel() takes all inputs, then all outputs",
                    module=made.name,
                    expected=f"{wanted} tensors for the format {entry}",
                    got=", ".join(_parameters(kernel.function)),
                )
