"""Progress: a live line with the elapsed time on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from trtnet.cli.ranges import print_ranges
from trtnet.cli.streams import for_control, say
from trtnet.escaping import printable
from trtnet.pipeline.progress import Counted, Update

if TYPE_CHECKING:
    from trtnet.quantization import RangeRow


_EVERY_SECONDS = 10.0  # between two plain lines of one step


class Progress:
    """Shows the steps of a pipeline on `stream`; an observer, see :mod:`trtnet.pipeline`. A step
    ends with a line that has its time and the last detail that it told."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Update]:
        """Shows `title` while the block runs, followed by what the yielded function is given."""
        show = self._spinner if self.stream.isatty() else self._plain
        started = time.perf_counter()
        last = ""
        with show(title) as show_detail:

            def update(detail: str) -> None:
                nonlocal last
                last = detail
                show_detail(detail)

            yield update
        took = f"{time.perf_counter() - started:.1f} s"
        say(f"{title:10}{took}{f', {last}' if last else ''}", stream=self.stream)

    def note(self, text: str) -> None:
        """Prints `text` on a line of its own."""
        say(f"note: {text}", stream=self.stream)

    def ranges(self, rows: Sequence[RangeRow]) -> None:
        """Prints the table of what FP16 does to the values."""
        print_ranges(rows, self.stream)

    @contextlib.contextmanager
    def _plain(self, title: str) -> Iterator[Update]:
        say(f"{title} ...", stream=self.stream)
        shown = time.perf_counter()

        def update(detail: str) -> None:
            nonlocal shown
            if time.perf_counter() - shown >= _EVERY_SECONDS:
                shown = time.perf_counter()
                say(f"{title} ... {detail}", stream=self.stream)

        yield update

    @contextlib.contextmanager
    def _spinner(self, title: str) -> Iterator[Update]:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        title_column = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
        detail_column = (TimeElapsedColumn(), TextColumn("{task.fields[detail]}", markup=False))
        columns = (*title_column, *detail_column)
        with_bar = (*title_column, BarColumn(), *detail_column)
        console = Console(file=for_control(self.stream))
        try:
            with Progress(*columns, console=console, transient=True) as progress:
                task = progress.add_task(printable(title), total=None, detail="")

                def update(detail: str) -> None:
                    if isinstance(detail, Counted):
                        progress.columns = with_bar
                        progress.update(task, completed=detail.done, total=detail.total)
                    progress.update(task, detail=printable(detail))

                yield update
        except BaseException:
            console.show_cursor()  # an interrupt may have come between hiding it and the block
            raise
