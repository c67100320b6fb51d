"""Policy: which precision each module computes in, and why."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, Protocol, runtime_checkable

from trtnet.errors import UnsupportedError, UsageError
from trtnet.escaping import printable
from trtnet.layer_names import without_calls
from trtnet.names import nearest
from trtnet.precision.budget import Budget
from trtnet.precision.policy_file import read_entries, write_entries
from trtnet.precision.table import (
    FLOATS,
    KINDS,
    PRECISIONS,
    QUANTIZED,
    TABLE,
    TENSOR_TYPES,
    coarsest,
)
from trtnet.records import Records, Row

PRESETS = (*PRECISIONS, "mixed")

# Squares and sums leave FP16's range long before their inputs do, and BF16 has three digits.
# TensorRT 11 has no switch for the type a layer accumulates in: only FP32 tensors guarantee it.
# A softmax is safe: it subtracts the maximum first, and its values are at most 1.
SAFE_KINDS: Mapping[str, str] = {"normalization": "fp32", "reduction": "fp32"}


@dataclass(frozen=True)
class Decision:
    """The precision of one module.

    Attributes:
        precision: one of :data:`PRECISIONS`.
        reason: in words.
        named: whether a pattern of `keep`, or `kinds`, says so.
        entry: which entry of the policy gives the precision: its name, and the pattern or kind
            where it is a table, such as ``("keep", "layer4.*")`` or ``("compute", "")``.
    """

    precision: str
    reason: str
    named: bool = False
    entry: tuple[str, str] = ("compute", "")


@dataclass(frozen=True)
class Explanation:
    """One row of :meth:`Policy.explain`.

    Attributes:
        module: its path; ``""`` is the model itself.
        type: its class.
        kind: one of :data:`KINDS`; ``""`` for what takes the type of its input.
        precision: one of :data:`PRECISIONS`.
        reason: in words.
    """

    module: str
    type: str
    kind: str
    precision: str
    reason: str

    def row(self) -> Row:
        """The module as a row, with the names of docs/study.md."""
        return {
            "module": self.module,
            "call": None,
            "op": None,
            "module_class": self.type,
            "kind": self.kind,
            "precision": self.precision,
            "reason": self.reason,
        }


class ModuleTree(Protocol):
    """What a policy reads of a :class:`trtnet.Module`; convolutions also have ``groups``."""

    computes: str

    def children(self) -> Iterator[Any]:
        """The modules directly inside."""

    def named_modules(self, *, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """The module and all inside it, with their paths."""


@runtime_checkable
class NetworkRoots(Protocol):
    """What a policy reads of a :class:`trtnet.Network`."""

    @property
    def roots(self) -> Sequence[tuple[str, ModuleTree]]:
        """The modules called on the network's tensors, with their paths."""


@dataclass(frozen=True)
class Policy:
    """Which precision each module computes in.

    Args:
        compute: one of :data:`PRECISIONS`. Those of :data:`QUANTIZED` quantize the kinds of
            modules that :data:`TABLE` gives them (convolutions, linear layers …) and need a
            calibration; ``int8-weights`` stores weights in INT8 and needs none.
        keep: pattern to precision. A pattern is a shell pattern over module paths; it holds for
            the modules it matches and everything below them, and the last that matches wins.
        io: type of the engine's floating-point inputs and outputs: fp32, fp16 or bf16.
        base: the precision of what quantized modules give, and of all modules that are not
            quantized.
        kinds: kind (one of :data:`KINDS`) to precision, where no pattern of `keep` names a
            floating-point type. By default norms, sums and long means stay in FP32. INT8
            products of an attention are only made with ``{"attention": "int8"}``.
        budget: what verification holds the network to, on data, in place of the limit of the
            coarsest precision; ``None`` for that limit. :func:`trtnet.search.search` gives its own.

    Raises:
        UnsupportedError: a precision or kind that does not exist.

    >>> policy = Policy("int8", keep={"layer4": "fp16"})
    >>> policy.precision_of("layer1.0.conv1", "convolution")
    'int8'
    >>> policy.precision_of("layer4.0.conv1", "convolution")
    'fp16'
    """

    compute: str = "fp32"
    keep: Mapping[str, str] = field(default_factory=dict)
    io: str = "fp32"
    base: str = "fp16"
    kinds: Mapping[str, str] = field(default_factory=lambda: dict(SAFE_KINDS))
    budget: Budget | None = None

    def __post_init__(self) -> None:
        for value in (self.compute, *self.keep.values(), *self.kinds.values()):
            _require(value, PRECISIONS, "precision")
        _require(self.base, FLOATS, "base precision")
        _require(self.io, TENSOR_TYPES, "type of inputs and outputs")
        for kind in self.kinds:
            _require(kind, KINDS, "kind of module")

    def __str__(self) -> str:
        """``int8, the rest fp16; inputs and outputs fp32; layer4 fp16``."""
        rest = f", the rest {self.base}" if self.compute in QUANTIZED else ""
        parts = {**self.kinds, **self.keep}
        named = [f"{name} {precision}" for name, precision in parts.items()]
        shown = [f"{self.compute}{rest}", f"inputs and outputs {self.io}", *named]
        return printable("; ".join(shown))

    @classmethod
    def preset(cls, name: str) -> Policy:
        """The policy called `name`, one of :data:`PRESETS`: a precision, or ``mixed``: FP16 with
        norms, softmax and all reductions in FP32, as in ``torch.autocast``.

        Raises:
            UnsupportedError: there is none.
        """
        _require(name, PRESETS, "precision")
        if name == "mixed":
            return cls("fp16", kinds={**SAFE_KINDS, "softmax": "fp32"})
        return cls(name)

    # Deciding

    def precision_of(self, path: str, kind: str = "", groups: int = 1) -> str:
        """The precision of what the module at `path` computes; see :meth:`decide`."""
        return self.decide(path, kind, groups).precision

    def decide(self, path: str, kind: str = "", groups: int = 1) -> Decision:
        """The precision of the module at `path`, and why.

        Args:
            path: as in ``named_modules()``; the number of a repeated call does not count.
            kind: one of :data:`KINDS`, or ``""``.
            groups: of a convolution.
        """
        asked, reason = self.compute, f"compute = {self.compute}"
        entry = ("compute", "")
        names = _with_parents(without_calls(path))
        named = False
        for pattern, precision in self.keep.items():
            if any(fnmatchcase(name, pattern) for name in names):
                asked, reason, named = precision, f"keep {pattern!r} = {precision}", True
                entry = ("keep", pattern)
        if not kind:
            return Decision(asked if asked in FLOATS else self.base, reason, named, entry)
        unsuited, by_kind = TABLE[asked].unsuited(kind, groups), self.kinds.get(kind)
        if by_kind == asked or (named and not unsuited) or {asked, by_kind} == {"tf32", "fp32"}:
            return Decision(asked, reason, named, entry)
        if by_kind:
            wanted = "" if kind == "attention" else kind  # `kinds` may ask for INT8 attention
            asked, unsuited = by_kind, TABLE[by_kind].unsuited(wanted, groups)
            reason, named, entry = _by_kind(kind, by_kind), True, ("kinds", kind)
        if unsuited:
            return Decision(self.base, unsuited, entry=("base", ""))
        return Decision(asked, reason, named, entry)

    def rows(self, target: ModuleTree | NetworkRoots) -> list[Row]:
        """:meth:`explain` as a table, with the names of docs/study.md."""
        return self.explain(target).rows()

    def explain(self, target: ModuleTree | NetworkRoots) -> Records[Explanation]:
        """One row for each module without submodules, and each that computes something itself.

        Args:
            target: a module, or a network that modules were called on.

        Raises:
            UsageError: a pattern that matches no module.
        """
        roots = target.roots if isinstance(target, NetworkRoots) else [("", target)]
        found = dict(pair for prefix, root in roots for pair in root.named_modules(prefix=prefix))
        self.check(found)
        return Records(
            self._explanation(path, module)
            for path, module in found.items()
            if module.computes or not any(module.children())
        )

    def _explanation(self, path: str, module: ModuleTree) -> Explanation:
        kind, groups = module.computes, getattr(module, "groups", 1)
        decision = self.decide(path, kind, groups)
        precision, reason = decision.precision, decision.reason
        if kind == "batch_norm":
            reason = f"folded into the layer before it, in whose precision; otherwise {reason}"
        elif kind == "pooling" and (precision in QUANTIZED or not decision.named):
            reason = f"quantized like the layers before it, if it is a global average; {reason}"
        elif not kind:
            reason = "takes the type of its input"
        return Explanation(path, type(module).__name__, kind, precision, reason)

    def check(self, paths: Iterable[str]) -> None:
        """Raises :class:`UsageError` for a pattern that matches none of the module `paths`; it
        names paths that are close."""
        known = list(paths)
        for pattern in self.keep:
            if not any(fnmatchcase(path, pattern) for path in known):
                plain = re.sub(r"[*?\[\]]", "", pattern)
                near = nearest(plain, known, cutoff=0.4)
                raise UsageError(
                    "the pattern matches no module",
                    got=pattern,
                    expected="a shell pattern over module paths",
                    fix=f"did you mean {', '.join(near)}?"
                    if near
                    else "list the modules: [path for path, _ in model.named_modules()]",
                )

    # What it uses

    def uses(self, *precisions: str) -> bool:
        """Whether any of `precisions` can occur."""
        return any(p in precisions for p in self._used())

    @property
    def coarsest(self) -> str:
        """The floating-point precision with the fewest digits that can occur."""
        return coarsest(p if p in FLOATS else self.base for p in self._used())

    @property
    def calibrated_for(self) -> str | None:
        """The precision that a calibration is for: the first of
        :data:`trtnet.precision.table.QUANTIZED` that can occur; ``None`` where none can."""
        return next((name for name in QUANTIZED if self.uses(name)), None)

    def _used(self) -> tuple[str, ...]:
        return (self.compute, *self.keep.values(), *self.kinds.values())

    # Files

    def as_dict(self) -> dict[str, Any]:
        """Strings and dicts of strings, in the order in which they are written; ``budget`` only
        where there is one."""
        values = {option.name: getattr(self, option.name) for option in fields(self)}
        del values["budget"]
        if self.budget is not None:
            values["budget"] = str(self.budget)
        return {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in sorted(values.items(), key=lambda item: isinstance(item[1], Mapping))
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Policy:
        """Reads a TOML file as :meth:`save` writes it; missing entries have their defaults.

        Raises:
            UsageError: a file that cannot be read, is not TOML, or has unknown entries.
            UnsupportedError: a precision or kind that does not exist.
        """
        return cls(**read_entries(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a TOML file, atomically.

        Raises:
            OSError: it cannot be written; an old file is unchanged.
        """
        write_entries(path, self.as_dict())


def _by_kind(kind: str, precision: str) -> str:
    if SAFE_KINDS.get(kind) == precision:
        return f"{kind} stays in {precision.upper()}: squares and sums need its range and digits"
    return f"kinds {kind!r} = {precision}"


def _with_parents(path: str) -> list[str]:
    """``a.b.c`` and the modules around it: ``a.b``, ``a`` and the model itself."""
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)] + [""]


def _require(value: str, allowed: tuple[str, ...], what: str) -> None:
    if value not in allowed:
        raise UnsupportedError(f"unknown {what} {value!r}", expected=", ".join(allowed), got=value)
