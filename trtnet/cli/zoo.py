"""``python -m trtnet.zoo``: builds, verifies and lists the models of the zoo."""

from __future__ import annotations

from collections.abc import Sequence

from trtnet.cli.arguments import parse
from trtnet.cli.guard import program


@program
def main(argv: Sequence[str]) -> int:
    """Runs the command line, by default that of the process; errors go to stderr as text.

    Returns:
        0 when the engine is built and verified, 1 when either failed, 2 for bad usage; see
        :mod:`trtnet.cli.guard`.
    """
    arguments = parse(argv)
    if arguments.list is not None:
        from trtnet.cli.listing import show

        show(arguments.list, arguments.json)
        return 0
    from trtnet.cli.build_model import run  # not for --help and --list: they answer at once

    return run(arguments)
