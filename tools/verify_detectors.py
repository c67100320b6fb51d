"""Holds detectors of the zoo against PyTorch, and builds their engines with TensorRT-RTX.

    python tools/verify_detectors.py [MODEL ...]

Each gets seeded weights whose heads find something (``tools/detector_cases.py``), the same as
torchvision's model. Compared are the names and numbers of parameters; every module's output, the
heads' among them; and the boxes: pictures of shapes and of noise, two sizes, batches of two images
of different sizes. torchvision prepares the images itself; ours are prepared by trtnet, and the
boxes mapped back. Where torchvision has no such model, transformers' or a PyTorch model of ours
takes its place, and both get the same prepared images. Networks run in the reference, from what
TensorRT holds. Writes ``benchmarks/detectors.md``, whose rows of other models stay if they are of
the same versions; needs no GPU. Exit status 1 where something differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import detector_masks
import msgspec
import numpy as np
import shapes
import torch
import torchvision
from detector_cases import CASES, GAP, LEAST_IOU, MOST_SCORE, NEAR, THIN, Case
from detector_rounding import rounding_error
from detectors_page import page, rows_of, stored_rows
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

import trtnet
from trtnet import reference
from trtnet.files import atomic_write
from trtnet.imaging import placement, prepare
from trtnet.imaging.preprocessing import Preprocessing, checked_preprocessing
from trtnet.verification import FLOAT64_TOLERANCE
from trtnet.weights.random_init import build, random_module
from trtnet.zoo import Entry, get_entry

PAGE = Path(__file__).resolve().parents[1] / "benchmarks" / "detectors.md"
SEED, LEAST_BOXES = 0, 20
SIZES = ((150, 200), (170, 130))  # (height, width) of pictures
FURTHER = {"det_masks", "det_keypoints", "det_coefficients", "det_points"}


@dataclass(frozen=True)
class Boxes:
    """What was found in one image: arrays (n, 4), (n,) and (n,)."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    @property
    def distinct(self) -> int:
        """How many scores of boxes with an area lie at least :data:`GAP` apart, from the best."""
        count, last = 0, np.inf
        has_area = (self.boxes[:, 2:] - self.boxes[:, :2] >= THIN).all(1)
        for score in np.sort(self.scores[has_area])[::-1]:
            if last - score >= GAP:
                count, last = count + 1, score
        return count


def pictures() -> list[Image.Image]:
    """Shapes and noise, of two sizes each."""
    rng = np.random.default_rng(SEED)
    drawn = [shapes.draw((SEED, index), *size)[0] for index, size in enumerate(SIZES)]
    noise = [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
    return [Image.fromarray(pixels) for pixels in (*drawn, *noise)]


def seeded(entry: Entry, case: Case) -> torch.nn.Module:
    """The counterpart of the zoo, called on prepared batches, with seeded weights and heads."""
    arguments = {"image_sizes": False, "output_format": "raw", **case.arguments}
    model = random_module(entry.torch_model, SEED, input_shape=case.settled, **arguments)
    batch, _ = padded_batch(pictures(), preparation(entry, case))
    case.seed_heads(model, torch.from_numpy(batch))
    return model


def preparation(entry: Entry, case: Case, size: tuple[int, int] | None = None) -> Preprocessing:
    """The entry's or that of its shipped weights, of the case's sizes.

    Args:
        size: (height, width), of a model whose images become one size.
    """
    said = entry.preprocessing
    if said is None:
        said = trtnet.weights.load(entry.weights_file(entry.default_weights)).preprocessing or {}
    rules = checked_preprocessing(said)
    if case.edges is not None:
        return msgspec.structs.replace(rules, resize_size=case.edges[:1], max_size=case.edges[1])
    name = "resize_size" if rules.letterbox_size is None else "letterbox_size"
    return msgspec.structs.replace(rules, **{name: size or case.settled[1:]})


def padded_batch(images: list[Image.Image], rules: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """Prepared images in one array, and the size of each in it."""
    made = [prepare(image, rules) for image in images]
    height, width = (max(x.shape[axis] for x in made) for axis in (2, 3))
    rest = [((0, 0), (0, 0), (0, height - x.shape[2]), (0, width - x.shape[3])) for x in made]
    batch = np.concatenate([np.pad(x, pad) for x, pad in zip(made, rest, strict=True)])
    sizes = [placement(image.size, rules).resized for image in images]
    return batch, np.array(sizes, np.int32)


def network(entry: Entry, state: Any, shape: tuple[Any, ...], **arguments: Any) -> trtnet.Network:
    """Of our model, FP32, with an input `image_sizes` if it is made so."""
    model = entry.build(**arguments)
    model.load_state_dict(state)
    net = trtnet.Network("rtx")
    inputs = [net.input("input", shape)]
    if arguments.get("image_sizes"):
        inputs.append(net.input("image_sizes", (shape[0], 2), dtype="int32"))
    for name, tensor in model(*inputs).items():
        net.output(name, tensor)
    return net


def found_by(net: trtnet.Network, images: list[Image.Image], rules: Preprocessing) -> list[Boxes]:
    """What a network finds, in pixels of the images."""
    batch, sizes = padded_batch(images, rules)
    values = {"input": batch, "image_sizes": sizes}
    names = trtnet.graph.read(net.definition).inputs
    ran = reference.run(net, {name: values[name] for name in names})
    return in_images({name: np.asarray(value) for name, value in ran.items()}, images, rules)


def in_images(
    outputs: dict[str, np.ndarray], images: list[Image.Image], rules: Preprocessing
) -> list[Boxes]:
    """The detections of a batch, in pixels of its images."""
    found = []
    for index, image in enumerate(images):
        count = int(outputs["num_dets"][index, 0])
        names = ("det_boxes", "det_scores", "det_classes")
        boxes, scores, labels = (outputs[output][index, :count] for output in names)
        found.append(Boxes(placement(image.size, rules).to_image(boxes), scores, labels))
    return found


def found_by_torchvision(
    model: torch.nn.Module, images: list[Image.Image], rules: Preprocessing
) -> list[Boxes]:
    """What torchvision's own model finds; it prepares the images, in its own way."""
    with torch.no_grad():
        found = model([pil_to_tensor(image).float() / 255 for image in images])
    return [Boxes(*(one[name].numpy() for name in ("boxes", "scores", "labels"))) for one in found]


def found_by_twin(
    twin: torch.nn.Module, images: list[Image.Image], rules: Preprocessing
) -> list[Boxes]:
    """What another PyTorch model finds in the images as trtnet prepares them."""
    with torch.no_grad():
        outputs = twin(*map(torch.from_numpy, padded_batch(images, rules)))
    return in_images({name: value.numpy() for name, value in outputs.items()}, images, rules)


def difference(ours: Boxes, theirs: Boxes) -> dict[str, float]:
    """Matches the boxes one to one; `unmatched` are those without a partner of the same class."""
    both = [torch.from_numpy(x.boxes).double() for x in (ours, theirs)]
    corners = np.abs(ours.boxes[:, None] - theirs.boxes).max(-1)
    is_thin = (theirs.boxes[:, 2:] - theirs.boxes[:, :2] < THIN).any(1)
    ious = torchvision.ops.box_iou(*both).numpy()
    ious = np.where(is_thin & (corners <= NEAR), 1.0, np.nan_to_num(ious))
    fits = (ious >= LEAST_IOU) & (ours.labels[:, None] == theirs.labels)
    far = np.abs(ours.scores[:, None] - theirs.scores)
    fits &= far <= MOST_SCORE
    used, worst_iou, worst_score = set[int](), 1.0, 0.0
    for index in range(len(ours.scores)):
        others = [j for j in np.flatnonzero(fits[index]) if j not in used]
        if others:
            best = min(others, key=lambda j: far[index, j])
            used.add(int(best))
            worst_iou = min(worst_iou, float(ious[index, best]))
            worst_score = max(worst_score, float(far[index, best]))
    unmatched = len(ours.scores) + len(theirs.scores) - 2 * len(used)
    return {"unmatched": unmatched, "iou": worst_iou, "score": worst_score}


def oracle(
    entry: Entry, case: Case, state: Any
) -> Callable[[list[Image.Image], Preprocessing], list[Boxes]]:
    """What finds boxes in images with PyTorch."""
    if case.twin is None:
        theirs = build(entry.name, **case.arguments, **case.transform_arguments).eval()
        theirs.load_state_dict(state)
        return partial(found_by_torchvision, theirs)
    twin = entry.torch_model(image_sizes=True, **case.arguments)
    twin.load_state_dict(state)
    return partial(found_by_twin, twin)


def compare_boxes(entry: Entry, case: Case, state: Any) -> dict[str, Any]:
    """End to end, in batches of two images of different sizes, and one alone."""
    rules, images = preparation(entry, case), pictures()
    find = oracle(entry, case, state)
    batches = [images[:2], images[2:]]
    one_size = rules.size
    shape = ("N", 3, *one_size) if one_size else ("N", 3, "H", "W")
    net = network(entry, state, shape, image_sizes=True, **case.arguments)
    least, counts, worst = np.inf, [], {"unmatched": 0, "iou": 1.0, "score": 0.0}
    pairs = [
        pair for batch in batches
        for pair in zip(found_by(net, batch, rules), find(batch, rules), strict=True)
    ]  # fmt: skip
    alone, rules = images[:1], preparation(entry, case, case.other_size)
    fixed = (1, 3, *prepare(alone[0], rules).shape[2:])
    single = network(entry, state, fixed, image_sizes=True, **case.arguments)
    pairs.append((found_by(single, alone, rules)[0], find(alone, rules)[0]))
    for ours, wanted in pairs:
        found = difference(ours, wanted)
        worst["unmatched"] += found["unmatched"]
        worst["iou"] = min(worst["iou"], found["iou"])
        worst["score"] = max(worst["score"], found["score"])
        counts.append(len(wanted.scores))
        least = min(least, wanted.distinct)
    return {"boxes": counts, "distinct": int(least), **worst}


def compare_modules(entry: Entry, case: Case, twin: torch.nn.Module, state: Any) -> dict[str, Any]:
    """Every module's output, and raw boxes and scores, in float64."""
    batch, _ = padded_batch(pictures()[:2], preparation(entry, case))
    net = network(entry, state, batch.shape, output_format="raw", **case.arguments)
    found = trtnet.verify(net, twin, {"input": batch}, float64=True, tolerance=FLOAT64_TOLERANCE)
    heads = [row for row in found.rows if row.module.startswith(case.heads)]
    rows = [*found.rows, *found.outputs]
    largest = max(row.rel_l2 for row in rows)
    rounding = None if found.passed else rounding_error(twin, torch.from_numpy(batch))
    return {"modules": len(found.rows), "heads": len(heads), "rel_l2": largest,
            "rounding": rounding,
            "modules_passed": rounding is None or largest <= 2 * rounding}  # fmt: skip


def compare_extras(entry: Entry, case: Case, state: Any) -> dict[str, float]:
    """Masks and keypoints, in the original images; nothing where the model has none."""
    rules, images = preparation(entry, case), pictures()[1:3]
    batch, sizes = padded_batch(images, rules)
    net = network(entry, state, batch.shape, image_sizes=True, **case.arguments)
    if FURTHER.isdisjoint(trtnet.graph.read(net.definition).outputs):
        return {}
    ran = reference.run(net, {"input": batch, "image_sizes": sizes})
    outputs = {name: np.asarray(value) for name, value in ran.items()}
    if case.twin is None:
        model = build(entry.name, **case.arguments, **case.transform_arguments).eval()
        model.load_state_dict(state)
        theirs = detector_masks.of_torchvision(model, images)
    else:
        model = entry.torch_model(image_sizes=True, **case.arguments)
        model.load_state_dict(state)
        with torch.no_grad():
            found = model(torch.from_numpy(batch), torch.from_numpy(sizes))
        theirs = list(detector_masks.of_twin(found, images, rules))
    return detector_masks.compare(outputs, theirs, images, rules)


def engines(entry: Entry, case: Case, state: Any) -> dict[str, str]:
    """Which engines TensorRT-RTX builds of the model, or why not."""
    results = {}
    rules = preparation(entry, case)
    height, width = rules.size or case.settled[1:]
    dynamic = ("N", 3, *rules.size) if rules.size else ("N", 3, "H", "W")
    steps = (1, 2, 4) if rules.size else (1, 1, 2)
    sizes = [(n, 3, *((height, width) if rules.size else (32 * k, 32 * k)))
             for n, k in zip(steps, (3, 6, 8), strict=True)]  # fmt: skip
    for name, shape, shapes_ in (
        ("static", (1, 3, height, width), None),
        ("dynamic", dynamic, {"input": trtnet.Shapes(*sizes)}),
    ):
        for precision in ("fp32", "fp16"):
            model = entry.build(**case.arguments)
            model.load_state_dict(state)
            net = trtnet.Network("rtx", precision=precision)
            for output, tensor in model(net.input("input", shape)).items():
                net.output(output, tensor)
            start = time.perf_counter()
            try:
                plan = trtnet.build(net, shapes_)
                text = f"{len(plan.engine) / 2**20:.1f} MiB, {time.perf_counter() - start:.0f} s"
            except trtnet.TrtnetError as error:
                text = f"no: {str(error).splitlines()[0][:100]}"
            results[f"{name} {precision}"] = text
    return results


def check(name: str) -> dict[str, Any]:
    """Everything about one detector."""
    entry, case = get_entry(name), CASES[name]
    with torch.device("meta"):
        plain = build(name) if case.twin is None else entry.torch_model()
    ours = {key: tuple(value.shape) for key, value in _slots(entry.build()).items()}
    theirs = {key: tuple(value.shape) for key, value in plain.state_dict().items()}
    twin = seeded(entry, case)
    state = {key: value.clone() for key, value in twin.state_dict().items()}
    record: dict[str, Any] = {
        "model": name,
        "keys": ours == theirs,
        "parameters": sum(p.numel() for p in plain.parameters()),
        **compare_modules(entry, case, twin, state),
        **compare_boxes(entry, case, state),
        "extras": compare_extras(entry, case, state),
        "engines": engines(entry, case, state),
    }
    record["passed"] = bool(
        record["keys"] and record["modules_passed"] and not record["unmatched"]
        and record["distinct"] >= LEAST_BOXES
        and all(share >= LEAST_IOU for share in record["extras"].values())
        and not any(text.startswith("no") for text in record["engines"].values())
    )  # fmt: skip
    return record


def _slots(module: trtnet.Module) -> dict[str, Any]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def main() -> int:
    """Checks the detectors, each in a process of its own; returns 1 where something differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--record", action="store_true", help="print one model's record as JSON")
    args = parser.parse_args()
    if args.record:
        print(json.dumps(check(args.models[0])))
        return 0
    if unknown := [name for name in args.models if name not in CASES]:
        parser.error(f"tools/detector_cases.py has no case of {', '.join(unknown)}")
    rows = stored_rows(args.page.read_text(encoding="utf-8") if args.page.is_file() else "")
    failed = []
    for name in args.models or CASES:
        command = [sys.executable, "-W", "ignore", __file__, "--record", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        record = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
        for table, row in rows_of(record).items() if record is not None else ():
            rows[table][name] = row
        if record is None or not record["passed"]:
            failed.append(name)
        print(name, record, flush=True)
        with atomic_write(args.page) as file:
            file.write(page(rows).encode())
    print(f"failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
