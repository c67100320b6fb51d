"""Rewrites of the reference's modules that change no layer's meaning: cuDNN's layout of weights
and its fused convolutions on CUDA, and ReLUs that overwrite their input on every device."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from trtnet.engines.torch.sums import merge_sums
from trtnet.reference.convolution import Ints, cropped_deconvolution, padded_convolution
from trtnet.reference.dtypes import HALF_DTYPES
from trtnet.reference.module_builder import is_kept

_CONVOLUTIONS = (F.conv2d, F.conv_transpose2d, padded_convolution, cropped_deconvolution)
_RETURN_NEW = (F.conv2d, F.conv3d, torch.add, torch.matmul, "half", "bfloat16")


def rewrite(module: fx.GraphModule, device: torch.device) -> None:
    """Rewrites `module`, compiled by the reference for `device`, and the bodies of its loops and
    conditionals, in place."""
    for part in [part for part in module.modules() if isinstance(part, fx.GraphModule)]:
        if device.type == "cuda":
            merge_sums(part)
            lay_out_kernels(part)
            fuse(part.graph)
        overwrite(part.graph)
        part.graph.eliminate_dead_code(is_kept)
        part.recompile()


def lay_out_kernels(module: fx.GraphModule) -> None:
    """Stores the kernels of two-dimensional half-precision convolutions in channels_last, the
    layout that cuDNN's fast functions need; PyTorch then gives the images that layout too."""
    for node in module.graph.nodes:
        if node.op != "call_function" or node.target not in _CONVOLUTIONS:
            continue
        kernel = node.args[1]
        if not (isinstance(kernel, fx.Node) and kernel.op == "get_attr"):
            continue
        stored: Tensor = getattr(module, str(kernel.target))
        if stored.dim() == 4 and stored.dtype in HALF_DTYPES:
            laid_out = stored.contiguous(memory_format=torch.channels_last)
            setattr(module, str(kernel.target), laid_out)


def fuse(graph: fx.Graph) -> None:
    """Replaces ``relu(conv)`` and ``relu(conv + other)`` in half precision by one call of cuDNN.

    cuDNN rounds once after all three, as TensorRT's own fused kernels do, and the network's
    largest tensors are read and written once instead of three times. A value that is used
    elsewhere, or asked for by name, is not fused away. Unused nodes stay in the graph.
    """
    for relu in graph.find_nodes(op="call_function", target=torch.relu):
        source, other, chain = relu.args[0], None, [relu]
        if _calls(source, torch.add) and len(source.users) == 1:
            chain.insert(0, source)
            found = next((i for i in (0, 1) if is_fusible(source.args[i])), None)
            if found is None:
                continue
            source, other = source.args[found], source.args[1 - found]
        if not is_fusible(source):
            continue
        with graph.inserting_before(relu):
            fused = graph.call_function(convolution_relu, source.args, {"other": other})
        layers = [node.meta["layer"] for node in (source, *chain) if "layer" in node.meta]
        fused.meta.update(relu.meta, layer=" + ".join(layers))  # as TensorRT names them
        relu.replace_all_uses_with(fused)
        fused.name, relu.name = relu.name, fused.name  # the value keeps its tensor's name


def overwrite(graph: fx.Graph) -> None:
    """Has each ReLU overwrite its input where that is a new tensor with no other use.

    On a CPU, fresh memory costs as much time as the ReLU itself.
    """
    for relu in graph.find_nodes(op="call_function", target=torch.relu):
        source = relu.args[0]
        called = source.op in ("call_function", "call_method")
        if called and source.target in _RETURN_NEW and len(source.users) == 1:
            relu.target = torch.relu_


def is_fusible(node: Any) -> bool:
    """Whether `node` is a convolution in half precision whose value is used once."""
    if not (_calls(node, F.conv2d) and len(node.users) == 1):
        return False
    grouped = node.args[6] != 1  # for these PyTorch has faster kernels than cuDNN
    return bool(node.meta.get("half")) and not grouped


def convolution_relu(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    *,
    other: Tensor | None = None,
) -> Tensor:
    """``relu(conv2d(x) + other)``, by cuDNN on CUDA; `other` is left out if None."""
    window = (kernel, bias, stride, padding, dilation, groups)
    if not x.is_cuda:
        total = F.conv2d(x, *window)
        return torch.relu(total if other is None else total + other)
    if other is None:
        return torch.cudnn_convolution_relu(x, *window)
    sizes = zip(x.shape[2:], kernel.shape[2:], stride, padding, dilation, strict=True)
    spatial = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes]
    if other.shape != (x.shape[0], kernel.shape[0], *spatial):  # cuDNN does not broadcast
        return torch.relu(F.conv2d(x, *window) + other)
    return torch.cudnn_convolution_add_relu(x, kernel, other, 1, *window[1:])


def _calls(node: object, function: object) -> bool:
    return isinstance(node, fx.Node) and node.target is function
