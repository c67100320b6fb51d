"""Axes: the shapes of a plugin's inputs and outputs as text, such as ``"N 2*C H W"``.

An axis is a name, a number, or an expression of them: ``+ - * //``, ``cdiv``, ``minimum``,
``maximum`` and parentheses, without blanks. A name is an attribute of the plugin that is an int, or
else a size that the inputs decide: one whose axis is the name alone, or one that an expression such
as ``2*C`` determines.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from trtnet.errors import ShapeError, UsageError
from trtnet.names import did_you_mean
from trtnet.plugins.spec import ARROW
from trtnet.plugins.symbolic_sizes import AnySize, SymbolicShape, cdiv, combine, maximum, minimum

_OPERATORS: Mapping[type[ast.operator], str] = {
    ast.Add: "SUM",
    ast.Sub: "SUB",
    ast.Mult: "PROD",
    ast.FloorDiv: "FLOOR_DIV",
}
_FUNCTIONS: Mapping[str, Callable[[AnySize, AnySize], AnySize]] = {
    "cdiv": cdiv,
    "minimum": minimum,
    "maximum": maximum,
}
_LARGEST = 2**31 - 1
_LONGEST = 200  # characters of one axis
_FORM = (
    "names, numbers, and expressions of them by + - * // ( ), cdiv, minimum and maximum; axes are "
    "separated by blanks, as in 'N 2*C H W'"
)


class Axis(NamedTuple):
    """One axis: its text, and what it means."""

    text: str
    node: ast.expr

    @property
    def names(self) -> list[str]:
        """The names in it, in order, without those of functions."""
        return _names(self.node)

    def value(self, sizes: Mapping[str, AnySize]) -> AnySize:
        """Its size where the names have these `sizes`.

        Raises:
            ShapeError: a division by zero.
        """
        try:
            return _value(self.node, sizes)
        except ZeroDivisionError:
            raise ShapeError(f"the axis {self.text} divides by zero", got=_listed(sizes)) from None


Row = tuple[Axis, ...]
"""The axes of one tensor."""


def parse_axes(text: str) -> Row:
    """The axes that `text` states.

    Raises:
        UsageError: it is not what the module describes; the message says how to write it.

    >>> [axis.value({"C": 3}) for axis in parse_axes("C 2*C C//2 4")]
    [3, 6, 1, 4]
    """
    return tuple(_axis(part, text) for part in text.split())


def text_of(rows: Sequence[Row]) -> str:
    """The axes of several tensors as they are written in a declaration."""
    return ", ".join(repr(" ".join(axis.text for axis in row)) for row in rows)


class _Solution(NamedTuple):
    """Where the size of a name comes from: axis number `axis` of input number `input`."""

    name: str
    input: int
    axis: int


@dataclass(frozen=True)
class Axes:
    """The axes of a plugin's inputs and, where they are stated, of its outputs.

    Attributes:
        names: of the inputs.
        inputs: the axes of each.
        outputs: the axes of each output; ``None`` where ``outputs()`` gives them.
        solutions: how the names get their sizes, in order.
    """

    names: tuple[str, ...]
    inputs: tuple[Row, ...]
    outputs: tuple[Row, ...] | None
    solutions: tuple[_Solution, ...]

    @classmethod
    def of(cls, stated: object, names: Sequence[str], constants: Collection[str]) -> Axes:
        """What a declaration states as ``axes``.

        Args:
            stated: a text for each input, and where the outputs follow from it, ``"->"`` and a text
                for each output.
            names: of the inputs.
            constants: names of the attributes that are ints.

        Raises:
            UsageError: it has another form, or names something that the inputs do not decide.
        """
        texts = _texts(stated, names)
        place = texts.index(ARROW) if ARROW in texts else None
        inputs = tuple(map(parse_axes, texts[:place]))
        outputs = None if place is None else tuple(map(parse_axes, texts[place + 1 :]))
        if len(inputs) != len(names) or outputs == () or texts.count(ARROW) > 1:
            raise UsageError(
                "axes has a text for each input, and after an arrow one for each output",
                expected=f"axes of {', '.join(names)}",
                got=", ".join(map(repr, texts)) or "nothing",
                fix=f"such as axes = {example_of(names)}",
            )
        solutions = tuple(_solve(inputs, constants))
        known = [*constants, *(solution.name for solution in solutions)]
        for row in outputs or ():
            _check_known(row, known)
        return cls(tuple(names), inputs, outputs, solutions)

    def bind(
        self, shapes: Sequence[SymbolicShape], constants: Mapping[str, int]
    ) -> dict[str, AnySize]:
        """The sizes of all names where the inputs have these `shapes`.

        Args:
            constants: values of the attributes that are ints.

        Raises:
            ShapeError: the shapes do not fit the axes, as far as their sizes are known.
        """
        for name, row, shape in zip(self.names, self.inputs, shapes, strict=True):
            if len(row) != len(shape):
                raise ShapeError(
                    f"the input {name} has another number of axes",
                    expected=f"{len(row)}: {' '.join(axis.text for axis in row)}",
                    got=f"{len(shape)}: {shape}",
                )
        sizes: dict[str, AnySize] = dict(constants)
        for name, tensor, place in self.solutions:
            stated, size = self.inputs[tensor][place], shapes[tensor][place]
            sizes[name] = self._solved(name, tensor, stated, size, sizes)
        for name, row, shape in zip(self.names, self.inputs, shapes, strict=True):
            for number, (axis, size) in enumerate(zip(row, shape, strict=True)):
                wanted = axis.value(sizes)
                if isinstance(wanted, int) and isinstance(size, int) and wanted != size:
                    raise ShapeError(
                        f"axis {number} of the input {name} does not fit the others",
                        expected=wanted if axis.text.isdigit() else f"{axis.text} = {wanted}",
                        got=size,
                    )
        return sizes

    def output_shapes(
        self, shapes: Sequence[SymbolicShape], constants: Mapping[str, int]
    ) -> tuple[SymbolicShape, ...]:
        """The shapes of the outputs where the inputs have these `shapes`; see :meth:`bind`.

        Raises:
            ShapeError: the shapes do not fit, or a size of an output is negative.
        """
        sizes = self.bind(shapes, constants)
        found = tuple(tuple(axis.value(sizes) for axis in row) for row in self.outputs or ())
        for row, shape in zip(self.outputs or (), found, strict=True):
            for axis, size in zip(row, shape, strict=True):
                if isinstance(size, int) and size < 0:
                    raise ShapeError(
                        f"the output's axis {axis.text} would be {size}",
                        got=_listed(sizes, axis.names),
                    )
        return found

    def _solved(
        self, name: str, tensor: int, axis: Axis, size: AnySize, sizes: Mapping[str, AnySize]
    ) -> AnySize:
        """The size of `name` where `axis` has this `size`."""
        factor, rest = _linear(axis.node, name, sizes)
        if not isinstance(factor, int) or factor == 0:
            raise ShapeError(
                f"{name} does not follow from the axis {axis.text}", got=_listed(sizes, axis.names)
            )
        if factor < 0:
            factor, size, rest = -factor, rest, size
        left = size if rest == 0 else combine("SUB", size, rest)
        if isinstance(left, int) and (left % factor or left < 0):
            raise ShapeError(
                f"the size {size} of the input {self.names[tensor]} is not {axis.text} for any "
                f"{name}",
                expected=f"a multiple of {factor}"
                if rest == 0
                else f"{axis.text} with {name} >= 0",
                got=size,
            )
        return left if factor == 1 else combine("FLOOR_DIV", left, factor)


def example_of(names: Sequence[str], outputs: int = 1) -> str:
    """Axes for inputs with these `names`, as a declaration writes them."""
    texts = ["N C H W"] * len(names) + [ARROW] + ["N C H W"] * outputs
    return "({})".format(", ".join(f'"{text}"' for text in texts))


def _texts(stated: object, names: Sequence[str]) -> list[str]:
    """The texts of a declaration, which may have another form."""
    if isinstance(stated, (tuple, list)) and all(isinstance(text, str) for text in stated):
        return [text.strip() for text in stated]
    fix = f"such as axes = {example_of(names)}"
    if isinstance(stated, str):
        parts = [part.strip() for part in re.split(r"(->)|[,;]", stated) if part and part.strip()]
        comma = "," if len(parts) == 1 else ""
        fix = "write axes = ({}{})".format(", ".join(f'"{part}"' for part in parts), comma)
    raise UsageError(
        "axes is a tuple of texts, one for each input, and after an arrow one for each output",
        expected=f"axes of {', '.join(names)}",
        got=repr(stated),
        fix=fix,
    )


def _solve(inputs: Sequence[Row], constants: Collection[str]) -> Iterator[_Solution]:
    """How each name gets its size: from an axis that is the name alone, or else from an expression
    in which no other name is unknown."""
    places = [(i, j, axis) for i, row in enumerate(inputs) for j, axis in enumerate(row)]
    known = set(constants)
    for i, j, axis in places:
        if isinstance(axis.node, ast.Name) and axis.text not in known:
            known.add(axis.text)
            yield _Solution(axis.text, i, j)
    while True:
        missing = [(place, sorted(set(place[2].names) - known)) for place in places]
        missing = [(place, names) for place, names in missing if names]
        if not missing:
            return
        for (i, j, axis), names in missing:
            if len(names) == 1 and _is_linear(axis.node, names[0], constants):
                known.add(names[0])
                yield _Solution(names[0], i, j)
                break
        else:
            (_, _, axis), names = missing[0]
            name = names[0]
            raise UsageError(
                f"{' and '.join(names)} cannot be computed from the axis {axis.text}",
                expected=f"{name} alone in an axis of an input, or in an expression that decides "
                f"it, such as 2*{name} or {name}+1",
                got=text_of(inputs),
                fix=f"state {name} itself in an input, as in '{name}' there and '2*{name}' or "
                f"'{name}//2' elsewhere",
            )


def _is_linear(node: ast.expr, name: str, constants: Collection[str]) -> bool:
    """Whether `name`, which is in `node`, follows from its size: it is there once, multiplied only
    by numbers and attributes, and not divided."""
    if isinstance(node, ast.Name):
        return True
    if not isinstance(node, ast.BinOp) or isinstance(node.op, ast.FloorDiv):
        return False
    inside, other = node.left, node.right
    if name in _names(other):
        inside, other = other, inside
    if name in _names(other):
        return False
    if isinstance(node.op, ast.Mult) and not set(_names(other)) <= set(constants):
        return False
    return _is_linear(inside, name, constants)


def _linear(node: ast.expr, name: str, sizes: Mapping[str, AnySize]) -> tuple[AnySize, AnySize]:
    """`factor` and `rest` of ``node = factor * name + rest``, for an expression of
    :func:`_is_linear`."""
    if isinstance(node, ast.Name) and node.id == name:
        return 1, 0
    if name not in _names(node):
        return 0, _value(node, sizes)
    assert isinstance(node, ast.BinOp)
    left, right = (_linear(side, name, sizes) for side in (node.left, node.right))
    if isinstance(node.op, ast.Mult):
        (factor, rest), (_, number) = (left, right) if name in _names(node.left) else (right, left)
        return combine("PROD", factor, number), combine("PROD", rest, number)
    operation = _OPERATORS[type(node.op)]
    return combine(operation, left[0], right[0]), combine(operation, left[1], right[1])


def _value(node: ast.expr, sizes: Mapping[str, AnySize]) -> AnySize:
    if isinstance(node, ast.Constant):
        assert isinstance(node.value, int)
        return node.value
    if isinstance(node, ast.Name):
        return sizes[node.id]
    if isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Name)
        return _FUNCTIONS[node.func.id](*(_value(part, sizes) for part in node.args))
    assert isinstance(node, ast.BinOp)
    return combine(_OPERATORS[type(node.op)], _value(node.left, sizes), _value(node.right, sizes))


def _names(node: ast.expr) -> list[str]:
    """The names in an expression, in order, without those of functions."""
    found = [n for n in ast.walk(node) if isinstance(n, ast.Name) and n.id not in _FUNCTIONS]
    return [name.id for name in sorted(found, key=lambda name: name.col_offset)]


def _axis(text: str, whole: str) -> Axis:
    """One axis of the text `whole`."""
    node = _parsed(text)
    if node is None:
        raise _refuse(text, whole)
    return Axis(text, node)


def _parsed(text: str) -> ast.expr | None:
    """The expression of one axis; ``None`` for a text that is none."""
    if len(text) > _LONGEST:
        return None
    try:
        node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return node if _is_allowed(node) else None


def _is_allowed(node: ast.expr) -> bool:
    """Whether an expression has nothing but what :mod:`trtnet.plugins.axes` lists."""
    if isinstance(node, ast.Name):
        return node.id not in _FUNCTIONS
    if isinstance(node, ast.Constant):
        return type(node.value) is int and 0 <= node.value <= _LARGEST
    if isinstance(node, ast.Call):
        is_known = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        has_two = len(node.args) == 2 and not node.keywords
        return is_known and has_two and all(map(_is_allowed, node.args))
    if not isinstance(node, ast.BinOp) or type(node.op) not in _OPERATORS:
        return False
    return _is_allowed(node.left) and _is_allowed(node.right)


def _refuse(text: str, whole: str) -> UsageError:
    """The error for the axis `text` of the text `whole`, which is none."""
    better = _better(whole)
    fix = "give an axis of any size a name of its own, such as N"
    if better is not None:
        fix = f'write "{better}"'
    elif "..." in whole or text.startswith("*"):
        fix = "name every axis; for any number of axes leave axes out, and declare outputs()"
    return UsageError(f"{text!r} in {whole!r} is no axis", expected=_FORM, got=text, fix=fix)


def _better(whole: str) -> str | None:
    """What was meant by a text with an axis that is none, if that can be told."""
    joined = re.sub(r"\s*([*/+]+)\s*|\s*(-)\s+|(\()\s+|(,)\s+", r"\1\2\3\4", whole)
    separated = " ".join(re.sub(r"[\[\](),;]", " ", whole).split())
    is_list = whole[:1] in "([" or "," in whole or ";" in whole
    for better in (whole, joined, separated if is_list else whole):
        better = re.sub(r"(?<!\w)(\d+)([A-Za-z_(])", r"\1*\2", better)
        better = re.sub(r"(?<!/)/(?!/)", "//", better)
        if better != whole and all(_parsed(part) is not None for part in better.split()):
            return better
    return None


def _check_known(row: Row, known: Collection[str]) -> None:
    known_as = {each.lower(): each for each in known}
    for axis in row:
        for name in axis.names:
            if name not in known:
                raise UsageError(
                    f"the output's axis {axis.text} names {name}, which no input states",
                    expected=", ".join(known) or "numbers",
                    got=" ".join(each.text for each in row),
                    fix=did_you_mean(known_as.get(name.lower(), name), known)
                    or f"state {name} in the axes of an input, make it an attribute "
                    f"({name}: int = ...), or write it as an expression, such as 2*C",
                )


def _listed(sizes: Mapping[str, AnySize], names: Collection[str] | None = None) -> str:
    chosen = sizes if names is None else dict.fromkeys(names)
    return ", ".join(f"{name} = {sizes[name]}" for name in chosen if name in sizes)
