"""A child process whose engines have planted faults: ``faulty_child.py FAULTY|RIGHT SETTINGS``.

The double of a session runs the torch engine, and then does what :data:`FAULTS` says for a tensor.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from trtnet.certify.child import serve
from trtnet.certify.running import run_case
from trtnet.engines.session import Session


class Double:
    """A session over the torch engine, with faults."""

    runtime = "a double"

    def __init__(self, plan: Any, **options: Any) -> None:
        self._session = Session(plan, **options)

    def __call__(self, inputs: Any) -> dict[str, np.ndarray]:
        found = self._session(inputs)
        for name in FAULTS.keys() & found.keys():
            FAULTS[name](found[name])
        return found

    def close(self) -> None:
        self._session.close()


def wrong(values: np.ndarray) -> None:
    """One value of many."""
    values.reshape(-1)[7] += 0.25


def not_a_number(values: np.ndarray) -> None:
    values.reshape(-1)[7] = np.nan


def crash(values: np.ndarray) -> None:
    print("printed by a library")
    sys.stderr.write("the driver says \x1b[31mno\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(values: np.ndarray) -> None:
    time.sleep(600)


def refuse(values: np.ndarray) -> None:
    raise ValueError("cudaErrorIllegalAddress")


FAULTS: dict[str, Callable[[np.ndarray], None]] = {
    "channels:": wrong,  # of softmax
    "lrn:": not_a_number,
    "select:": crash,
    "scale:": refuse,
    "identity:": hang,
}

if __name__ == "__main__":
    double = Double if sys.argv[1] == "FAULTY" else Session
    serve(functools.partial(run_case, open_session=double), sys.argv[2:])
