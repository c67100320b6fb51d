"""Kernels that are written for a graph, against PyTorch, which runs the nodes one by one."""

from __future__ import annotations

import operator
import re

import pytest
import torch
import torch.nn.functional as F
from tactics.drafts import Draft, deformable

from trtnet.engines.torch.tactics.elements import rewrite
from trtnet.engines.torch.tactics.elements.kernel import Kernel
from trtnet.engines.torch.tactics.movement import take_rows
from trtnet.reference import elementwise
from trtnet.reference.index import gather_elements, select_k, take
from trtnet.reference.module_builder import is_kept
from trtnet.reference.rearrange import cut, insert_axes, remove_axes, transpose_reshape
from trtnet.reference.reduction import mean

LAST = torch.channels_last
STRICT = {"axes": None, "mode": "STRICT_BOUNDS"}


@pytest.fixture
def written(monkeypatch, place):
    """Writes the kernels of a draft, runs them, and compares; the texts of the kernels."""
    texts = []
    run = Kernel.run

    def recorded(kernel, *operands):
        texts.append(kernel.source)
        return run(kernel, *operands)

    monkeypatch.setattr(rewrite, "_on_gpu", lambda x: True)
    monkeypatch.setattr(Kernel, "run", recorded)

    def compare(draft, *outputs, launches=1, exact=True):
        module = draft.module(*outputs).to(place)
        inputs = [x.to(place) for x in draft.inputs]
        wanted = module(*inputs)
        count = rewrite.write_kernels(module, place)
        texts.clear()  # of calls that only compile
        found = module(*inputs)
        assert count == len(texts) == launches
        assert not any(node.target in (torch.add, torch.mul) for node in module.graph.nodes)
        for key, value in wanted.items():
            assert found[key].shape == value.shape
            if exact:
                torch.testing.assert_close(found[key], value, rtol=0, atol=0, equal_nan=True)
            else:
                torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-6, equal_nan=True)
        return texts

    return compare


def test_functions_of_single_elements(written):
    x, y = torch.randn(3, 5), torch.randn(1, 5)
    x[0] = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 0.0])
    d = Draft(x=x, y=y)
    a, b = d["x"], d["y"]
    some = [d(f, a, b) for f in (torch.add, torch.sub, torch.mul, torch.div, torch.maximum)]
    some += [d(f, some[0]) for f in (torch.neg, torch.abs, torch.floor, torch.ceil, torch.relu)]
    some += [d(elementwise.clip, some[1], -0.5, 0.5), d(elementwise.clip, some[1], 0.5, -0.5)]
    compared = [d(f, a, b) for f in (torch.gt, torch.ge, torch.lt, torch.le, torch.eq, torch.ne)]
    logic = [d(f, *compared[:2]) for f in (torch.logical_and, torch.logical_or, torch.logical_xor)]
    some += [*logic, d(torch.logical_not, logic[0]), d(torch.where, compared[0], a, some[2])]
    some += [d.cast(x, torch.int32) for x in logic]
    written(d, *some)


def test_functions_that_are_rounded_otherwise(written):
    d = Draft(x=torch.rand(4, 7) + 0.5)
    written(d, *(d(f, d["x"]) for f in (torch.exp, torch.log, torch.sigmoid, torch.sqrt)),
            exact=False)  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_after_each_function(dtype, written):
    x, y = torch.randn(3, 40) * 100, torch.randn(40)
    if dtype is torch.bfloat16:  # which Triton's interpreter does not round to
        x, y = x.clamp(-100, 100).round() % 8, y.round()
    d = Draft(x=x.to(dtype), y=y.to(dtype))
    total = d(torch.add, d(torch.mul, d["x"], d["y"]), d["x"])
    written(d, total, d.cast(total, torch.float32))


def test_integers(written):
    d = Draft(x=torch.arange(-9, 9), y=torch.tensor([4, -4, 3]).repeat(6))
    parts = [d(f, d["x"], d["y"]) for f in (torch.add, torch.sub, torch.mul, torch.maximum)]
    parts.append(d(elementwise.integer_floor_divide, d["x"], d["y"]))
    written(d, *parts, d.cast(parts[-1], torch.float32))


def test_movements(written):
    d = Draft(x=torch.randn(2, 6, 4, 5), axes=torch.tensor([1]))
    axes = d.stored(torch.tensor([1]))
    x = d(torch.add, d["x"], d["x"])
    parts = [
        d(torch.reshape, x, (2, 3, 8, 5)),
        d(torch.permute, x, (0, 2, 3, 1)),
        d(insert_axes, x, axes),
        d(remove_axes, d(cut, x, (0, 3, 0, 0), (2, 1, 4, 5), (1, 1, 1, 1), **STRICT), axes),
        d(cut, x, (1, 5, 0, 4), (1, 3, 4, 3), (1, -2, 1, -1), **STRICT),
        d(cut, d(insert_axes, x, axes), (0,) * 5, (2, 3, 6, 4, 5), (1, 0, 1, 1, 1), **STRICT),
        d(transpose_reshape, x, (0, 10, -1), first=(0, 3, 1, 2), second=(2, 0, 1),
          zero_copies=True),
    ]  # fmt: skip
    doubled = [d(torch.mul, part, part) for part in parts]
    written(d, *doubled)


def test_filled_slices(written):
    d = Draft(x=torch.randn(2, 5))
    fill = d.stored(torch.tensor(-torch.inf))
    x = d(torch.mul, d["x"], d["x"])
    filled = d(cut, x, (0, -1), (2, 9), (1, 1), axes=None, mode="FILL", fill=fill)
    zeros = d(cut, x, (0, -1), (2, 9), (1, 1), axes=None, mode="FILL")
    written(d, filled, d(torch.add, zeros, zeros))


def test_a_slice_of_one_outside(written):
    d = Draft(x=torch.randn(2, 5))
    x = d(torch.mul, d["x"], d["x"])
    parts = [d(cut, x, (0, at), (2, 1), (1, 1), axes=None, mode="FILL") for at in (-1, 2, 5)]
    parts.append(d(cut, x, (-1, 0), (1, 5), (1, 1), axes=None, mode="FILL"))
    written(d, *(d(torch.add, part, d["x"]) for part in parts))


def test_concatenations_of_images_in_their_layout(written):
    maps = {
        f"x{i}": torch.randn(2, 6, n, n).to(memory_format=LAST) for i, n in enumerate((4, 3, 1))
    }
    d = Draft(**maps)
    parts = [
        d(torch.permute, d(torch.reshape, d[name], (2, 6, -1)), (0, 2, 1)) for name in maps
    ]  # fmt: skip
    written(d, d(torch.maximum, d(torch.cat, parts, 1), d.stored(torch.zeros(()))))


def test_a_result_keeps_its_layout(written, place):
    d = Draft(x=torch.randn(2, 3, 4, 5).to(memory_format=LAST))
    module_of = d(torch.mul, d(torch.add, d["x"], d["x"]), d["x"])
    assert module_of.meta["value"].is_contiguous(memory_format=LAST)
    kernel = Kernel([module_of], [d["x"]], place, [module_of.meta["value"]])
    (found,) = kernel.run(d.inputs[0].to(place))
    assert found.is_contiguous(memory_format=LAST)
    torch.testing.assert_close(found.cpu(), d.inputs[0] * 2 * d.inputs[0], rtol=0, atol=0)


def test_gathers(written):
    d = Draft(x=torch.randn(2, 9, 3), at=torch.randint(-9, 9, (2, 4, 3)), one=torch.tensor([3, -1]))
    x = d(torch.add, d["x"], d["x"])
    taken = d(take, x, d["one"], 1, 0)
    some = d(cut, d(torch.reshape, d["at"], (2, 12)), (0, 0), (2, 5), (1, 1), **STRICT)
    by_row = d(take, x, some, 1, 1)
    rows = d.stored(torch.tensor([17, 0, 5, 5], dtype=torch.int32))
    written(d, d(gather_elements, x, d["at"], 1), taken, by_row, d(take_rows, x, rows, (2, 2, 3)))


@pytest.mark.parametrize("size", [5, 8, 80])
def test_reductions(size, written):
    x = torch.randn(3, size, 2)
    x[0, 2, 0], x[1] = torch.nan, -torch.inf
    d = Draft(x=x)
    y = d(torch.add, d["x"], d.stored(torch.zeros(())))
    whole = d.cast(d(torch.gt, y, d["x"]), torch.int64)
    parts = [d(torch.amax, y, (1,), False), d(torch.amin, y, (1,), True)]
    parts.append(d(torch.sum, whole, (1,), True, dtype=torch.int64))
    written(d, *parts)


def test_sums(written):
    d = Draft(x=torch.randn(3, 30, 2))
    written(d, d(torch.sum, d(torch.mul, d["x"], d["x"]), (1,), False), exact=False)


@pytest.mark.parametrize("size", [1, 5, 80])
def test_a_vector_of_each_image_is_divided_by_its_mean(size, written):
    """Of numbers whose sums are exact."""
    x = torch.arange(3 * size).reshape(3, 1, 1, size).half() % 16
    d = Draft(x=x, y=torch.full((1, 1, 1, 1), 0.5).half())
    total = d(torch.add, d(mean, d["x"], (3,), True), d["y"])
    written(d, d(torch.div, d["x"], total), d(mean, d.cast(d["x"], torch.float32), (-1,), False))


def test_images_in_half_precision(written, place):
    """One launch for the functions of single elements; where elements are moved none."""
    d = Draft(
        x=torch.randn(2, 6, 4, 5).half().to(memory_format=LAST), y=torch.randn(2, 6, 1, 1).half()
    )
    x = d(torch.mul, d["x"], d["y"])
    written(d, d(torch.add, x, d["x"]), d(torch.permute, x, (0, 2, 3, 1)))
    d = Draft(x=torch.randn(2, 6, 4, 5).half())
    joined = d(torch.cat, [d["x"], d["x"]], 1)
    module = d.module(d(torch.amax, joined, (1,), True), d(mean, joined, (2, 3), True))
    assert rewrite.write_kernels(module, place) == 0


def test_means_of_many_elements_that_lie_apart_are_left(place):
    d = Draft(x=torch.randn(2, 40, 6))
    module = d.module(d(torch.exp, d(mean, d(torch.exp, d["x"]), (1,), True)))
    assert rewrite.write_kernels(module, place) == 0


@pytest.mark.parametrize("largest", [True, False])
def test_the_first_of_the_best(largest, written):
    x = torch.randint(0, 4, (6, 30)).float()
    x[0, 7], x[1], x[2, 3:] = torch.nan, -torch.inf, torch.nan
    d = Draft(x=x)
    y = d(torch.mul, d["x"], d["x"])
    chosen = d(select_k, y, 1, 1, largest=largest, index_dtype=torch.int32)
    index = d(operator.getitem, chosen, 1)
    written(d, d(operator.getitem, chosen, 0), d.cast(index, torch.int64))


def test_expectations_of_a_softmax(written):
    """As the distances of YOLOv8 and the attention of deformable attention."""
    d = Draft(x=torch.randn(2, 3, 4, 16))
    weights = d(torch.softmax, d["x"], 3)
    values = d.stored(torch.arange(16.0))
    written(d, d(torch.sum, d(torch.mul, weights, values), (3,), False), exact=False)


@pytest.mark.parametrize("aligned", [True, False])
def test_samples_between_pixels(aligned, written):
    d = Draft(image=torch.randn(2, 3, 5, 4), grid=torch.rand(2, 6, 2, 2) * 3 - 1.5)
    found = d(F.grid_sample, d["image"], d["grid"], "bilinear", "zeros", aligned)
    written(d, d(torch.sum, d(torch.mul, found, found), (3,), False), exact=False)


@pytest.mark.parametrize("width", [16, 8, 6, 4])
def test_the_channels_of_a_head_share_the_places_that_they_read(width, written):
    """Deformable attention, which is written in rows, as the product reads it."""
    d, attended, product = deformable(2, 5, 2, width, ((4, 5), (3, 2)), (3, 4))
    (text,) = written(d, product, exact=False)
    assert attended.meta["value"].stride(-1) != 1
    assert (f"v0_i = tl.arange(0, {width})[None, :]" in text) == (width % 8 == 0)


def test_attention_beside_queries_is_read_by_kernels_in_rows(written):
    """As D-FINE's gates read it: joined with the queries by a product, and alone afterwards."""
    d, attended, product = deformable(1, 60, 2, 16, ((4, 5), (3, 2)), (3, 4))
    d.graph.erase_node(product)
    queries = d(torch.reshape, d.stored(torch.randn(60 * 32)), (1, 60, 32))
    joined = d(torch.cat, [queries, attended], 2)
    gates = d(F.linear, joined, d.stored(torch.randn(32, 64)))
    gated = d(torch.mul, d(torch.sigmoid, gates), attended)
    text, _ = written(d, gated, launches=2, exact=False)
    assert text.count("_i = tl.arange(0, 16)[None, :]") == text.count("tl.store")


def test_a_sum_of_concatenated_integers_is_that_of_the_parts(written):
    d = Draft(x=torch.randint(-9, 9, (4, 5, 3)), y=torch.randint(-9, 9, (4, 2, 3)))
    parts = [d(torch.mul, d[name], d[name]) for name in ("x", "y", "x")]
    along = d(torch.sum, d(torch.cat, parts, 1), (1,), True)
    (text,) = written(d, along, d(torch.sum, d(torch.cat, parts[:2], 1), (2,), False))
    assert set(re.findall(r"arange\(0, (\d+)\)\[None", text)) == {"8", "2", "4"}


def test_products_with_few_columns(written):
    d = Draft(x=torch.randint(0, 9, (2, 5, 12)).float())
    table = d.stored(torch.randint(0, 9, (1, 12, 2)).float())
    written(d, d(torch.matmul, d(torch.add, d["x"], d["x"]), table))


def test_what_a_launch_computes_anyway_is_written_for_later_ones(written):
    """Boxes of a decoder's layer: their halves go into a product, they into the next layer."""
    d = Draft(x=torch.randn(3, 4), weight=torch.randn(2, 4).half(), wide=torch.randn(500, 3, 4))
    boxes = d(torch.sigmoid, d(torch.neg, d["x"]))
    product = d(F.linear, d.cast(boxes, torch.float16), d["weight"])
    part = d(cut, product, (0, 0), (3, 1), (1, 1), **STRICT)
    later = d(torch.sub, d(torch.div, d["wide"], boxes), d.cast(part, torch.float32))
    first, second = written(d, later, launches=2, exact=False)
    assert first.count("tl.store") == 2
    assert "tl.exp" in first
    assert "tl.exp" not in second


def test_what_is_written_beside_others_is_not_waited_for(written):
    """A product needs both of its operands at once: one launch computes them."""
    d = Draft(x=torch.randn(3, 4), wide=torch.randn(2, 4))
    boxes = d(torch.sigmoid, d(torch.neg, d["x"]))
    first = d(cut, boxes, (1, 0), (1, 4), (1, 1), **STRICT)
    other = d.cast(d(torch.neg, d(torch.div, d["wide"], first)), torch.float16)
    (text,) = written(d, d(F.linear, d.cast(boxes, torch.float16), other), exact=False)
    assert text.count("tl.store") == 3


def test_a_sum_in_a_sum_is_computed_before(written):
    d = Draft(x=torch.randint(-9, 9, (4, 6, 10)).float())  # of which sums in any order are exact
    inner = d(torch.sum, d(torch.mul, d["x"], d["x"]), (2,), True)
    written(d, d(torch.sum, d(torch.mul, inner, d["x"]), (2,), False), launches=2)


def test_a_long_chain_is_cut(written):
    """Else the reader of the nodes would reach Python's limit, and Triton take minutes."""
    d = Draft(x=torch.randn(4, 6))
    x = d["x"]
    for _ in range(200):
        x = d(torch.neg, d(torch.abs, x))
    written(d, x, launches=7)


def test_what_is_used_twice_again_and_again_is_planned_once(written):
    """As many ways through the graph lead to its beginning as 2³⁰."""
    d = Draft(x=torch.randn(4, 6))
    x = d["x"]
    for _ in range(30):
        x = d(torch.maximum, x, d(torch.neg, x))
    written(d, x)


def test_nothing_is_read_behind_the_last_element(written):
    """Also by a softmax in a sum, which is computed for all positions at once."""
    d = Draft(x=torch.randn(5, 3, 11))
    product = d(torch.mul, d(torch.softmax, d["x"], 2), d.stored(torch.arange(11.0)))
    for text in written(d, d(torch.sum, product, (2,), False), exact=False):
        lines = dict(line.strip().split(" = ", 1) for line in text.splitlines() if " = " in line)
        loads = [line for line in lines.values() if "tl.load(" in line]
        masks = [re.search(r", (\w+)(\[:, None\])?, 0\)$", line) for line in loads]
        assert masks
        assert all(masks)
        for mask in masks:
            name = mask[1]
            while name != "v0_inside":  # a part of each mask, and the first of its parts
                name = re.match(r"\((\w+)(\[:, None\])? & ", lines[name])[1]


def test_numbers_in_calls_and_long_concatenations_are_left(place):
    d = Draft(x=torch.randn(4, 6))
    compared = d(torch.ne, d["x"], 0.0)
    parts = [d(torch.neg, d["x"]) for _ in range(40)]
    module = d.module(d(torch.logical_not, compared), d(torch.cat, parts, 1))
    rewrite.write_kernels(module, place)
    assert {torch.ne, torch.cat} <= {node.target for node in module.graph.nodes}


def test_what_others_need_is_computed_before_them(written):
    """Also where a view of it stands before what is computed with it."""
    d = Draft(x=torch.randn(4, 6))
    y = d(torch.mul, d(torch.add, d["x"], d["x"]), d["x"])
    view = d(torch.reshape, y, (6, 4))
    ranks = d(torch.cumsum, view, 0)
    written(d, d(torch.add, d(torch.mul, ranks, view), view), launches=2)


def test_nothing_is_written_for_a_single_function(place):
    d = Draft(x=torch.randn(4, 6))
    module = d.module(d(torch.add, d["x"], d["x"]))
    assert rewrite.write_kernels(module, place) == 0
    assert all(is_kept(node) or node.target is torch.add for node in module.graph.nodes)
