"""Random changes to documents and bytes."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

RAW = "\ufdd0raw:"
"""The beginning of a string that :func:`to_json` writes without quotes, as it is."""

_RAW_TEXTS = (
    *("1e400", "-1e400", "NaN", "Infinity", "-Infinity", "9" * 25, "9" * 5000, "1e-400", "-0"),
    *("[" * 10_000, '{"a":' * 10_000, "[" * 300 + "]" * 300, '"\\ud800"', "nul", "", "01", "'a'"),
)
_TEXTS = (
    *(
        "",
        "x",
        "\0",
        "\x1b[31m",
        "é",
        "\u202e",
        "🦊",
        "a" * 5000,
        "../../x",
        "nan",
        "1e400",
        "None",
    ),
    *("%s%n", "{0}", "<b>", "fp32", "float16", "[0]", "\n", "٣", "CONVOLUTION", "LOOP_OUTPUT"),
)
_NUMBERS = (
    *(
        0,
        -1,
        1,
        2,
        7,
        255,
        2**15,
        2**31 - 1,
        2**31,
        2**40,
        2**53 + 1,
        2**63,
        2**64,
        -(2**63),
        10**19,
    ),
    *(0.5, -0.5, 1e-320, 1e-30, 1e30, 3.5e38, 1e308, -1e308, 1.0, 224, 100_000),
)


def odd_value(draw: random.Random, depth: int = 0) -> Any:
    """Any JSON value, often an unusual one."""
    kind = draw.randrange(9 if depth < 3 else 6)
    if kind == 0:
        return draw.choice([None, True, False])
    if kind in (1, 2):
        return draw.choice(_NUMBERS)
    if kind in (3, 4):
        return draw.choice(_TEXTS)
    if kind == 5:
        return RAW + draw.choice(_RAW_TEXTS)
    if kind == 6:
        return [odd_value(draw, depth + 1) for _ in range(draw.randrange(4))]
    if kind == 7:
        return {draw.choice(_TEXTS): odd_value(draw, depth + 1) for _ in range(draw.randrange(3))}
    value: Any = odd_value(draw, 3)
    for _ in range(draw.choice([2, 10, 63, 64, 65, 100])):
        value = [value] if draw.random() < 0.5 else {"a": value}
    return value


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key in `value`."""
    found, waiting = [], [value]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], (dict, list)):
                waiting.append(holder[key])
    return found


def changed(value: Any, draw: random.Random) -> Any:
    """A copy of the document `value` with one to three changes."""
    document = copy.deepcopy(value)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        found = places(document)
        if not found or draw.random() < 0.02:
            return odd_value(draw)
        holder, key = draw.choice(found)
        draw.choice(_CHANGES)(holder, key, draw)
    return document


def _replace(holder: Any, key: Any, draw: random.Random) -> None:
    holder[key] = odd_value(draw)


def _nudge(holder: Any, key: Any, draw: random.Random) -> None:
    """Another value of the same type."""
    value = holder[key]
    if isinstance(value, bool):
        holder[key] = not value
    elif isinstance(value, (int, float)):
        holder[key] = draw.choice([*_NUMBERS, value + 1, value - 1, -value, float(value)])
    elif isinstance(value, str):
        holder[key] = draw.choice([*_TEXTS, value[:-1], value * 2, value.upper()])
    elif isinstance(value, list):
        holder[key] = draw.choice([value[:-1], value * 2, value[::-1], [], [value]])
    else:
        holder[key] = odd_value(draw)


def _delete(holder: Any, key: Any, draw: random.Random) -> None:
    del holder[key]


def _swap(holder: Any, key: Any, draw: random.Random) -> None:
    """The values of two keys change places."""
    keys = list(holder) if isinstance(holder, dict) else range(len(holder))
    other = draw.choice(keys)
    holder[key], holder[other] = holder[other], holder[key]


def _add(holder: Any, key: Any, draw: random.Random) -> None:
    if isinstance(holder, list):
        holder.insert(key, draw.choice([odd_value(draw), copy.deepcopy(holder[key])]))
    else:
        holder[draw.choice(_TEXTS)] = odd_value(draw)


def _repeat(holder: Any, key: Any, draw: random.Random) -> None:
    """The key occurs twice in the text."""
    if isinstance(holder, dict):
        twice = json.dumps(str(key))
        holder[key] = f"{RAW}1, {twice}: 2"


_CHANGES: tuple[Callable[[Any, Any, random.Random], None], ...] = (
    *(_replace, _replace, _replace, _nudge, _nudge, _nudge),
    *(_delete, _swap, _add, _repeat),
)


def to_json(value: Any) -> bytes:
    """`value` as JSON, with the strings that begin with :data:`RAW` as they are."""
    text = json.dumps(value, ensure_ascii=False)
    while (start := text.find(f'"{RAW}')) >= 0:
        piece, end = json.decoder.scanstring(text, start + 1)
        text = text[:start] + piece.removeprefix(RAW) + text[end:]
    return text.encode("utf-8", "surrogatepass")


def changed_bytes(content: bytes, draw: random.Random) -> bytes:
    """`content` with a few bytes changed, cut out, repeated or put in."""
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 5])):
        at = draw.randrange(len(changed) + 1)
        match draw.randrange(5):
            case 0:
                changed[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                del changed[at:]
            case 2:
                del changed[at : at + draw.randrange(1, 50)]
            case 3:
                changed[at:at] = changed[at : at + draw.randrange(1, 500)]
            case 4:
                changed[at:at] = draw.choice(
                    [b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 9999, b'"', b"\\", b"{", b"\n"]
                )
    return bytes(changed)


def document(value: Any, draw: random.Random) -> bytes:
    """The JSON document `value`, changed as a document or as bytes; now and then as it is."""
    if draw.random() < 0.03:
        return to_json(value)
    if draw.random() < 0.25:
        return changed_bytes(to_json(value), draw)
    return to_json(changed(value, draw))
