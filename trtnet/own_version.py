"""``trtnet.__version__``, which code that was written for PyTorch takes for PyTorch's version."""

from __future__ import annotations

from typing import Any, NoReturn

from trtnet.errors import UsageError
from trtnet.version import __version__ as _version


class OwnVersion(str):
    """A version that does not compare: after ``import trtnet as torch``, the answer to
    ``torch.__version__ >= "1.8"`` would choose code for an old PyTorch without a word."""

    __slots__ = ()

    def _refuse(self, *_: Any) -> NoReturn:
        raise UsageError(
            "trtnet.__version__ is not PyTorch's version, which this code asks for",
            got=str(self),
            fix="keep what PyTorch 2 runs; importlib.metadata.version('torch') is PyTorch's",
        )

    __lt__ = __le__ = __gt__ = __ge__ = _refuse
    split = rsplit = _refuse  # type: ignore[assignment]


__version__ = OwnVersion(_version)
