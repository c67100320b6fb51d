"""The part ``detector`` of ``tools/bench_cpu.py``: the shipped detector on its picture.

All of it in a session, against what users of onnxruntime do: the exported network up to boxes and
scores, then torchvision's ``batched_nms``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from cpu_candidates import Candidate, by_onnxruntime, session
from paired_timing import interleave, ratio_in_words
from PIL import Image
from torchvision.ops import batched_nms

import trtnet
from trtnet import zoo
from trtnet.imaging.prepare import prepare

MODEL, WEIGHTS = "yolox_shapes", "SHAPES_V1"
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "shapes.png"
SCORE, OVERLAP, CANDIDATES, MOST = 0.01, 0.65, 1000, 100  # the model's defaults
OURS = "session"


class Raw(torch.nn.Module):
    """Boxes and scores of the PyTorch counterpart, before suppression."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.model(x)
        return found["boxes"], found["scores"]


def part(threads: int, repeats: int) -> str:
    """The section of the page; prints each row."""
    entry = zoo.get_entry(MODEL)
    weights = trtnet.weights.load(entry.weights_file(WEIGHTS))
    x = prepare(Image.open(PICTURE).convert("RGB"), weights.preprocessing or {})
    model = zoo.get_model(MODEL)
    model.load_state_dict(weights)
    net = trtnet.Network("torch")
    for name, value in model(net.input("input", x.shape)).items():
        net.output(name, value)
    plan = trtnet.build(net)
    made = [session(plan, OURS, x, runtime) for runtime in ("auto", "torch")]
    torch_model = entry.torch_model(output_format="raw").eval()
    torch_model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    start = time.perf_counter()
    suppressed = with_suppression(by_onnxruntime(Raw(torch_model), x, threads))
    made.append(Candidate("onnxruntime + batched_nms", lambda: np.array([len(suppressed())]),
                          time.perf_counter() - start))  # fmt: skip
    interleave(made, repeats)
    with trtnet.Session(plan, device="cpu", runtime="auto") as opened:
        error = difference(opened(x), suppressed())
    print(*(line(one, made[0]) for one in made), f"largest difference {error:.1e}", sep="\n")
    return section(made, error, int(made[0].call()[0, 0]))


def with_suppression(run: Callable[[], list[np.ndarray]]) -> Callable[[], np.ndarray]:
    """What torchvision keeps of the boxes and scores that `run` gives: rows of corners, score and
    class, the best first."""

    def suppressed() -> np.ndarray:
        boxes, scores = (torch.from_numpy(value[0]) for value in run())
        best, kinds = scores.max(1)
        chosen = (best > SCORE).nonzero()[:, 0]
        if len(chosen) > CANDIDATES:
            chosen = chosen[best[chosen].topk(CANDIDATES).indices]
        boxes, best, kinds = boxes[chosen], best[chosen], kinds[chosen]
        kept = batched_nms(boxes, best, kinds, OVERLAP)[:MOST]
        return torch.cat([boxes[kept], best[kept, None], kinds[kept, None].float()], 1).numpy()

    return suppressed


def difference(found: dict[str, np.ndarray], rows: np.ndarray) -> float:
    """The largest difference of a coordinate, a score or a class; scores that are equal up to
    rounding may stand in either order.

    Raises:
        ValueError: other numbers of boxes.
    """
    count = int(found["num_dets"][0, 0])
    if count != len(rows):
        raise ValueError(f"{count} boxes instead of {len(rows)}")
    parts = (found["det_boxes"][0], found["det_scores"].T, found["det_classes"].T)
    ours = np.concatenate(parts, 1)[:count]
    scores = np.abs(ours[:, 4] - rows[:, 4]).max(initial=0)
    nearest = np.abs(ours[:, None] - rows).max(2)
    return float(max(scores, nearest.min(0).max(initial=0), nearest.min(1).max(initial=0)))


def line(candidate: Candidate, ours: Candidate) -> str:
    """A row in words."""
    measured = f"{candidate.median_ms:8.2f} ms  x{ratio_in_words(candidate.ratio(ours))}"
    return f"{MODEL:18} {candidate.name:28} {measured}  set-up {candidate.setup_s:.1f} s"


def section(made: Sequence[Candidate], error: float, count: int) -> str:
    """The section of the page."""
    head = (
        f"{MODEL} with {WEIGHTS} on `docs/images/shapes.png`: the "
        "network and suppression. The session runs the network by OpenVINO and suppression by "
        f"PyTorch. {count} boxes each; coordinates, scores and classes differ by at most "
        f"{error:.1e}.\n\n"
        "| what | median | its time by the session's | set-up |\n|---|--:|--:|--:|\n"
    )
    return head + "".join(
        f"| {one.name} | {one.median_ms:.2f} ms | {ratio_in_words(one.ratio(made[0]))} "
        f"| {one.setup_s:.1f} s |\n"
        for one in made
    )
