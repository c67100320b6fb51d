"""CalibrationTable: the range of each tensor of a network with certain weights, in a file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trtnet.errors import UsageError, WeightsError
from trtnet.files import atomic_write
from trtnet.names import nearest
from trtnet.precision.table import QUANTIZED
from trtnet.reading.documents import Source, read_json, shortened
from trtnet.reading.schema import checked

METHODS = ("minmax", "percentile", "entropy", "mse")
DEFAULT_METHOD = "mse"
"""The method of commands and functions that are told none."""
DEFAULT_ITEMS = 512
"""How many items a calibration uses at most, where nothing else is asked for."""
DEFAULT_BATCH = 8
"""Items per batch, where neither the network nor the caller says how many."""
_FORMAT = "trtnet.calibration 1"
_SHA256 = re.compile("[0-9a-f]{64}(,[0-9a-f]{64})*")
_FLOAT32_MAX = (2 - 2**-23) * 2.0**127
_AGAIN = "calibrate again"


@dataclass(frozen=True)
class CalibrationTable:
    """The range of each tensor of one network with certain weights.

    Attributes:
        ranges: tensor name → the magnitude that becomes the largest code; positive.
        method: one of :data:`METHODS`.
        weights_sha256: :attr:`trtnet.Network.weights_sha256` of the network: a checksum for each
            model it was made of.
        precision: what the ranges are for, one of :data:`trtnet.precision.QUANTIZED`; the methods
            other than ``"mse"`` give all of them the same.
        items: the number of images, or whatever the data consists of.

    Raises:
        UsageError: an unknown method or precision, or an impossible checksum, size or range.
    """

    ranges: Mapping[str, float]
    method: str
    weights_sha256: str
    precision: str = "int8"
    items: int = 0

    def __post_init__(self) -> None:
        for what, allowed, got in (
            ("method", METHODS, self.method),
            ("precision", QUANTIZED, self.precision),
        ):
            if got not in allowed:
                raise UsageError(
                    f"a calibration table of unknown {what}", expected=", ".join(allowed), got=got
                )
        if not (isinstance(self.weights_sha256, str) and _SHA256.fullmatch(self.weights_sha256)):
            raise UsageError(
                "a calibration table without the weights' checksum",
                expected="64 hexadecimal digits",
                got=self.weights_sha256,
                fix="give the network's weights_sha256",
            )
        if not _is_number(self.items) or self.items < 0:
            raise UsageError("a calibration table of impossible size", got=self.items)
        for name, amax in self.ranges.items():
            if not _is_number(amax) or not 0 < amax <= _FLOAT32_MAX:
                raise UsageError(
                    "an impossible range in a calibration table",
                    module=name,
                    expected="a positive, finite float32",
                    got=amax,
                    fix=_AGAIN,
                )

    def amax(self, name: str) -> float:
        """The range of the tensor `name`.

        Raises:
            UsageError: the table does not have it.
        """
        if name in self.ranges:
            return self.ranges[name]
        near = nearest(name, self.ranges)
        raise UsageError(
            "the calibration table has no range for this tensor",
            module=name,
            got=f"{len(self.ranges)} ranges" + (f", such as {', '.join(near)}" if near else ""),
            fix="calibrate again, with this model and policy",
        )

    def require_weights(self, sha256: str) -> None:
        """Refuses weights other than those the table was made with.

        Raises:
            WeightsError: they are others.
        """
        if sha256 != self.weights_sha256:
            raise WeightsError(
                "the calibration table belongs to other weights",
                expected=f"weights with sha256 {self.weights_sha256}",
                got=sha256,
                fix="calibrate again with these weights, or load those of the table",
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes JSON, atomically; :meth:`load` gives an equal table.

        Raises:
            UsageError: it cannot be written; an old file is unchanged.
        """
        content = {
            "format": _FORMAT,
            "method": self.method,
            "precision": self.precision,
            "weights_sha256": self.weights_sha256,
            "items": self.items,
            "ranges": dict(self.ranges),
        }
        try:
            with atomic_write(path) as file:
                file.write(json.dumps(content, indent=1).encode() + b"\n")
        except OSError as error:
            raise UsageError(f"{path} cannot be written", got=error) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CalibrationTable:
        """The table in the file `path`.

        Raises:
            UsageError: the file is missing, damaged, of another version, or holds impossible
                values.
        """
        source = Source(str(path), "a calibration table", fix=_AGAIN)
        content = checked(read_json(path, source), dict[str, Any], source)
        if content.get("format") != _FORMAT:
            raise source.refuse(
                "it is not of this version",
                expected=f"the format {_FORMAT!r}",
                got=shortened(content.get("format")),
            )
        stated = checked(content, _File, source)
        try:
            return cls(
                ranges=stated.ranges,
                method=stated.method,
                weights_sha256=stated.weights_sha256,
                precision=stated.precision,
                items=stated.items,
            )
        except UsageError as error:
            raise UsageError(
                f"{path}: {error.problem}",
                module=error.module,
                expected=error.expected,
                got=error.got,
                fix=error.fix or _AGAIN,
            ) from error


@dataclass(frozen=True)
class _File:
    """The JSON object in a table's file: ``format``, and the fields of the table, whose values
    the table checks."""

    format: str
    method: str
    precision: str
    weights_sha256: str
    items: int
    ranges: dict[str, float]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
