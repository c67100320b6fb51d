"""Memory over the run, against a count by hand and a simulated allocator."""

from __future__ import annotations

import pytest
from pages import rows

import trtnet
from trtnet import explorer, nn
from trtnet.explorer.subject import subject_of


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 2, 1)

    def forward(self, x: trtnet.Tensor) -> trtnet.Tensor:
        y = self.first(x)
        return self.third(self.second(y) + y)


def test_the_peak_of_a_residual_block_is_that_by_hand() -> None:
    model = Residual()
    model.load_state_dict({key: value.numpy() for key, value in weights().items()})
    net = trtnet.Network("rtx")
    net.output("z", model(net.input("x", (1, 3, 10, 10))))
    found = explorer.write(net)["builds"][0]
    # float32 of 100 positions: 3 channels in, 8 of the first, 8 of the sum, 2 out. The addition
    # is part of the second convolution, which reads the first's output twice.
    image, wide, out = 3 * 400, 8 * 400, 2 * 400
    assert found["memory"]["live"] == [image + wide, 2 * wide, wide + out]
    peak = found["memory"]["peak"]
    assert (peak["step"], peak["bytes"]) == (1, 2 * wide)
    paths = [found["modules"]["path"][module] for module, _ in peak["modules"]]
    assert sorted(paths) == ["", "first"]  # the addition is the model's own


def weights() -> dict:
    import torch

    theirs = torch.nn.ModuleDict(
        {
            "first": torch.nn.Conv2d(3, 8, 3),
            "second": torch.nn.Conv2d(8, 8, 3),
            "third": torch.nn.Conv2d(8, 2, 1),
        }
    )
    return {key: value.detach() for key, value in theirs.state_dict().items()}


@pytest.mark.parametrize("name", ["resnet18:fp16", "unet", "mobilenet_v2:int8"])
def test_memory_is_that_of_an_allocator_that_frees_after_the_last_reader(name: str) -> None:
    subject = subject_of(name)
    found = explorer.write(subject)["builds"][0]
    sizes = {tensor["name"]: tensor["bytes"] for tensor in rows(found["tensors"])}
    readers: dict[str, int] = {}
    for kernel in subject.kernels:
        for tensor in kernel.reads:
            readers[tensor] = readers.get(tensor, 0) + 1
    held = {tensor: sizes[tensor] for tensor in subject.graph.inputs}
    live = []
    for kernel in subject.kernels:
        held |= {tensor: sizes[tensor] for tensor in kernel.writes}
        live.append(sum(held.values()))
        for tensor in kernel.reads:
            readers[tensor] -= 1
        for tensor in list(held):
            if readers.get(tensor, 0) == 0 and tensor not in subject.graph.outputs:
                del held[tensor]
    constants = {
        tensor["name"] for tensor in rows(found["tensors"]) if tensor["role"] == "constant"
    }
    assert not constants & held.keys()
    assert found["memory"]["live"] == live
    assert found["memory"]["peak"]["bytes"] == max(live)
    spans = list(rows(found["memory"]["tensors"]))
    for step, total in enumerate(live):
        assert sum(row["bytes"] for row in spans if row["first"] <= step <= row["last"]) == total
