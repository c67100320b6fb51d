"""The page of tools/verify_detectors.py, and what the rounding of folded weights costs."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

RECORD = {
    "model": "yolox_nano", "parameters": 912159, "keys": True, "modules": 400, "heads": 108,
    "rel_l2": 8.3e-7, "rounding": None, "boxes": [142, 104], "distinct": 78, "unmatched": 0,
    "iou": 0.999966, "score": 4.7e-6, "extras": {},
    "engines": dict.fromkeys(("a", "b", "c", "d"), "6.6 MiB, 5 s"),
}  # fmt: skip


def test_rows_of_other_models_stay(detectors_page: ModuleType) -> None:
    masks = {**RECORD, "model": "maskrcnn_resnet50_fpn", "extras": {"mask_pixels": 1.0}}
    rows = detectors_page.stored_rows("")
    for record in (RECORD, masks):
        for table, row in detectors_page.rows_of(record).items():
            rows[table][record["model"]] = row
    text = detectors_page.page(rows)
    assert detectors_page.stored_rows(text) == rows
    assert text.count("\n| `") == 5
    other = text.replace(f"PyTorch {torch.__version__}", "PyTorch 1.0")
    assert other != text
    assert not any(detectors_page.stored_rows(other).values())


def test_an_error_above_the_limit_is_explained(detectors_page: ModuleType) -> None:
    row = detectors_page.rows_of({**RECORD, "rel_l2": 1.5e-5, "rounding": 1.1e-5})["modules"]
    assert "1.5e-05, above the limit; of rounding alone 1.1e-05" in row


def test_the_rounding_of_folded_weights(detector_rounding: ModuleType) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                          nn.Conv2d(8, 4, 3)).eval()  # fmt: skip
    nn.init.uniform_(model[1].running_var, 0.5, 1.5)
    nn.init.uniform_(model[1].running_mean, -1, 1)
    x = torch.randn(2, 3, 12, 12)
    exact = model.double()
    folded = fuse_conv_bn_eval(exact[0], exact[1])
    rounded = fuse_conv_bn_eval(exact[0], exact[1])
    rounded.float().double()
    with torch.no_grad():
        pairs = [(folded(x.double()), rounded(x.double()))]
        pairs.append(tuple(exact[3](y.relu()) for y in pairs[0]))
    errors = [float((a - b).norm() / a.norm()) for a, b in pairs]
    found = detector_rounding.rounding_error(model.float(), x)
    assert 1e-8 < max(errors) < 1e-6
    assert 0.99 * max(errors) < found < 1.01 * max(errors)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
    assert detector_rounding.rounding_error(plain, x) == 0
