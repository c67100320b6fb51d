"""Writes ``docs/zoo.md``: the card of every model, and what the last sweep found.

    python tools/zoo_page.py

The sweep is ``tools/verify_zoo.py``, which ends with this; its journal is
``benchmarks/zoo.jsonl``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import zoo_licences

from trtnet import zoo
from trtnet.files import atomic_write
from trtnet.zoo import Card

ROOT = Path(__file__).resolve().parents[1]
JOURNAL = ROOT / "benchmarks" / "zoo.jsonl"
PAGE = ROOT / "docs" / "zoo.md"
DETECTORS = ROOT / "benchmarks" / "detectors.md"

Records = dict[str, dict[str, Any]]
"""What ``tools/zoo_checks.py`` has measured, by model."""

INTRODUCTION = """\
# The zoo

`python tools/zoo_page.py`, from the models' cards (`trtnet.zoo.card`, `python -m trtnet.zoo
--list`) and the results of `python tools/verify_zoo.py`, in `benchmarks/zoo.jsonl`.
"""

OWN = """
## A model of one's own

A function that returns a `trtnet.Module`, or a subclass of it, is a model of the zoo. One file is
enough, anywhere:

```python
# small_net.py
import trtnet
from trtnet import nn, zoo


class SmallNet(nn.Module):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x: trtnet.Tensor) -> trtnet.Tensor:
        return self.fc(nn.functional.relu(self.conv(x)).mean((2, 3)))


def torch_small_net(num_classes: int = 10):
    from torch_small_net import TorchSmallNet  # beside this file; imported when it is needed

    return TorchSmallNet(num_classes)


@zoo.register(input_shape=(3, 32, 32), twin=torch_small_net)
def small_net(num_classes: int = 10) -> SmallNet:
    return SmallNet(num_classes)
```

Its PyTorch twin is optional, and what the model is verified against. Parameters have the same names
in both:

```python
# torch_small_net.py
import torch


class TorchSmallNet(torch.nn.Module):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.fc = torch.nn.Linear(8, num_classes)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))
```

```bash
python -m trtnet.zoo small_net.py:small_net --fp16
```

- `zoo.get_model("small_net.py:small_net")` and `zoo.get_entry` take the path of the file and the
  name of the callable, or `package.module:callable`. Modules beside the file can be imported.
- `@zoo.register` gives a name in the registry once the module is imported. A callable that is not
  registered can have the attributes `input_shape`, `twin` and `task`.
- A distribution offers its models in `pyproject.toml`. They are listed without being imported:

  ```toml
  [project.entry-points."trtnet.zoo"]
  small_net = "my_package.small_net:small_net"
  ```

- `zoo.card` computes the card. A file in the folder `zoo/` of trtnet itself needs nothing else; the
  tests and tools find it in the registry.
"""

CARDS = """
## Models

Parameters and multiply-accumulates (GMAC, for one image of the default size) are those of the
network. The weights are torchvision's, or trtnet's own; each has its published accuracy:
top-1 in percent, or the mean intersection over union. Bold: `--weights DEFAULT`.
"""

VERIFICATION = """
## Against PyTorch

Each model has the weights of `--weights random`: seeded, no parameter constant, settled BatchNorm
statistics, weak residual branches (see `weights/random_init.py`). Its state_dict loads strictly;
parameters and multiply-accumulates are torchvision's, the latter within 0.5% (Inception v3's
without the auxiliary head; a segmentation model's with it, and it is verified too). Errors are the
largest relative L2 distance, or the smallest cosine, over the outputs of all modules:

- definition: the network and PyTorch, both in float64, BatchNorm folded; at most 1e-5;
- exact: the same, BatchNorm not folded and its statistics such that no weight is rounded, and
  PyTorch's hard sigmoid, hard swish and attention with the float32 that TensorRT has for 1/6 and
  for the scale of the scores; at most 1e-10;
- FP32: the network and PyTorch, both in float32; at most 1e-4;
- FP16: the network in float16 and PyTorch in float32; at least 0.999. Each module by itself is
  also held to the rounding of its own output.

In the first table the images have the default size: one image, and two in a network with a dynamic
batch, whose engine is built for one to four. In the second is one image of another size, with an
engine for it. Engines are FP16, built and not executed.
"""

REMARKS = """
LeNet-5 takes images of one size, at which it is exact too. A ViT is built for its image size, and
MaxViT for a multiple of 224, so that its windows fit: for another size the model is another, of
the same layers. Of every other model the network alone is another.
"""


def load(path: Path = JOURNAL) -> Records:
    """The journal; empty where there is none."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {record["model"]: record for record in map(json.loads, lines)}


def write(records: Records, path: Path = PAGE) -> None:
    """Writes the page, in one step."""
    with atomic_write(path) as file:
        file.write("".join(f"{line}\n" for line in page(records)).encode())


def page(records: Records) -> Iterator[str]:
    """The lines of the page."""
    models = zoo.list_models(shipped=True)
    known = {name: records[name] for name in models if name in records}
    yield INTRODUCTION
    yield from summary(known)
    yield OWN
    yield CARDS
    yield from table(CARD_COLUMNS, map(card_row, map(zoo.card, models)))
    yield zoo_licences.TITLE
    yield from table(zoo_licences.COLUMNS, zoo_licences.rows())
    yield zoo_licences.UNCONFIRMED
    yield VERIFICATION
    yield from table(DEFAULT_COLUMNS, map(default_row, known.values()))
    yield REMARKS
    resized = [record for record in known.values() if "other size" in record["settings"]]
    yield from table(OTHER_COLUMNS, map(other_row, resized))


def summary(records: Records) -> Iterator[str]:
    """How many models pass, and with what."""
    passed = sum(record["passed"] for record in records.values())
    names = zoo.list_models(shipped=True)
    detectors = [name for name in names if zoo.get_entry(name).task == "detection"]
    others = len(names) - len(detectors)
    yield f"{passed} of {others} models that are no detectors pass every check."
    keys = ("date", "machine", "backend", "versions")
    runs = {tuple(_text(record[key]) for key in keys) for record in records.values()}
    for run in sorted(runs):
        yield f"Measured {', '.join(run)}."
    minutes = sum(record["seconds"] for record in records.values()) / 60
    yield f"The sum of their times is {minutes:.0f} minutes."
    yield ""
    yield from about_detectors(detectors)


def about_detectors(names: list[str]) -> Iterator[str]:
    """Which detectors have a row on the page of their sweep."""
    text = DETECTORS.read_text() if DETECTORS.exists() else ""
    compared = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    missing = [name for name in names if name not in compared]
    yield f"{len(names) - len(missing)} of {len(names)} detectors are compared box by box in"
    yield "[detectors.md](../benchmarks/detectors.md), which `tools/verify_detectors.py` writes."
    if missing:
        yield f"Without a row there: {', '.join(missing)}."


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return str(value)


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """The lines of a Markdown table."""
    names = list(columns)
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * len(names)}"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"


CARD_COLUMNS = ("model", "task", "input", "parameters", "GMAC", "weights", "paper")


def card_row(card: Card) -> tuple[str, ...]:
    """The cells of :data:`CARD_COLUMNS` for one model."""
    weights = (
        f"**{found}**" if found.name == card.default_weights else str(found)
        for found in card.weights
    )
    papers = (f"[{address.rpartition('/')[2]}]({address})" for address in card.papers)
    return (
        card.name,
        card.task or "-",
        size(card.input_shape or ()) or "-",
        "-" if card.parameters is None else f"{card.parameters:,}",
        "-" if card.macs is None else f"{card.macs / 1e9:.4g}",
        "<br>".join(weights) or "-",
        ", ".join(papers) or "-",
    )


def size(shape: Iterable[int]) -> str:
    """``3x224x224``."""
    return "x".join(map(str, shape))


DEFAULT_COLUMNS = (
    *("model", "input", "modules", "definition", "FP32", "FP16 cosine"),
    *("batch of 2: definition", "FP32", "FP16 cosine", "engine", "built in", "passed"),
)


def default_row(record: dict[str, Any]) -> tuple[str, ...]:
    """The cells of :data:`DEFAULT_COLUMNS` for one model."""
    single, batch = record["settings"]["default"], record["settings"]["dynamic batch"]
    return (
        record["model"],
        size(single["input"]),
        str(single["modules"]),
        *rounded(single),
        *rounded(batch),
        *engine(batch),
        "yes" if record["passed"] else "NO",
    )


OTHER_COLUMNS = (
    *("model", "input", "modules", "definition", "FP32", "FP16 cosine", "exact"),
    *("engine", "built in"),
)


def other_row(record: dict[str, Any]) -> tuple[str, ...]:
    """The cells of :data:`OTHER_COLUMNS` for one model."""
    found = record["settings"]["other size"]
    return (
        record["model"],
        size(found["input"]),
        str(found["modules"]),
        *rounded(found),
        error(found["exact"]),
        *engine(found),
    )


def rounded(found: dict[str, Any]) -> tuple[str, str, str]:
    """The errors of the three precisions in one setting."""
    return error(found["definition"]), error(found["fp32"]), f"{found['fp16']:.5f}"


def error(distance: float) -> str:
    """A relative distance with two digits."""
    return f"{distance:.1e}"


def engine(found: dict[str, Any]) -> tuple[str, str]:
    """Size and build time of the engine of one setting."""
    return f"{found['engine_bytes'] / 1e6:.1f} MB", f"{found['build_s']:.1f} s"


def main() -> int:
    """Writes the page from the journal."""
    write(load())
    return 0


if __name__ == "__main__":
    sys.exit(main())
