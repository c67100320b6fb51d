"""``trtnet.__version__``, which code that was written for PyTorch takes for PyTorch's version."""

from __future__ import annotations

from typing import Any, NoReturn

from trtnet.errors import UsageError
from trtnet.version import __version__ as _version


class OwnVersion(str):
    """A version that does not compare. After ``import trtnet as torch`` the answer to
    ``torch.__version__ > "1.2"`` would choose code for an old PyTorch, with other defaults and so
    other results, without a word."""

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise UsageError(
            "trtnet.__version__ is not PyTorch's version, which ported code asks for",
            got=str(self),
            fix="keep what PyTorch 2 runs; for trtnet's own version: "
            "importlib.metadata.version('trtnet')",
        )

    __lt__ = __le__ = __gt__ = __ge__ = _refuse
    split = rsplit = partition = rpartition = _refuse  # type: ignore[assignment]


__version__: str = OwnVersion(_version)
