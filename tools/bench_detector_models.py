"""What ``tools/bench_detectors.py`` measures: detectors with seeded weights whose heads find
something, their images and their engines.

Weights are kept in ``DIR/MODEL-HxW-seeded.safetensors``, the scores that are worth a comparison in
``DIR/MODEL-HxW.json``, and engines beside them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import detector_data
import numpy as np
import torch
from bench_detector_networks import Network, Rules, network_of
from bench_detectors import OF_ONE_IMAGE
from bench_zoo_models import INPUT
from detector_cases import CASES
from detector_heads import calm_two_stage
from PIL import Image
from verify_detectors import SEED, preparation, seeded

import trtnet
from trtnet import weights, zoo
from trtnet.files import atomic_write
from trtnet.imaging import prepare
from trtnet.pipeline import mark_outputs
from trtnet.weights.random_init import build, random_module
from trtnet.zoo import Entry

SHIPPED, ITS_WEIGHTS = "yolox_shapes", "SHAPES_V1"
SUPPRESSED = ("yolox_", "yolov8", "yolo11")  # how names of detectors with suppression begin
QUERIES = ("rtdetr_",)  # of those without
TORCHVISION_SIZE = (800, 1088)  # multiples of 32 that torchvision's transform leaves as they are
CANDIDATES, COMPARED = 100, 50  # of an image: above the threshold; boxes without suppression
DRAWN = 4  # pictures; the others are these, mirrored
LEAST_SCORE = (
    0.1  # of the boxes that are compared, where the model's own weights or threshold count
)
MARGIN = 1.05  # times the threshold: nearer to it rounding decides


@dataclass
class Task:
    """A detector, its images and what of its boxes is compared.

    Attributes:
        model: PyTorch's in float32 on the CPU, in evaluation mode.
        images: float32; (3, H, W) of 0 to 1 for torchvision's, which prepares it, and what the
            network takes for all others.
        prepared: (B, 3, H, W) float32, what the network takes.
        state: the weights, for the network.
        arguments: of the network's builder.
        compared: boxes with at least this score in float32 are compared.
    """

    name: str
    model: Any
    images: torch.Tensor
    prepared: torch.Tensor
    state: Any
    arguments: Mapping[str, Any]
    compared: float

    @property
    def is_torchvision(self) -> bool:
        """Whether PyTorch's side is torchvision's model, which takes one image."""
        return self.name in OF_ONE_IMAGE

    @property
    def is_suppressed(self) -> bool:
        """Whether its boxes suppress each other after the network."""
        return self.name.startswith(SUPPRESSED)

    @cached_property
    def rules(self) -> Rules:
        """What becomes of the boxes of a detector with suppression."""
        return Rules.of(self.model)

    def network(self, dtype: torch.dtype, device: str, folded: bool = True) -> Network:
        """PyTorch's model up to boxes and scores, but for torchvision's."""
        return network_of(self.model, self.prepared.shape, dtype, device, folded)


def size_of(name: str, size: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the images: what was asked for, or those of the model."""
    if size is not None:
        return size
    if name in OF_ONE_IMAGE:
        return TORCHVISION_SIZE
    _, height, width = zoo.get_entry(name).require_input_shape()
    return height, width


def task_of(name: str, batch: int, folder: Path, size: tuple[int, int]) -> Task:
    """The detector, with weights that are kept in `folder` if they are drawn here."""
    entry = zoo.get_entry(name)
    if not name.startswith((*SUPPRESSED, *QUERIES, *OF_ONE_IMAGE)):
        raise ValueError(f"there are no peers for {name}")
    if name in OF_ONE_IMAGE:
        return _torchvision_task(entry, folder, size)
    state = _state(entry, folder, size)
    prepared = _prepared(entry, size, batch)
    arguments = {} if name == SHIPPED else dict(_chosen(entry, state, folder, size, prepared[:1]))
    compared = arguments.pop("compared", LEAST_SCORE)
    model = _counterpart(entry, state, **arguments)
    return Task(name, model, prepared, prepared, state, arguments, compared)


def _torchvision_task(entry: Entry, folder: Path, size: tuple[int, int]) -> Task:
    state = _state(entry, folder, size)
    model: Any = build(entry.name, min_size=min(size)).eval()  # as it is, for this size
    model.load_state_dict(_tensors(state))
    image = torch.from_numpy(next(_pictures(size)).copy()).permute(2, 0, 1).float() / 255
    prepared = model.transform([image])[0].tensors
    assert prepared.shape[2:] == image.shape[1:], "torchvision resizes or pads this image"
    return Task(entry.name, model, image, prepared, state, {}, LEAST_SCORE)


def _pictures(size: tuple[int, int]) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8: pictures of shapes, each in four ways."""
    height, width = size
    drawn = _drawn((height, width))
    for down, right in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        for picture in drawn:
            yield np.ascontiguousarray(picture[::down, ::right])


@lru_cache(maxsize=1)
def _drawn(size: tuple[int, int]) -> list[np.ndarray]:
    """Drawing takes seconds, and cells of one size follow each other."""
    return [detector_data.labelled((detector_data.HELD_OUT, 1 + index), *size).image
            for index in range(DRAWN)]  # fmt: skip


def _state(entry: Entry, folder: Path, size: tuple[int, int]) -> Any:
    if entry.name == SHIPPED:
        return weights.load(entry.weights_file(ITS_WEIGHTS))
    path = folder / f"{entry.name}-{size[0]}x{size[1]}-seeded.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        weights.save(path, _seeded(entry, size).state_dict())
    return weights.load(path)


def _seeded(entry: Entry, size: tuple[int, int]) -> torch.nn.Module:
    """The heads are settled on images like those that are measured: an RT-DETR that was settled on
    smaller ones gives one box, with one score, 300 times."""
    case = CASES[entry.name]
    if entry.name in OF_ONE_IMAGE:
        return seeded(entry, dataclasses.replace(case, arguments={}))
    model = random_module(entry.torch_model, SEED, input_shape=(3, *size),
                          image_sizes=False, output_format="raw")  # fmt: skip
    seed_heads = calm_two_stage if entry.name.startswith(QUERIES) else case.seed_heads
    seed_heads(model, _prepared(entry, size, DRAWN))
    return model


def _prepared(entry: Entry, size: tuple[int, int], count: int) -> torch.Tensor:
    """The first `count` pictures as the network takes them."""
    rules = preparation(entry, CASES[entry.name], size)
    made = [prepare(Image.fromarray(values), rules) for values in islice(_pictures(size), count)]
    return torch.from_numpy(np.concatenate(made))


def _counterpart(entry: Entry, state: Any, **arguments: Any) -> Any:
    model = entry.torch_model(**arguments).eval()
    model.load_state_dict(_tensors(state))
    return model


def _tensors(state: Any) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(np.array(state[key])) for key in state}


def _chosen(
    entry: Entry, state: Any, folder: Path, size: tuple[int, int], image: torch.Tensor
) -> Mapping[str, float]:
    """The threshold above which the first image has :data:`CANDIDATES` boxes, where boxes suppress
    each other, and the least score that is compared. Kept in `folder`."""
    path = folder / f"{entry.name}-{size[0]}x{size[1]}.json"
    if not path.exists():
        network = network_of(_counterpart(entry, state), image.shape, torch.float32, "cpu", False)
        with torch.inference_mode():
            scores = network(image).scores[0]
        has_queries = entry.name.startswith(QUERIES)
        rank = min(COMPARED if has_queries else CANDIDATES, len(scores))
        least = round(float(scores.sort(descending=True).values[rank - 1]), 4)
        chosen = {"compared": least} if has_queries else {
            "score_thresh": least, "compared": round(MARGIN * least, 4)}  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(json.dumps(chosen).encode())
    found: Mapping[str, float] = json.loads(path.read_text())
    return found


def engine(task: Task, folder: Path, precision: str) -> Path:
    """The engine's file for the images' shape; defined and kept if it is missing."""
    shape = tuple(task.prepared.shape)
    path = folder / f"{task.name}-{precision}-{'x'.join(map(str, shape))}.engine"
    if not path.exists():
        model = zoo.get_entry(task.name).build(**task.arguments)
        model.load_state_dict(task.state)
        net = trtnet.Network("torch", precision=precision)
        mark_outputs(net, model(net.input(INPUT, shape)))
        folder.mkdir(parents=True, exist_ok=True)
        trtnet.build(net).save(path)
    return path
