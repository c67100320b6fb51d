"""How fast sessions of the torch backend find boxes in FP16, against PyTorch.

    python tools/bench_detectors.py [--model NAME ...] [--rounds 41] [--engines DIR]
                                    [--markdown benchmarks/detectors_h200.md]

Measured is the way from one image on the GPU to its boxes; :data:`ABOUT` says how.

Candidates take turns. Boxes of all are compared with PyTorch's in FP32 in the same run. TensorRT
defines the networks; ``--engines DIR`` keeps them, and the weights, for a machine without it.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import datetime
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import detector_data
import numpy as np
import torch
from bench_detector_peers import THIN, Found, Peer, YoloxBoxes, dense_replayed, found_by
from bench_zoo_cells import installed, machine
from bench_zoo_models import INPUT
from bench_zoo_ways import of_session
from detector_cases import CASES
from paired_timing import Candidate, Ratio, interleave, paired_ratio
from PIL import Image
from verify_detectors import seeded
from workers import in_one_line

import trtnet
from trtnet import weights, zoo
from trtnet.files import atomic_write
from trtnet.imaging import prepare
from trtnet.weights.random_init import build

ABOUT = """\
From one image on the GPU to its boxes. torchvision's detectors have seeded weights with heads that
find something (`tools/detector_cases.py`), and get an image that their transform neither resizes
nor pads; the session gets it prepared. `yolox_shapes` has the weights that ship. The peers, which
all get their image on the GPU too:

* `.half()`: the model and its image in FP16, called as it is;
* `autocast`: the model in FP32 under `torch.autocast`;
* `compile`: backbone, pyramid and the heads that see whole feature maps in FP16 by
  `torch.compile` in one CUDA graph; what depends on the boxes found (proposals, RoI heads,
  suppression) is called as it is, for the data decide on its sizes.
"""
SHIPPED, ITS_WEIGHTS = "yolox_shapes", "SHAPES_V1"
MODELS = (SHIPPED, "retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn")
SIZE = (800, 1088)  # multiples of 32 that torchvision's transform leaves as they are
SESSION = "session"
SCORE, IOU = 0.1, 0.9  # of boxes that are compared
SEED = 0


@dataclass
class Task:
    """One detector and its image.

    Attributes:
        model: PyTorch's in FP32; takes `image`.
        image: what PyTorch's takes: (3, H, W) of 0..1 for torchvision, prepared for YOLOX.
        prepared: (1, 3, H, W) float32, what the network takes.
        state: the weights.
    """

    name: str
    model: torch.nn.Module
    image: torch.Tensor
    prepared: torch.Tensor
    state: Any


@dataclass
class Result:
    """What was measured of a detector.

    Attributes:
        boxes: how many PyTorch finds in FP32 with a score of at least :data:`SCORE`.
        matched: share of those that each candidate finds.
        ratios: of each peer's time by the session's.
        reasons: why a candidate could not be measured.
        captured: whether the session's network is one CUDA graph, or why not.
    """

    name: str
    boxes: int = 0
    candidates: list[Candidate] = field(default_factory=list)
    matched: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, Ratio] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    captured: str = ""


def task_of(name: str, folder: Path, size: tuple[int, int]) -> Task:
    """The detector with its weights, which are kept in `folder` if they are drawn here."""
    entry = zoo.get_entry(name)
    if name == SHIPPED:
        state: Any = weights.load(entry.weights_file(ITS_WEIGHTS))
        picture = detector_data.labelled((detector_data.HELD_OUT, 1), 416, 416).image
        image = torch.from_numpy(prepare(Image.fromarray(picture), state.preprocessing or {}))
        twin: Any = entry.torch_model()
        twin.load_state_dict(_tensors(state))
        return Task(name, YoloxBoxes(twin, image), image, image, state)
    path = folder / f"{name}-seeded.safetensors"
    if not path.exists():
        case = dataclasses.replace(CASES[name], arguments={})
        folder.mkdir(parents=True, exist_ok=True)
        weights.save(path, seeded(entry, case).state_dict())
    state = weights.load(path)
    model = build(name, min_size=min(size)).eval()  # as it is, for SIZE
    model.load_state_dict(_tensors(state))
    picture = detector_data.labelled((detector_data.HELD_OUT, 1), *size).image
    image = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
    transform: Any = model.transform
    prepared = transform([image])[0].tensors
    assert prepared.shape[2:] == image.shape[1:], "torchvision resizes or pads this image"
    return Task(name, model, image, prepared, state)


def _tensors(state: Any) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(np.array(state[key])) for key in state}


def engine(task: Task, folder: Path, precision: str) -> Path:
    """The engine's file for the image's size; defined and kept if it is missing."""
    height, width = task.prepared.shape[2:]
    path = folder / f"{task.name}-{precision}-{height}x{width}.engine"
    if not path.exists():
        model = zoo.get_entry(task.name).build()
        model.load_state_dict(task.state)
        net = trtnet.Network("torch", precision=precision)
        for name, tensor in model(net.input(INPUT, tuple(task.prepared.shape))).items():
            net.output(name, tensor)
        folder.mkdir(parents=True, exist_ok=True)
        trtnet.build(net).save(path)
    return path


def peers(task: Task, device: str) -> dict[str, Callable[[], Peer]]:
    """PyTorch's ways, by name."""
    if device == "cpu":
        return {"eager": lambda: Peer(task.model, task.image)}
    half = torch.float16

    def moved(dtype: torch.dtype) -> tuple[torch.nn.Module, torch.Tensor]:
        model = copy.deepcopy(task.model).to(dtype).to(memory_format=torch.channels_last)
        return model.to(device), task.image.to(device).to(dtype)

    def compiled() -> Peer:
        model, image = moved(torch.float32)
        return Peer(dense_replayed(model, task.prepared.to(device)), image, autocast=True)

    return {
        "eager, .half()": lambda: Peer(*moved(half)),
        "eager, autocast": lambda: Peer(*moved(torch.float32), autocast=True),
        "torch.compile and CUDA graph of the network, the rest eager": compiled,
    }


def measure(name: str, options: argparse.Namespace) -> Result:
    """One detector."""
    result, device = Result(name), options.device
    task = task_of(name, options.engines, options.size)
    plan = engine(task, options.engines, "fp16" if device == "cuda" else "fp32")
    reference = Peer(copy.deepcopy(task.model).to(device), task.image.to(device))
    expected = found_by(reference()).above(SCORE)
    result.boxes = len(expected.scores)
    found: dict[str, Callable[[], Found]] = {}
    with ExitStack() as stack:
        for title, make in peers(task, device).items():
            started = time.perf_counter()
            try:
                peer = make()
                for _ in range(3):
                    peer()
                _wait(device)
            except Exception as error:
                result.reasons[title] = in_one_line(error)
                continue
            stream = torch.cuda.current_stream() if device == "cuda" else None
            seconds = time.perf_counter() - started
            result.candidates.append(Candidate(title, peer, stream, seconds))
            found[title] = _later(peer)
        made, _, why = of_session(plan, task.prepared, device, {}, stack)
        result.captured = "yes" if made.is_captured else (why or "no, on a CPU")
        result.candidates.append(made.candidate)
        found[SESSION] = lambda: Found.of_outputs(made.results())
        interleave(result.candidates, options.rounds, options.seconds)
        own = made.candidate
        for candidate in result.candidates:
            result.matched[candidate.name] = expected.share_in(found[candidate.name](), IOU)
            if candidate is not own:
                result.ratios[candidate.name] = paired_ratio(candidate.times, own.times)
    return result


def _later(peer: Peer) -> Callable[[], Found]:
    return lambda: found_by(peer())


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def lines(result: Result) -> list[str]:
    """The rows of the table of one detector."""
    rows = []
    for candidate in result.candidates:
        ratio = result.ratios.get(candidate.name)
        cell = "" if ratio is None else f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
        matched = f"{result.matched[candidate.name]:.1%} of {result.boxes}"
        rows.append(f"| {result.name} | {candidate.name} | {candidate.median_ms:.3f} ms | {cell} "
                    f"| {matched} | {candidate.setup_s:.1f} s |")  # fmt: skip
    return rows


def notes(result: Result) -> list[str]:
    """What else is known of one detector."""
    said = [f"* {result.name}: the session's network is one CUDA graph: {result.captured}."]
    if not result.candidates:
        said = []
    return said + [f"* {result.name}: not measured: {name}: {why}."
                   for name, why in result.reasons.items()]  # fmt: skip


def page(results: Sequence[Result], options: argparse.Namespace) -> str:
    """The page of all that was measured."""
    versions = ", ".join(f"{name} {text}" for name, text in installed().items())
    return "\n".join(
        [
            "# Detectors in sessions of the torch backend",
            "",
            f"`python tools/bench_detectors.py {' '.join(options.argv)}`: {options.rounds} rounds; "
            f"images of {options.size[0]} by {options.size[1]} for torchvision's detectors, 416 by "
            "416 for yolox_shapes; batch 1.",
            "",
            f"{datetime.date.today()}; {machine(options.device)}; {versions}.",
            "",
            ABOUT,
            "The ratio is a peer's time by the session's in the same round: its median, and the "
            "95 % interval of that median. *Found*: the share of the boxes that PyTorch finds in "
            f"FP32 with a score of at least {SCORE} and at least {THIN:g} pixel wide and high, "
            f"that have a box of the same class with an IoU of at least {IOU}.",
            "",
            "| model | what | time | its time by the session's | found | set-up |",
            "|---|---|--:|--:|--:|--:|",
            *(line for result in results for line in lines(result)),
            "",
            *(note for result in results for note in notes(result)),
            "",
        ]
    )


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--model", action="append", choices=MODELS, help="several; default: all")
    add("--rounds", type=int, default=41)
    add("--seconds", type=float, default=10.0, help="of the rounds of one model; 6 are enough then")
    add("--size", default=SIZE, type=_size, metavar="HxW", help="of torchvision's detectors")
    add("--engines", type=Path, default=Path("engines"), metavar="DIR")
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--markdown", type=Path, metavar="FILE", help="write the page there, after each model")
    options = parser.parse_args(argv)
    options.argv = list(argv)
    return options


def _size(text: str) -> tuple[int, int]:
    height, width = map(int, text.split("x"))
    return height, width


def main(argv: Sequence[str]) -> int:
    """Runs the command line; the exit status is 1 where a detector could not be measured."""
    options = parsed(argv)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    results: list[Result] = []
    for name in options.model or MODELS:
        try:
            with torch.inference_mode():
                results.append(measure(name, options))
        except Exception as error:
            results.append(Result(name, reasons={SESSION: in_one_line(error)}))
        print(*lines(results[-1]), *notes(results[-1]), sep="\n", flush=True)
        if options.markdown is not None:
            with atomic_write(options.markdown) as file:
                file.write(page(results, options).encode())
    return int(any(not result.candidates for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
