"""The page: one HTML file that holds its style, its scripts, their libraries and the document."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LIBRARIES = ("d3.min.js", "dagre.min.js")
SCRIPTS = (  # in the order in which they run: each uses only names of those before it
    "dom.js",
    "format.js",
    "state.js",
    "query.js",
    "model.js",
    "measured.js",
    "rows.js",
    "columns.js",
    "grid.js",
    "exports.js",
    "printing.js",
    "tree.js",
    "details.js",
    "plot.js",
    "scatter.js",
    "bars.js",
    "roofline.js",
    "charts.js",
    "folding.js",
    "graph.js",
    "whatif.js",
    "precision.js",
    "memory.js",
    "engine.js",
    "comparison.js",
    "provenance.js",
    "shell.js",
    "main.js",
)
_PLACE = re.compile(r"<!--@(\w+)-->")
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
    """The page that shows the document with the JSON `text`: see :func:`assembled`."""
    libraries = [resource(f"libraries/{name}") for name in LIBRARIES]
    scripts = (*libraries, *(resource(f"scripts/{name}") for name in SCRIPTS))
    return assembled(resource("template.html"), resource("page.css"), scripts, text)


def assembled(template: str, style: str, scripts: Sequence[str], text: str) -> str:
    """A page that shows the document with the JSON `text`: HTML that needs nothing else.

    Its content security policy allows no request, and no script or style but its own, which it
    names by their hashes. The document is data: whatever its strings hold, they stay text.

    Args:
        template: HTML with the places ``policy``, ``style``, ``document`` and ``scripts``, each
            written ``<!--@NAME-->``.
        style: CSS.
        scripts: in the order in which they run.
    """
    parts = {
        "policy": html.escape(_policy(style, scripts)),
        "style": style,
        "document": embedded(text),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    return _PLACE.sub(lambda place: parts[place[1]], template)


@functools.cache
def resource(name: str) -> str:
    """The text of a file of this folder, such as ``"scripts/dom.js"``."""
    return (HERE / name).read_text(encoding="utf-8")


def _policy(style: str, scripts: Sequence[str]) -> str:
    allowed = " ".join(map(_source, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_source(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
