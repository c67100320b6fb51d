"""Trains the YOLOX that trtnet ships on drawn shapes, and writes its weights.

    python tools/train_detector.py --cache FOLDER [--seconds 3000] [--threads 1]

The training pictures are drawn once and kept in FOLDER (``tools/detector_data.py``); each is seen
flipped, turned, in other colours and elsewhere each time. The learning rate follows the clock, so
that a given time is used up whatever the machine. ``--checkpoint FILE`` is written every minute,
and read where it exists: a run that was ended goes on. Convolutions are computed in BF16 but for
the last part of the time, weights are kept in FP32, and what is written is their moving average.

COCO's mAP is measured by pycocotools on 200 other pictures; nothing is chosen by them. Needs
``pip install -e ".[torch,dev]"``.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detector_data import (
    CLASSES,
    EDGES,
    PADDING,
    Labelled,
    Pictures,
    cached_pictures,
    coco_map,
    held_out,
)
from detector_loss import loss
from torch import nn

from trtnet import weights
from trtnet.files import atomic_write
from trtnet.zoo.detection.torch_yolox import YOLOX, cells, decoded

OUTPUT = Path(__file__).resolve().parent.parent / "weights" / "yolox_shapes.safetensors"
DEPTH, WIDTH = 0.33, 0.15625
INPUT = 416  # edge of the network's input, in which held-out pictures lie at the top left
MEAN, STD = 0.5, 0.25  # of every channel
LEARNING_RATE, LOWEST = 2e-3, 0.01
WEIGHT_DECAY = 0.02
WARM_UP, FINE = 0.04, 0.15  # shares of the time: the rate rises; convolutions in FP32
AVERAGE = 0.998
SAVE_EVERY = 60  # seconds


def network_input(images: np.ndarray) -> torch.Tensor:
    """Pictures (B, H, W, 3) uint8 as the network sees them, (B, 3, H, W) float32."""
    return (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - MEAN) / STD


def varied(
    rng: np.random.Generator, image: np.ndarray, boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its boxes, transposed, flipped and in other colours, each by chance, anywhere
    on a square of the largest training picture's edge."""
    if rng.random() < 0.5:
        image, boxes = image.transpose(1, 0, 2), boxes[:, [1, 0, 3, 2]]
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        image = image[:, ::-1]
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
    if rng.random() < 0.5:
        image = image[::-1]
        boxes = np.stack([boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], 1)
    image = image[:, :, rng.permutation(3)] ^ (255 * (rng.random(3) < 0.5)).astype(np.uint8)
    square = np.full((EDGES[1], EDGES[1], 3), PADDING, np.uint8)
    top, left = (int(rng.integers(0, EDGES[1] - edge + 1)) for edge in (height, width))
    square[top : top + height, left : left + width] = image
    return square, boxes + np.array([left, top, left, top], np.float32)


def batches(
    pictures: Pictures, batch: int, rng: np.random.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Inputs, boxes and classes of batches, without end."""
    while True:
        order = rng.permutation(len(pictures.images))
        for chosen in order[: len(order) // batch * batch].reshape(-1, batch):
            images, boxes = [], np.zeros_like(pictures.boxes[chosen])
            for at, number in enumerate(chosen):
                height, width = pictures.sizes[number]
                count = int((pictures.classes[number] >= 0).sum())
                image, boxes[at, :count] = varied(
                    rng, pictures.images[number, :height, :width], pictures.boxes[number, :count]
                )
                images.append(image)
            most = max(int((pictures.classes[chosen] >= 0).sum(1).max()), 1)
            yield (network_input(np.stack(images)), torch.from_numpy(boxes[:, :most]),
                   torch.from_numpy(pictures.classes[chosen][:, :most]))  # fmt: skip


class Trained:
    """A network, the moving average of its weights and what goes on with its training."""

    def __init__(self, model: YOLOX) -> None:
        self.model = model.train().to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).eval()
        decayed = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        self.steps, self.seconds = 0, 0.0

    def step(self, value: torch.Tensor, rate: float) -> None:
        """Follows the gradient of the loss `value`."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 10.0)
        self.optimizer.step()
        self.steps += 1
        share = 1 - min(AVERAGE, self.steps / (self.steps + 10))
        with torch.no_grad():
            mine = self.model.state_dict()
            for name, value in self.average.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(mine[name], share)
                else:
                    value.copy_(mine[name])

    def save(self, path: Path) -> None:
        """Writes a checkpoint."""
        parts = {"model": self.model.state_dict(), "average": self.average.state_dict(),
                 "optimizer": self.optimizer.state_dict(),
                 "steps": self.steps, "seconds": self.seconds}  # fmt: skip
        with atomic_write(path) as file:
            torch.save(parts, file)

    def load(self, path: Path) -> None:
        """Reads a checkpoint."""
        parts = torch.load(path, weights_only=True)
        self.model.load_state_dict(parts["model"])
        self.average.load_state_dict(parts["average"])
        self.optimizer.load_state_dict(parts["optimizer"])
        self.steps, self.seconds = parts["steps"], parts["seconds"]


def rate_at(share: float) -> float:
    """The learning rate when `share` of the time is over."""
    if share < WARM_UP:
        return LEARNING_RATE * max(share / WARM_UP, LOWEST)
    falling = (1 + math.cos(math.pi * min((share - WARM_UP) / (1 - WARM_UP), 1))) / 2
    return LEARNING_RATE * (LOWEST + (1 - LOWEST) * falling)


def train(
    pictures: Pictures, seconds: float, batch: int, seed: int = 0, checkpoint: Path | None = None
) -> Trained:
    """A network that was trained for `seconds`, those before its checkpoint included."""
    torch.manual_seed(seed)
    trained = Trained(YOLOX(len(CLASSES), DEPTH, WIDTH))
    if checkpoint is not None and checkpoint.exists():
        trained.load(checkpoint)
    given = cells(EDGES[1], EDGES[1])
    before = time.monotonic() - trained.seconds
    saved, mean = trained.seconds, 0.0
    for images, boxes, classes in batches(pictures, batch, np.random.default_rng(
        [seed, trained.steps]
    )):  # fmt: skip
        share = trained.seconds / seconds
        if share >= 1:
            break
        images = images.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=share < 1 - FINE):
            found = trained.model.found(images)
        found = found.float()
        value = loss(given, decoded(found, given), found[..., 4:], boxes, classes)
        trained.step(value, rate_at(share))
        trained.seconds = time.monotonic() - before
        mean += 0.02 * (value.item() - mean)
        if trained.steps % 100 == 0:
            print(f"{trained.seconds:.0f} s, step {trained.steps}: loss {mean:.4f}", flush=True)
        if checkpoint is not None and trained.seconds - saved > SAVE_EVERY:
            trained.save(checkpoint)
            saved = trained.seconds
    if checkpoint is not None:
        trained.save(checkpoint)
    return trained


@torch.no_grad()
def measured(model: nn.Module, pictures: Iterable[Labelled]) -> np.ndarray:
    """COCO's twelve figures of a YOLOX; pictures lie at the top left of its input."""
    truth = list(pictures)
    found = []
    for picture in truth:
        height, width = picture.image.shape[:2]
        square = np.full((1, INPUT, INPUT, 3), PADDING, np.uint8)
        square[0, :height, :width] = picture.image
        result = model(network_input(square))
        count = int(result["num_dets"][0, 0])
        found.append([result[name][0, :count].numpy()
                      for name in ("det_boxes", "det_scores", "det_classes")])  # fmt: skip
    return coco_map(truth, found)


def metadata(model: nn.Module, figures: np.ndarray, training: str) -> dict[str, str]:
    """What the file says about itself."""
    preprocessing = {
        "letterbox_size": [INPUT, INPUT], "pad_color": PADDING, "pad_position": "top-left",
        "upscale": False, "mean": [MEAN] * 3, "std": [STD] * 3,
    }  # fmt: skip
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return trained_on_shapes("yolox_shapes", parameters, preprocessing, figures, training)


def trained_on_shapes(
    architecture: str,
    parameters: int,
    preprocessing: Mapping[str, Any],
    figures: np.ndarray,
    training: str,
) -> dict[str, str]:
    """What a file of weights says about itself, under the keys of ``trtnet.weights.extract``."""
    return {
        "architecture": architecture,
        "weights": "SHAPES_V1",
        "dataset": f"pictures drawn by tools/shapes.py: {training}",
        "coco_map": f"{figures[0]:.4f}",
        "parameters": str(parameters),
        "preprocessing": json.dumps(dict(preprocessing)),
        "class_names": json.dumps(CLASSES),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "format_version": "1",
    }


def main() -> None:
    """Trains, and writes the weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder of training pictures")
    parser.add_argument("--pictures", type=int, default=12000)
    parser.add_argument("--seconds", type=float, default=3000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pictures = cached_pictures(args.cache, args.pictures, args.threads)
    trained = train(pictures, args.seconds, args.batch, args.seed, args.checkpoint)
    model = trained.average.to(memory_format=torch.contiguous_format)
    figures = measured(model, held_out())
    training = (f"{trained.steps} steps of {args.batch} of {args.pictures} pictures, "
                f"{args.seconds:.0f} s, seed {args.seed}")  # fmt: skip
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    weights.save(args.output, state, metadata(model, figures, training), checksum=True)
    print(f"mAP@0.5:0.95 {figures[0]:.4f}, @0.5 {figures[1]:.4f}, @0.75 {figures[2]:.4f}")
    print(f"{args.output}: {args.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
