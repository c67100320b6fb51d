"""Trains the ResNet-20 that trtnet ships, and writes its weights.

    python tools/train_resnet.py [--output weights/resnet20_digits.safetensors]

Task: scikit-learn's digits, split as for LeNet-5 (``tools/train_lenet.py``), made hard enough that
the network errs. Every image is rotated by up to 20 degrees, moved by up to 4 pixels, scaled by
0.8 to 1.2, dimmed to as little as 0.4 of its contrast, and buried in Gaussian noise of a standard
deviation up to 0.4 of the range of pixels. The held-out quarter is distorted just so, each of its
450 digits in 8 ways that a seed fixes: 3,600 images that take no part in training. The number of
epochs is fixed, not chosen by them.

Takes three minutes of one core. Runs on one thread, so that the same versions of PyTorch and
scikit-learn give the same file on machines of one kind. Needs ``pip install -e ".[torch,dev]"``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import sklearn
import torch
from torch.nn import functional as F
from train_lenet import HELD_OUT, SPLIT_SEED, digits

from trtnet import weights
from trtnet.zoo.torch_resnet_digits import DigitsResNet

OUTPUT = Path(__file__).resolve().parent.parent / "weights" / "resnet20_digits.safetensors"
COPIES = 8  # of each held-out digit
HELD_OUT_SEED = 1
EPOCHS = 50
BATCH = 64
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05
WARM_UP = 0.1  # share of the steps in which the learning rate rises
ROTATION = np.pi / 9
SHIFT = 4 / 16  # of half the image's width
SCALES = (0.8, 1.2)
CONTRASTS = (0.4, 1.0)
NOISES = (0.1, 0.4)


def distorted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`images` (N, 1, H, W), each rotated, moved, scaled, dimmed and noisy in its own way.

    Values are 0 to 1, before and after.
    """
    count = len(images)
    angle = rng.uniform(-ROTATION, ROTATION, count)
    scale = rng.uniform(*SCALES, count)
    shift = rng.uniform(-SHIFT, SHIFT, (count, 2, 1))
    contrast, noise = (
        rng.uniform(*limits, (count, 1, 1, 1)).astype(np.float32) for limits in (CONTRASTS, NOISES)
    )
    rows = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix = np.moveaxis(np.array(rows) / scale, 2, 0)
    affine = torch.from_numpy(np.concatenate([matrix, shift], axis=2).astype(np.float32))
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    moved = F.grid_sample(torch.from_numpy(images), grid, align_corners=False).numpy()
    offset = (1 - contrast) * rng.random((count, 1, 1, 1), np.float32)  # how dark the ground is
    speckle = rng.standard_normal(images.shape, np.float32)
    distorted: np.ndarray = np.clip(offset + contrast * moved + noise * speckle, 0, 1)
    return distorted


def distorted_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The ``"train"`` or the ``"held-out"`` digits, in ``COPIES`` distortions, always the same.

    Returns:
        Images (N, 1, 32, 32) float32 and labels (N,) int64.
    """
    images, labels = digits(split)
    rng = np.random.default_rng(HELD_OUT_SEED)
    return distorted(np.repeat(images, COPIES, 0), rng), np.repeat(labels, COPIES)


def train(seed: int = 0) -> DigitsResNet:
    """A ResNet-20 trained on the training digits, distorted anew in each epoch; the same for the
    same seed."""
    images, labels = digits("train")
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = DigitsResNet().train().to(memory_format=torch.channels_last)
    steps = EPOCHS * -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, steps, pct_start=WARM_UP
    )
    for _ in range(EPOCHS):
        order = rng.permutation(len(images))
        seen = torch.from_numpy(distorted(images[order], rng))
        wanted = torch.from_numpy(labels[order])
        for x, y in zip(seen.split(BATCH), wanted.split(BATCH), strict=True):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.to(memory_format=torch.contiguous_format).eval()


@torch.no_grad()
def accuracy(model: torch.nn.Module, split: str) -> float:
    """The share of distorted digits that `model` gets right."""
    images, labels = map(torch.from_numpy, distorted_digits(split))
    found = torch.cat([model(part).argmax(1) for part in images.split(256)])
    return float((found == labels).double().mean())


def metadata(model: torch.nn.Module, held_out_accuracy: float) -> dict[str, str]:
    """What the file says about itself, under the keys of ``trtnet.weights.extract``."""
    size = list(digits("held-out")[0].shape[-1:])
    preprocessing = {"resize_size": size, "crop_size": size, "mean": [0.0], "std": [1.0],
                     "interpolation": "nearest"}  # fmt: skip
    return {
        "architecture": "resnet20_digits",
        "weights": "DISTORTED_DIGITS_V1",
        "dataset": f"sklearn.datasets.load_digits, {1 - HELD_OUT:.0%} for training (stratified, "
        f"seed {SPLIT_SEED}), rotated, moved, scaled, dimmed and noisy",
        "accuracy": f"{held_out_accuracy:.4f}",
        "parameters": str(sum(parameter.numel() for parameter in model.parameters())),
        "preprocessing": json.dumps(preprocessing),
        "class_names": json.dumps([str(digit) for digit in range(10)]),
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
        "format_version": "1",
    }


def main() -> None:
    """Trains, and writes the weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = train()
    held_out = accuracy(model, "held-out")
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    weights.save(args.output, state, metadata(model, held_out), checksum=True)
    print(f"accuracy: training {accuracy(model, 'train'):.2%}, held out {held_out:.2%}")
    print(f"{args.output}: {args.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
