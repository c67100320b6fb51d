"""The page: a template with the document inside, and both as files."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

_INCLUDE = re.compile(r"<!--include:([\w.-]+)-->")
_DOCUMENT = "<!--document-->"
# What ends a script element or begins a comment in HTML; all other text of JSON is ASCII.
_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}


def to_json(document: dict[str, Any]) -> str:
    """`document` as one line of ASCII."""
    return json.dumps(document, allow_nan=False, separators=(",", ":"))


def embedded(text: str) -> str:
    """JSON that is safe inside an element ``script`` of HTML, and means the same.

    The signs occur only inside of strings, where JSON has escapes for them.

    >>> embedded('{"name":"</script>&"}')
    '{"name":"\\\\u003c/script\\\\u003e\\\\u0026"}'
    """
    return text.translate(_ESCAPES)


def page(text: str) -> str:
    """The page that shows the document with the JSON `text`: HTML that needs nothing else."""
    folder = resources.files("trtnet.explorer").joinpath("page")

    def included(match: re.Match[str]) -> str:
        return folder.joinpath(match[1]).read_text("utf-8")

    template = folder.joinpath("template.html").read_text("utf-8")
    before, _, after = _split(template)
    parts = [_INCLUDE.sub(included, part) for part in (before, after)]
    return embedded(text).join(parts)


def _split(template: str) -> tuple[str, str, str]:
    if template.count(_DOCUMENT) != 1:
        raise ValueError(f"the template has {template.count(_DOCUMENT)} places for the document")
    return template.partition(_DOCUMENT)
