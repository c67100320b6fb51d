"""Trains the U-Net that trtnet ships on drawn shapes, and writes its weights.

    python tools/train_unet.py [--output weights/unet_shapes.safetensors]
    python tools/train_unet.py --device cpu --workers 0 --steps 4000 --batch 8 --size 96

Every picture is drawn for one step of training and never seen again (``tools/shapes.py``). The
mean intersection over union is measured on 200 other pictures, of four sizes; nothing is chosen by
them. Convolutions are computed in BF16, their weights kept in FP32.

The first command takes ten minutes of a GPU, with 16 cores that draw for it; the second, with
which the shipped weights were made, ten minutes of one core. There the same versions of PyTorch
and NumPy give the same file on machines of one kind. Needs ``pip install -e ".[torch]"``.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import shapes
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from trtnet import weights
from trtnet.zoo.segmentation.torch_unet import UNet

OUTPUT = Path(__file__).resolve().parent.parent / "weights" / "unet_shapes.safetensors"
TRAINING, HELD_OUT = 0, 1  # first part of a picture's seed
HELD_OUT_SIZES = ((96, 96), (128, 160), (151, 211), (230, 173))  # height, width
HELD_OUT_COUNT = 200
MEAN = STD = 0.5  # of every channel
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.01
WARM_UP = 0.1  # share of the steps in which the learning rate rises
Picture = tuple[torch.Tensor, torch.Tensor]


def picture(seed: tuple[int, ...], height: int, width: int) -> Picture:
    """A drawn picture as the network sees it, (3, H, W) float32, and its classes, (H, W) int64."""
    image, classes = shapes.draw(seed, height, width)
    values = torch.from_numpy(image).permute(2, 0, 1) / 255
    return (values - MEAN) / STD, torch.from_numpy(classes).long()


class TrainingPictures(Dataset[Picture]):
    """`count` square pictures with edges of `size`."""

    def __init__(self, seed: int, count: int, size: int) -> None:
        self.seed, self.count, self.size = seed, count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Picture:
        return picture((TRAINING, self.seed, index), self.size, self.size)


def held_out(count: int = HELD_OUT_COUNT) -> Iterable[Picture]:
    """The first `count` pictures that take no part in training, always the same."""
    for index in range(count):
        yield picture((HELD_OUT, index), *HELD_OUT_SIZES[index % len(HELD_OUT_SIZES)])


def train(
    steps: int, batch: int, size: int, seed: int = 0, device: str = "cpu", workers: int = 0
) -> UNet:
    """A U-Net after `steps` batches of new pictures; on one thread the same for the same seed."""
    torch.manual_seed(seed)
    model = UNet().train().to(torch.device(device)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, steps, pct_start=WARM_UP
    )
    pictures = TrainingPictures(seed, steps * batch, size)
    loader = DataLoader(pictures, batch, num_workers=workers, pin_memory=device != "cpu")
    for step, (images, classes) in enumerate(loader, 1):
        images = images.to(device, memory_format=torch.channels_last, non_blocking=True)
        with torch.autocast(device, torch.bfloat16):
            logits = model(images)["out"]
        loss = F.cross_entropy(logits.float(), classes.to(device, non_blocking=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step} of {steps}: loss {loss.item():.4f}", flush=True)
    return model.to("cpu").to(memory_format=torch.contiguous_format).eval()


@torch.no_grad()
def confusion(model: torch.nn.Module, pictures: Iterable[Picture]) -> np.ndarray:
    """Pixels by their class (rows) and by the class that `model` finds (columns)."""
    count = len(shapes.CLASSES)
    total = np.zeros((count, count), np.int64)
    for image, classes in pictures:
        found = model(image[None])["out"].argmax(1)[0]
        pairs = (count * classes + found).flatten()
        total += torch.bincount(pairs, minlength=count**2).reshape(count, count).numpy()
    return total


def intersection_over_union(confusion: np.ndarray) -> np.ndarray:
    """Per class: pixels that have it and were given it, among those with either."""
    both = np.diag(confusion)
    shares: np.ndarray = both / (confusion.sum(0) + confusion.sum(1) - both)
    return shares


def metadata(model: torch.nn.Module, mean_iou: float, training: str) -> dict[str, str]:
    """What the file says about itself, under the keys of ``trtnet.weights.extract``."""
    preprocessing = {"mean": [MEAN] * 3, "std": [STD] * 3}  # any size, so none is asked for
    return {
        "architecture": "unet",
        "weights": "SHAPES_V1",
        "dataset": f"pictures drawn by tools/shapes.py: {training}",
        "mean_iou": f"{mean_iou:.4f}",
        "parameters": str(sum(parameter.numel() for parameter in model.parameters())),
        "preprocessing": json.dumps(preprocessing),
        "class_names": json.dumps(shapes.CLASSES),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "format_version": "1",
    }


def main() -> None:
    """Trains, and writes the weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that draw")
    parser.add_argument("--steps", type=int, default=16000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=128, help="edges of the training pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = train(args.steps, args.batch, args.size, args.seed, args.device, args.workers)
    ious = intersection_over_union(confusion(model, held_out()))
    training = f"{args.steps} steps of {args.batch}, {args.size}x{args.size}, seed {args.seed}"
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    weights.save(args.output, state, metadata(model, ious.mean(), training), checksum=True)
    for name, iou in zip(shapes.CLASSES, ious, strict=True):
        print(f"{name:>10}  {iou:.4f}")
    print(f"{'mean':>10}  {ious.mean():.4f}")
    print(f"{args.output}: {args.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
