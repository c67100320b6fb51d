"""Trains the LeNet-5 that trtnet ships, and writes its weights.

    python tools/train_lenet.py [--output weights/lenet5_digits.safetensors]

Data: the 1,797 handwritten digits of scikit-learn (``load_digits``, from E. Alpaydin and
C. Kaynak's "Optical Recognition of Handwritten Digits", UCI, https://doi.org/10.24432/C50P49).
A fixed stratified quarter is held out and takes no part in training; the number of epochs is
fixed, not chosen by it. Takes a quarter of a minute. Runs on one thread, so that the same versions
of PyTorch and scikit-learn give the same file on machines of one kind. Needs
``pip install -e ".[torch,dev]"``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional as F

from trtnet import weights
from trtnet.zoo.torch_lenet import LeNet5

OUTPUT = Path(__file__).resolve().parent.parent / "weights" / "lenet5_digits.safetensors"
MAX_VALUE = 16  # of a pixel in load_digits
SCALE = 4  # 8x8 to 32x32
HELD_OUT = 0.25
SPLIT_SEED = 0
EPOCHS = 60
BATCH = 32
LEARNING_RATE = 2e-3
MAX_SHIFT = 3  # pixels, in training


def digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The ``"train"`` or the ``"held-out"`` digits.

    Every pixel of the 8×8 originals becomes a 4×4 square and is scaled to [0, 1].

    Returns:
        Images (N, 1, 32, 32) float32 and labels (N,) int64.
    """
    found = load_digits()
    images = np.kron(found.images, np.ones((SCALE, SCALE))) / MAX_VALUE
    parts = train_test_split(
        images[:, None].astype(np.float32),
        found.target.astype(np.int64),
        test_size=HELD_OUT,
        random_state=SPLIT_SEED,
        stratify=found.target,
    )
    train_images, held_out_images, train_labels, held_out_labels = parts
    return {
        "train": (train_images, train_labels),
        "held-out": (held_out_images, held_out_labels),
    }[split]


def shifted(images: torch.Tensor) -> torch.Tensor:
    """`images`, each moved by up to ``MAX_SHIFT`` pixels along both axes."""
    padded = F.pad(images, [MAX_SHIFT] * 4)
    corners = torch.randint(2 * MAX_SHIFT + 1, (len(images), 2)).tolist()
    height, width = images.shape[2:]
    return torch.stack(
        [
            image[:, top : top + height, left : left + width]
            for image, (top, left) in zip(padded, corners, strict=True)
        ]
    )


def train(seed: int = 0) -> LeNet5:
    """A LeNet-5 trained on the training digits; the same for the same seed."""
    images, labels = map(torch.from_numpy, digits("train"))
    torch.manual_seed(seed)
    model = LeNet5().train()
    steps = EPOCHS * -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            loss = F.cross_entropy(model(shifted(images[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: torch.nn.Module, split: str) -> float:
    """The share of digits that `model` gets right."""
    images, labels = map(torch.from_numpy, digits(split))
    return float((model(images).argmax(1) == labels).double().mean())


def metadata(model: torch.nn.Module, held_out_accuracy: float) -> dict[str, str]:
    """What the file says about itself, under the keys of ``trtnet.weights.extract``."""
    size = [8 * SCALE]
    preprocessing = {"resize_size": size, "crop_size": size, "mean": [0.0], "std": [1.0],
                     "interpolation": "nearest"}  # fmt: skip
    return {
        "architecture": "lenet5",
        "weights": "DIGITS_V1",
        "dataset": f"sklearn.datasets.load_digits, {1 - HELD_OUT:.0%} for training "
        f"(stratified, seed {SPLIT_SEED})",
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
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
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
