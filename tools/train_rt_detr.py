"""Trains a small RT-DETR on drawn shapes with transformers' own loss, and writes its weights.

    python tools/train_rt_detr.py --cache FOLDER --checkpoint FILE [--seconds 280] [--device cuda]

The pictures are those of ``tools/train_detector.py``, four of them on a square, each flipped,
turned, in other colours and elsewhere each time; the square is enlarged, in each step to one of
the sizes ``SIDES``. The learning rate follows the clock, so that a
given time is used up whatever the machine. ``--checkpoint FILE`` is written every minute, and read
where it exists: a run that was ended goes on, and one whose time is over only measures. With
``--only-train`` a machine without pycocotools does the first part, and another the second.

What is written is the moving average of the weights. COCO's mAP is measured by pycocotools on 200
other pictures; nothing is chosen by them. Needs ``pip install -e ".[torch,dev]" transformers``.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from detector_data import CLASSES, EDGES, Labelled, Pictures, cached_pictures, coco_map, held_out
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from train_detector import LEARNING_RATE, SAVE_EVERY, rate_at, trained_on_shapes, varied
from transformers import RTDetrForObjectDetection

from trtnet import weights, zoo
from trtnet.files import atomic_write
from trtnet.imaging import prepare
from trtnet.zoo.detection.detr.sizes import SHAPES
from trtnet.zoo.detection.detr.torch_rt_detr import configuration

MODEL = "rtdetr_shapes"
QUERIES, DENOISING = 100, 100
RATE, WEIGHT_DECAY, LARGEST_GRADIENT = 1e-3, 1e-4, 0.5
AVERAGE = 0.998
SIDES = (
    512,
    576,
    640,
    736,
    832,
)  # of the squares, in pixels: objects as large as in the network's input
Batch = tuple[torch.Tensor, list[dict[str, torch.Tensor]]]


class Mosaics(IterableDataset[Batch]):
    """Batches of four pictures each on a square, without end; boxes are centre, width and height
    in shares of the square."""

    def __init__(self, pictures: Pictures, batch: int, seed: tuple[int, ...]) -> None:
        self.pictures, self.batch, self.seed = pictures, batch, seed

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        rng = np.random.default_rng([*self.seed, worker.id if worker else 0])
        while True:
            made = [self.mosaic(rng) for _ in range(self.batch)]
            images = np.stack([image for image, _, _ in made])
            labels = [
                {"class_labels": torch.from_numpy(kinds), "boxes": torch.from_numpy(boxes)}
                for _, boxes, kinds in made
            ]
            yield torch.from_numpy(images).permute(0, 3, 1, 2), labels

    def mosaic(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """An image (2S, 2S, 3) uint8, boxes (K, 4) float32 and classes (K,)."""
        edge, pictures = EDGES[1], self.pictures
        image = np.empty((2 * edge, 2 * edge, 3), np.uint8)
        boxes, kinds = [], []
        for place, number in enumerate(rng.integers(0, len(pictures.images), 4)):
            height, width = pictures.sizes[number]
            count = int((pictures.classes[number] >= 0).sum())
            top, left = (place // 2) * edge, (place % 2) * edge
            part, found = varied(rng, pictures.images[number, :height, :width],
                                 pictures.boxes[number, :count])  # fmt: skip
            image[top : top + edge, left : left + edge] = part
            boxes.append(found + np.array([left, top, left, top], np.float32))
            kinds.append(pictures.classes[number, :count])
        corners = np.concatenate(boxes) / (2 * edge)
        sides = corners[:, 2:] - corners[:, :2]
        centred = np.concatenate([corners[:, :2] + sides / 2, sides], 1)
        return image, centred.astype(np.float32), np.concatenate(kinds)


class Trained:
    """A network, the moving average of its weights and what goes on with its training."""

    def __init__(self, device: str) -> None:
        about = configuration("v1", SHAPES, len(CLASSES), QUERIES, num_denoising=DENOISING)
        self.model = RTDetrForObjectDetection(about).train().to(device)
        for module in self.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.ones_(module.weight)
        self.average = copy.deepcopy(self.model).eval()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), RATE, weight_decay=WEIGHT_DECAY)
        self.device, self.steps, self.seconds = device, 0, 0.0

    def step(self, images: torch.Tensor, labels: list[dict[str, torch.Tensor]], rate: float) -> Any:
        """Follows the gradient of the loss, which is returned."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        side = SIDES[int(np.random.default_rng(self.steps).integers(len(SIDES)))]
        images = images.to(self.device, non_blocking=True).float() / 255
        images = F.interpolate(images, (side, side), mode="bilinear")
        there = [{key: value.to(self.device) for key, value in each.items()} for each in labels]
        loss = self.model(images, labels=there).loss
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_GRADIENT)
        self.optimizer.step()
        self.steps += 1
        share = 1 - min(AVERAGE, self.steps / (self.steps + 10))
        with torch.no_grad():
            torch._foreach_lerp_(_numbers(self.average), _numbers(self.model), share)
        return loss.detach()

    def parts(self) -> dict[str, Any]:
        """What has a state of its own."""
        return {"model": self.model, "average": self.average, "optimizer": self.optimizer}

    def save(self, path: Path) -> None:
        """Writes a checkpoint."""
        states = {name: part.state_dict() for name, part in self.parts().items()}
        with atomic_write(path) as file:
            torch.save({**states, "steps": self.steps, "seconds": self.seconds}, file)

    def load(self, path: Path) -> None:
        """Reads a checkpoint."""
        states = torch.load(path, map_location=self.device, weights_only=True)
        for name, part in self.parts().items():
            part.load_state_dict(states[name])
        self.steps, self.seconds = states["steps"], states["seconds"]


def _numbers(model: torch.nn.Module) -> list[torch.Tensor]:
    """The parameters and the statistics of `model`, in the order of its definition."""
    held = (*model.parameters(), *model.buffers())
    return [value for value in held if value.is_floating_point()]


def train(
    trained: Trained, pictures: Pictures, seconds: float, batch: int, workers: int, checkpoint: Path
) -> None:
    """Trains until `seconds` are over, those before the checkpoint included."""
    source = Mosaics(pictures, batch, (0, trained.steps))
    loader = DataLoader(source, batch_size=None, num_workers=workers,
                        pin_memory=trained.device != "cpu")  # fmt: skip
    before, saved = time.monotonic() - trained.seconds, trained.seconds
    for images, labels in loader:
        share = trained.seconds / seconds
        if share >= 1:
            break
        loss = trained.step(images, labels, RATE / LEARNING_RATE * rate_at(share))
        trained.seconds = time.monotonic() - before
        if trained.steps % 50 == 0:
            print(f"{trained.seconds:.0f} s, step {trained.steps}: loss {loss:.3f}", flush=True)
        if trained.seconds - saved > SAVE_EVERY:
            trained.save(checkpoint)
            saved = trained.seconds
    trained.save(checkpoint)


@torch.no_grad()
def measured(state: dict[str, torch.Tensor], pictures: Iterable[Labelled]) -> np.ndarray:
    """COCO's twelve figures of a model of the zoo, whose input pictures are stretched to."""
    entry = zoo.get_entry(MODEL)
    model = entry.torch_model()
    model.load_state_dict(state)
    _, *size = entry.require_input_shape()
    truth = list(pictures)
    found = []
    for picture in truth:
        height, width = picture.image.shape[:2]
        result = model(torch.from_numpy(prepare(Image.fromarray(picture.image),
                                                entry.preprocessing or {})))  # fmt: skip
        scale = np.array([width / size[1], height / size[0]] * 2, np.float32)
        found.append((result["det_boxes"][0].numpy() * scale, result["det_scores"][0].numpy(),
                      result["det_classes"][0].numpy()))  # fmt: skip
    return coco_map(truth, found)


def metadata(figures: np.ndarray, training: str) -> dict[str, str]:
    """What the file says about itself."""
    parameters = sum(parameter.numel() for parameter in zoo.get_model(MODEL).parameters())
    preprocessing = zoo.get_entry(MODEL).preprocessing or {}
    return trained_on_shapes(MODEL, parameters, preprocessing, figures, training)


def main() -> None:
    """Trains, measures, and writes the weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder of training pictures")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=12000)
    parser.add_argument("--seconds", type=float, default=280)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=8, help="processes that make batches")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only-train", action="store_true", help="leave the measuring out")
    parser.add_argument("--output", type=Path, default=Path(f"{MODEL}.safetensors"))
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    trained = Trained(args.device)
    if args.checkpoint.exists():
        trained.load(args.checkpoint)
    if trained.seconds < args.seconds:
        pictures = cached_pictures(args.cache, args.pictures, max(args.workers, 1))
        train(trained, pictures, args.seconds, args.batch, args.workers, args.checkpoint)
    if args.only_train:
        return
    state = {name: value.cpu() for name, value in trained.average.state_dict().items()
             if not name.startswith("model.denoising")}  # fmt: skip
    figures = measured(state, held_out())
    training = (f"{trained.steps} steps of {args.batch} mosaics of 4 of {args.pictures} pictures, "
                f"{args.seconds:.0f} s, seed {args.seed}")  # fmt: skip
    arrays = {name: value.numpy() for name, value in state.items()}
    weights.save(args.output, arrays, metadata(figures, training), checksum=True)
    print(f"mAP@0.5:0.95 {figures[0]:.4f}, @0.5 {figures[1]:.4f}, @0.75 {figures[2]:.4f}")
    print(f"{args.output}: {args.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
