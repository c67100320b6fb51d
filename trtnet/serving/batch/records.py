"""The columns of results: what is written of an image for each task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.errors import UsageError
from trtnet.extras import install

if TYPE_CHECKING:
    from trtnet.engines.session import Session

COMMON = ("path", "width", "height", "error")
"""The columns of all tasks; ``error`` is null where the image was processed."""
_COLUMN_TYPES = ("float32", "float16", "int64", "int32", "int8", "uint8", "bool")


def arrow() -> Any:
    """pyarrow.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError("Parquet files need pyarrow", got=error, fix=install("ray")) from error
    return pyarrow


class Records(ABC):
    """The columns of one task, behind :data:`COMMON`."""

    @abstractmethod
    def columns(self) -> dict[str, Any]:
        """pyarrow's type of each."""

    @abstractmethod
    def values(self, result: Any) -> dict[str, Any]:
        """The cells of a result of the task's class."""

    def schema(self) -> Any:
        """Of a table of results."""
        pa = arrow()
        common = dict.fromkeys(("width", "height"), pa.int32())
        fields = {"path": pa.string(), **common, "error": pa.string(), **self.columns()}
        return pa.schema([pa.field(name, kind) for name, kind in fields.items()])

    def row(self, name: str, result: Any) -> dict[str, Any]:
        """The cells of an image that was processed."""
        size = {"width": result.width, "height": result.height}
        return {"path": _utf8(name), **size, "error": None, **self.values(result)}

    def failed_row(self, name: str, error: str) -> dict[str, Any]:
        """The cells of an image that was not."""
        return {"path": _utf8(name), "error": _utf8(error)}


def _utf8(text: str) -> str:
    r"""`text` as a column holds it: bytes of a file's name that are no UTF-8 as ``\udcff``."""
    return text.encode("utf-8", "backslashreplace").decode()


class ClassRecords(Records):
    """Classes with their probabilities, the best first."""

    def columns(self) -> dict[str, Any]:
        """``classes``, ``names``, ``probabilities``: lists."""
        pa = arrow()
        kinds = {"classes": pa.int32(), "names": pa.string(), "probabilities": pa.float64()}
        return {name: pa.list_(kind) for name, kind in kinds.items()}

    def values(self, result: Any) -> dict[str, Any]:
        """Of a :class:`trtnet.tasks.Classification`."""
        return {
            "classes": [each.index for each in result.classes],
            "names": [each.name for each in result.classes],
            "probabilities": [each.probability for each in result.classes],
        }


class BoxRecords(Records):
    """Boxes, the best score first."""

    def columns(self) -> dict[str, Any]:
        """``boxes``: corners (x1, y1, x2, y2) in pixels of the image; ``scores``, ``classes``,
        ``names``: lists."""
        pa = arrow()
        boxes = pa.list_(pa.list_(pa.float64(), 4))
        kinds = {"scores": pa.float32(), "classes": pa.int32(), "names": pa.string()}
        return {"boxes": boxes, **{name: pa.list_(kind) for name, kind in kinds.items()}}

    def values(self, result: Any) -> dict[str, Any]:
        """Of a :class:`trtnet.tasks.Detection`."""
        return {
            "boxes": result.boxes.tolist(),
            "scores": result.scores,
            "classes": result.classes.tolist(),
            "names": [*result.names],
        }


class ShareRecords(Records):
    """The classes of the pixels, the largest first."""

    def columns(self) -> dict[str, Any]:
        """``classes``, ``names``, ``shares`` of the pixels, 0 to 1: lists."""
        pa = arrow()
        kinds = {"classes": pa.int32(), "names": pa.string(), "shares": pa.float64()}
        return {name: pa.list_(kind) for name, kind in kinds.items()}

    def values(self, result: Any) -> dict[str, Any]:
        """Of a :class:`trtnet.tasks.Segmentation`."""
        return {
            "classes": [each.index for each in result.classes],
            "names": [each.name for each in result.classes],
            "shares": [each.share for each in result.classes],
        }


class OutputRecords(Records):
    """What the network gives, as it is.

    Args:
        session: on the engine.

    Raises:
        UsageError: an output has the name of another column, or a type that columns lack.
    """

    def __init__(self, session: Session) -> None:
        self._dtypes: Mapping[str, str] = {each.name: each.dtype for each in session.outputs}
        for name, dtype in self._dtypes.items():
            if dtype not in _COLUMN_TYPES:
                raise UsageError(
                    "Parquet files have no such type",
                    module=name,
                    expected=", ".join(_COLUMN_TYPES),
                    got=dtype,
                    fix='keep outputs in float32: trtnet.Policy(..., io="fp32")',
                )
        shapes = [f"{name}_shape" for name in self._dtypes]
        taken = {*COMMON, *shapes} & {*self._dtypes}
        if taken:
            raise UsageError(
                f"an output is called {sorted(taken)[0]!r}, as another column of the results is",
                fix="give the network's output another name",
            )

    def columns(self) -> dict[str, Any]:
        """For each output its values in the order of its axes, without the batch axis, under its
        name, and its sizes under ``NAME_shape``: lists."""
        pa = arrow()
        found: dict[str, Any] = {}
        for name, dtype in self._dtypes.items():
            found[name] = pa.list_(pa.from_numpy_dtype(np.dtype(dtype)))
            found[f"{name}_shape"] = pa.list_(pa.int64())
        return found

    def values(self, result: Any) -> dict[str, Any]:
        """Of a :class:`trtnet.tasks.image_outputs.ImageOutputs`."""
        found: dict[str, Any] = {}
        for name, array in result.outputs.items():
            found[name], found[f"{name}_shape"] = array.ravel(), [*array.shape]
        return found
