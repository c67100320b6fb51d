"""Built modules of quantized networks, with PyTorch in the place of the kernels, against the
modules before: the same, as every rounding is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tactics.networks import filled, inputs_of, outputs, regions, shape_of_input, targets
from tactics.stand_ins import Clock

import trtnet
from trtnet import nn, zoo
from trtnet.engines.torch.tactics.builder import Builder
from trtnet.engines.torch.tactics.quantized.steps import reciprocal
from trtnet.engines.torch.tactics.timing_cache import TimingCache
from trtnet.nn import functional as F
from trtnet.reference.integer import scaled
from trtnet.reference.quantize import to_quantized

CPU = torch.device("cpu")
PRODUCTS = {
    *("product_of_codes", "convolution_of_codes"),
    *("convolution_of_image", "library_product_of_codes"),
}


class Model(nn.Module):
    """`layers` by name, and what `function` makes of them."""

    def __init__(self, function: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


def check(model, as_on_a_gpu, *shapes, precision="int8", error=0.0):
    """The calls of the module in which every region takes a tactic; it gives what the module
    before gives."""
    module = as_on_a_gpu(filled(model), *shapes, precision=precision)
    sizes = [shape_of_input(shape) for shape in shapes]
    builder = Builder(1, TimingCache({}), CPU, Clock())
    made = builder.build(module, [(size, torch.float32) for size in sizes])
    made.graph.lint()
    inputs = inputs_of(sizes)
    for one, other in zip(outputs(made, inputs), outputs(module, inputs), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.float().std() > 0.01
        assert (one.double() - other.double()).norm() <= error * other.double().norm()
    return targets(made)


def count(called, *names):
    """How many of `called` have one of these names."""
    return sum(name in names for name in called)


def residual():
    """A block with a shortcut, between a packed image and a classifier."""

    def function(m, x):
        x = F.max_pool2d(F.relu(m.stem(x)), 3, 2, 1)
        y = F.relu(m.two(F.relu(m.one(x))) + x)
        y = F.relu(m.three(y) + m.short(y))
        return m.fc(F.adaptive_avg_pool2d(y, 1).flatten(1))

    return Model(
        function, stem=nn.Conv2d(3, 16, 7, 2, 3), one=nn.Conv2d(16, 16, 3, padding=1),
        two=nn.Conv2d(16, 16, 1), three=nn.Conv2d(16, 32, 3, 2, 1), short=nn.Conv2d(16, 32, 1, 2),
        fc=nn.Linear(32, 10),
    )  # fmt: skip


@pytest.mark.parametrize("shape", [("N", 3, 20, 22), (1, 3, 17, 17)], ids=str)
def test_codes_go_from_layer_to_layer(shape, as_on_a_gpu, stand_ins):
    called = check(residual(), as_on_a_gpu, shape)
    assert count(called, *PRODUCTS) == 6
    assert [name for name in called if name not in PRODUCTS] == [
        "pool",
        "mean_of_codes",
        "elements",  # both casts at the end
        "_item",
    ]


@pytest.mark.parametrize("base", ["fp16", "bf16", "fp32"])
def test_layers_of_other_types(base, as_on_a_gpu, stand_ins):
    called = check(residual(), as_on_a_gpu, ("N", 3, 20, 22),
                   precision=trtnet.Policy("int8", base=base))  # fmt: skip
    assert count(called, *PRODUCTS) == 6
    assert not {"scaled", "to_quantized", "from_quantized"} & {*called}


def test_steps_of_other_types_stay(as_on_a_gpu, stand_ins):
    """A graph that others made may have them: its layers round to them, and give that type."""
    model = Model(lambda m, x: m.two(F.relu(m.one(x))), one=nn.Linear(16, 16, bias=False),
                  two=nn.Linear(16, 8, bias=False))  # fmt: skip
    policy = trtnet.Policy("int8", base="fp32")
    module = as_on_a_gpu(filled(model), ("N", 16), precision=policy)
    builder, inputs = Builder(1, TimingCache({}), CPU, Clock()), [((3, 16), torch.float32)]
    builder.build(module, inputs)  # these choices are not tried again
    steps = {x.target for node in module.graph.nodes if node.target in (to_quantized, scaled)
             for x in node.args[1:3] if getattr(x, "op", "") == "get_attr"}  # fmt: skip
    for name in steps:
        setattr(module, name, getattr(module, name).half())
    made = builder.build(module, inputs)
    (found,), (wanted,) = (outputs(one, inputs_of([(3, 16)])) for one in (made, module))
    assert len(steps) >= 4
    assert found.dtype == wanted.dtype
    assert torch.equal(found, wanted)


def test_fp8(as_on_a_gpu, stand_ins):
    called = check(residual(), as_on_a_gpu, ("N", 3, 20, 22), precision="fp8", error=0.05)
    assert count(called, *PRODUCTS) == 6
    assert not {"scaled", "to_quantized"} & {*called}


def test_blocks_of_tokens(as_on_a_gpu, stand_ins):
    def function(m, x):
        x = x + m.two(F.gelu(m.one(m.before(x))))
        return m.after(x)

    model = Model(function, before=nn.LayerNorm(16), one=nn.Linear(16, 48), two=nn.Linear(48, 16),
                  after=nn.LayerNorm(16))  # fmt: skip
    called = check(model, as_on_a_gpu, ("N", 7, 16), error=1e-3)
    assert count(called, *PRODUCTS) == 2
    assert count(called, "normalized") == 2
    assert not {"gelu", "to_quantized"} & {*called}


@pytest.mark.parametrize("activation", [F.relu, F.relu6, F.silu, F.gelu, F.hardswish, F.sigmoid],
                         ids=lambda f: f.__name__)  # fmt: skip
@pytest.mark.parametrize("kind", ["rows", "point", "image"])
def test_activations_between_codes(kind, activation, as_on_a_gpu, stand_ins):
    layer = {
        "rows": lambda: nn.Linear(16, 16),
        "point": lambda: nn.Conv2d(16, 16, 1),
        "image": lambda: nn.Conv2d(16, 16, 3, padding=1),
    }[kind]
    model = Model(lambda m, x: m.two(activation(m.one(x))), one=layer(), two=layer())
    shape = ("N", 5, 16) if kind == "rows" else ("N", 16, 6, 5)
    called = check(model, as_on_a_gpu, shape, error=5e-3)
    assert count(called, *PRODUCTS) == 2
    assert count(called, "codes_of") == 1


def test_values_that_are_used_elsewhere_stay(as_on_a_gpu, stand_ins):
    def function(m, x):
        a = F.relu(m.one(x))
        b = m.two(a)
        return a, F.relu(b), m.two(F.relu(b)) + a

    model = Model(function, one=nn.Conv2d(16, 16, 1), two=nn.Conv2d(16, 16, 3, padding=1))
    called = check(model, as_on_a_gpu, ("N", 16, 6, 5))
    assert count(called, *PRODUCTS) == 3


def test_one_tensor_of_codes_for_several_products(as_on_a_gpu, stand_ins):
    def function(m, x):
        x = F.relu(m.one(x))
        return m.two(x), m.three(x)

    model = Model(function, one=nn.Conv2d(16, 16, 1), two=nn.Conv2d(16, 8, 1),
                  three=nn.Conv2d(16, 8, 3))  # fmt: skip
    called = check(model, as_on_a_gpu, ("N", 16, 6, 5))
    assert count(called, *PRODUCTS) == 3
    assert "to_quantized" not in called


OTHERS = {
    "depthwise": lambda: nn.Conv2d(16, 16, 3, groups=16),
    "groups": lambda: nn.Conv2d(16, 16, 3, groups=4),
    "transposed": lambda: nn.ConvTranspose2d(16, 16, 2, stride=2),
}


@pytest.mark.parametrize("layer", OTHERS.values(), ids=OTHERS)
def test_other_convolutions_stay(layer, as_on_a_gpu, stand_ins):
    model = Model(lambda m, x: m.two(F.relu(m.one(x))), one=layer(), two=nn.Conv2d(16, 8, 1))
    called = check(model, as_on_a_gpu, ("N", 16, 6, 5))
    assert count(called, *PRODUCTS) == 1
    assert count(called, "scaled") == 1


def test_codes_are_not_made_early_for_other_pools(as_on_a_gpu, stand_ins):
    """Of values that come from elsewhere there are more before the maximum."""
    model = Model(lambda m, x: m.one(F.max_pool2d(x, 2)), one=nn.Conv2d(16, 8, 1))
    called = check(model, as_on_a_gpu, ("N", 16, 6, 5))
    assert "pool" not in called
    assert count(called, *PRODUCTS) == 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (7, 2, 3), (8, 8, 0)])
def test_images_of_few_channels(kernel, stride, padding, channels, as_on_a_gpu, stand_ins):
    conv = nn.Conv2d(channels, 8, kernel, stride, padding)
    called = check(Model(lambda m, x: F.relu(m.one(x)), one=conv), as_on_a_gpu,
                   ("N", channels, 17, 24))  # fmt: skip
    assert called[0] == ("convolution_of_image" if channels < 5 else "codes_of")


@pytest.mark.parametrize(("name", "products", "size"), [("resnet50", 54, 64), ("vit_b_16", 50, 64)])
def test_every_product_of_the_zoo(name, products, size, as_on_a_gpu):
    options = {"image_size": size} if name.startswith("vit") else {}
    module = as_on_a_gpu(filled(zoo.get_model(name, **options)), (2, 3, size, size),
                         precision="int8")  # fmt: skip
    found = regions(module, (2, 3, size, size))
    called = [region.tactics[0].function.__name__ for region in found]
    assert count(called, *PRODUCTS) == products
    inside = {node for region in found for node in region.nodes}
    left = [node.name for node in found[0].nodes[0].graph.nodes if node not in inside
            and getattr(node.target, "__name__", "") in ("scaled", "to_quantized")]  # fmt: skip
    assert not left


def test_reciprocals() -> None:
    """A step is a division by it; a factor that gives the same is found where there is one."""
    assert reciprocal(0.25, torch.float16, torch.int8) == 4.0
    assert reciprocal(0.037, torch.float32, torch.int8) == 0.0
    drawn = torch.rand(40, generator=torch.Generator().manual_seed(0)).exp2() / 100
    factors = [reciprocal(float(size), torch.float16, torch.int8) for size in drawn]
    assert all(abs(factor * float(size) - 1) < 1e-6
               for factor, size in zip(factors, drawn, strict=True))  # fmt: skip
