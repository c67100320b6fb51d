"""A few damaged files of every kind of ``tools/fuzzing``, which has more of each."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import random
from collections.abc import Callable

import fuzzing
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trtnet.errors import TrtnetError

CASES: dict[str, Callable[[random.Random], None]] = {}
for _module in pkgutil.iter_modules(fuzzing.__path__):
    CASES |= getattr(importlib.import_module(f"fuzzing.{_module.name}"), "CASES", {})


@pytest.mark.parametrize("kind", CASES)
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
@given(draw=st.randoms(use_true_random=False))
def test_a_damaged_file_is_accepted_or_refused(kind: str, draw: random.Random) -> None:
    with contextlib.suppress(TrtnetError):
        CASES[kind](draw)
