"""Runs specialized modules on a GPU that only knows shapes: what a CUDA graph cannot capture, or
what mixes tensors of the host and of the GPU, is found without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily

from trtnet.engines.torch import counting, greedy

GPU = torch.device("cuda:0")
READS = ("reshape", "tolist", "item", "__int__", "__float__", "__bool__", "__index__")


def problems(module: fx.GraphModule) -> list[str]:
    """The nodes of `module` that wait for the GPU, or take or give tensors in the wrong place.

    Args:
        module: compiled for PyTorch's device ``meta``, and specialized.
    """
    shapes = [node.meta["value"] for node in module.graph.find_nodes(op="placeholder")]
    with pytest.MonkeyPatch.context() as patch:
        for name in READS:
            patch.setattr(Tensor, name, _of_host(getattr(Tensor, name)))
        patch.setattr(counting, "count_better", lambda mask, scores, order: scores * 1)
        patch.setattr(greedy, "_by_kernel", _kept)
        with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
            for part in module.modules():
                _move(part, mode)
            run = _Run(module, mode)
            run.run(*(torch.empty(x.shape, dtype=x.dtype, device=GPU) for x in shapes))
    return run.found


def _move(module: torch.nn.Module, mode: FakeTensorMode) -> None:
    """Brings the tensors of `module` from PyTorch's device ``meta``, and those that it makes
    there, to the GPU."""
    for name, value in module.named_buffers(recurse=False):
        if value.is_meta:
            setattr(module, name, FakeTensor(mode, value, GPU))
    if isinstance(module, fx.GraphModule):
        moved = fx.node.map_aggregate
        for node in module.graph.nodes:
            node.args, node.kwargs = moved(node.args, _on_gpu), moved(node.kwargs, _on_gpu)
        module.recompile()


def _on_gpu(argument: Any) -> Any:
    is_meta = isinstance(argument, torch.device) and argument.type == "meta"
    return GPU if is_meta else argument


def _of_host(method: Any) -> Any:
    """`method`, which may read tensors of the host, but none of the GPU."""

    def read(self: Tensor, *args: Any) -> Any:
        if isinstance(self, FakeTensor) or self.device.type != "cpu":
            return method(self, *args)
        with unset_fake_temporarily():
            return method(self, *args)

    return read


def _kept(given: list[Tensor], threshold: float, rounds: int | None) -> list[Tensor]:
    return [torch.empty_like(given[4], dtype=torch.bool) for _ in range(1 if rounds is None else 2)]


class _Run(fx.Interpreter):
    """Notes what goes wrong, and goes on with the shapes that are known."""

    def __init__(self, module: fx.GraphModule, mode: FakeTensorMode) -> None:
        super().__init__(module)
        self._mode, self.found = mode, list[str]()

    def run_node(self, node: fx.Node) -> Any:
        try:
            result = super().run_node(node)
        except Exception as error:  # of many kinds, as the functions are
            self.found.append(f"{node.name}: {error!r}")
            return fx.node.map_aggregate(node.meta["value"], self._empty)
        results = result if isinstance(result, tuple) else (result,)
        if node.op.startswith("call") and any(x.device != GPU for x in results):
            self.found.append(f"{node.name}: on the host")
        return result

    def _empty(self, value: Any) -> Any:
        return FakeTensor(self._mode, value, GPU) if isinstance(value, Tensor) else value
