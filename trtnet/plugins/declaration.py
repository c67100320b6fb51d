"""The base class of declared plugins: their attributes, formats, kernels and rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from trtnet.dtypes import DType
from trtnet.errors import UsageError, located
from trtnet.module import Module
from trtnet.plugins.attributes import Attributes, to_json
from trtnet.plugins.axes import Axes
from trtnet.plugins.examples import Draw
from trtnet.plugins.kernels import Kernel
from trtnet.plugins.spec import Format, TensorSpec
from trtnet.tensor import Tensor


class Plugin(Module):
    """Base of every declared plugin: a module without weights whose call is one layer.

    ``@trtnet.plugin`` makes a subclass from a declaration, which has

    * annotated attributes, which are the constructor's arguments and are stored in the engine,
    * ``formats``: a list of combinations of types, ``("fp16", "fp16", "->", "fp16")`` for two
      inputs and an output; or a mapping from these to the kernel of each,
    * ``axes``: a text for each input, an arrow, and a text for each output, such as
      ``("N 2*C H W", "->", "N C H W")``; :mod:`trtnet.plugins.axes` says what they may contain,
    * or ``outputs(self, *inputs)`` in place of the arrow and what follows: gives the
      :class:`TensorSpec` of each output from those of the inputs, for shapes of any rank,
    * ``reference(self, *inputs)``: what it computes, on PyTorch tensors of any floating type,
    * ``kernel``: :func:`trtnet.plugins.triton_kernel`, :func:`trtnet.plugins.cuda_kernel`, or a
      function ``kernel(self, *inputs, *outputs)`` that fills PyTorch tensors on a GPU,
    * ``native(self, *inputs)``, optional: the same from TensorRT's layers, on
      :class:`trtnet.Tensor`,
    * ``example(cls, draw)``, optional, a classmethod: a plugin and a list of arrays, one for each
      input, that fit together; by default arrays with these ``axes``, or else all of one shape,
    * ``cost(self, *shapes)``, optional: multiply-accumulates for inputs of these shapes.

    A declaration may be a subclass of this class, so that type checkers know that it is a module.

    Attributes:
        name: ``"namespace::name"``, under which TensorRT knows it.
        version: its version, a number as text.
        inputs: names of the inputs.
        attributes: types of the attributes.
        kernels: the kernel of each format; ``None`` where there is only a native form.
        stated_axes: what ``axes`` states; ``None`` where it is not declared.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    attributes: ClassVar[Attributes]
    kernels: ClassVar[Mapping[Format, Kernel | None]]
    stated_axes: ClassVar[Axes | None] = None
    axes: ClassVar[Sequence[str]] = ()

    outputs: ClassVar[Callable[..., Any] | None] = None
    reference: Callable[..., Any]
    native: ClassVar[Callable[..., Any] | None] = None
    cost: ClassVar[Callable[..., int] | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        with located(self.name):
            if any(isinstance(value, Tensor) for value in (*args, *kwargs.values())):
                title, listed = type(self).__name__, ", ".join(self.inputs)
                raise UsageError(
                    "the constructor takes attributes, and no tensors",
                    expected=f"{title}{self.attributes.signature}",
                    fix=f"make the plugin first, and then call it: {title}()({listed})",
                )
            values = self.attributes.bind(args, kwargs)
        for name, value in values.items():
            setattr(self, name, value)

    @property
    def values(self) -> dict[str, Any]:
        """The attributes by name."""
        return {name: getattr(self, name) for name in self.attributes.types}

    @property
    def fields(self) -> str:
        """The attributes as JSON, which engines and archives store."""
        return to_json(self.values)

    @property
    def whole_numbers(self) -> dict[str, int]:
        """The attributes that are ints, which ``axes`` may name."""
        return {name: value for name, value in self.values.items() if type(value) is int}

    def rule(self, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """Returns the TensorSpec of each output, as ``axes`` or ``outputs`` give them for `inputs`.

        Raises:
            ShapeError: the inputs do not fit ``axes``, as far as their sizes are known.
            UsageError: ``outputs`` returns something other than TensorSpecs.
        """
        stated = self.stated_axes
        if stated is not None:
            shapes = [spec.shape for spec in inputs]
            with located(self.name):
                if stated.outputs is not None:
                    found = stated.output_shapes(shapes, self.whole_numbers)
                    return tuple(map(TensorSpec, found, self._output_types(inputs)))
                stated.bind(shapes, self.whole_numbers)
        assert self.outputs is not None  # or the outputs' axes are stated
        returned = self.outputs(*inputs)
        specs = returned if isinstance(returned, tuple) else (returned,)
        if not all(isinstance(spec, TensorSpec) for spec in specs):
            raise UsageError(
                "outputs() gives something else",
                module=self.name,
                expected="a TensorSpec such as x.like(shape=...), or a tuple of them",
                got=repr(returned),
            )
        return specs

    def _output_types(self, inputs: Sequence[TensorSpec]) -> tuple[DType, ...]:
        """The types of the outputs in the format of `inputs`."""
        given = tuple(spec.dtype for spec in inputs)
        fitting = [entry for entry in self.kernels if entry.takes(given)]
        exact = [entry for entry in fitting if entry.inputs == given]
        for entry in [*exact, *fitting]:
            return entry.outputs
        raise UsageError(
            "no format has these types",
            expected="; ".join(map(str, self.kernels)),
            got=", ".join(dtype.value for dtype in given),
        )

    @classmethod
    def example(cls, draw: Draw) -> tuple[Plugin, Sequence[np.ndarray]]:
        """Returns an instance and inputs that it takes, for tests.

        Floating-point inputs are float arrays; where a format takes integers, integers.
        """
        plugin = cls()
        if cls.stated_axes is not None:
            return plugin, draw.fitting(cls.stated_axes, plugin.whole_numbers)
        return plugin, draw.alike(len(cls.inputs))

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        return f"{type(self).__name__}({given})"
