"""Compiled kernels go to a cache that a test run has for itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trtnet.plugins import aot_compile


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(aot_compile.CACHE, str(tmp_path_factory.mktemp("cache")))
        yield
