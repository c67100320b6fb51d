"""Makes the pages that docs/explorer.md shows.

    python tools/explore_pages.py FOLDER [NAME ...]

They need neither a GPU nor a network: weights are those that trtnet ships, or none where a page
does not depend on their values. The searched mix needs scikit-learn, for its digits; the model of
timm needs timm.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trtnet import explorer
from trtnet.pipeline.recipe import Recipe
from trtnet.pipeline.search_setup import SearchSettings, set_up_search
from trtnet.search import search

ITEMS = 64
BATCH = 64
BUDGET = "sqnr>=51dB"


def searched_mix(path: Path) -> None:
    """ResNet-20 of digits in the mix of INT8 and FP16 that a search finds, with its trials."""
    from sklearn.datasets import load_digits

    images = load_digits().images[:ITEMS].astype(np.float32) / 16
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "digits.npy"
        np.save(data, np.kron(images, np.ones((4, 4), np.float32))[:, None])
        settings = SearchSettings(str(data), ITEMS)
        setup = set_up_search(Recipe("resnet20_digits", batch=BATCH), settings)
        found = search(setup.subject, setup.data, BUDGET)
    recipe = Recipe("resnet20_digits", precision=found.policy, batch=BATCH)
    explorer.write(recipe, path, search=found, gpu="l40s")


def of(name: str, other: str | None = None) -> Callable[[Path], None]:
    """What writes the page of the model `name`, beside `other`."""

    def write(path: Path) -> None:
        explorer.write(name, path, other=other)

    return write


PAGES: dict[str, Callable[[Path], None]] = {
    "resnet50-fp16": of("resnet50:fp16"),
    "searched-mix": searched_mix,
    "comparison": of("resnet50:fp16", "resnet50:int8"),
    "fcn_resnet101": of("fcn_resnet101:fp16"),
    "timm-convnext_tiny": of("timm:convnext_tiny:fp16"),
    "detector": of("ssdlite320_mobilenet_v3_large:fp16"),
}


def main() -> None:
    """Writes the pages that are named, by default all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PAGES)}")
    args = parser.parse_args()
    if unknown := {*args.names} - PAGES.keys():
        parser.error(f"no such page: {', '.join(sorted(unknown))}")
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.names or PAGES:
        start, path = time.perf_counter(), args.folder / f"{name}.html"
        PAGES[name](path)
        seconds = time.perf_counter() - start
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
