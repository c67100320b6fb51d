"""The page of the rows of ``tools/bench_zoo.py``; nothing in it is written by hand."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

SESSION = "session"
LEAST_FOUND = 0.95  # of the boxes that the best of PyTorch's ways finds: what finds less is no peer
AIM = 0.98  # below it the session counts as slower than PyTorch's best

Row = Mapping[str, Any]
Group = tuple[str, str, str]
Section = Callable[[Sequence[Row], str, int], str]

HEAD = """\
# Sessions of the torch backend against PyTorch's best

Made of the rows of `{rows}` by `python tools/bench_zoo.py --page`. Each row is of a run of
`tools/bench_zoo.py` on a GPU that nothing else used. Where a model was measured again, its last
row counts.

Both sides have the same seeded weights. Candidates of a model and batch take turns in one process,
in an order drawn anew each round; a sample is one or more executions, at least a millisecond,
between two CUDA events. **Ratio**: the time of PyTorch's best way by the session's in the same
round, its median and, in brackets, the 95 % interval of that median; above 1 the session is faster.
PyTorch's ways are each recorded into one CUDA graph by hand: `eager`, and `torch.compile` in its
default mode or with max-autotune (without its own CUDA graphs, which the host slows down). They get
images in their own type and layout; the session gets float32 images and converts them itself.

*Error*: relative, in the L2 norm, to the model in float64, of the first four images. *Set-up*:
seconds until the first result, the weights brought to the GPU, and how many ways to run the whole
network the session timed; in parentheses that of a session opened again with its timing cache, and
PyTorch's with Inductor's cache empty, while other models were compiled too (else the cache is
filled). *Peak*: MiB of GPU memory taken at most while it was set up and run: weights, CUDA graphs
and what libraries allocate; in parentheses that of the session opened again. *Host*: microseconds
until a launch of the session returns, and at batch 1 a whole call with images on the GPU; only
where the GPU takes less than 2 ms.
"""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, in order."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.strip()]


def latest(rows: Iterable[Row]) -> list[Row]:
    """The last row of each machine, level, precision, batch and model. One that failed says no
    machine; it is that of the next row that has one, or else of the one before."""
    known = [dict(row) for row in rows]
    for order in (reversed(known), iter(known)):
        machine: tuple[Any, Any] | None = None
        for row in order:
            if row.get("machine"):
                machine = row["machine"], row.get("versions", {})
            elif machine is not None:
                row["machine"], row["versions"] = machine
    return list({(*group(row), row["precision"], row["batch"], row["model"]): row
                 for row in known}.values())  # fmt: skip


def group(row: Row) -> Group:
    """What the rows of one table share: machine, versions, options of the session."""
    versions = ", ".join(f"{name} {text}" for name, text in row.get("versions", {}).items())
    level = row.get("level")
    return row.get("machine", "unknown"), versions, "default" if level is None else str(level)


def page(rows: Sequence[Row], name: str = "benchmarks/zoo_h200.jsonl") -> str:
    """The whole page."""
    return whole(rows, HEAD.format(rows=name), section)


def whole(rows: Sequence[Row], head: str, section: Section) -> str:
    """A page of `head` and the tables that `section` makes of the rows of one machine, versions and
    level, and of one precision and batch of these."""
    chosen = latest(rows)
    parts = [head]
    for shared in dict.fromkeys(map(group, chosen)):
        machine, versions, level = shared
        own = [row for row in chosen if group(row) == shared]
        dates = sorted({row["date"] for row in own})
        span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        parts.append(f"## {machine}, level {level}\n\n{span}; {versions}.\n")
        kinds = dict.fromkeys((row["precision"], row["batch"]) for row in own)
        for precision, batch in sorted(kinds):
            picked = [row for row in own if (row["precision"], row["batch"]) == (precision, batch)]
            parts.append(section(picked, precision, batch))
        commands = dict.fromkeys(row["command"] for row in own)
        parts.append("".join(f"* `{command}`\n" for command in commands))
    return "\n".join(parts)


def section(rows: Sequence[Row], precision: str, batch: int) -> str:
    """The table of one precision and batch."""
    lines = [f"### {precision}, batch {batch}\n", in_words(rows), ""]
    measured = [row for row in rows if best_ratio(row) is not None]
    if measured:
        lines += [
            "| model | session | PyTorch's best | ratio | error, session / PyTorch "
            "| set-up, session / PyTorch | peak, session / PyTorch | host |",
            "|---|--:|---|--:|--:|--:|--:|--:|",
            *map(line, measured),
            "",
        ]
    lines += [f"* {note}" for row in rows for note in notes(row)]
    return "\n".join(lines) + "\n"


def in_words(rows: Sequence[Row], aim: float = AIM) -> str:
    """The means of a table, and what is below the aim."""
    found = {row["model"]: ratio for row in rows if (ratio := best_ratio(row)) is not None}
    if not found:
        return "Nothing was measured."
    mean = statistics.geometric_mean(ratio["median"] for ratio in found.values())
    low = [model for model, ratio in found.items() if ratio["low"] < aim]
    text = (f"Geometric mean of the ratios of {len(found)} of {len(rows)} models: **{mean:.2f}**. "
            f"The interval begins below {aim} for {len(low)}")  # fmt: skip
    return f"{text}: {', '.join(low)}." if low else f"{text}."


def line(row: Row) -> str:
    """A row of the table."""
    own, peer = by_name(row)[SESSION], by_name(row)[row["best_peer"]]
    ratio = peer["ratio"]
    cold = f" ({peer['cold_setup_s']:.0f} s)" if "cold_setup_s" in peer else ""
    setup = f"{own['setup_s']:.1f} s{_ways(own, 'ways')}"
    if "warm_setup_s" in own:
        setup += f" ({own['warm_setup_s']:.1f} s{_ways(own, 'warm_ways')})"
    host = [f"{own[key]:.1f}" for key in ("host_us", "call_us") if key in own]
    cells = [
        row["model"],
        f"{own['median_ms']:.3f} ms",
        f"{peer['name']}: {peer['median_ms']:.3f} ms",
        f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]",
        f"{_error(own)} / {_error(peer)}",
        f"{setup} / {peer['setup_s']:.1f} s{cold}",
        " / ".join(_peak(candidate) for candidate in (own, peer)),
        " / ".join(host) + (" us" if host else ""),
    ]
    return f"| {' | '.join(cells)} |"


def notes(row: Row) -> Iterable[str]:
    """What a reader of the table has to know of a row besides."""
    model = row["model"]
    if row.get("failed"):
        yield f"{model} was not measured: {row['failed']}"
    for candidate in row["candidates"]:
        name = candidate["name"]
        if "reason" in candidate:
            yield f"{model}: no {name}: {candidate['reason']}"
        if "not_captured" in candidate:
            yield f"{model}: {name} runs without a CUDA graph: {candidate['not_captured']}"
        if name.startswith(SESSION) and candidate.get("within") is False:
            yield f"{model}: the error of the {name} is above the limit of {row['precision']}"
        if "reference_error" in candidate:
            within = "within" if candidate["as_reference"] else "beyond"
            yield (f"{model}: the distance of the {name} to the reference in {row['precision']} is "
                   f"{_error(candidate, 'reference_error')}, {within} the limit")  # fmt: skip
        if name.startswith(f"{SESSION}, ") and "ratio" in candidate:
            ratio = candidate["ratio"]
            yield (f"{model}: {name} takes {ratio['median']:.2f} [{ratio['low']:.2f}, "
                   f"{ratio['high']:.2f}] times as long")  # fmt: skip
    if row.get("engine") == "one batch":
        yield f"{model}: the engine is for this batch alone"


def by_name(row: Row) -> dict[str, Row]:
    """The candidates."""
    return {candidate["name"]: candidate for candidate in row["candidates"]}


def best_ratio(row: Row) -> Mapping[str, float] | None:
    """The ratio of PyTorch's best, where both were measured."""
    if row["best_peer"] is None:
        return None
    found: Mapping[str, float] | None = by_name(row)[row["best_peer"]].get("ratio")
    return found


def summary(row: Row) -> str:
    """A row in one line."""
    level = "" if row.get("level") is None else f" level {row['level']}"
    title = f"{row['model']:26} {row['precision']:5} batch {row['batch']:3}{level}"
    if row.get("failed"):
        return f"{title}  failed: {row['failed']}"
    ratio = best_ratio(row)
    parts = [
        f"{candidate['name']} "
        + (f"{candidate['median_ms']:.3f} ms" if "median_ms" in candidate else "failed")
        for candidate in row["candidates"]
    ]
    tail = "; ".join(parts) + f"; {row['seconds']:.0f} s"
    if ratio is None:
        return f"{title}  no ratio  {tail}"
    return f"{title}  x{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]  {tail}"


def _error(candidate: Row, key: str = "error") -> str:
    return "not finite" if candidate[key] is None else f"{candidate[key]:.1e}"


def _peak(candidate: Row) -> str:
    memory = candidate.get("memory_mib")
    warm = f" ({candidate['warm_peak_mib']:,.0f})" if "warm_peak_mib" in candidate else ""
    return "-" if memory is None else f"{memory['peak']:,.0f}{warm}"


def _ways(candidate: Row, key: str) -> str:
    """How many ways a session timed; where the timing cache knew the fastest, none."""
    if key not in candidate:
        return ""
    count = len(candidate[key])
    return f", {count} way{'s' * (count > 1)}" if count else ", a known way"
