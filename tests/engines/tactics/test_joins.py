"""Products of one tensor, as one product, with PyTorch in the place of the kernels."""

from __future__ import annotations

import pytest
import torch
from tactics.networks import filled, inputs_of, outputs, targets
from tactics.stand_ins import Clock
from tactics.test_regions import Model, agree, build, check
from torch import fx

from trtnet import nn
from trtnet.engines.torch.tactics import joins
from trtnet.engines.torch.tactics.builder import Builder
from trtnet.engines.torch.tactics.timing_cache import TimingCache
from trtnet.nn import functional as F
from trtnet.reference.linear import multiply

ROWS, IMAGE = ("N", 5, 6), ("N", 6, 5, 4)


def linear(*sizes, bias=True):
    return {name: nn.Linear(6, n, bias=bias) for name, n in zip("abc", sizes, strict=False)}


def added_to(made):
    """What joined products add to their left operands."""
    names = targets(made)
    called = [node for node in made.graph.nodes if node.op in ("call_function", "call_method")]
    return [node.args[3] for node, name in zip(called, names, strict=True)
            if name == "joined_product"]  # fmt: skip


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_linear_layers_of_one_tensor(precision, as_on_a_gpu, stand_ins):
    model = Model(lambda m, x: (m.a(x), m.b(x) * 2, m.c(x).tanh()), **linear(7, 3, 8))
    made = check(model, as_on_a_gpu, ROWS, precision=precision)
    assert targets(made).count("joined_product") == 1
    assert not {"product", "linear_of_columns", "cat"} & {*targets(made)}


@pytest.mark.parametrize("activation", [F.relu, F.silu, F.gelu], ids=lambda f: f.__name__)
def test_products_with_one_activation(activation, as_on_a_gpu, stand_ins):
    model = Model(lambda m, x: (activation(m.a(x)), activation(m.b(x)), m.c(x)), **linear(7, 3, 8))
    made = check(model, as_on_a_gpu, ROWS)
    assert targets(made).count("joined_product") == 1
    assert targets(made).count("product") == 1  # the one without


def test_layers_without_biases_and_one_with(as_on_a_gpu, stand_ins):
    layers = {**linear(7, 3, bias=False), "c": nn.Linear(6, 4)}
    made = check(Model(lambda m, x: (m.a(x), m.b(x), m.c(x)), **layers), as_on_a_gpu, ROWS)
    assert targets(made).count("joined_product") == 1  # of the two that are of one kind


def test_a_sum_that_only_they_read(as_on_a_gpu, stand_ins):
    def function(m, x, y):
        x, y = m.d(x), m.e(y)
        z = x + y
        return m.a(z), m.b(z), x, y

    layers = {**linear(7, 3), "d": nn.Linear(6, 6), "e": nn.Linear(6, 6)}
    made = check(Model(function, **layers), as_on_a_gpu, ROWS, ROWS)
    (added,) = added_to(made)
    assert added is not None
    assert "add" not in targets(made)


@pytest.mark.parametrize("kind", ["used elsewhere", "broadcast", "of an epilogue"])
def test_a_sum_that_stays(kind, as_on_a_gpu, stand_ins):
    def function(m, x, y):
        x, y = m.d(x), m.e(y)
        z = x + (y[:, :1] if kind == "broadcast" else y)
        more = {"used elsewhere": (x, y, z), "broadcast": (x, y), "of an epilogue": (x,)}[kind]
        return m.a(z), m.b(z), *more

    layers = {**linear(7, 3), "d": nn.Linear(6, 6), "e": nn.Linear(6, 6)}
    made = check(Model(function, **layers), as_on_a_gpu, ROWS, ROWS)
    assert added_to(made) == [None]


def test_attention_reads_the_parts(as_on_a_gpu, stand_ins):
    layers = {name: nn.Linear(8, 8) for name in ("q", "k", "v", "o")}

    def function(m, x, places):
        def heads(y):
            return y.reshape(-1, 70, 2, 4).transpose(1, 2)

        z = x + places
        q, k, v = heads(m.q(z)), heads(m.k(z)), heads(m.v(x))
        y = F.scaled_dot_product_attention(q, k, v)
        return m.o(y.transpose(1, 2).reshape(-1, 70, 8)) + x

    made = check(Model(function, **layers), as_on_a_gpu, ("N", 70, 8), ("N", 70, 8))
    assert targets(made).count("joined_product") == 1
    assert targets(made).count("product") == 2


def test_layers_far_from_each_other(as_on_a_gpu, stand_ins):
    """Those of a later layer move before what reads the first."""

    def function(m, x, y):
        y = y + m.a(x)
        y = F.layer_norm(m.d(y), (6,)) + m.b(x)
        return F.layer_norm(y, (6,)) + m.c(x)

    layers = {**linear(6, 6, 6), "d": nn.Linear(6, 6)}
    made = check(Model(function, **layers), as_on_a_gpu, ROWS, ROWS)
    assert targets(made).count("joined_product") == 0  # each has its sum as an epilogue

    def product(m, x, y):
        y = y * m.a(x)
        y = F.layer_norm(m.d(y), (6,)) * m.b(x)
        return F.layer_norm(y, (6,)) * m.c(x)

    made = check(Model(product, **layers), as_on_a_gpu, ROWS, ROWS)
    assert targets(made).count("joined_product") == 1


def point(*sizes):
    return {name: nn.Conv2d(6, n, 1) for name, n in zip("abc", sizes, strict=False)}


def test_point_convolutions(as_on_a_gpu, stand_ins):
    layers = {**point(7, 3), "d": nn.Conv2d(7, 4, 1), "e": nn.Conv2d(7, 3, 1)}

    def function(m, x):
        a, b = F.silu(m.a(x)), F.silu(m.b(x))
        return m.e(torch_cat(F.silu(m.d(a)), b))

    def torch_cat(one, other):
        import trtnet

        return trtnet.cat([one, other], 1)

    made = check(Model(function, **layers), as_on_a_gpu, IMAGE)
    assert targets(made).count("joined_product") == 1


def test_what_would_be_copied_is_not_joined(as_on_a_gpu, stand_ins):
    """cuDNN and normalisations read tensors without gaps."""
    conv = nn.Conv2d(7, 4, 3)
    model = Model(lambda m, x: (m.d(m.a(x)), m.d(m.b(x))), **point(7, 7), d=conv)
    assert "joined_product" not in targets(check(model, as_on_a_gpu, IMAGE))
    rows = Model(lambda m, x: (F.layer_norm(m.a(x), (7,)), m.b(x)), **linear(7, 3))
    assert "joined_product" not in targets(check(rows, as_on_a_gpu, ROWS))
    flat = Model(lambda m, x: (m.a(x).reshape(-1, 35), m.b(x)), **linear(7, 3))
    assert "joined_product" not in targets(check(flat, as_on_a_gpu, ROWS))


def test_results_that_are_too_large_together(as_on_a_gpu, stand_ins, monkeypatch):
    monkeypatch.setattr(joins, "_LARGEST", 2 * 5 * 10 * 2 - 1)
    model = Model(lambda m, x: (m.a(x), m.b(x)), **linear(7, 3))
    assert targets(check(model, as_on_a_gpu, ROWS)).count("product") == 2


@pytest.mark.parametrize("best", ["joined_product", "products_apart", "joined_library_product"])
def test_the_fastest_is_taken(best, as_on_a_gpu, stand_ins):
    def function(m, x, y):
        x, y = m.d(x), m.d(y)
        z = x + y
        return F.silu(m.a(z)), F.silu(m.b(z)), x, y

    model = Model(function, **linear(7, 3), d=nn.Linear(6, 6))
    module = as_on_a_gpu(filled(model), ROWS, ROWS)
    clock = Clock(lambda call: 1.0 if call.func.__name__ == best else 50.0)
    sizes = [(2, 5, 6), (2, 5, 6)]
    made = build(module, sizes, clock, level=2)
    assert best in targets(made)
    assert clock.tactics.count("joined_product") == clock.tactics.count("products_apart") == 1
    inputs = inputs_of(sizes)
    agree(outputs(made, inputs), outputs(module, inputs), 2e-3)


@pytest.mark.parametrize("microseconds", [99.0, 150.0])
def test_what_is_not_faster_is_undone(microseconds, as_on_a_gpu, stand_ins):
    model = Model(lambda m, x: (m.a(x), F.relu(m.c(m.b(x)))), **linear(7, 6, 4))
    module = as_on_a_gpu(filled(model), ROWS)
    clock = Clock(lambda call: microseconds if "join" in call.func.__name__ or "apart" in
                  call.func.__name__ else 1.0)  # fmt: skip
    made = build(module, [(2, 5, 6)], clock)
    made.graph.lint()
    assert targets(made).count("linear_of_columns") == 2
    assert targets(made).count("product") == 1  # which reads the result of one of them
    assert "cat" not in targets(made)
    inputs = inputs_of([(2, 5, 6)])
    agree(outputs(made, inputs), outputs(module, inputs), 2e-3)


def test_nothing_is_joined_at_level_0(as_on_a_gpu, stand_ins):
    module = as_on_a_gpu(filled(Model(lambda m, x: (m.a(x), m.b(x)), **linear(7, 3))), ROWS)
    made = build(module, [(2, 5, 6)], level=0)
    assert targets(made).count("linear_of_columns") == 2


def test_a_choice_is_found_again(as_on_a_gpu, stand_ins):
    module = as_on_a_gpu(filled(Model(lambda m, x: (m.a(x), m.b(x)), **linear(7, 3))), ROWS)
    cache, again = TimingCache({}), Clock()
    given = [((2, 5, 6), torch.float32)]
    first = Builder(3, cache, torch.device("cpu"), Clock()).build(module, given)
    second = Builder(3, cache, torch.device("cpu"), again).build(module, given)
    assert (again.tactics, again.kept) == ([], 0)
    assert first.code == second.code


def written(function, shapes, **sizes):
    """Checks a module of `function` of inputs of these shapes, and of stored tensors of `sizes` by
    name, after it is built; that is returned. Everything is in half precision."""
    graph, root = fx.Graph(), torch.nn.Module()
    generator = torch.Generator().manual_seed(0)
    for name, size in sizes.items():
        root.register_buffer(name, torch.randn(size, generator=generator).half() / 4)
    inputs = [graph.placeholder(f"x{i}") for i in range(len(shapes))]
    made = function(graph.call_function, *inputs, *map(graph.get_attr, sizes))
    graph.output({f"y{i}": node for i, node in enumerate(made)})
    for node in graph.nodes:
        node.meta.update(layer=node.name, half=True)
    module = fx.GraphModule(root, graph)
    builder = Builder(1, TimingCache({}), torch.device("cpu"), Clock())
    built = builder.build(module, [(shape, torch.float16) for shape in shapes])
    built.graph.lint()
    given = [x.half() for x in inputs_of(shapes)]
    agree(outputs(built, given), outputs(module, given), 2e-3)
    return built


def test_a_bias_that_is_computed(stand_ins):
    """It is known only after what reads the first product."""

    def function(call, x, b, one, two):
        window = ((1, 1), (0, 0), (1, 1), 1)
        first = call(torch.nn.functional.conv2d, (x, one, None, *window))
        bias = call(torch.tanh, (b,))
        second = call(torch.nn.functional.conv2d, (x, two, bias, *window))
        return [call(torch.cat, ([first, second], 1))]

    made = written(function, [(2, 8, 5, 4), (4,)], one=(6, 8, 1, 1), two=(4, 8, 1, 1))
    assert "joined_product" not in targets(made)


@pytest.mark.parametrize("is_swapped", [False, True])
@pytest.mark.parametrize("is_one", [False, True])
def test_a_weight_of_several_matrices(is_one, is_swapped, stand_ins):
    """(6, 1, 16) is six matrices, not one: neither is it joined to one, nor does it take the choice
    for one."""

    def function(call, x, one, several):
        x, y = x, x if is_one else call(torch.tanh, (x,))
        pairs = [(x, one), (y, several)]
        pairs = pairs[::-1] if is_swapped else pairs
        parts = [call(multiply, (x, weight, "NONE", "TRANSPOSE")) for x, weight in pairs]
        return [call(torch.tanh, (part,)) for part in parts]

    made = written(function, [(1, 5, 16)], one=(1, 6, 16), several=(6, 1, 16))
    assert targets(made).count("product") == targets(made).count("multiply") == 1
