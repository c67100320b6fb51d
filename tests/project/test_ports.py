"""Files written for PyTorch of which only the imports are changed."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import nn
from trtnet.errors import UnsupportedError

TOOLS = Path(__file__).resolve().parents[2] / "tools"

SOURCE = """
import math
from functools import partial
from typing import Optional, Tuple

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.utils.checkpoint as cp
from torch import Tensor, nn as layers
from torch.nn.init import trunc_normal_
from torch.nn.modules.utils import _pair
from torch.jit import Final
import torch.distributed as dist


@torch.fx.wrap
def window(x: Tensor, size: int) -> Tensor:
    return x.reshape(x.shape[0], -1, size)


class Positions(nn.Module):
    def __init__(self, width: int, length: int = 6, device=None, dtype=None) -> None:
        factory = {"device": device, "dtype": dtype}
        super().__init__()
        steps = torch.arange(length, dtype=torch.float32)[:, None]
        angles = steps / 10 ** torch.linspace(0, 1, width)
        self.register_buffer("table", torch.sin(angles)[None], persistent=False)
        self.cls = nn.Parameter(torch.zeros(1, 1, width, **factory))
        self.scale = nn.Parameter(1e-2 * torch.ones(width))
        grid = torch.meshgrid(torch.arange(2), torch.arange(3), indexing="ij")
        self.grid: Final = torch.stack(grid)
        nn.init.normal_(self.cls, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat((self.cls.expand(x.shape[0], -1, -1), x), dim=1)
        x = x + self.table[:, : x.shape[1]] * self.scale
        return x + self.grid.sum().item() + torch.finfo(torch.float32).eps


class Net(nn.Module):
    def __init__(self, depth: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, _pair(2), stride=2, bias=False, device=None)
        self.norm = nn.BatchNorm2d(8, momentum=0.01)
        self.act = nn.ReLU(inplace=True)
        self.positions = Positions(8)
        self.blocks = nn.ModuleList([nn.Linear(8, 8) for _ in range(depth)])
        self.head = layers.Linear(8, 5) if depth else nn.Identity()
        self.drop = nn.Dropout(0.1)
        self.apply(self._init_weights)

    @torch.jit.ignore
    def no_weight_decay(self):
        return {"positions.cls"}

    @torch.no_grad()
    def _init_weights(self, m: nn.Module) -> None:
        if isinstance(m, nn.Linear):
            trunc_normal_(m.weight, std=0.5)
            if m.bias is not None:
                m.bias.data.fill_(0.1)
        elif isinstance(m, nn.modules.batchnorm._BatchNorm):
            nn.init.ones_(m.weight)

    def forward(self, x: Tensor) -> Tensor:
        assert not torch.jit.is_scripting()
        x = self.act(self.norm(self.stem(x)))
        x = x.flatten(2).transpose(1, 2)
        x = self.positions(x)
        for block in self.blocks:
            x = cp.checkpoint(block, x, use_reentrant=False) if self.training else block(x)
            x = F.relu(x, inplace=True)
        with torch.autocast(device_type="cuda", enabled=False):
            return self.drop(self.head(x.mean(1)))
"""


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("port_imports")


def test_imports_alone_are_changed(port: Any) -> None:
    changed = port.rewritten(SOURCE)
    pairs = zip(SOURCE.splitlines(), changed.splitlines(), strict=True)
    different = [(old, new) for old, new in pairs if old != new]
    assert all(old.startswith(("import ", "from ")) for old, _ in different)
    assert [new for _, new in different] == [
        "import trtnet as torch",
        "import trtnet.nn as nn",
        "import trtnet.nn.functional as F",
        "import trtnet.utils.checkpoint as cp",
        "from trtnet import Tensor, nn as layers",
        "from trtnet.nn.init import trunc_normal_",
        "from trtnet.nn.modules.utils import _pair",
        "from trtnet.jit import Final",
    ]
    assert "import torch.distributed as dist" in changed
    several = (
        "def f():\n    import os, torch.nn\n    from torch.nn import (\n        Linear,\n    )\n"
    )
    assert port.rewritten(several) == (
        "def f():\n    import os; import trtnet.nn; import trtnet as torch\n"
        "    from trtnet.nn import Linear\n"
    )


@pytest.mark.parametrize("batch", [2, "n"])
def test_a_file_works_when_its_imports_change(
    port: Any, batch: Any, randomize: Any, build: Any
) -> None:
    original: dict[str, Any] = {"__name__": "original"}
    exec(SOURCE, original)
    ported: dict[str, Any] = {"__name__": "ported"}
    exec(port.rewritten(SOURCE), ported)
    theirs, ours = original["Net"](), ported["Net"]()
    table = theirs.positions.table.clone()  # is no part of the state_dict
    randomize(theirs).positions.table.copy_(table)
    assert ours.blocks[0].bias.tolist() == [pytest.approx(0.1)] * 8
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    network = trtnet.Network("rtx")
    network.output("y", ours.eval()(network.input("x", (batch, 3, 4, 4))))
    x = torch.randn(2, 3, 4, 4)
    got = trtnet.reference.run(
        trtnet.graph.read(network.definition), {"x": x.numpy()}, float64=True
    )["y"]
    wanted = theirs.double()(x.double()).detach().numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    assert build(network, {"x": (2, 3, 4, 4)})


@pytest.mark.parametrize("name", ["torchvision:resnet18", "torchvision:vit_b_32"])
def test_real_files(name: str) -> None:
    pytest.importorskip("torchvision")
    file = str(TOOLS / "port_imports_check.py")
    command = [sys.executable, "-W", "ignore", file, name]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout)["status"] == "passed", found.stdout


def test_names_of_torch() -> None:
    for name in [
        "device",
        "Size",
        "Generator",
        "finfo",
        "iinfo",
        "pi",
        "inf",
        "nan",
        "no_grad",
        "inference_mode",
        "float64",
        "double",
        "complex64",
        "is_tensor",
        "manual_seed",
        "get_default_dtype",
        "erfinv",
    ]:
        assert getattr(trtnet, name) is not None
    assert trtnet.float is trtnet.float32
    assert (trtnet.half, trtnet.long, trtnet.int, trtnet.bool) == (
        trtnet.float16, trtnet.int64, trtnet.int32, trtnet.bool_,
    )  # fmt: skip
    assert trtnet.finfo(trtnet.float16).max == 65504
    assert trtnet.is_tensor(trtnet.zeros(1))
    assert trtnet.is_tensor(nn.Parameter(torch.zeros(1)))
    assert not trtnet.is_tensor(3)
    assert trtnet.compile(trtnet.relu) is trtnet.relu
    assert trtnet.zeros(2).to(trtnet.int64).dtype == torch.int64
    assert trtnet.tensor([1, 2], dtype=trtnet.float16).dtype == torch.float16
    assert trtnet.cuda.is_available() == torch.cuda.is_available()
    assert trtnet.linalg.inv(trtnet.eye(2)).tolist() == [[1, 0], [0, 1]]
    assert nn.functional.softmax(trtnet.ones(2), dim=0).tolist() == [0.5, 0.5]
    assert trtnet.cat([trtnet.ones(1), np.zeros(1, np.float32)]).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("home", "name", "says"),
    [
        (trtnet, "sofmax", r"trtnet has no torch.sofmax; did you mean softmax"),
        (nn, "Linaer", r"trtnet has no torch.nn.Linaer; did you mean Linear"),
        (nn.functional, "reluu", r"trtnet has no torch.nn.functional.reluu; did you mean relu"),
        (trtnet.jit, "nothing", "nothing"),
    ],
)
def test_absent_names(home: Any, name: str, says: str) -> None:
    with pytest.raises(AttributeError, match=says):
        getattr(home, name)


def test_what_only_the_host_can_do(net: trtnet.Network, raises: Callable[..., Any]) -> None:
    x = net.input("x", (3, 3))
    with raises(UnsupportedError, "trtnet has no torch.det"):
        trtnet.det(x)
    with raises(UnsupportedError, "choose types inside the model", "precision="):
        trtnet.autocast("cuda", dtype=trtnet.float16).__enter__()
    with trtnet.cuda.amp.autocast(enabled=False):
        pass


def test_importing_trtnet_loads_no_torch() -> None:
    code = (
        "import sys, trtnet, trtnet.nn as nn, trtnet.nn.functional as F; nn.Conv2d(1, 1, 1); "
        "nn.init, nn.utils, trtnet.jit, trtnet.utils, trtnet.float, trtnet.Parameter; "
        "sys.exit('torch' in sys.modules or 'tensorrt' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
