"""Text that came from outside, made safe to print."""

from __future__ import annotations


def printable(text: object, keep: str = "") -> str:
    r"""`text` with a visible escape, such as ``\x1b``, for each character that is not printable:
    control characters and terminal sequences, ends of lines, marks that change the direction of
    text, invisible characters, halves of surrogate pairs (undecodable bytes of file names).

    Names, paths, and messages of other libraries pass this before a person sees them: they may
    come from a file of somebody else. What is escaped once is not changed by a second time.

    Args:
        text: anything; ``str()`` of it is taken.
        keep: characters that stay as they are, such as a newline.

    >>> printable("conv\x1b[31m\n")
    'conv\\x1b[31m\\n'
    """
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode()
        for char in plain
    )
