"""What ``torch.export`` decided while it ran the code, required of the axes as declared.

It runs the code with an example, and where the code asks for a size it answers for the example and
notes the condition. A network is for every size of its axes, so each condition must be decided by
the ranges that the axes have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._sympy.interp import sympy_interp
from torch.utils._sympy.reference import PythonReferenceAnalysis

from trtnet.errors import TrtnetError, UnsupportedError
from trtnet.tensor import Dim
from trtnet.torch_modules.traced import Traced

_LEAST = 2  # torch.export takes every dynamic size to be at least this
_LARGEST = 1 << 31  # no axis is as long


class _Arithmetic(PythonReferenceAnalysis):
    """Arithmetic of sympy's expressions on sizes of a network."""

    @staticmethod
    def maximum(a: Any, b: Any) -> Any:
        """The larger one."""
        a, b = (b, a) if isinstance(b, Dim) else (a, b)
        return a.maximum(b) if isinstance(a, Dim) else max(a, b)

    @staticmethod
    def minimum(a: Any, b: Any) -> Any:
        """The smaller one."""
        a, b = (b, a) if isinstance(b, Dim) else (a, b)
        return a.minimum(b) if isinstance(a, Dim) else min(a, b)


def require(program: torch.export.ExportedProgram, leaves: Sequence[Any]) -> None:
    """Requires that the graph of `program` holds for all sizes of the inputs.

    Args:
        program: what was exported.
        leaves: the arguments of the call that are not containers, in the order of the inputs.

    Raises:
        UnsupportedError: it was made for some of the sizes only.
    """
    sizes = _sizes(program, leaves)
    found: dict[Any, Dim] = {}
    for size, dim in sizes:
        known = found.setdefault(size.node.expr, dim)
        if known is not dim:
            _decide(f"{known} == {dim}", lambda known=known, dim=dim: known == dim)
    if not sizes:
        return
    environment: Any = sizes[0][0].node.shape_env
    for symbol, bounds in program.range_constraints.items():
        if symbol in found:
            _require_range(found[symbol], bounds.lower, bounds.upper)
    for guard in environment.guards:
        _require_guard(guard.expr, found, environment)


def _sizes(
    program: torch.export.ExportedProgram, leaves: Sequence[Any]
) -> list[tuple[torch.SymInt, Dim]]:
    """The sizes of dynamic axes of the inputs: that of the graph, and that of the network."""
    names = program.graph_signature.user_inputs
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    found = []
    for name, leaf in zip(names, leaves, strict=True):
        value = values.get(name) if isinstance(name, str) else None
        if not isinstance(leaf, Traced) or not isinstance(value, torch.Tensor):
            continue
        pairs: Iterable[tuple[Any, Any]] = zip(value.shape, leaf.tensor.shape, strict=True)
        for size, dim in pairs:
            if isinstance(dim, Dim) and isinstance(size, int):
                raise _refusal(f"{dim} == {size}")
            if isinstance(dim, Dim):
                found.append((size, dim))
    return found


def _require_range(dim: Dim, lower: Any, upper: Any) -> None:
    """Requires that `dim` is never outside of what the graph was made for."""
    if lower.is_Integer and lower > _LEAST:
        _decide(f"{dim} >= {lower}", lambda: dim >= int(lower))
    if upper.is_Integer and upper < _LARGEST:
        _decide(f"{dim} <= {upper}", lambda: dim <= int(upper))


def _require_guard(condition: Any, sizes: Mapping[Any, Dim], environment: Any) -> None:
    """Requires a condition over the symbols of sizes; those over the tensors' values are left."""
    unknown = condition.free_symbols - sizes.keys()
    if any(environment.is_unbacked_symint(symbol) for symbol in unknown):
        return
    named = condition.xreplace({symbol: type(symbol)(str(dim)) for symbol, dim in sizes.items()})
    if unknown:
        raise _refusal(named)
    _decide(named, lambda: sympy_interp(_Arithmetic, dict(sizes), condition))


def _decide(condition: object, answer: Any) -> None:
    try:
        is_so = bool(answer())
    except TrtnetError as error:
        raise _refusal(condition, error.fix) from error
    except (AssertionError, AttributeError, NotImplementedError, TypeError, ValueError) as error:
        raise _refusal(condition) from error  # arithmetic that sizes of a network lack
    if not is_so:
        raise _refusal(condition)


def _refusal(condition: object, fix: str | None = None) -> UnsupportedError:
    return UnsupportedError(
        "torch.export makes a graph for some of the sizes only",
        expected="code that is the same for all sizes",
        got=f"a graph for {condition}",
        fix=fix or "declare a range that decides it, such as trtnet.Axis('H', 32, 512)",
    )
