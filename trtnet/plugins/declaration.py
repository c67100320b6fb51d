"""The base class of declared plugins: their attributes, formats, kernels and rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from trtnet.errors import UsageError, located
from trtnet.module import Module
from trtnet.plugins.attributes import Attributes, to_json
from trtnet.plugins.examples import Draw
from trtnet.plugins.kernels import Kernel
from trtnet.plugins.spec import Format, TensorSpec


class Plugin(Module):
    """Base of every declared plugin: a module without weights whose call is one layer.

    ``@trtnet.plugin`` makes a subclass from a declaration, which has

    * annotated attributes, which are the constructor's arguments and are stored in the engine,
    * ``outputs(self, *inputs)``: gives the :class:`TensorSpec` of each output from those of the
      inputs,
    * ``formats``: combinations of types, ``("fp16", "fp16", "->", "fp16")`` for two inputs and
      an output; or a mapping from these to the kernel of each,
    * ``reference(self, *inputs)``: what it computes, on PyTorch tensors of any floating type,
    * ``kernel``: :func:`trtnet.plugins.triton_kernel`, :func:`trtnet.plugins.cuda_kernel`, or a
      function ``kernel(self, *inputs, *outputs)`` that fills PyTorch tensors on a GPU,
    * ``native(self, *inputs)``, optional: the same from TensorRT's layers, on
      :class:`trtnet.Tensor`,
    * ``axes``, or ``example(cls, draw)``, optional: shapes, or arrays, of inputs that fit together,
    * ``cost(self, *shapes)``, optional: multiply-accumulates for inputs of these shapes.

    Attributes:
        name: ``"namespace::name"``, under which TensorRT knows it.
        version: its version, a number as text.
        inputs: names of the inputs.
        attributes: types of the attributes.
        kernels: the kernel of each format; ``None`` where there is only a native form.
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
        with located(self.name):
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

    def rule(self, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """Returns the TensorSpec of each output, as ``outputs`` gives them for `inputs`.

        Raises:
            UsageError: ``outputs`` returns something other than TensorSpecs.
        """
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

    @classmethod
    def example(cls, draw: Draw) -> tuple[Plugin, Sequence[np.ndarray]]:
        """Returns an instance and inputs that it takes, for tests.

        Floating-point inputs are float arrays; where a format takes integers, integers.
        """
        return cls(), draw.named(*cls.axes) if cls.axes else draw.alike(len(cls.inputs))

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        return f"{type(self).__name__}({given})"
