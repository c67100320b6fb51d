"""Names of classes out of a file."""

from __future__ import annotations

import os
import re

from trtnet.errors import UsageError
from trtnet.reading.documents import MOST_BYTES, Source, from_json
from trtnet.reading.files import read_bytes
from trtnet.reading.schema import checked

_JSON = re.compile(r'\s*\[\s*["\]]')  # a name such as [unknown] begins otherwise
_FIX = "write one name per line, or a JSON list of names"


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names in a file: a JSON list, or a text with one name per line, in the order of the
    classes. Empty lines at the end are ignored.

    Raises:
        UsageError: the file cannot be read, names nothing, or leaves a class without a name.
    """
    source = Source(str(path), "a list of class names", UsageError, _FIX)
    content = read_bytes(path, source.what, MOST_BYTES, fix=_FIX)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise source.refuse("it is not text in UTF-8", got=error) from error
    if os.fspath(path).endswith(".json") or _JSON.match(text):
        names = checked(from_json(text, source), list[str], source)
    else:
        names = [line.strip() for line in text.rstrip().splitlines()]
    if not names:
        raise source.refuse("it names nothing")
    if "" in names:
        raise source.refuse(f"class {names.index('')} has no name")
    return tuple(names)
