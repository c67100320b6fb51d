"""A double of ``tensorrt.plugin``: the functions trtnet uses, with TensorRT's own rules for the
signatures of what is registered, and a symbolic arithmetic that a test can evaluate."""

from __future__ import annotations

import inspect
import typing
from types import SimpleNamespace
from typing import Any

import numpy as np

# What tensorrt.plugin has in TensorRT 10.13 to 11.4.
NAMES = {
    *("AutoTuneCombination", "SymInt32", "SymInt8", "SymInt16", "ShapeExpr", "SymExprs"),
    *("SizeTensorShapeExpr", "ShapeExprs", "SymIntExprs", "Shape", "TensorDesc", "Tensor"),
    *("SizeTensorDesc", "KernelLaunchParams", "op", "register", "impl", "aot_impl", "autotune"),
    *("cdiv", "max", "min", "size_tensor", "from_shape_expr"),
}
BUILT_IN = (int, float, bytes, bool, str)


class ShapeExpr:
    """``None`` is a fake; a tuple is an operation; ints are constants."""

    def __init__(self, value: Any = None) -> None:
        self.tree = value.tree if isinstance(value, ShapeExpr) else value

    def op(self, name: str, other: Any) -> ShapeExpr:
        assert isinstance(other, (int, ShapeExpr)), other
        right = ShapeExpr(other)
        if self.tree is None or right.tree is None:
            return ShapeExpr()
        return ShapeExpr((name, self.tree, right.tree))

    def __add__(self, other: Any) -> ShapeExpr:
        return self.op("SUM", other)

    def __sub__(self, other: Any) -> ShapeExpr:
        return self.op("SUB", other)

    def __mul__(self, other: Any) -> ShapeExpr:
        return self.op("PROD", other)

    def __floordiv__(self, other: Any) -> ShapeExpr:
        return self.op("FLOOR_DIV", other)

    @property
    def is_fake(self) -> bool:
        return self.tree is None

    @property
    def is_constant(self) -> bool:
        assert not self.is_fake
        return isinstance(self.tree, int)

    def constant_value(self) -> int:
        assert self.is_constant
        return self.tree


SymInt32 = ShapeExpr


def cdiv(first: Any, second: Any) -> ShapeExpr:
    return _symbolic("CEIL_DIV", first, second)


def max(first: Any, second: Any) -> ShapeExpr:
    return _symbolic("MAX", first, second)


def min(first: Any, second: Any) -> ShapeExpr:
    return _symbolic("MIN", first, second)


def _symbolic(name: str, first: Any, second: Any) -> ShapeExpr:
    assert not (isinstance(first, int) and isinstance(second, int)), "TensorRT refuses two ints"
    return ShapeExpr(first).op(name, second)


class TensorDesc:
    def __init__(self, shape_expr: Any = None, dtype: Any = None) -> None:
        self.shape_expr, self.dtype = shape_expr, dtype


def from_shape_expr(shape_expr: tuple[Any, ...], dtype: Any) -> TensorDesc:
    assert all(isinstance(size, (int, ShapeExpr)) for size in shape_expr)
    return TensorDesc(tuple(map(ShapeExpr, shape_expr)), dtype)


class SymIntExprs:
    def __init__(self, length: int) -> None:
        self.items: list[Any] = [None] * length

    def __setitem__(self, index: int, value: Any) -> None:
        assert isinstance(value, SymInt32)
        self.items[index] = value


class KernelLaunchParams:
    _FIELDS = ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z", "shared_mem")

    def __init__(self) -> None:
        for name in self._FIELDS:
            setattr(self, name, 0 if name == "shared_mem" else 1)

    def __setattr__(self, name: str, value: Any) -> None:
        assert name in self._FIELDS
        self.__dict__[name] = SymInt32(value)


class Definition:
    """What ``tensorrt.plugin.op.<namespace>.<name>`` is."""

    def __init__(self, identity: str, describe: Any) -> None:
        self.identity, self.describe, self.implement = identity, describe, None
        signature = inspect.signature(describe)
        self.inputs, self.attributes = [], {}
        for name, parameter in signature.parameters.items():
            assert parameter.default is inspect.Parameter.empty, "defaults are not supported"
            kind = parameter.annotation
            if kind is TensorDesc:
                assert not self.attributes, "tensors come first"
                self.inputs.append(name)
                continue
            assert name not in ("outputs", "stream", "tactic")
            assert kind in BUILT_IN or typing.get_origin(kind) is np.ndarray, kind
            self.attributes[name] = kind
        returns = signature.return_annotation
        several = typing.get_origin(returns) is tuple
        assert all(
            kind is TensorDesc for kind in (typing.get_args(returns) if several else [returns])
        )
        self.num_outputs = len(typing.get_args(returns)) if several else 1

    def __call__(self, *inputs: Any, **attributes: Any) -> Any:
        assert list(attributes) == list(self.attributes)
        assert len(inputs) == len(self.inputs)
        for name, kind in self.attributes.items():
            wanted = np.ndarray if typing.get_origin(kind) is np.ndarray else kind
            assert type(attributes[name]) is wanted
        plugin = QuickPlugin(self, attributes)
        return lambda request: (list(inputs), [], plugin.asked_for(request))


class QuickPlugin:
    """What ``add_plugin_v3`` takes; it calls the registered functions as TensorRT does."""

    def __init__(self, definition: Definition, attributes: dict[str, Any]) -> None:
        self.definition, self.attributes = definition, attributes
        self.plugin_namespace, self.plugin_name = definition.identity.split("::")
        self.plugin_version, self.request = "1", None

    def asked_for(self, request: Any) -> QuickPlugin:
        self.request = request
        return self

    def get_capability_interface(self, type: Any) -> Any:
        return self

    def output_descs(self, inputs: list[TensorDesc]) -> tuple[TensorDesc, ...]:
        made = self.definition.describe(*inputs, **self.attributes)
        return made if isinstance(made, tuple) else (made,)

    def kernel(self, inputs: list[TensorDesc]) -> Any:
        outputs = self.output_descs(inputs)
        assert self.definition.implement is not None
        return self.definition.implement(*inputs, *self.attributes.values(), outputs, 0)


op = SimpleNamespace()


def register(plugin_id: str, lazy_register: bool = False) -> Any:
    def decorate(function: Any) -> Any:
        namespace, name = plugin_id.split("::")
        if not hasattr(op, namespace):
            setattr(op, namespace, SimpleNamespace())
        assert not hasattr(getattr(op, namespace), name), "registered twice"
        setattr(getattr(op, namespace), name, Definition(plugin_id, function))
        return function

    return decorate


def aot_impl(plugin_id: str) -> Any:
    def decorate(function: Any) -> Any:
        namespace, name = plugin_id.split("::")
        definition = getattr(getattr(op, namespace), name)
        signature = inspect.signature(function)
        expected = [*definition.inputs, *definition.attributes, "outputs", "tactic"]
        assert list(signature.parameters) == expected
        returns = typing.get_args(signature.return_annotation)
        assert returns == (str, str, KernelLaunchParams, SymIntExprs)
        definition.implement = function
        return function

    return decorate


def evaluate(size: Any, known: dict[str, int]) -> int:
    """The value of an expression, given those of its leaves."""
    tree = size.tree if isinstance(size, ShapeExpr) else size
    if isinstance(tree, (int, str)):
        return tree if isinstance(tree, int) else known[tree]
    name, left, right = tree
    a, b = evaluate(left, known), evaluate(right, known)
    return {
        "SUM": a + b,
        "SUB": a - b,
        "PROD": a * b,
        "FLOOR_DIV": a // b if b else 0,
        "CEIL_DIV": -(-a // b) if b else 0,
        "MAX": a if a > b else b,
        "MIN": a if a < b else b,
    }[name]
