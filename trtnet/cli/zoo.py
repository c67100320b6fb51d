"""``python -m trtnet.zoo``: builds, verifies and lists the models of the zoo."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trtnet.cli.arguments import parse
from trtnet.cli.exit_status import errors_to_exit_status


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; errors go to stderr as text.

    Returns:
        0 when the engine is built and verified, 1 when either failed, 2 for bad usage.
    """
    return errors_to_exit_status(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: Sequence[str]) -> int:
    arguments = parse(argv)
    if arguments.list is not None:
        from trtnet.cli.listing import show

        show(arguments.list, arguments.json)
        return 0
    from trtnet.cli.build_model import run  # not for --help and --list: they answer at once

    return run(arguments)
