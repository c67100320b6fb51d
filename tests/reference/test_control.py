"""Loops and conditionals; what TensorRT refuses when it builds, the reference refuses."""

from __future__ import annotations

import numpy as np
import pytest

from trtnet import graph, reference
from trtnet.errors import NetworkError


class Loop:
    """A loop that sums the rows of x: total = total + row."""

    def __init__(self, raw, x, axis=0, reverse=False, start=0.0):
        self.raw, self.loop = raw, raw.net.add_loop()
        self.row = self.loop.add_iterator(x, axis, reverse).get_output(0)
        first = raw.const(np.full(tuple(self.row.shape), start), np.float32)
        self.recurrence = self.loop.add_recurrence(first)
        self.total = self.recurrence.get_output(0)
        add = raw.trt.ElementWiseOperation.SUM
        self.next = raw.net.add_elementwise(self.total, self.row, add).get_output(0)
        self.recurrence.set_input(1, self.next)

    def count(self, trips):
        trips = self.raw.const(trips, np.int32) if isinstance(trips, int) else trips
        self.loop.add_trip_limit(trips, self.raw.trt.TripLimit.COUNT)
        return self

    def until(self, condition):
        self.loop.add_trip_limit(condition, self.raw.trt.TripLimit.WHILE)
        return self

    def output(self, tensor, kind="LAST_VALUE", length=None, axis=0):
        layer = self.loop.add_loop_output(tensor, getattr(self.raw.trt.LoopOutput, kind), axis)
        if length is not None:
            layer.set_input(1, self.raw.const(length, np.int32))
        return layer


@pytest.fixture
def rows(rng):
    return rng.standard_normal((5, 3)).astype(np.float32)


def test_every_control_flow_enum_is_tested(rtx):
    assert set(rtx.trt.LoopOutput.__members__) == {"LAST_VALUE", "CONCATENATE", "REVERSE"}
    assert set(rtx.trt.TripLimit.__members__) == {"COUNT", "WHILE"}


@pytest.mark.parametrize(("axis", "trips"), [(0, 5), (0, 3), (1, 3), (0, 1)])
@pytest.mark.parametrize("reverse", [False, True])
def test_last_value_of_a_counted_loop(raw, rows, axis, trips, reverse):
    loop = Loop(raw, raw.input(rows), axis, reverse).count(trips)
    expected = np.moveaxis(rows, axis, 0)[:trips].astype(np.float64).sum(0)
    np.testing.assert_allclose(raw.run(loop.output(loop.total), True)[0], expected, rtol=1e-13)


def test_reverse_iterators_count_down_from_the_trip_limit(raw, rows):
    loop = Loop(raw, raw.input(rows), reverse=True).count(3)
    layer = loop.output(loop.row, "CONCATENATE", 3)
    np.testing.assert_array_equal(raw.run(layer)[0], rows[2::-1])


def test_no_iteration_gives_the_first_value(raw, rows):
    loop = Loop(raw, raw.input(rows), start=7.0).count(0)
    np.testing.assert_array_equal(raw.run(loop.output(loop.total))[0], [7, 7, 7])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("kind", ["CONCATENATE", "REVERSE"])
@pytest.mark.parametrize(("trips", "length"), [(4, 4), (3, 5), (0, 2)])
def test_outputs_that_line_up_iterations(raw, rows, axis, kind, trips, length):
    loop = Loop(raw, raw.input(rows)).count(trips)
    layer = loop.output(loop.next, kind, length, axis)
    sums = np.zeros((length, 3))  # TensorRT leaves open what stands behind the last iteration
    sums[:trips] = np.cumsum(rows.astype(np.float64), 0)[:trips]
    expected = np.moveaxis(sums[::-1] if kind == "REVERSE" else sums, 0, axis)
    np.testing.assert_allclose(raw.run(layer, True)[0], expected, rtol=1e-13)


def test_trip_count_and_sizes_that_are_known_only_at_run_time(raw, rows):
    x = raw.input(rows, dynamic=(0, 1))
    sizes = raw.net.add_shape(x).get_output(0)
    count = raw.net.add_gather(sizes, raw.const(0, np.int32), 0).get_output(0)
    loop = raw.net.add_loop()
    trips = raw.net.add_cast(count, raw.trt.int32).get_output(0)
    loop.add_trip_limit(trips, raw.trt.TripLimit.COUNT)
    row = loop.add_iterator(x).get_output(0)
    layer = loop.add_loop_output(row, raw.trt.LoopOutput.REVERSE)
    layer.set_input(1, trips)
    np.testing.assert_array_equal(raw.run(layer)[0], rows[::-1])


def test_while_stops_before_the_iteration_and_before_the_count(raw):
    """total doubles while it is below 20, at most 10 times."""
    loop = raw.net.add_loop()
    recurrence = loop.add_recurrence(raw.const(3.0))
    total = recurrence.get_output(0)
    ops = raw.trt.ElementWiseOperation
    recurrence.set_input(1, raw.net.add_elementwise(total, total, ops.SUM).get_output(0))
    below = raw.net.add_elementwise(total, raw.const(20.0), ops.LESS).get_output(0)
    loop.add_trip_limit(below, raw.trt.TripLimit.WHILE)
    loop.add_trip_limit(raw.const(10, np.int32), raw.trt.TripLimit.COUNT)
    assert raw.run(loop.add_loop_output(total, raw.trt.LoopOutput.LAST_VALUE)) == [24.0]


def test_a_while_loop_does_not_read_behind_its_last_iteration(raw, rows):
    """The condition is false before the iterator would leave the tensor."""
    loop = Loop(raw, raw.input(rows))
    number = loop.loop.add_recurrence(raw.const(0, np.int32))
    ops = raw.trt.ElementWiseOperation
    one, five = raw.const(1, np.int32), raw.const(5, np.int32)
    index = number.get_output(0)
    number.set_input(1, raw.net.add_elementwise(index, one, ops.SUM).get_output(0))
    loop.until(raw.net.add_elementwise(index, five, ops.LESS).get_output(0))
    found = raw.run(loop.output(loop.total), True)[0]
    np.testing.assert_allclose(found, rows.astype(np.float64).sum(0), rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_recurrent_network(raw, rng, dtype):
    """h = tanh(x W + h U), against a plain loop; weights are captured from outside."""
    x, w, u = (rng.standard_normal(shape).astype(dtype) for shape in ((6, 2, 4), (4, 3), (3, 3)))
    loop, none = raw.net.add_loop(), raw.trt.MatrixOperation.NONE
    loop.add_trip_limit(raw.const(6, np.int32), raw.trt.TripLimit.COUNT)
    row = loop.add_iterator(raw.input(x)).get_output(0)
    state = loop.add_recurrence(raw.const(np.zeros((2, 3)), dtype))
    left = raw.net.add_matrix_multiply(row, none, raw.input(w), none).get_output(0)
    right = raw.net.add_matrix_multiply(state.get_output(0), none, raw.input(u), none)
    total = raw.net.add_elementwise(
        left, right.get_output(0), raw.trt.ElementWiseOperation.SUM
    ).get_output(0)
    after = raw.net.add_activation(total, raw.trt.ActivationType.TANH).get_output(0)
    state.set_input(1, after)
    layer = loop.add_loop_output(after, raw.trt.LoopOutput.CONCATENATE)
    layer.set_input(1, raw.const(6, np.int32))
    h, expected = np.zeros((2, 3), dtype), []
    for step in x:
        parts = [(a.astype(np.float32) @ b.astype(np.float32)).astype(dtype)
                 for a, b in ((step, w), (h, u))]  # fmt: skip
        sum_ = (parts[0].astype(np.float32) + parts[1].astype(np.float32)).astype(dtype)
        h = np.tanh(sum_.astype(np.float32)).astype(dtype)
        expected.append(h)
    tolerance = 1e-6 if dtype == np.float32 else 2**-10  # one unit in the last place
    np.testing.assert_allclose(raw.run(layer)[0], expected, rtol=tolerance, atol=tolerance)


def test_nested_loops(raw, rng):
    """The outer loop goes through matrices, the inner one sums the rows of each."""
    x = rng.standard_normal((4, 5, 3)).astype(np.float32)
    outer = raw.net.add_loop()
    outer.name = "outer"
    outer.add_trip_limit(raw.const(4, np.int32), raw.trt.TripLimit.COUNT)
    inner = Loop(raw, outer.add_iterator(raw.input(x)).get_output(0)).count(5)
    inner.loop.name = "inner"
    total = inner.output(inner.total).get_output(0)
    doubled = raw.net.add_elementwise(total, total, raw.trt.ElementWiseOperation.SUM)
    layer = outer.add_loop_output(doubled.get_output(0), raw.trt.LoopOutput.CONCATENATE)
    layer.set_input(1, raw.const(4, np.int32))
    expected = 2 * x.astype(np.float64).sum(1)
    np.testing.assert_allclose(raw.run(layer, True)[0], expected, rtol=1e-13)
    code = reference.compile(graph.read(raw.net)).code
    assert "outer_all = self.outer(" in code


def conditional(raw, condition, x):
    """exp(x) or the sum of x with itself, as different shapes are allowed: one is twice as long."""
    decision = raw.net.add_if_conditional()
    decision.set_condition(condition)
    inner = decision.add_input(x).get_output(0)
    then = raw.net.add_unary(inner, raw.trt.UnaryOperation.EXP).get_output(0)
    otherwise = raw.net.add_concatenation([inner, inner]).get_output(0)
    return decision.add_output(then, otherwise)


@pytest.mark.parametrize("condition", [True, False])
def test_conditional(raw, rng, condition):
    x = rng.standard_normal(4).astype(np.float32)
    layer = conditional(raw, raw.input(np.array(condition)), raw.input(x))
    wide = x.astype(np.float64)
    expected = np.exp(wide) if condition else np.concatenate([wide, wide])
    np.testing.assert_allclose(raw.run(layer, True)[0], expected, rtol=1e-14)


def test_only_the_branch_taken_runs(raw):
    """The other branch would fail: it reshapes 4 elements into 5."""
    x = np.arange(4, dtype=np.float32)
    decision = raw.net.add_if_conditional()
    decision.set_condition(raw.input(np.array(True)))
    inner = decision.add_input(raw.input(x, dynamic=(0,))).get_output(0)
    reshape = raw.net.add_shuffle(inner)
    reshape.reshape_dims = (5,)
    then = raw.net.add_unary(inner, raw.trt.UnaryOperation.NEG).get_output(0)
    np.testing.assert_array_equal(raw.run(decision.add_output(then, reshape.get_output(0)))[0], -x)


def test_a_conditional_inside_of_a_loop(raw, rng):
    """Adds a row if its first element is positive, subtracts it otherwise."""
    x = rng.standard_normal((6, 3)).astype(np.float32)
    ops = raw.trt.ElementWiseOperation
    loop = raw.net.add_loop()
    loop.add_trip_limit(raw.const(6, np.int32), raw.trt.TripLimit.COUNT)
    row = loop.add_iterator(raw.input(x)).get_output(0)
    state = loop.add_recurrence(raw.const(np.zeros(3)))
    first = raw.net.add_gather(row, raw.const(0, np.int32), 0).get_output(0)
    decision = raw.net.add_if_conditional()
    decision.set_condition(
        raw.net.add_elementwise(first, raw.const(0.0), ops.GREATER).get_output(0)
    )
    a, b = (decision.add_input(t).get_output(0) for t in (state.get_output(0), row))
    sums = [raw.net.add_elementwise(a, b, op).get_output(0) for op in (ops.SUM, ops.SUB)]
    state.set_input(1, decision.add_output(*sums).get_output(0))
    layer = loop.add_loop_output(state.get_output(0), raw.trt.LoopOutput.LAST_VALUE)
    signs = np.where(x[:, :1] > 0, 1, -1)
    expected = (signs * x.astype(np.float64)).sum(0)
    np.testing.assert_allclose(raw.run(layer, True)[0], expected, rtol=1e-12)


def test_two_loops_of_one_name_are_told_apart(raw, rows):
    x = raw.input(rows)
    loops = [Loop(raw, x).count(n) for n in (2, 4)]
    for loop in loops:
        loop.loop.name = "rnn"
        raw.net.mark_output(loop.output(loop.total).get_output(0))
    read = graph.read(raw.net)
    assert {layer.attributes.get("loop") for layer in read.layers} == {None, "rnn", "rnn#1"}
    found = reference.run(read, raw.values, float64=True)
    for n, name in zip((2, 4), read.outputs, strict=True):
        np.testing.assert_allclose(found[name], rows[:n].astype(np.float64).sum(0), rtol=1e-13)


def test_slices_named_like_builtins_are_told_apart(raw, rows):
    """torch.fx renames ``slice`` to ``slice_1``, which is the name of the second one."""
    loop = Loop(raw, raw.input(rows)).count(5)
    other = loop.loop.add_iterator(raw.input(2 * rows), 0, False).get_output(0)
    loop.row.name, other.name = "slice", "slice_1"
    both = raw.net.add_elementwise(loop.row, other, raw.trt.ElementWiseOperation.SUB)
    layer = loop.output(both.get_output(0), "CONCATENATE", 5)
    np.testing.assert_array_equal(raw.run(layer)[0], -rows)


def refused(raw, layer, message):
    raw.net.mark_output(layer.get_output(0))
    assert raw.builds() is False
    with pytest.raises(NetworkError, match=message):
        reference.run(raw.net, raw.values)


def test_last_value_of_something_else_is_refused(raw, rows):
    loop = Loop(raw, raw.input(rows)).count(5)
    refused(raw, loop.output(loop.next), "not a recurrence of the same loop")


def test_a_tensor_that_leaves_its_loop_is_refused(raw, rows):
    loop = Loop(raw, raw.input(rows)).count(5)
    raw.net.mark_output(loop.output(loop.total).get_output(0))
    layer = raw.net.add_unary(loop.next, raw.trt.UnaryOperation.ABS)
    refused(raw, layer, "inside of a loop or conditional is used outside")


def test_a_loop_without_a_limit_is_refused(raw, rows):
    loop = Loop(raw, raw.input(rows))
    refused(raw, loop.output(loop.total), "a loop without a trip limit")


def test_a_layer_in_both_branches_is_refused(raw, rng):
    x = raw.input(rng.random(3).astype(np.float32))
    decision = raw.net.add_if_conditional()
    decision.set_condition(raw.input(np.array(True)))
    inner = decision.add_input(x).get_output(0)
    shared = raw.net.add_unary(inner, raw.trt.UnaryOperation.EXP).get_output(0)
    other = raw.net.add_unary(shared, raw.trt.UnaryOperation.NEG).get_output(0)
    refused(raw, decision.add_output(shared, other), "belongs to both branches")


def test_iterations_beyond_the_tensor_name_the_loop(raw, rows):
    loop = Loop(raw, raw.input(rows)).count(6)
    loop.loop.name = "encoder.rnn"
    with pytest.raises(NetworkError, match=r"encoder\.rnn: the layer fails on these inputs"):
        raw.run(loop.output(loop.total))


@pytest.mark.parametrize("value", [True, False])
def test_assertion(raw, rng, value):
    x = raw.input(rng.random(3).astype(np.float32))
    raw.net.add_assertion(raw.input(np.array([True, value])), "sizes differ").name = "check"
    layer = raw.net.add_unary(x, raw.trt.UnaryOperation.ABS)
    if value:
        np.testing.assert_array_equal(raw.run(layer)[0], raw.values["x0"])
        return
    with pytest.raises(NetworkError, match=r"(?s)check: the layer fails.*sizes differ"):
        raw.run(layer)
