"""Built modules, with PyTorch in the place of the kernels, against the modules before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tactics.networks import filled, inputs_of, outputs, regions, shape_of_input, targets
from tactics.stand_ins import Clock

from trtnet import nn
from trtnet.engines.torch.tactics import calls
from trtnet.engines.torch.tactics.builder import Builder
from trtnet.engines.torch.tactics.timing_cache import TimingCache
from trtnet.nn import functional as F
from trtnet.zoo.blocks import SqueezeExcitation
from trtnet.zoo.convnext import CNBlock
from trtnet.zoo.swin_transformer import SwinTransformerBlock

CPU = torch.device("cpu")


class Model(nn.Module):
    """`layers` by name, and what `function` makes of them."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def build(module, sizes, clock=None, level=1):
    made = [(size, torch.float32) for size in sizes]
    return Builder(level, TimingCache({}), CPU, clock or Clock()).build(module, made)


def check(model, as_on_a_gpu, *shapes, precision="fp16", level=1, clock=None):
    """The module in which every region takes a tactic, if one gives the same; and that it gives
    what the module for any shapes gives."""
    module = as_on_a_gpu(filled(model), *shapes, precision=precision)
    sizes = [shape_of_input(shape) for shape in shapes]
    made = build(module, sizes, clock, level)
    made.graph.lint()
    inputs = inputs_of(sizes)
    agree(outputs(made, inputs), outputs(module, inputs), 2e-3 if precision == "fp16" else 1.6e-2)
    return made


def agree(found, wanted, error):
    """Within some roundings to half precision, in the norm and in each element."""
    for one, other in zip(found, wanted, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        one, other = one.double(), other.double()
        assert (one - other).norm() <= error * other.norm()
        assert ((one - other).abs() <= 8 * error * (other.abs() + other.abs().mean())).all()


def pair(kind):
    """Two layers of six channels."""
    if kind == "rows":
        return {"one": nn.Linear(6, 6), "two": nn.Linear(6, 6)}
    return {"one": nn.Conv2d(6, 6, 1), "two": nn.Conv2d(6, 6, 1)}


SHAPES = {"rows": ("N", 5, 6), "point": ("N", 6, 5, 4)}
ACTIVATIONS = (F.relu, F.silu, F.gelu, F.hardswish, F.hardsigmoid, F.sigmoid)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda f: f.__name__)
def test_products(activation, kind, precision, as_on_a_gpu, stand_ins):
    model = Model(lambda m, x: m.two(activation(m.one(x))) + x, **pair(kind))
    made = check(model, as_on_a_gpu, SHAPES[kind], precision=precision)
    assert targets(made).count("product") == 2
    assert not {"gelu", "sigmoid", "linear_of_columns", "conv2d"} & {*targets(made)}


@pytest.mark.parametrize("kind", SHAPES)
def test_values_that_are_used_elsewhere_stay(kind, as_on_a_gpu, stand_ins):
    def function(m, x):
        a = m.one(x)
        b = F.silu(a)
        return a, b, m.two(b) + a, F.relu(m.two(b))

    made = check(Model(function, **pair(kind)), as_on_a_gpu, SHAPES[kind])
    assert targets(made).count("product") == 3


@pytest.mark.parametrize("kind", SHAPES)
def test_regions_that_would_overlap(kind, as_on_a_gpu, stand_ins):
    def function(m, x):
        a, b = m.one(x), m.two(x)
        c = F.gelu(a + b)
        return m.one(c) + m.two(c), F.silu(m.one(c)) + m.two(a)

    check(Model(function, **pair(kind)), as_on_a_gpu, SHAPES[kind])


def test_a_sum_of_two_products_is_of_one_of_them(as_on_a_gpu, stand_ins):
    """The other keeps its activation."""
    model = Model(lambda m, x: F.gelu(m.one(x)) + F.gelu(m.two(x)), **pair("rows"))
    made = check(model, as_on_a_gpu, SHAPES["rows"])
    assert targets(made).count("product") == 2
    assert not {"gelu", "add", "linear_of_columns"} & {*targets(made)}


def test_a_linear_layer_without_bias(as_on_a_gpu, stand_ins):
    model = Model(lambda m, x: F.silu(m.one(x)) + x, one=nn.Linear(6, 6, bias=False))
    assert "product" in targets(check(model, as_on_a_gpu, ("N", 5, 6)))


@pytest.mark.parametrize("shape", [("N", 6), ("N", 1, 6), ("N", 2, 3, 6), (1, 6)], ids=str)
def test_rows_of_any_rank(shape, as_on_a_gpu, stand_ins):
    model = Model(lambda m, x: F.gelu(m.one(x)) + x, one=nn.Linear(6, 6))
    assert targets(check(model, as_on_a_gpu, shape)).count("product") == 1


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("kernel", [1, 3])
def test_few_channels_and_positions(kernel, size, channels, as_on_a_gpu, stand_ins):
    """Of one channel, or one position, every layout is that of another."""
    conv = nn.Conv2d(4, channels, kernel, padding=kernel // 2)
    model = Model(lambda m, x: F.sigmoid(m.one(x)), one=conv)
    made = check(model, as_on_a_gpu, ("N", 4, size, size))
    assert targets(made).count("product" if kernel == 1 else "finished") == 1


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_convolutions_and_a_pass_behind_them(groups, stride, as_on_a_gpu, stand_ins):
    conv = nn.Conv2d(6, 6, 3, stride, 1, groups=groups)
    scale = nn.Parameter.empty((6, 1, 1))

    def function(m, x):
        y = F.silu(m.one(x))
        y = y * y.new_tensor(m.scale)
        return F.relu(y + F.avg_pool2d(x, stride))

    model = Model(function, one=conv, scale=scale)
    made = targets(check(model, as_on_a_gpu, ("N", 6, 8, 8)))
    assert ("depthwise_image" if groups == 6 else "finished") in made
    assert {"mul", "add", "relu"}.isdisjoint(made)


def test_depthwise_convolutions_by_cudnn_where_that_is_faster(as_on_a_gpu, stand_ins):
    conv = nn.Conv2d(6, 6, 3, padding=1, groups=6)
    model = Model(lambda m, x: F.relu(m.one(x) + F.silu(x)), one=conv)
    module = as_on_a_gpu(filled(model), (2, 6, 8, 8))
    clock = Clock(lambda call: 1.0 if call.func.__name__ == "library_depthwise" else 50.0)
    made = build(module, [(2, 6, 8, 8)], clock)
    assert {"depthwise_image", "library_depthwise"} <= {*clock.tactics}
    assert "library_depthwise" in targets(made)
    inputs = inputs_of([(2, 6, 8, 8)])
    agree(outputs(made, inputs), outputs(module, inputs), 2e-3)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("kind", ["silu", "none", "sum", "rows"])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_by_one_kernel(stride, kind, precision, as_on_a_gpu, stand_ins):
    conv = nn.Conv2d(16, 6, (3, 5), stride, (1, 2))

    def function(m, x):
        y = m.one(x)
        if kind == "sum":
            return F.relu(F.silu(y) + F.avg_pool2d(x[:, :6], stride))
        if kind == "rows":
            return F.gelu(y.permute(0, 2, 3, 1))
        return F.silu(y) if kind == "silu" else y

    made = check(Model(function, one=conv), as_on_a_gpu, ("N", 16, 8, 8), precision=precision)
    assert targets(made).count("convolved") == 1
    assert not {"finished", "conv2d"} & {*targets(made)}


def test_convolutions_by_cudnn_where_that_is_faster(as_on_a_gpu, stand_ins):
    model = Model(lambda m, x: F.silu(m.one(x)), one=nn.Conv2d(16, 6, 3))
    module = as_on_a_gpu(filled(model), ("N", 16, 8, 8))
    clock = Clock(lambda call: 1.0 if call.func.__name__ == "finished" else 50.0)
    made = build(module, [(2, 16, 8, 8)], clock, level=3)
    count = clock.tactics.count("convolved")
    assert 1 <= count <= 4
    assert clock.tactics == ["convolved"] * count + ["finished"]
    assert "finished" in targets(made)


@pytest.mark.parametrize("activation", [F.relu, F.silu, F.hardswish], ids=lambda f: f.__name__)
def test_depthwise_convolutions(activation, as_on_a_gpu, stand_ins):
    conv = nn.Conv2d(6, 6, (3, 5), (2, 1), (1, 2), groups=6)
    model = Model(lambda m, x: activation(m.one(x)), one=conv)
    assert "depthwise_image" in targets(check(model, as_on_a_gpu, ("N", 6, 9, 8)))


@pytest.mark.parametrize(
    ("images", "size", "doubtful"), [(1, 28, True), (1, 34, False), (2, 28, False)]
)
def test_blocks_are_doubtful_where_all_programs_of_the_first_run_at_once(
    images, size, doubtful, as_on_a_gpu
):
    """Each of these computes 8 pixels of a row for 64 channels: 28 · 4 · 2 for the first case."""
    layer = nn.Sequential(nn.Conv2d(120, 120, 3, padding=1, groups=120), nn.ReLU())
    shape = (images, 120, size, size)
    (region,) = regions(as_on_a_gpu(filled(layer), shape), shape, count=16)
    assert [tactic.is_doubtful for tactic in region.tactics[1:]] == [doubtful] * 13
    assert not region.tactics[0].is_doubtful


def test_two_activations_behind_a_depthwise_convolution(as_on_a_gpu, stand_ins):
    """The second changes what the examples of a trial hardly reach."""

    def function(m, x):
        return F.hardtanh(F.silu(m.one(x)), -10.0, 4.0)

    model = Model(function, one=nn.Conv2d(6, 6, 3, padding=1, groups=6))
    module = as_on_a_gpu(filled(model), (2, 6, 9, 8))
    made = build(module, [(2, 6, 9, 8)])
    x = [8 * x for x in inputs_of([(2, 6, 9, 8)])]
    wanted = outputs(module, x)
    assert wanted[0].max() == 4
    agree(outputs(made, x), wanted, 2e-3)


def test_squeeze_and_excitation(as_on_a_gpu, stand_ins):
    model = Model(
        lambda m, x: m.two(m.se(m.one(x))) + x, se=SqueezeExcitation(6, 3), **pair("point")
    )
    made = check(model, as_on_a_gpu, SHAPES["point"])
    assert targets(made).count("product") == 4
    assert "mul" not in targets(made)  # the gate is multiplied by the last product


def test_gates_that_are_parts_of_something(as_on_a_gpu, stand_ins):
    """One image's gate does not follow on the other's."""

    def function(m, x):
        gates = F.sigmoid(m.both(F.adaptive_avg_pool2d(x, 1)))
        return m.one(x * gates[:, :6]), m.two(x * gates[:, 6:])

    model = Model(function, both=nn.Conv2d(6, 12, 1), **pair("point"))
    made = check(model, as_on_a_gpu, SHAPES["point"])
    assert "mul" not in targets(made)


@pytest.mark.parametrize("order", ["image, rows", "rows, image"])
def test_a_sum_before_another_layout(order, as_on_a_gpu, stand_ins):
    """What was added lies in the layout in which it was added."""
    to_rows, to_image = (0, 2, 3, 1), (0, 3, 1, 2)
    if order == "image, rows":
        model = Model(lambda m, x: F.gelu((m.one(x) + x).permute(to_rows)), **pair("point"))
        shapes = [("N", 6, 5, 4), ("N", 6, 6, 6)]
    else:
        model = Model(lambda m, x: F.gelu((m.one(x) + x).permute(to_image)), **pair("rows"))
        shapes = [("N", 5, 4, 6), ("N", 6, 6, 6)]
    for shape in shapes:
        assert "product" in targets(check(model, as_on_a_gpu, shape))


def test_convnext_block(as_on_a_gpu, stand_ins):
    made = check(CNBlock(6), as_on_a_gpu, ("N", 6, 9, 8))
    assert targets(made).count("product") == 2
    assert targets(made).count("depthwise_image") == 1
    assert targets(made).count("normalized") == 1
    assert {"add", "mul", "gelu"}.isdisjoint(targets(made))


@pytest.mark.parametrize("size", [(8, 8), (8, 12), (4, 4), (7, 9)], ids=str)
@pytest.mark.parametrize("shift", [0, 2])
def test_swin_block(shift, size, as_on_a_gpu, stand_ins):
    block = SwinTransformerBlock(8, 2, 4, shift)
    filled(block, relative_position_index=np.arange(256) % 49)
    module = as_on_a_gpu(block, ("N", *size, 8))
    made = build(module, [(2, *size, 8)])
    x = inputs_of([(2, *size, 8)])
    agree(outputs(made, x), outputs(module, x), 2e-3)
    found = targets(made)
    assert found.count("attention_of_windows") == 1
    assert found.count("normalized") == 2
    assert found.count("product") == 4
    assert {"softmax", "gelu", "matmul"}.isdisjoint(found)
    if size != (7, 9):  # which is padded
        assert {"cat", "take_rows"}.isdisjoint(found)


def attend(m, x, scale, bias=None, rank=4):
    """Attention of two heads of four features."""
    n, tokens = x.shape[0], x.shape[1]
    qkv = m.qkv(x).reshape(n, tokens, 3, 2, 4).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    if rank == 5:
        q, k, v = (y.unsqueeze(1) for y in (q, k, v))
    scores = (q * scale) @ k.transpose(-2, -1)
    scores = scores if bias is None else scores + scores.new_tensor(bias)
    y = F.softmax(scores, -1) @ v
    y = y if rank == 4 else y.squeeze(1)
    return y.transpose(1, 2).reshape(n, tokens, 8)


BIASES = {
    "of pairs": (2, 9, 9), "of heads": (2, 1, 1), "of keys": (1, 1, 9), "of queries": (2, 9, 1),
    "of images and pairs": (2, 2, 9, 9),
}  # fmt: skip


@pytest.mark.parametrize("rank", [4, 5])
@pytest.mark.parametrize("which", BIASES)
def test_attention_with_a_bias(which, rank, as_on_a_gpu, stand_ins):
    bias = np.random.default_rng(0).standard_normal(BIASES[which]).astype("float32")
    if rank == 5 and bias.ndim == 4:
        bias = bias[:, None]
    model = Model(lambda m, x: attend(m, x, 0.5, bias, rank), qkv=nn.Linear(8, 24))
    made = check(model, as_on_a_gpu, (2, 9, 8))
    assert ("attention_of_windows" in targets(made)) == ("pairs" in which)
    found = regions(as_on_a_gpu(model, (2, 9, 8)), (2, 9, 8))
    assert len([r for r in found if r.problem.startswith("windows")]) == ("pairs" in which)


def test_attention_without_bias(as_on_a_gpu, stand_ins):
    made = check(
        Model(lambda m, x: attend(m, x, 0.5), qkv=nn.Linear(8, 24)), as_on_a_gpu, (2, 9, 8)
    )
    assert "scaled_attention" in targets(made)
    assert "mul" not in targets(made)


def test_attention_of_many_tokens_is_no_region(as_on_a_gpu, stand_ins):
    bias = np.zeros((1, 129, 129), "float32")
    model = Model(lambda m, x: attend(m, x, 0.5, bias), qkv=nn.Linear(8, 24))
    assert "softmax" in targets(check(model, as_on_a_gpu, (1, 129, 8)))


def test_weights_of_attention_that_are_an_output_stay(as_on_a_gpu, stand_ins):
    def function(m, x):
        y = m.qkv(x)
        q, k, v = y[..., :8], y[..., 8:16], y[..., 16:]
        bias = y.new_tensor(np.full((1, 1, 9, 9), 0.25, "float32"))
        q, k, v = (z.unsqueeze(1) for z in (q, k, v))
        weights = F.softmax(q @ k.transpose(-2, -1) + bias, -1)
        return weights, weights @ v

    made = check(Model(function, qkv=nn.Linear(8, 24)), as_on_a_gpu, (2, 9, 8))
    assert "attention_of_windows" not in targets(made)


@pytest.mark.parametrize("affine", [True, False])
def test_layer_normalisation(affine, as_on_a_gpu, stand_ins):
    norm = nn.LayerNorm(8, elementwise_affine=affine)
    model = Model(lambda m, x: m.one(m.norm(x + x * x)), norm=norm, one=nn.Linear(8, 6))
    assert targets(check(model, as_on_a_gpu, ("N", 5, 8))).count("normalized") == 1


def test_a_normal_that_two_read(as_on_a_gpu, stand_ins):
    def function(m, x):
        normal = m.norm(m.one(x))
        return normal, m.one(normal) + normal

    made = check(Model(function, norm=nn.LayerNorm(8), one=nn.Linear(8, 8)), as_on_a_gpu, (2, 5, 8))
    assert targets(made).count("normalized") == 1


def test_other_axes_are_no_region(as_on_a_gpu, stand_ins):
    model = Model(lambda m, x: m.norm(x), norm=nn.LayerNorm((5, 8)))
    assert "normalized" not in targets(check(model, as_on_a_gpu, (2, 5, 8)))


@pytest.mark.parametrize("kind", SHAPES)
def test_tactics_of_every_level_are_right(kind, as_on_a_gpu, stand_ins):
    """Whichever is the fastest."""
    model = Model(lambda m, x: m.two(F.silu(m.one(x))) + x, **pair(kind))
    module = as_on_a_gpu(filled(model), SHAPES[kind])
    size = shape_of_input(SHAPES[kind])
    inputs = inputs_of([size])
    wanted = outputs(module, inputs)
    names = {t.name for region in regions(module, size, count=16) for t in region.tactics}
    assert {"library"} < names
    for chosen in ("library_product", "product"):
        clock = Clock(lambda call, name=chosen: 1.0 if call.func.__name__ == name else 50.0)
        made = build(module, [size], clock, 5)
        assert targets(made).count(chosen) == 2
        agree(outputs(made, inputs), wanted, 2e-3)


def test_a_wrong_kernel_changes_nothing(as_on_a_gpu, stand_ins, monkeypatch):
    for kernel in stand_ins.KERNELS:

        def wrong(*operands, right=kernel):
            return right(*operands) * 1.1

        monkeypatch.setattr(calls, kernel.__name__, wrong)
    monkeypatch.setattr(calls, "finish", lambda x, *_: x)
    module = as_on_a_gpu(filled(CNBlock(6)), ("N", 6, 9, 8))
    made = build(module, [(2, 6, 9, 8)])
    assert {"product", "depthwise_image", "normalized", "library_product"}.isdisjoint(targets(made))
    (x,) = inputs_of([(2, 6, 9, 8)])
    assert torch.equal(*outputs(made, [x]), *outputs(module, [x]))


def test_what_follows_on_a_tactic_knows_the_layout_of_its_result(as_on_a_gpu, stand_ins):
    """A sum lies as its first operand does; where a product computes it, with the channels last."""

    def function(m, x):
        y = x.flatten(2).permute(0, 2, 1).exp().permute(0, 2, 1).reshape(-1, 6, 8, 4) * 2
        z = y * 2 + m.one(x)
        return F.interpolate(z, scale_factor=2, mode="bilinear"), (z * 2 + x).flatten(2)

    made = check(Model(function, **pair("point")), as_on_a_gpu, ("N", 6, 8, 4))
    assert "product" in targets(made)
    real = {}

    class Run(torch.fx.Interpreter):
        def run_node(self, n):
            real[n] = super().run_node(n)
            return real[n]

    Run(made).run(*inputs_of([(2, 6, 8, 4)]))
    (resized,) = (node for node in made.graph.nodes if targets_of(node) == "resize")
    assert resized.meta["value"].is_contiguous(memory_format=torch.channels_last)
    assert all(node.meta["value"].stride() == real[node].stride() for node in real if has_one(node))


def targets_of(node):
    return getattr(node.target, "__name__", node.target)


def has_one(node):
    return node.op.startswith("call") and isinstance(node.meta["value"], torch.Tensor)
