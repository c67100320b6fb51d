"""Concatenations whose parts are written to their places, with PyTorch in the place of kernels,
against PyTorch's modules in float64."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tactics.networks import filled, inputs_of, outputs, targets
from tactics.stand_ins import Clock
from tactics.test_regions import Model, agree, build
from torchvision import models

from trtnet import nn, ops
from trtnet.engines.torch.alike import are_alike
from trtnet.engines.torch.tactics import concatenations
from trtnet.nn import functional as F
from trtnet.zoo.densenet import DenseNet

SIZE = (2, 8, 5, 4)
OURS = SimpleNamespace(nn=nn, F=F, cat=ops.cat, chunk=ops.chunk)
TORCH = SimpleNamespace(
    nn=torch.nn, F=torch.nn.functional, cat=torch.cat, chunk=torch.chunk
)  # fmt: skip


@pytest.fixture(autouse=True)
def any_size(monkeypatch):
    """Small images are worth it too."""
    monkeypatch.setattr(concatenations, "_LAUNCH", 1)


class Slow(Clock):
    """A clock for which some tactics are slower than the nodes that are there."""

    def __init__(self, *names):
        super().__init__(lambda call: 1000.0 if call.func.__name__ in names else 1.0)


class InTorch(torch.nn.Module):
    def __init__(self, layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)


def layers_of(lib):
    """Convolutions of each kind that the tests use, and normalisations of 8 to 32 channels."""
    convolutions = {f"point{i}": lib.nn.Conv2d(8, 8, 1) for i in range(3)}
    convolutions |= {f"wide{i}": lib.nn.Conv2d(8, 8, 3, padding=1) for i in range(4)}
    convolutions |= {f"plain{i}": lib.nn.Conv2d(8 * i + 8, 8, 3, padding=1, bias=False)
                     for i in range(4)}  # fmt: skip
    norms = {f"norm{i}": lib.nn.BatchNorm2d(8 * i + 8) for i in range(4)}
    more = {"pair": lib.nn.Conv2d(8, 16, 1), "last": lib.nn.Conv2d(24, 8, 1)}
    return {**convolutions, **norms, **more}


def check(function, as_on_a_gpu, clock=None, precision="fp16"):
    """What the built module calls; it gives what PyTorch's modules give, within some roundings, and
    the same again."""
    model = filled(Model(lambda m, x: function(m, x, OURS), **layers_of(OURS)))
    twin = InTorch(layers_of(TORCH)).eval()
    state = {name: torch.from_numpy(np.array(x)) for name, x in model.state_dict().items()}
    twin.load_state_dict(state, strict=False)
    made = build(as_on_a_gpu(model, ("N", *SIZE[1:]), precision=precision), [SIZE], clock)
    made.graph.lint()
    given = inputs_of([SIZE])
    with torch.no_grad():
        wanted = function(twin.double(), given[0].double(), TORCH)
    found = outputs(made, given)
    error = 4e-3 if precision == "fp16" else 3e-2
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert (one.double() - other).norm() <= error * other.norm()
    agree(outputs(made, given), found, 0)  # nothing is overwritten that is read
    return Counter(targets(made))


def dense(m, x, lib, count=4):
    """A block of DenseNet: all concatenations, and the tensors that they join."""
    features = [lib.F.max_pool2d(m.wide3(x), 3, 1, 1)]
    joined = []
    for i in range(count):
        joined.append(lib.cat(features, 1) if i else features[0])
        y = lib.F.relu(getattr(m, f"norm{i}")(joined[-1]))
        features.append(getattr(m, f"plain{i}")(y))
    return joined[1:], features


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_dense_block(precision, as_on_a_gpu, stand_ins):
    """Each new tensor is written once, the pooled one by its kernel, and no concatenation is
    made."""

    def function(m, x, lib):
        joined, _ = dense(m, x, lib)
        return (lib.F.relu(m.norm3(joined[-1])),)

    found = check(function, as_on_a_gpu, precision=precision)
    assert found["new_image"] == 1
    assert (found["put_images"], found["channels_of"]) == (3, 4)
    assert not {"cat", "joined_images", "packed_image"} & {*found}


def test_outputs_that_are_parts(as_on_a_gpu, stand_ins):
    """And the parts themselves, which others read."""

    def function(m, x, lib):
        joined, features = dense(m, x, lib)
        return joined[-1], *features[1:], lib.F.relu(features[1])

    found = check(function, as_on_a_gpu)
    assert found["new_image"] == 1


def test_what_reads_no_gaps_is_given_a_copy(as_on_a_gpu, stand_ins):
    """Here a convolution of the library reads the beginning of a tensor."""

    def function(m, x, lib):
        joined, _ = dense(m, x, lib)
        return lib.F.relu(m.norm3(joined[-1])), m.plain1(joined[0])

    found = check(function, as_on_a_gpu)
    assert found["new_image"] == found["packed_image"] == 1
    assert "cat" not in found


@pytest.mark.parametrize("kept", [(), ("pooled_image",)], ids=["timed", "kept"])
@pytest.mark.parametrize(
    "pool",
    [
        lambda lib, x: lib.F.max_pool2d(x, 3, 1, 1),
        lambda lib, x: lib.F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    ],
    ids=["largest", "average"],
)
def test_pools_write_to_their_places(pool, kept, as_on_a_gpu, stand_ins):
    """And read from there, with gaps or without."""

    def function(m, x, lib):
        y, z = (pool(lib, lib.F.relu(conv(x))) for conv in (m.wide0, m.wide1))
        joined = lib.cat([y, z], 1)
        return joined, pool(lib, joined), pool(lib, y)

    found = check(function, as_on_a_gpu, Slow(*kept))
    assert found["new_image"] == 1
    assert not {"cat", "joined_images", "put_images", "packed_image"} & {*found}
    assert ("pooled_image" in found) == (not kept)


def test_products_write_to_their_places(as_on_a_gpu, stand_ins):
    def function(m, x, lib):
        y = lib.F.max_pool2d(x, 3, 1, 1)
        parts = [lib.F.silu(m.point0(x)), lib.F.relu(m.point1(y)), lib.F.silu(m.wide0(x)) + y]
        return (m.last(lib.cat(parts, 1)),)

    found = check(function, as_on_a_gpu)
    assert found["new_image"] == 1
    assert not {"cat", "joined_images", "put_images", "packed_image"} & {*found}


@pytest.mark.parametrize("slow", [("product",), ("convolved",), ("convolved", "product")], ids=str)
def test_whatever_tactic_computes_the_parts(slow, as_on_a_gpu, stand_ins):
    """Of the library, some end with a pass that writes to the place, and some do not."""

    def function(m, x, lib):
        y = lib.F.max_pool2d(x, 3, 1, 1)
        parts = [lib.F.silu(m.point0(x)), m.point1(y), lib.F.silu(m.wide0(x))]
        return (m.last(lib.cat(parts, 1)),)

    found = check(function, as_on_a_gpu, Slow(*slow))
    assert found["new_image"] == 1
    assert found["put_images"] == ("product" in slow)
    assert not {"cat", "joined_images"} & {*found}


def test_halves_of_one_tensor_and_what_is_made_of_them(as_on_a_gpu, stand_ins):
    """As in the blocks of YOLOv8: both halves are written at once."""

    def function(m, x, lib):
        both = lib.F.silu(m.pair(x))
        one, other = lib.chunk(both, 2, 1)
        more = lib.F.silu(m.wide1(lib.F.silu(m.wide0(other)))) + other
        return (m.last(lib.cat([one, other, more], 1)),)

    found = check(function, as_on_a_gpu)
    assert found["new_image"] == 1
    assert not {"cat", "joined_images", "put_images"} & {*found}


@pytest.mark.parametrize("order", [(1, 0), (0, 0, 1), (1,)], ids=str)
def test_parts_of_a_tensor_in_another_order(order, as_on_a_gpu, stand_ins):
    def function(m, x, lib):
        halves = lib.chunk(lib.F.silu(m.pair(x)), 2, 1)
        more = lib.F.silu(m.point0(x))
        return (lib.cat([more, *(halves[i] for i in order)], 1),)

    check(function, as_on_a_gpu)


def test_a_part_that_others_read_without_gaps_is_copied(as_on_a_gpu, stand_ins):
    def function(m, x, lib):
        one, other = lib.F.silu(m.point0(x)), lib.F.silu(m.point1(x + 1))
        return lib.cat([one, other], 1), m.plain0(one), one

    found = check(function, as_on_a_gpu)
    assert found["new_image"] == found["put_images"] == 1


def test_one_tensor_twice(as_on_a_gpu, stand_ins):
    def function(m, x, lib):
        one, other = lib.F.silu(m.point0(x)), lib.F.silu(m.point1(x + 1))
        return lib.cat([one, other, one], 1), lib.cat([other, one], 1)

    found = check(function, as_on_a_gpu)
    assert found["new_image"] == 1
    assert found["channels_of"] >= 4


def test_a_concatenation_of_concatenations(as_on_a_gpu, stand_ins):
    def function(m, x, lib):
        one, other = lib.F.silu(m.point0(x)), lib.F.silu(m.point1(x + 1))
        inner = lib.cat([one, other], 1)
        return lib.F.relu(m.norm1(inner)), lib.cat([inner, lib.F.silu(m.point2(x - 1))], 1)

    found = check(function, as_on_a_gpu)
    assert found["new_image"] == 1
    assert not {"cat", "joined_images", "put_images", "packed_image"} & {*found}


def test_a_tensor_of_two_concatenations(as_on_a_gpu, stand_ins):
    """It is written to its place in one, and copied to the other."""

    def function(m, x, lib):
        one, two, three = (lib.F.silu(getattr(m, f"point{i}")(x + i)) for i in range(3))
        return lib.cat([one, two, one], 1), lib.cat([three, two], 1)

    found = check(function, as_on_a_gpu)
    assert found["new_image"] == found["put_images"] == 2
    assert not {"cat", "packed_image"} & {*found}


@pytest.mark.parametrize("axis", [0, 2, 3])
def test_other_axes_stay(axis, as_on_a_gpu, stand_ins):
    def function(m, x, lib):
        return (lib.cat([lib.F.silu(m.point0(x)), lib.F.silu(m.point1(x + 1))], axis),)

    assert "new_image" not in check(function, as_on_a_gpu)


def test_what_moves_as_much_stays(as_on_a_gpu, stand_ins):
    """Nothing could write to its place; it may be joined by another kernel."""

    def function(m, x, lib):
        return (lib.cat([m.plain0(x), m.plain0(x + 1)], 1),)

    assert check(function, as_on_a_gpu)["joined_images"] == 1
    assert check(function, as_on_a_gpu, Slow("joined_images"))["cat"] == 1


def test_kernels_that_do_not_compile(as_on_a_gpu, stand_ins, monkeypatch):
    def fail(self):
        yield lambda: 1 / 0

    def function(m, x, lib):
        return (lib.cat([lib.F.silu(m.point0(x)), lib.F.silu(m.point1(x + 1))], 1),)

    monkeypatch.setattr(concatenations._Plan, "_calls", fail)
    monkeypatch.setattr(concatenations._Plan, "compiles", _as_on_cuda)
    with pytest.warns(RuntimeWarning, match="could not be compiled"):
        found = check(function, as_on_a_gpu)
    assert "new_image" not in found


_compiles = concatenations._Plan.compiles


def _as_on_cuda(self, device):
    return _compiles(self, torch.device("cuda"))


def test_what_is_compiled_is_what_runs(as_on_a_gpu, stand_ins, monkeypatch):
    """Kernels are compiled for tensors without memory, laid out as the real ones."""

    def function(m, x, lib):
        joined, _ = dense(m, x, lib)
        parts = [lib.F.silu(m.point0(x)), lib.F.silu(m.wide0(x))]
        return lib.F.relu(m.norm3(joined[-1])), lib.cat(parts, 1)

    monkeypatch.setattr(concatenations._Plan, "compiles", _as_on_cuda)
    assert check(function, as_on_a_gpu)["new_image"] == 2


def test_two_builds_are_alike(as_on_a_gpu, stand_ins):
    """So that a refit keeps captured graphs."""

    def function(m, x):
        return dense(m, x, OURS)[0][-1]

    made = [
        build(
            as_on_a_gpu(filled(Model(function, **layers_of(OURS)), seed), ("N", *SIZE[1:])), [SIZE]
        )
        for seed in (0, 1)
    ]
    assert "new_image" in targets(made[0])
    assert are_alike(*made)


def test_densenet(as_on_a_gpu, stand_ins):
    """Each of its blocks has one tensor."""
    ours = DenseNet(8, (3, 2), 16, num_classes=5)
    theirs = models.DenseNet(8, (3, 2), 16, num_classes=5).eval()
    state = {name: x.numpy() for name, x in theirs.state_dict().items()}
    ours.load_state_dict({name: x for name, x in state.items() if "num_batches" not in name})
    shape = (2, 3, 64, 48)
    made = build(as_on_a_gpu(ours, ("N", *shape[1:])), [shape])
    found = Counter(targets(made))
    assert (found["new_image"], found["put_images"]) == (2, 5)
    assert not {"cat", "joined_images", "packed_image"} & {*found}
    (x,) = inputs_of([shape])
    (y,) = outputs(made, [x])
    with torch.no_grad():
        wanted = theirs.double()(x.double())
    assert (y.double() - wanted).norm() <= 4e-3 * wanted.norm()
