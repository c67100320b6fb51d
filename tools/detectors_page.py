"""The page of ``tools/verify_detectors.py``: ``benchmarks/detectors.md``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import detector_masks
import torch
import torchvision
from detector_cases import CASES, GAP, LEAST_IOU, MOST_SCORE, NEAR, THIN

import trtnet
from trtnet.verification import FLOAT64_TOLERANCE


def head() -> str:
    """How the page begins: what its figures were measured with."""
    return (
        "# Detectors against PyTorch\n\n"
        f"`python tools/verify_detectors.py`: torchvision {torchvision.__version__}, PyTorch "
        f"{torch.__version__}, transformers {version('transformers')}, TensorRT-RTX "
        f"{trtnet.backend.load('rtx').version}. Seeded weights; nothing here says how well a "
        "trained model finds things. Networks run in the reference; no engine was executed.\n"
    )


TABLES = {
    "modules": "| model | parameters | keys | modules (heads) | error | boxes | distinct "
    "| unmatched | least IoU | scores differ by |",
    "extras": "| model | same |",
    "engines": "| model | static fp32 | static fp16 | dynamic fp32 | dynamic fp16 |",
}
"""The first lines of the page's tables."""
Rows = dict[str, dict[str, str]]  # by table and model


def rows_of(record: dict[str, Any]) -> dict[str, str]:
    """The rows of one model, by table."""
    r = record
    found = {
        "modules": f"| `{r['model']}` | {r['parameters']:,} | "
        f"{'equal' if r['keys'] else 'DIFFER'} | "
        f"{r['modules']} ({r['heads']}) | {r['rel_l2']:.1e}"
        f"{_above(r)} | "
        f"{', '.join(map(str, r['boxes']))} | {r['distinct']} | {r['unmatched']} | "
        f"{r['iou']:.6f} | {r['score']:.1e} |",
        "engines": f"| `{r['model']}` | {' | '.join(r['engines'].values())} |",
    }
    if r["extras"]:
        shares = ", ".join(f"{key} {share:.6f}" for key, share in r["extras"].items())
        found["extras"] = f"| `{r['model']}` | {shares} |"
    return found


def _above(record: dict[str, Any]) -> str:
    rounding = record["rounding"]
    return "" if rounding is None else f", above the limit; of rounding alone {rounding:.1e}"


def stored_rows(text: str) -> Rows:
    """The rows of a page; none where its figures are of other versions."""
    found: Rows = {name: {} for name in TABLES}
    table = None
    for line in text.split("\n") if text.startswith(head()) else []:
        table = next((name for name, first in TABLES.items() if line == first), table)
        if table is not None and line.startswith("| `"):
            found[table][line.split("`")[1]] = line
    return found


def page(rows: Mapping[str, Mapping[str, str]]) -> str:
    """``benchmarks/detectors.md``."""
    twins = list(dict.fromkeys(case.twin for case in CASES.values() if case.twin is not None))
    files = ", ".join(f"`{twin}`" for twin in twins if twin.endswith(".py"))
    texts = {
        "modules": "Modules: in float64, the largest relative error of all modules and outputs, at "
        f"most {FLOAT64_TOLERANCE.rel_l2:g}, or twice what PyTorch alone loses in float64 where "
        "its BatchNorms are folded into the convolutions and the weights rounded to FP32, as a "
        "network holds them (*of rounding alone*). Boxes: five images of drawn shapes and of "
        "noise, four in batches of two with a dynamic batch, whose images have different sizes, "
        "and one alone with a static size. Where a model prepares all images in one size, that "
        "one has another size, if the network takes one. Boxes are matched one to one with those "
        "of torchvision's own model, which prepares the images itself: the same class, IoU at "
        f"least {LEAST_IOU} (corners within {NEAR:g} pixels for those that clipping leaves thinner "
        f"than {THIN:g}), scores within {MOST_SCORE:g} in FP32. Distinct: how many scores of an "
        f"image are {GAP:g} apart, at least.\n\n"
        "torchvision has no DETR, no RefineDet and no YOLO. The DETR line is compared with the "
        f"models of transformers, the others with PyTorch models that are ours too ({files}), "
        "written apart from the networks, whose suppression is `torchvision.ops.nms`. In both "
        "cases the two get the same prepared images.",
        "extras": "Masks and keypoints in the original images, of every object that both found: "
        "the share of clear mask pixels that are the same (the probability at least "
        f"{detector_masks.CLEAR:g} from one half), and the share of keypoints at most "
        f"{detector_masks.NEAR:g} pixels apart. The least of all images.",
        "engines": "Engines that TensorRT-RTX builds: size, and seconds for building.",
    }
    lines = [head()]
    for table, first in TABLES.items():
        columns = first.count("|") - 1
        own = [rows[table][name] for name in CASES if name in rows[table]]
        lines += [texts[table], "", first, "|" + "---|" * columns, *own, ""]
    return "\n".join(lines)
