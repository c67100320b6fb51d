"""``python -m trtnet.zoo``: builds, verifies and lists the models of the zoo."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

from trtnet.cli.arguments import parse
from trtnet.errors import ShapeError, TrtnetError, UnsupportedError, UsageError

_BAD_USAGE = (UsageError, ShapeError, UnsupportedError)
_INTERRUPTED = 130  # what shells give: 128 + SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; errors go to stderr as text.

    Returns:
        0 when the engine is built and verified, 1 when either failed, 2 for bad usage.
    """
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        if arguments.list is not None:
            return _list(arguments.list)
        from trtnet.cli.job import run  # not for --help and --list: they answer at once

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch and others, about their own affairs
            return run(arguments)
    except TrtnetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, _BAD_USAGE) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED


def _list(pattern: str) -> int:
    from trtnet.zoo import list_models

    names = list_models(pattern)
    if not names:
        raise UsageError(f"no model matches {pattern!r}", fix="--list shows all of them")
    print("\n".join(names))
    return 0
