"""Errors of a command as text on stderr, and its exit status."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

from trtnet.errors import ShapeError, TrtnetError, UnsupportedError, UsageError

_BAD_USAGE = (UsageError, ShapeError, UnsupportedError)
_INTERRUPTED = 130  # what shells give: 128 + SIGINT


def errors_to_exit_status(command: Callable[[], int]) -> int:
    """Runs `command`, and prints its errors to stderr.

    Returns:
        What `command` returns; 1 if it fails, 2 for bad usage.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch and other packages
            return command()
    except TrtnetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, _BAD_USAGE) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
