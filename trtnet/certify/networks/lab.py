"""Lab: one small network that is being defined, with the values it runs on and what it compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trtnet.building.profiles import Shapes
from trtnet.dtypes import DType, dtype_of
from trtnet.graph import Graph, read
from trtnet.network import Network
from trtnet.tensor import Tensor

_PLAIN = ("float32", "float16", "int64", "int32", "int8", "bool")
"""Types in which a network output leaves the engine; others are compared as float32."""

_TYPES = {"tf32": "float32", "int8": "float16", "fp8": "float16", "fp4": "float32"}
"""The type that the other layers of such a case compute in, where the precision names none."""


@dataclass(frozen=True)
class Compared:
    """A tensor that is compared.

    Attributes:
        layer, type: name and ``trt.LayerType`` of the layer that computes it.
    """

    layer: str
    type: str


@dataclass(frozen=True)
class Defined:
    """A defined network.

    Attributes:
        inputs: its values, by name.
        shapes: of inputs with dynamic axes, for the optimization profile.
        compared: by the name of the network output, in execution order.
        graph: the network, read back.
    """

    network: Network
    inputs: Mapping[str, np.ndarray]
    shapes: Mapping[str, Shapes]
    compared: Mapping[str, Compared]
    graph: Graph


@dataclass
class Lab:
    """Defines one network in one precision; every tensor of :meth:`emit` is compared.

    Args:
        network: empty, in float32.
        precision: of the case.
    """

    network: Network
    precision: str
    values: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: dict[str, Shapes] = field(default_factory=dict)
    kept: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(20)
        self.trt = self.network.trt

    @property
    def dtype(self) -> DType:
        """What the case's layers compute in."""
        return dtype_of(_TYPES.get(self.precision, self.precision))

    # Values

    def normal(self, *shape: int) -> np.ndarray:
        """Seeded normal values, float32."""
        return self.random.standard_normal(shape).astype(np.float32)

    def array(self, *shape: int) -> np.ndarray:
        """Seeded values for the case's type: normal ones, small integers, or booleans."""
        if self.dtype.is_floating_point:
            return self.normal(*shape)
        if self.precision == "bool":
            return self.random.integers(0, 2, shape).astype(bool)
        return self.random.integers(-9, 10, shape).astype(self.dtype.value)

    def input(self, *shape: int, values: np.ndarray | None = None, batch: bool = False) -> Tensor:
        """An input of the network; floats are float32, and a cast gives them the case's type.

        Args:
            values: in place of :meth:`array`; integers and booleans keep their own type.
            batch: whether the first axis is dynamic; the profile has sizes from 1 to twice `shape`.
        """
        array = self.array(*shape) if values is None else values
        name = f"x{len(self.values)}"
        self.values[name] = array
        sizes: list[Any] = list(array.shape)
        if batch:
            least, most = ((n, *array.shape[1:]) for n in (1, 2 * array.shape[0]))
            self.shapes[name] = Shapes(min=least, opt=array.shape, max=most)
            sizes[0] = "N"
        tensor = self.network.input(name, sizes, array.dtype)
        return tensor.to(self.dtype) if array.dtype.kind == "f" else tensor

    def constant(self, values: Any, dtype: Any = None) -> Tensor:
        """A constant; floats take the case's type, unless another is given."""
        array = np.asarray(values)
        floats = array.dtype.kind == "f" and self.dtype.is_floating_point
        return self.network.constant(array, dtype or (self.dtype if floats else None))

    def weights(self, values: np.ndarray | None) -> Any:
        """Weights of a layer, in the case's type."""
        return self.network.weights(values, self.dtype)

    # Layers

    def emit(self, name: str, method: str, *arguments: Any, **attributes: Any) -> Tensor:
        """Adds a layer with ``INetworkDefinition.<method>`` and keeps its output for comparison."""
        return self.keep(name, self.network.emit(name, method, *arguments, **attributes))

    def emit_all(
        self, count: int, name: str, method: str, *arguments: Any, **attributes: Any
    ) -> list[Tensor]:
        """:meth:`emit` for a layer with `count` outputs."""
        made = self.network.emit_all(name, method, *arguments, dims=[None] * count, **attributes)
        return [self.keep(f"{name}.{at}", tensor) for at, tensor in enumerate(made)]

    def keep(self, name: str, tensor: Tensor) -> Tensor:
        """Has `tensor` compared under `name`."""
        assert name not in self.kept, f"{name} is compared twice"
        self.kept[name] = tensor
        return tensor

    def finish(self) -> Defined:
        """Marks what is compared as outputs."""
        network = self.network
        names = {name: tensor.itensor.name for name, tensor in self.kept.items()}
        producers = {
            output: layer for layer in read(network.definition).layers for output in layer.outputs
        }
        compared = {}
        for name, tensor in self.kept.items():
            layer = producers[names[name]]
            compared[f"{name}:"] = Compared(layer.name, layer.type)
            plain = tensor.dtype.value in _PLAIN
            network.output(f"{name}:", tensor, tensor.dtype if plain else "float32")
        return Defined(network, self.values, self.shapes, compared, read(network.definition))


def enums(kind: Any, *left_out: str) -> Sequence[tuple[str, Any]]:
    """Name, in small letters, and value of each member of an enumeration of the binding."""
    members = kind.__members__.items()
    return [(name.lower(), value) for name, value in members if name not in left_out]
