"""Rewrites that make a module fast on CUDA, after those of :mod:`trtnet.engines.torch.fusion`.

Results stay within the rounding of the module's half-precision types.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from trtnet.engines.torch.constants import drop_unused, is_stored, new_buffer, release
from trtnet.engines.torch.fusion import convolution_relu, is_fusible
from trtnet.engines.torch.resize import resize
from trtnet.plugins.kernel_execution import execute_plugin
from trtnet.plugins.reference_execution import reference
from trtnet.reference import elementwise, linear
from trtnet.reference.dtypes import HALF_METHODS
from trtnet.reference.module_builder import is_kept
from trtnet.reference.pooling import average_pool, max_pool
from trtnet.reference.resize import interpolate

_CONVOLUTIONS = (F.conv2d, convolution_relu)
_AT_ONCE = 16 << 20  # bytes of a weight beside which its copy in another layout does not count
_IMAGE, _PADDED = 3, 4  # channels; cuDNN's first-layer kernels want four of them


def optimize(module: fx.GraphModule) -> None:
    """Rewrites `module`, compiled for a CUDA device, in place.

    The bodies of loops and conditionals stay as they are.
    """
    passes = _Passes(module)
    passes.merge_biases()
    passes.clip_after_relu()
    passes.join_linear()
    passes.join_attention()
    passes.use_plugins()
    passes.resize_at_once()
    if importlib.util.find_spec("triton") is not None:
        passes.pool_by_kernel()
        passes.take_nearest_by_kernel()
        passes.pack_images()
    passes.lay_out_inputs()
    passes.widen_outputs_last()
    module.graph.eliminate_dead_code(is_kept)
    drop_unused(module)
    module.recompile()


class _Passes:
    """One method per rewrite, in the order of :func:`optimize`."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module, self.graph = module, module.graph

    def merge_biases(self) -> None:
        """``relu(conv(x) + a + (conv(y) + b))``: adds `b` to `a`, ahead of time.

        PyTorch has cuDNN add a bias without ReLU in a pass of its own over the whole tensor.
        """
        for fused in self._calls(convolution_relu):
            other = fused.kwargs.get("other")
            if not (_is_call(other, F.conv2d) and len(other.users) == 1 and other.args[2]):
                continue
            biases = [node for node in (fused.args[2], other.args[2]) if node is not None]
            kernels = (fused.args[1], other.args[1])
            if not all(map(is_stored, (*kernels, *biases))):
                continue
            if len({len(self._value(node)) for node in kernels}) > 1:  # one is broadcast
                continue
            total = torch.stack([self._value(node).float() for node in biases]).sum(0)
            with self.graph.inserting_before(fused):
                merged = self._constant(biases[-1], "merged", total)
            fused.update_arg(2, merged)
            other.update_arg(2, None)

    def clip_after_relu(self) -> None:
        """``clip(conv(x))`` to a range of no negative values: has cuDNN add the bias and apply
        a ReLU, which changes nothing, instead of adding the bias in a pass of its own."""
        for clip in self._calls(elementwise.clip):
            conv, low = clip.args[:2]
            if low >= 0 and is_fusible(conv):
                conv.target = convolution_relu

    def join_linear(self) -> None:
        """``x @ weight.T + bias`` by one kernel, which needs the weight transposed in memory."""
        for total in self._calls(torch.add):
            product, bias = total.args
            if not (_is_call(product, linear.multiply) and len(product.users) == 1):
                continue
            x, weight, *ops = product.args
            if ops != ["NONE", "TRANSPOSE"] or not (is_stored(weight) and is_stored(bias)):
                continue
            shape, shift = self._value(weight).shape, self._value(bias)
            features = shape[-2]
            # Shapes, not numbers of elements: there may be as many rows as features.
            one_row = shift.dim() > 0 and shift.shape[-1] == shift.numel() == features
            if shape.numel() != features * shape[-1] or not one_row:
                continue
            with self.graph.inserting_before(total):
                arguments = (
                    x,
                    self._constant(weight, "columns", self._columns(weight, features)),
                    self._constant(bias, "row", shift.reshape(-1)),
                )
                self._replace((product, total), linear_of_columns, arguments)
            release(self.module, total, product, weight, bias)

    def join_attention(self) -> None:
        """``softmax(q @ k.mT) @ v`` without a matrix of all weights in memory."""
        for product in self._calls(torch.matmul):
            weights, value = product.args
            if not (_is_call(weights, torch.softmax) and len(weights.users) == 1):
                continue
            scores, axis = weights.args
            if not (_is_call(scores, torch.matmul) and len(scores.users) == 1):
                continue
            query, flipped = scores.args
            swaps = _is_call(flipped, torch.permute) and flipped.args[1] == (0, 1, 3, 2)
            if swaps and axis in (3, -1) and product.meta.get("half"):
                with self.graph.inserting_before(product):
                    chain = (scores, weights, product)
                    self._replace(chain, attention, (query, flipped.args[0], value))

    def use_plugins(self) -> None:
        """Plugins by their own kernels instead of their references."""
        for layer in self._calls(reference):
            layer.target = execute_plugin

    def resize_at_once(self) -> None:
        """Images are resized by PyTorch's kernels, which compute in float32 but read and write
        the type of the image."""
        for resized in self._calls(interpolate):
            resized.target = resize
            self._leave_half(resized)

    def _leave_half(self, node: fx.Node) -> None:
        """Gives `node`, which computes in float32 by itself, values of half precision, and takes
        its result in half precision, instead of widening and rounding beside it."""
        wide: Any = node.args[0]
        users = list(node.users)
        rounded = len(users) == 1 and _is_method(users[0], *HALF_METHODS.values())
        if rounded and _is_method(wide, "float"):
            node.update_arg(0, wide.args[0])
            node.meta.update(users[0].meta)
            users[0].replace_all_uses_with(node)
            node.name, users[0].name = users[0].name, node.name

    def pool_by_kernel(self) -> None:
        """The largest values and the averages of windows of images."""
        from trtnet.engines.torch import pooling

        for pool in self._calls(F.max_pool2d, F.avg_pool2d):
            *windows, padding = pool.args[:4]
            windows += [padding, padding, "EXPLICIT_ROUND_DOWN"]
            if pool.target is F.avg_pool2d:
                pool.target, pool.args = pooling.average_pool, (*windows, not pool.args[5])
            else:
                pool.target, pool.args = pooling.max_pool, tuple(windows)
        padded = {max_pool: pooling.max_pool, average_pool: pooling.average_pool}
        for pool in self._calls(*padded):
            if len(pool.args[1]) == 2:
                names = ("pre", "post", "mode", "excludes")
                further = (pool.kwargs[name] for name in names if name in pool.kwargs)
                pool.args, pool.kwargs = (*pool.args, *further), {}
                pool.target = padded[pool.target]
                self._leave_half(pool)

    def take_nearest_by_kernel(self) -> None:
        """Images of the nearest pixels."""
        from trtnet.engines.torch.nearest import resize_nearest

        for resized in self._calls(resize):
            if resized.kwargs["mode"] == "NEAREST":
                names = ("scales", "transformation", "selector", "rounding")
                how = (resized.kwargs[name] for name in names)
                resized.target, resized.args = resize_nearest, (*resized.args, *how)
                resized.kwargs = {}

    def pack_images(self) -> None:
        """Packing images for the first convolution by a kernel of our own."""
        from trtnet.engines.torch import kernels

        for conv in self._calls(*_CONVOLUTIONS):
            source, kernel = conv.args[:2]
            if not (conv.meta.get("half") and is_stored(kernel)):
                continue
            weights = self._value(kernel)
            if weights.shape[1] != _IMAGE or conv.args[6] != 1:
                continue
            image = _uncast(source)
            padded = F.pad(weights, (0, 0, 0, 0, 0, _PADDED - _IMAGE))
            padded = padded.contiguous(memory_format=torch.channels_last)
            with self.graph.inserting_before(conv):
                packed = self.graph.call_function(
                    kernels.pack_channels_last, (image, _PADDED, weights.dtype)
                )
                packed.meta["layer"] = source.meta.get("layer", conv.meta["layer"])
                conv.update_arg(1, self._constant(kernel, "padded", padded))
            conv.update_arg(0, packed)

    def lay_out_inputs(self) -> None:
        """The cast before a convolution writes cuDNN's layout: one pass instead of two."""
        for conv in self._calls(*_CONVOLUTIONS):
            cast = conv.args[0]
            if _uncast(cast) is not cast and conv.meta.get("half"):
                cast.update_kwarg("memory_format", torch.channels_last)

    def widen_outputs_last(self) -> None:
        """Outputs stay in half precision; the copy to their address widens them."""
        output: Any = self.graph.output_node()
        results = output.args[0]
        for node in results.values():
            source = _uncast(node)
            if source is not node and source.meta.get("half") and node.args[1] == torch.float32:
                results = {name: source if n is node else n for name, n in results.items()}
        output.args = (results,)

    def _calls(self, *functions: Any) -> list[Any]:
        """The nodes that call one of `functions`; Any, as the types of arguments are unknown."""
        nodes = self.graph.nodes
        return [node for node in nodes if node.op == "call_function" and node.target in functions]

    def _value(self, node: fx.Node) -> Tensor:
        value: Tensor = getattr(self.module, str(node.target))
        return value

    def _columns(self, node: fx.Node, features: int) -> Tensor:
        """The weight of `node`, (features, K), transposed in memory.

        A large one that nothing else reads waits on the host meanwhile: the largest weight of a
        network twice may be more than an execution takes.
        """
        readers = [user for same in self._stored_as(node) for user in same.users]
        if self._value(node).nbytes <= _AT_ONCE or len(readers) > 1:
            return self._value(node).reshape(features, -1).t().contiguous()
        device, rows = self._value(node).device, self._value(node).reshape(features, -1).cpu()
        setattr(self.module, str(node.target), rows.new_empty(0, device=device))
        columns = rows.new_empty((rows.shape[1], features), device=device)
        step = max(1, _AT_ONCE * features // rows.nbytes)
        for start in range(0, features, step):
            part = rows[start : start + step]
            columns[:, start : start + step] = part.to(device).t()
        return columns

    def _stored_as(self, node: fx.Node) -> list[fx.Node]:
        """The nodes that read the buffer of `node`."""
        stored = self.graph.find_nodes(op="get_attr")
        return [other for other in stored if other.target == node.target]

    def _constant(self, like: fx.Node, tail: str, value: Tensor) -> fx.Node:
        """A new buffer, of the type of that of `like`."""
        value = value.to(self._value(like).dtype)
        return new_buffer(self.module, f"{like.target}_{tail}", value)

    def _replace(self, chain: Sequence[fx.Node], function: Any, args: tuple[Any, ...]) -> None:
        """One call for all of `chain`, of which only the last is used elsewhere."""
        last = chain[-1]
        node = self.graph.call_function(function, args)
        layers = [part.meta["layer"] for part in chain if "layer" in part.meta]
        node.meta.update(last.meta, layer=" + ".join(layers))
        last.replace_all_uses_with(node)
        node.name, last.name = last.name, node.name


def linear_of_columns(x: Tensor, columns: Tensor, bias: Tensor) -> Tensor:
    """``x @ columns + bias``."""
    return F.linear(x, columns.t(), bias)


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``softmax(query @ keyᵀ) @ value``; nothing is scaled, as in TensorRT's layers."""
    return F.scaled_dot_product_attention(query, key, value, scale=1.0)


def _is_call(node: Any, function: object) -> bool:
    return isinstance(node, fx.Node) and node.target is function


def _is_method(node: Any, *names: str) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_method" and node.target in names


def _uncast(node: Any) -> Any:
    """What `node` converts to another type; `node` itself if it is no conversion."""
    converts = node.op == "call_method" and node.target == "to" and len(node.args) == 2
    return node.args[0] if converts and isinstance(node.args[1], torch.dtype) else node
