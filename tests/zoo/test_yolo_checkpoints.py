"""``trtnet detect`` with checkpoints that pickle a whole YOLO model in float16, whose package is
gone, against the PyTorch model of the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from yolo_networks import ARGUMENTS, COUNT, picture, prepared, run_with_package, state_for

from trtnet import zoo
from trtnet.cli.main import main
from trtnet.zoo.detection.yolo import torch_blocks, torch_yolo

NAME, EDGE, LEAST = "yolov8n", 640, 0.1
PICTURE = picture(EDGE)
INPUT = prepared(PICTURE)
NAMES = [f"thing {number}" for number in range(ARGUMENTS["num_classes"])]
MAKE = """
import copy, json, sys
import torch
from gone_yolo.torch_yolo import Yolo

fused, names = sys.argv[1] == "fused", json.loads(sys.argv[2])
model = Yolo("v8", "n", num_classes=len(names), fused=fused)
model.load_state_dict(torch.load("state.pt"))
model.names = dict(enumerate(names))
model.half()
checkpoint = {"epoch": -1, "model": model, "ema": None, "train_args": {"task": "detect"}}
if not fused:  # while it is trained, the weights of the last step are there, too
    last = copy.deepcopy(model)
    for parameter in last.parameters():
        parameter.data.zero_()
    checkpoint = {**checkpoint, "model": last, "ema": model, "updates": 7}
torch.save(checkpoint, "best.pt")
"""


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return state_for(INPUT, NAME, {})


def folded(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`state` with PyTorch's own folding of BatchNorms."""
    twin = zoo.get_entry(NAME).torch_model(**ARGUMENTS).eval()
    twin.load_state_dict(state)
    result = {key: value for key, value in state.items() if ".bn." not in key}
    for path, module in twin.named_modules():
        if isinstance(getattr(module, "bn", None), torch.nn.BatchNorm2d):
            one = torch.nn.utils.fuse_conv_bn_eval(module.conv, module.bn)
            result[f"{path}.conv.weight"], result[f"{path}.conv.bias"] = one.weight, one.bias
    return {key: value.detach() for key, value in result.items()}


def save(folder: Path, state: dict[str, torch.Tensor], kind: str) -> None:
    """``best.pt`` as a training script saves it; its package is deleted."""
    torch.save(state, folder / "state.pt")
    run_with_package((torch_yolo, torch_blocks), MAKE, folder, kind, json.dumps(NAMES))


def of_pytorch(state: dict[str, torch.Tensor], fused: bool) -> list[np.ndarray]:
    """Boxes, scores and classes of the model in float32, of the weights in float16."""
    twin = zoo.get_entry(NAME).torch_model(**ARGUMENTS, fused=fused).eval()
    twin.load_state_dict({key: value.half() for key, value in state.items()})
    with torch.no_grad():
        found = twin(torch.from_numpy(INPUT))
    good = found["det_scores"][0] >= LEAST
    return [found[f"det_{name}"][0][good].numpy() for name in ("boxes", "scores", "classes")]


@pytest.mark.parametrize("kind", ["fused", "averaged"])
def test_a_whole_model_becomes_boxes(
    kind: str, state: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The number of classes, their names and the folded BatchNorms come from the file."""
    fused = kind == "fused"
    state = folded(state) if fused else state
    save(tmp_path, state, kind)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PICTURE).save("image.png")
    line = ["detect", NAME, "--weights", "best.pt", "--image", "image.png", "-o", "out.png"]
    more = ["--json", "found.json", "--score-threshold", str(LEAST), "--device", "cpu"]
    assert main([*line, *more]) == 0
    told = "".join(capsys.readouterr())
    assert f"num_classes={len(NAMES)}, as names and shapes of the weights tell" in told
    assert ("fused=True, as names and shapes of the weights tell" in told) == fused
    assert ("taken from its entry ema, the averaged weights" in told) != fused
    (image,) = json.loads(Path("found.json").read_text())["images"]
    found = image["detections"]
    boxes, scores, classes = of_pytorch(state, fused)
    assert len(found) == len(scores) >= COUNT
    assert [one["name"] for one in found] == [NAMES[one["class"]] for one in found]
    np.testing.assert_allclose([one["score"] for one in found], scores, atol=1e-5)
    # Of nearly equal scores any may come first: each box is looked for by its place.
    corners = np.array([one["box"] for one in found])
    apart = np.abs(corners[:, None] - boxes.clip(0, EDGE)).max(2)
    apart[np.array([one["class"] for one in found])[:, None] != classes] = np.inf
    nearest = apart.argmin(1)
    assert sorted(nearest) == [*range(len(boxes))]
    assert apart.min(1).max() < 1e-2
    assert np.asarray(Image.open("out.png")).shape == (EDGE, EDGE, 3)
