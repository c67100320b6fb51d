"""What commands print: lines on streams that escape, and that survive a reader who leaves."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TextIO, cast

from trtnet.escaping import printable

_LEFT = (BrokenPipeError, ConnectionError)
_TAB, _ENDS = "\t", "\n\t"  # what is not escaped in a line, and on a stream


def say(*lines: object, stream: TextIO | None = None) -> None:
    """Prints each of `lines` as one line, whatever it contains: ends of lines within it are
    escaped, as all is that is not printable. The only way in which commands print.

    Args:
        lines: what is printed; a text of several lines is split by the caller.
        stream: where; ``None`` for stdout.
    """
    out = sys.stdout if stream is None else stream
    if out is not None:
        out.write("".join(f"{printable(line, keep=_TAB)}\n" for line in lines))
        out.flush()


class Output(io.TextIOBase):
    """A standard stream while a command runs, in place of :data:`sys.stdout` or ``stderr``.

    Whoever prints, no control character but the end of a line passes; characters that the
    stream's encoding lacks become escapes. When it cannot be written any more, all that follows
    is dropped, so that the command still does its work.

    Args:
        stream: the stream itself; ``None`` if the process was started without it.

    Attributes:
        failure: why it cannot be written; ``None`` as long as it can.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self.stream = stream
        self.failure: Exception | None = None

    def write(self, text: str) -> int:
        """Writes `text`, escaped; never fails."""
        self.write_unescaped(printable(text, keep=_ENDS))
        return len(text)

    def write_unescaped(self, text: str) -> None:
        """Writes `text` with the control characters in it; never fails."""
        if self.failure is not None or not text:
            return
        if self.stream is None:
            self.failure = OSError(errno.EBADF, "it is closed")
            return
        encoding = self.encoding
        try:
            self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError) as error:
            self.failure = error

    def flush(self) -> None:
        """Writes what is buffered; never fails."""
        if self.failure is None and self.stream is not None:
            try:
                self.stream.flush()
            except (OSError, ValueError) as error:
                self.failure = error

    @property
    def unescaped(self) -> TextIO:
        """The same stream for what moves the cursor or sets a style."""
        return cast(TextIO, _Unescaped(self))

    @property
    def was_left(self) -> bool:
        """Whether a reader has closed the pipe, which is no error."""
        windows = os.name == "nt" and getattr(self.failure, "errno", None) == errno.EINVAL
        return isinstance(self.failure, _LEFT) or windows

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read only
        """The name of the encoding."""
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.stream is not None and self.stream.isatty()

    def fileno(self) -> int:
        """The descriptor; raises OSError where there is none."""
        if self.stream is None:
            raise io.UnsupportedOperation("a closed stream has no descriptor")
        return self.stream.fileno()

    def writable(self) -> bool:
        """True."""
        return True

    def discard(self) -> None:
        """Has the process drop what is left in the buffer of a stream that has failed, which
        Python would write again at its end."""
        if self.failure is not None and self.stream in (sys.__stdout__, sys.__stderr__):
            try:
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self.fileno())
                os.close(null)
            except (OSError, ValueError):
                pass  # it has no descriptor: nothing will be written


class _Unescaped(io.TextIOBase):
    """An :class:`Output` whose control characters pass."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def write(self, text: str) -> int:
        self._output.write_unescaped(text)
        return len(text)

    def flush(self) -> None:
        self._output.flush()

    def isatty(self) -> bool:
        return self._output.isatty()

    def fileno(self) -> int:
        return self._output.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read only
        return self._output.encoding

    def writable(self) -> bool:
        return True


def for_control(stream: TextIO) -> TextIO:
    """`stream` for what moves the cursor or sets a style; names must be escaped by the caller."""
    return stream.unescaped if isinstance(stream, Output) else stream
