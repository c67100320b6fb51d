"""Loops, conditionals, assertions, and layers whose results have a size of their own."""

from __future__ import annotations

import numpy as np

from trtnet.certify.networks.lab import Lab


def counted_loop(lab: Lab) -> None:
    """Running sums of rows, in five iterations."""
    rows, net = lab.input(5, 8), lab.network
    loop = net.loop(net.constant(np.array(5, np.int32)))
    total = loop.state(lab.constant(np.zeros(8, np.float32)))
    after = net.emit("add", "add_elementwise", total, loop.slices(rows, 0),
                     lab.trt.ElementWiseOperation.SUM)  # fmt: skip
    loop.advance(total, after)
    lab.keep("last", loop.last(total))
    lab.keep("all", loop.stacked(after, 0, 5))


def while_loop(lab: Lab) -> None:
    """A number that is doubled until it is above twenty."""
    net, kinds = lab.network, lab.trt.ElementWiseOperation
    start = lab.input(values=np.array(1.5, np.float32))
    loop = net.loop()
    total = loop.state(start)
    going = net.emit("below", "add_elementwise", total, lab.constant(np.float32(20)), kinds.LESS)
    loop.run_while(going)
    loop.advance(total, net.emit("double", "add_elementwise", total, total, kinds.SUM))
    lab.keep("last", loop.last(total))


def conditional(lab: Lab) -> None:
    """Each branch once."""
    for name, value in (("then", True), ("otherwise", False)):
        condition = lab.input(values=np.array(value))
        x, net = lab.input(3, 8), lab.network
        decision = net.definition.add_if_conditional()
        decision.name = name
        decision.set_condition(condition.itensor)
        inner = net.tensor(decision.add_input(x.itensor).get_output(0))
        first = net.emit(f"{name}_exp", "add_unary", inner, lab.trt.UnaryOperation.EXP)
        second = net.emit(f"{name}_neg", "add_unary", inner, lab.trt.UnaryOperation.NEG)
        output = decision.add_output(first.itensor, second.itensor)
        lab.keep(name, net.tensor(output.get_output(0)))


def assertion(lab: Lab) -> None:
    """A condition on sizes that holds, beside a layer."""
    x, net = lab.input(3, 8, batch=True), lab.network
    sizes = net.emit("shape", "add_shape", x)
    first = net.emit("batch", "add_slice", sizes, (0,), (1,), (1,))
    none = net.constant(np.array([0], np.int64))
    holds = net.emit("positive", "add_elementwise", first, none,
                     lab.trt.ElementWiseOperation.GREATER)  # fmt: skip
    net.definition.add_assertion(holds.itensor, "the batch is empty").name = "assertion"
    lab.emit("abs", "add_unary", x, lab.trt.UnaryOperation.ABS)


def non_zero(lab: Lab) -> None:
    """The places of elements that are not zero: as many as there are."""
    values = np.where(lab.random.random((3, 8)) < 0.4, lab.array(3, 8), 0)
    lab.emit("non_zero", "add_non_zero", lab.input(values=values.astype(lab.array(1).dtype)))


def suppression(lab: Lab) -> None:
    """TensorRT's own non-maximum suppression."""
    corner = lab.random.uniform(0, 10, (2, 30, 2))
    boxes = np.concatenate([corner, corner + lab.random.uniform(1, 5, corner.shape)], -1)
    scores = (lab.random.permutation(180) / 180).reshape(2, 30, 3).astype(np.float32)
    taken = [lab.input(values=array.astype(np.float32)) for array in (boxes, scores)]
    most = lab.network.constant(np.array(5, np.int32))
    limits = {at: lab.network.constant(np.array(x, np.float32)) for at, x in ((3, 0.3), (4, 0.4))}
    lab.emit_all(2, "nms", "add_nms", *taken, most, inputs=limits)
