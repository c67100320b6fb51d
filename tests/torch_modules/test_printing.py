"""PyTorch's own words about a failed export never reach the terminal."""

from __future__ import annotations

import gc
import sys
import threading

import pytest
import torch

import trtnet
from trtnet.errors import TrtnetError
from trtnet.torch_modules.printing import without_stderr


class Chooses(torch.nn.Module):
    def forward(self, x):
        return x[:1] if int((x > 0).sum().item()) > 3 else x + 1


def test_a_failed_export_prints_nothing(capfd):
    net = trtnet.Network("rtx")
    with pytest.raises(TrtnetError, match="export was tried too"):
        trtnet.from_torch(Chooses())(net.input("x", (8,)))
    assert capfd.readouterr() == ("", "")


def test_other_threads_print(capsys):
    with without_stderr():
        print("mine", file=sys.stderr)
        thread = threading.Thread(target=lambda: print("theirs", file=sys.stderr))
        thread.start()
        thread.join()
    print("after", file=sys.stderr)
    assert capsys.readouterr().err == "theirs\nafter\n"


class Keeps(torch.nn.Module):
    """Keeps a tensor of an attempt that fails, as the frames of a traceback do."""

    def forward(self, x):
        kept.append(x * 2)
        return x.nonzero() if bool((x > 0).any()) else x


kept: list[object] = []


def test_tensors_of_a_failed_attempt_can_be_printed():
    net = trtnet.Network("rtx")
    with pytest.raises(TrtnetError):
        trtnet.from_torch(Keeps())(net.input("x", (8,)))
    gc.collect()
    assert kept
    assert all("Tensor" in repr(one) or "tensor" in repr(one) for one in kept)
