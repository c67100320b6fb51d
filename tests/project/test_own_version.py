"""`trtnet.__version__` is text that does not pass for PyTorch's version."""

from __future__ import annotations

from typing import Any

import pytest

import trtnet
from trtnet.errors import UsageError
from trtnet.version import __version__


@pytest.mark.parametrize(
    "question",
    [
        lambda version: version > "1.2.0",
        lambda version: version < "2.0",
        lambda version: tuple(map(int, version.split(".")[:2])) >= (1, 8),
    ],
)
def test_it_does_not_compare(question: Any, raises: Any) -> None:
    with raises(UsageError, "not PyTorch's version", "importlib.metadata"):
        question(trtnet.__version__)


def test_it_is_text() -> None:
    assert trtnet.__version__ == __version__
    assert f"{trtnet.__version__}" == __version__
