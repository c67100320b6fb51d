"""A bar that counts images, below what is printed meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TextIO

from trtnet.cli.streams import for_control, say
from trtnet.escaping import printable


@contextlib.contextmanager
def counting(
    stream: TextIO, total: int
) -> Iterator[tuple[Callable[..., None], Callable[[], object]]]:
    """Functions that print lines, and that count one of `total`: with a bar on a terminal, where
    there is more than one to count."""
    if total == 1 or not stream.isatty():
        yield (lambda *lines: say(*lines, stream=stream)), lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(file=for_control(stream), highlight=False, markup=False, soft_wrap=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)

        def show(*lines: object) -> None:
            if lines:
                console.print(*map(printable, lines), sep="\n")

        yield show, lambda: bar.advance(task)
