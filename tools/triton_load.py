"""Load on a Triton server with exported models, and whether its memory grows.

    python tools/triton_server.py FOLDER
    python tools/triton_load.py FOLDER --minutes 10 -o benchmarks/triton_load.md

Exports a classifier, a segmentation model and a detector with their ensembles, starts the server on
the loopback interface, and asks all six from several threads over gRPC and HTTP. The memory is that
of the server and of the processes of its models: what they have allocated and what they share with
each other, without the files of programs (``Pss_Anon`` and ``Pss_Shmem`` in
``/proc/PID/smaps_rollup``). Before the first sample every model is asked for every batch that the
server may make of requests, as a session keeps memory for each. Growth is the slope of a straight
line through all samples after the first fifth of the time, and the change of the median from the
second fifth to the last.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from triton_client import Client
from triton_server import PACKAGES, ROOT, Server, serve

from trtnet.files import atomic_write
from trtnet.pipeline import Recipe
from trtnet.serving.triton import Settings, export

MODELS = {"digits": "resnet20_digits", "pixels": "unet", "shapes": "yolox_shapes"}
SHAPES = {"digits": (1, 32, 32), "pixels": (3, 128, 128), "shapes": (3, 416, 416)}
PICTURES = [ROOT / "docs" / "images" / name for name in ("shapes.png", "shapes_few.png")]
MAX_BATCH, INTERVAL_S, WARM_UP = 4, 10.0, 0.2
MB = 1 << 20
_COUNTED = ("Pss_Anon:", "Pss_Shmem:")


@dataclass
class Load:
    """What the clients and the server did.

    Attributes:
        latencies: seconds of each request, by model.
        errors: texts.
        samples: seconds since the start, and bytes by process.
    """

    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    samples: list[tuple[float, dict[str, int]]] = field(default_factory=list)

    @property
    def totals(self) -> list[tuple[float, float]]:
        """The samples in MB, of all processes."""
        return [(at, sum(sizes.values()) / MB) for at, sizes in self.samples]


def requests() -> list[tuple[str, dict[str, np.ndarray]]]:
    """What is asked, one after another: batches of one and of three, of arrays and of images."""
    random = np.random.default_rng(0)
    found: list[tuple[str, dict[str, np.ndarray]]] = []
    for name, shape in SHAPES.items():
        for count in (1, 3):
            values = random.normal(size=(count, *shape)).astype(np.float32)
            found.append((name, {"input": values}))
        contents = [[path.read_bytes()] for path in PICTURES]
        found.append((f"{name}_images", {"image": np.array(contents, object)}))
    return found


def ask(server: Server, number: int, end: float, load: Load) -> None:
    """Asks until `end`; thread `number` begins at its own place of the list."""
    is_grpc = number % 2 == 0
    client = Client("grpc" if is_grpc else "http", server.grpc if is_grpc else server.http)
    every, place = requests(), number
    while time.monotonic() < end:
        model, arrays = every[place % len(every)]
        started = time.perf_counter()
        try:
            client.ask(model, arrays)
        except Exception as error:  # is counted, and ends nothing
            load.errors.append(f"{model}: {error}")
        else:
            load.latencies[model].append(time.perf_counter() - started)
        place += 1
    client.close()


def processes(parent: int) -> Iterator[int]:
    """A process and all below it."""
    yield parent
    children = Path(f"/proc/{parent}/task/{parent}/children")
    tasks = children.parent.parent.glob("*/children") if children.exists() else ()
    for task in tasks:
        for child in task.read_text().split():
            yield from processes(int(child))


def memory(server: Server) -> dict[str, int]:
    """Bytes of the server and of the processes of its models, by their names."""
    found: dict[str, int] = {}
    for process in processes(server.process.pid):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            words = Path(f"/proc/{process}/cmdline").read_text().split("\0")
        except OSError:  # it has just ended
            continue
        model = Path(words[1]).parent.parent.name if words[1].endswith("model.py") else "server"
        size = sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(_COUNTED))
        found[model] = found.get(model, 0) + size
    return found


def ask_every_batch(server: Server) -> None:
    """Executes all batches up to the largest one, twice."""
    client = Client("grpc", server.grpc)
    for _ in range(2):
        for model, arrays in requests():
            (name, values) = next(iter(arrays.items()))
            for count in range(1, MAX_BATCH + 1):
                client.ask(model, {name: np.concatenate([values[:1]] * count)})
    client.close()


def run(server: Server, minutes: float, threads: int) -> Load:
    """Load for some minutes."""
    load, started = Load(), time.monotonic()
    end = started + minutes * 60
    clients = [
        threading.Thread(target=ask, args=(server, number, end, load)) for number in range(threads)
    ]
    for each in clients:
        each.start()
    while time.monotonic() < end:
        load.samples.append((time.monotonic() - started, memory(server)))
        time.sleep(min(INTERVAL_S, max(0.0, end - time.monotonic())))
    for each in clients:
        each.join()
    load.samples.append((time.monotonic() - started, memory(server)))
    return load


def growth(samples: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of samples (seconds, MB): MB an hour, by least squares after the warm-up; and the median of
    the last fifth less that of the second."""
    times, sizes = (np.array(values, float) for values in zip(*samples, strict=True))
    share = times / times[-1]
    slope, _ = np.polyfit(times[share >= WARM_UP], sizes[share >= WARM_UP], 1)
    second = sizes[(share >= WARM_UP) & (share < 2 * WARM_UP)]
    last = sizes[share >= 1 - WARM_UP]
    return float(slope * 3600), float(np.median(last) - np.median(second))


def page(load: Load, minutes: float, threads: int) -> str:
    """The result for people."""
    slope, change = growth(load.totals)
    total = sum(map(len, load.latencies.values()))
    late = [size for at, size in load.totals if at >= WARM_UP * load.totals[-1][0]]
    lines = [
        "# A Triton server under load",
        "",
        f"Measured on {datetime.date.today().isoformat()} by `python tools/triton_load.py` with "
        f"{os.cpu_count()} CPU cores, which other programs used too, and no GPU: the server "
        f"of {PACKAGES[0]}, the backend PyTorch, {threads} threads of clients over gRPC and HTTP "
        f"for {minutes:g} minutes.",
        "",
        f"* {total:,} requests, {len(load.errors)} errors.",
        f"* Memory of the server and its models after the first fifth of the time: "
        f"{min(late):,.1f} to {max(late):,.1f} MB in {len(late)} samples; the median "
        f"of the last fifth less that of the second is {change:+.1f} MB; a straight line through "
        f"all of them changes by {slope:+.1f} MB an hour.",
        "",
        "| model | requests | median ms | 99% ms |",
        "|---|--:|--:|--:|",
    ]
    for model, seconds in sorted(load.latencies.items()):
        middle, late_ms = np.percentile(seconds, (50, 99)) * 1e3
        lines.append(f"| `{model}` | {len(seconds):,} | {middle:.1f} | {late_ms:.1f} |")
    names = sorted(load.samples[0][1])
    lines += ["", f"| minute | all, MB | {' | '.join(f'`{name}`' for name in names)} |"]
    lines.append("|--:" * (len(names) + 2) + "|")
    step = max(1, len(load.samples) // 20)
    for (at, sizes), (_, every) in list(zip(load.samples, load.totals, strict=True))[::step]:
        cells = (f"{sizes.get(name, 0) / MB:,.1f}" for name in names)
        lines.append(f"| {at / 60:.1f} | {every:,.1f} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("environment", type=Path, help="of tools/triton_server.py")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", dest="output", type=Path, help="the page; default: print it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        for name, model in MODELS.items():
            settings = Settings(name, MAX_BATCH, dynamic_batching=1000, ensemble=True)
            export(Recipe(model, backend="torch", verify=False), models, settings)
        with serve(arguments.environment, models, Path(folder) / "log") as server:
            ask_every_batch(server)
            load = run(server, arguments.minutes, arguments.threads)
            alive = server.is_ready
    text = page(load, arguments.minutes, arguments.threads)
    if arguments.output is None:
        print(text)
    else:
        with atomic_write(arguments.output) as file:
            file.write(text.encode())
    print(json.dumps({"alive": alive, "errors": load.errors[:5], "growth": growth(load.totals)}))


if __name__ == "__main__":
    main()
