"""One HTML file of a document: the template with its style, scripts, libraries and data inside."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
LIBRARIES = ("d3.min.js", "dagre.min.js")
SCRIPTS = (  # in the order in which they run: each uses only names of those before it
    "dom.js",
    "format.js",
    "state.js",
    "query.js",
    "model.js",
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


def page_text(document: Mapping[str, object], title: str) -> str:
    """The page that shows `document`, as the text of an HTML file.

    The file needs no other file and no network. Its content security policy allows no request, and
    no script or style but its own, which it names by their hashes. The document is data inside it:
    whatever its strings hold, they stay text.

    Args:
        document: what ``trtnet explore --json`` writes.
        title: of the window; any text.

    Raises:
        ValueError: the document holds a number that JSON lacks (NaN, an infinity).
    """
    parts = {
        "policy": html.escape(_policy()),
        "title": html.escape(title),
        "style": _style(),
        "document": _as_data(document),
        "scripts": "\n".join(f"<script>{text}</script>" for text in _scripts()),
    }
    return _PLACE.sub(lambda place: parts[place[1]], _read("template.html"))


def _as_data(document: Mapping[str, object]) -> str:
    """JSON that may stand in a script element: no ``<``, so no ``</script>`` and no comment."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _policy() -> str:
    scripts = " ".join(_source(text) for text in _scripts())
    return (
        f"default-src 'none'; script-src {scripts}; style-src {_source(_style())}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@functools.cache
def _scripts() -> tuple[str, ...]:
    libraries = [_read(f"libraries/{name}") for name in LIBRARIES]
    return (*libraries, *(_read(f"scripts/{name}") for name in SCRIPTS))


@functools.cache
def _style() -> str:
    return _read("page.css")


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
