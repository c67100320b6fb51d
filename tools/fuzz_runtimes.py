"""Runs random small networks by OpenVINO and by PyTorch, and compares what comes out.

    python tools/fuzz_runtimes.py --cases 2000
    python tools/fuzz_runtimes.py --first 123 --cases 1      # one network again, with its calls

Case number N is always the same network and inputs. What both runtimes give may differ by the
rounding of float32: by 1e-4 of the largest value, and by a multiple of what PyTorch itself makes of
inputs that differ by their rounding. The exit status is 1 if a case differs otherwise.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import trtnet
from trtnet import nn, ops
from trtnet.errors import NetworkError, TrtnetError

F = nn.functional
Arrays = dict[str, np.ndarray]


class Maker:
    """A random network, one call after the other.

    Attributes:
        net: the network.
        inputs: the values to run it on.
        calls: the names of the functions called.
    """

    def __init__(self, number: int) -> None:
        self.random = np.random.default_rng([99, number])
        self.net, self.inputs = trtnet.Network("torch"), Arrays()
        self.calls: list[str] = []
        shape = (self.pick(1, 2), self.pick(2, 4, 6), self.pick(1, 5, 8, 11), self.pick(4, 7, 9))
        self.floats = [self.input(shape)]
        for _ in range(self.pick(0, 1, 2)):
            kept = [int(n) if self.random.random() < 0.6 else 1 for n in shape]
            self.floats.append(self.input(tuple(kept[self.pick(0, 0, 1, 2) :])))

    def pick(self, *choices: Any) -> Any:
        """One of `choices`."""
        return choices[int(self.random.integers(len(choices)))]

    def input(self, shape: tuple[int, ...], dtype: str = "float32") -> trtnet.Tensor:
        """A new input of the network, and its values."""
        name = f"x{len(self.inputs)}"
        if dtype != "float32":
            values = self.random.integers(-4, 5, shape).astype(dtype)
        else:
            values = self.random.normal(size=shape) * self.pick(1.0, 1.0, 0.01, 30.0, 1e3)
            values = self.pick(values, values, np.round(values), np.round(values * 2) / 2)
        self.inputs[name] = np.ascontiguousarray(values, dtype)
        return self.net.input(name, shape, dtype)

    def weight(self, *shape: int) -> trtnet.Tensor:
        """A constant of random values."""
        values = self.random.normal(size=shape) * self.pick(1, 0.3)
        return self.net.constant(values.astype(np.float32))

    def step(self) -> None:
        """One call of a random function on what there is; none where it does not fit."""
        x = self.floats[-1] if self.random.random() < 0.7 else self.pick(*self.floats)
        y = self.pick(*self.floats, self.weight(1))
        make = self.pick(*STEPS)
        try:
            made = make(self, x, y)
        except (TrtnetError, IndexError, ValueError):
            return
        if 0 < int(np.prod(made.shape)) < 40_000:
            self.floats.append(made)
            self.calls.append(f"{len(self.floats) - 1}: {make.__name__} {x.shape} {y.shape}")


def unary(m: Maker, x: Any, y: Any) -> Any:
    names = ("relu", "sigmoid", "tanh", "exp", "log", "sqrt", "abs", "neg", "sin", "cos", "erf",
             "floor", "ceil", "reciprocal", "gelu", "silu", "hardswish", "hardsigmoid", "relu6",
             "relu_", "softplus", "rsqrt", "square", "mish", "round", "sign")  # fmt: skip
    name = m.pick(*names)
    m.calls.append(name)
    if name in ("log", "sqrt", "rsqrt", "reciprocal") and m.random.random() < 0.6:
        x = x.abs() + 0.1
    return getattr(ops, name)(x)


def parametric(m: Maker, x: Any, y: Any) -> Any:
    choices: list[Callable[[], Any]] = [
        lambda: F.elu(x, m.pick(0.5, 1.0, 2.0)),
        lambda: F.leaky_relu(x, m.pick(0.1, 0.0, -0.2, 1.5)),
        lambda: ops.clamp(x, m.pick(-1.0, 0.0), m.pick(0.5, 6.0)),
        lambda: F.gelu(x, approximate="tanh"),
        lambda: F.prelu(x, m.weight(m.pick(1, x.shape[1]))),
        lambda: F.softmax(x, m.pick(-1, 0, 1)),
        lambda: F.log_softmax(x, m.pick(-1, 1)),
        lambda: x ** m.pick(2, 3, 0.5, -1, 0),
        lambda: F.threshold(x, 0.1, 0.0),
    ]
    return m.pick(*choices)()


def binary(m: Maker, x: Any, y: Any) -> Any:
    name = m.pick("add", "sub", "mul", "div", "maximum", "minimum", "add", "mul", "pow")
    m.calls.append(name)
    return getattr(ops, name)(*m.pick((x, y), (y, x), (x, x), (x, m.pick(0.5, -2.0, 0.0))))


def compared(m: Maker, x: Any, y: Any) -> Any:
    first = m.pick(ops.gt, ops.lt, ops.eq, ops.ge, ops.ne)(x, m.pick(y, 0.0))
    second = m.pick(ops.logical_and, ops.logical_or)(first, ops.gt(x, -0.5))
    chosen = m.pick(first, second, ops.logical_not(second))
    return m.pick(
        lambda: ops.where(chosen, x, y),
        lambda: ops.where(chosen, x, m.pick(0.0, float("-inf"), -1e9)),
        lambda: chosen.float() * x,
        lambda: chosen.to("int32").float(),
    )()


def convolution(m: Maker, x: Any, y: Any) -> Any:
    channels, groups = int(x.shape[1]), 1
    if m.random.random() < 0.4:
        groups = m.pick(*(g for g in (1, 2, 3, channels) if channels % g == 0))
    out = groups * m.pick(1, 2, 3)
    k = (m.pick(1, 2, 3), m.pick(1, 3, 5))
    options = {"stride": m.pick(1, 2, (2, 1)), "dilation": m.pick(1, 1, 2), "groups": groups}
    bias = m.pick(None, m.weight(out))
    if m.random.random() < 0.3:
        kernel = m.weight(channels, out // groups, *k)
        more = m.pick({}, {"padding": 1}, {"output_padding": 1, "stride": 2})
        return F.conv_transpose2d(x, kernel, bias, **(options | more))
    kernel = m.weight(out, channels // groups, *k)
    return F.conv2d(x, kernel, bias, padding=m.pick(0, 1, 2, (0, 3), "same"), **options)


def pooled(m: Maker, x: Any, y: Any) -> Any:
    k = m.pick(2, 3, (1, 3), (3, 2))
    options = {"stride": m.pick(1, 2, 3), "padding": m.pick(0, 0, 1),
               "ceil_mode": m.pick(False, True)}  # fmt: skip
    if m.random.random() < 0.5:
        return F.max_pool2d(x, k, dilation=m.pick(1, 1, 2), **options)
    if m.random.random() < 0.3:
        return F.adaptive_avg_pool2d(x, m.pick(1, 2, (3, 2)))
    return F.avg_pool2d(x, k, count_include_pad=m.pick(False, True), **options)


def resized(m: Maker, x: Any, y: Any) -> Any:
    height, width = int(x.shape[2]), int(x.shape[3])
    size = m.pick((height * 2, width * 2), (m.pick(1, 3, 5, 13), m.pick(1, 2, 6, 17)))
    mode = m.pick("nearest", "bilinear", "nearest-exact", "bicubic")
    more = {"align_corners": m.pick(False, True)} if mode in ("bilinear", "bicubic") else {}
    return F.interpolate(x, size=size, mode=mode, **more)


def reduced(m: Maker, x: Any, y: Any) -> Any:
    rank = len(x.shape)
    axes = tuple(sorted({int(m.random.integers(-rank, rank)) % rank for _ in range(m.pick(1, 2))}))
    name, keep = m.pick("sum", "mean", "amax", "amin", "prod", "var", "logsumexp"), m.pick(0, 1)
    m.calls.append(name)
    return getattr(ops, name)(x, axes if name != "prod" else axes[0], keepdim=bool(keep))


def normalized(m: Maker, x: Any, y: Any) -> Any:
    channels = int(x.shape[1])
    groups = m.pick(*(g for g in (1, 2, channels) if channels % g == 0))
    last = int(x.shape[-1])
    choices: list[Callable[[], Any]] = [
        lambda: F.layer_norm(x, (last,), m.weight(last), m.weight(last), m.pick(1e-5, 1e-2)),
        lambda: F.layer_norm(x, tuple(x.shape[-2:])),
        lambda: F.group_norm(x, groups, m.weight(channels), m.weight(channels)),
        lambda: F.instance_norm(x),
        lambda: F.normalize(x, dim=m.pick(1, -1)),
        lambda: F.batch_norm(x, m.weight(channels), m.weight(channels).abs(),
                             m.weight(channels), m.weight(channels)),
    ]  # fmt: skip
    return m.pick(*choices)()


def product(m: Maker, x: Any, y: Any) -> Any:
    last = int(x.shape[-1])
    return m.pick(
        lambda: x @ m.weight(last, m.pick(1, 3)),
        lambda: m.weight(3, int(x.shape[-2])) @ x,
        lambda: x @ x.transpose(-1, -2),
        lambda: F.linear(x, m.weight(4, last), m.weight(4)),
        lambda: F.scaled_dot_product_attention(x, x, x),
        lambda: ops.matmul(x, m.weight(last)),
    )()


def arranged(m: Maker, x: Any, y: Any) -> Any:
    rank = len(x.shape)
    order = [int(n) for n in m.random.permutation(rank)]
    axis = int(m.random.integers(-rank, rank))
    size = int(x.shape[axis])
    start = int(m.random.integers(size))
    return m.pick(
        lambda: x.permute(*order),
        lambda: x.reshape(-1, size) if m.pick(0, 1) else x.flatten(axis % rank),
        lambda: x.unsqueeze(axis),
        lambda: x.squeeze(axis),
        lambda: ops.cat([x, y, x], axis),
        lambda: ops.narrow(x, axis, start, max(1, (size - start) // 2)),
        lambda: x[..., :: m.pick(1, 2, 3)],
        lambda: ops.flip(x, (axis,)),
        lambda: F.pad(x, m.pick((1, 2), (1, 0, 0, 2), (-1, 1), (0, -1, 2, 2))),
        lambda: F.pad(x, (1, 1, 1, 1), mode=m.pick("reflect", "replicate", "constant")),
        lambda: ops.roll(x, 1, axis),
        lambda: ops.pixel_shuffle(x, 2),
        lambda: x.expand(3, *x.shape),
        lambda: ops.chunk(x, 2, axis)[-1],
    )()


def picked(m: Maker, x: Any, y: Any) -> Any:
    axis = m.pick(0, 1, -1)
    size = int(x.shape[axis])
    if m.random.random() < 0.5:
        return ops.index_select(x, axis, m.random.integers(0, size, 3))
    places = m.input((m.pick(1, 3),), m.pick("int32", "int64"))
    name = f"x{len(m.inputs) - 1}"
    m.inputs[name] = np.abs(m.inputs[name]) % size
    return ops.index_select(x, axis, places)


def whole(m: Maker, x: Any, y: Any) -> Any:
    dtype = m.pick("int32", "int32", "int64")
    a, b = (m.input(m.pick((3, 1, 7), (7,), (1, 7)), dtype) for _ in range(2))
    if m.random.random() < 0.5:
        m.inputs[f"x{len(m.inputs) - 1}"] *= m.pick(1, 4099, 2**24 + 1, 2**30)
    made = m.pick(ops.add, ops.sub, ops.mul, ops.maximum, ops.minimum)(a, b)
    if m.random.random() < 0.5:
        m.net.output(f"whole{len(m.inputs)}", made)
    if m.random.random() < 0.5:
        made = ops.where(m.pick(ops.gt, ops.eq, ops.lt)(made, b), made * 3, a)
    return made.float()


STEPS = (unary, unary, parametric, binary, binary, compared, convolution, convolution, pooled,
         resized, reduced, normalized, product, arranged, arranged, picked, whole)  # fmt: skip


def network(number: int) -> Maker:
    """Network number `number`."""
    maker = Maker(number)
    for _ in range(maker.pick(2, 3, 5, 8, 12)):
        maker.step()
    outputs = {len(maker.floats) - 1, int(maker.random.integers(len(maker.floats)))}
    for place in sorted(outputs):
        maker.net.output(f"y{place}", maker.floats[place])
    return maker


def differences(number: int) -> tuple[str, list[str]]:
    """What ran network `number`, and where it differs from PyTorch."""
    maker = network(number)
    plan = trtnet.build(maker.net)
    with (
        trtnet.Session(plan, device="cpu", runtime="auto") as quick,
        trtnet.Session(plan, device="cpu", runtime="torch") as plain,
    ):
        if not quick.runtime.startswith("openvino"):
            return quick.runtime, []
        used = {binding.name for binding in quick.inputs}
        runs = [{name: values[name] for name in used} for values in _runs(maker)]
        found, wanted, *near = quick(**_copies(runs[0])), *(plain(**_copies(run)) for run in runs)
        again = quick(**runs[0])
    told = []
    for name, value in wanted.items():
        fault = _difference(found[name], value, [other[name] for other in near])
        same = np.array_equal(found[name], again[name], equal_nan=value.dtype.kind == "f")
        told += [f"{name}: {what}" for what in (fault, None if same else "changes") if what]
    return quick.runtime, told


def _copies(values: Arrays) -> Arrays:
    return {name: value.copy() for name, value in values.items()}


def _runs(maker: Maker) -> Iterator[Arrays]:
    """The inputs, then the same in other roundings."""
    yield maker.inputs
    for scale in (3e-7, -3e-7, 1e-6):
        changed = maker.inputs.copy()
        for name, value in maker.inputs.items():
            if value.dtype == np.float32:
                noise = 1 + scale * maker.random.uniform(0.5, 1, value.shape)
                changed[name] = (value * noise).astype(np.float32)
        yield changed


def _difference(found: np.ndarray, wanted: np.ndarray, near: list[np.ndarray]) -> str | None:
    if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
        return f"{found.shape} {found.dtype} instead of {wanted.shape} {wanted.dtype}"
    if wanted.dtype.kind != "f":
        steady = all(np.array_equal(wanted, other) for other in near)
        return "other whole values" if steady and not np.array_equal(found, wanted) else None
    finite = np.isfinite(wanted)
    if any(not np.array_equal(np.isfinite(other), finite) for other in near):
        return None
    if not np.array_equal(found[~finite], wanted[~finite], equal_nan=True):
        return f"{found[~finite][:3]} instead of {wanted[~finite][:3]}"
    error = np.abs(found[finite].astype(np.float64) - wanted[finite]).max(initial=0)
    spread = max(np.abs(n[finite].astype(np.float64) - wanted[finite]).max(initial=0) for n in near)
    allowed = 1e-4 * np.abs(wanted[finite]).max(initial=0) + 30 * spread + 1e-4
    return None if error <= allowed else f"differs by {error:.3g}, of {allowed:.3g} allowed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    chosen = parser.parse_args()
    counts: Counter[str] = Counter()
    for number in range(chosen.first, chosen.first + chosen.cases):
        try:
            runtime, told = differences(number)
        except NetworkError:  # operands that do not fit together, as only TensorRT noticed
            runtime, told = "refused", []
        except Exception as error:
            runtime, told = "fault", [f"{type(error).__name__}: {error}"]
        counts[runtime.split()[0] + (" differs" if told else "")] += 1
        if told or chosen.cases == 1:
            print(number, runtime, *told, sep="\n    ", flush=True)
            if chosen.cases == 1:
                print(*network(number).calls, sep="\n")
        if runtime.startswith("torch"):
            counts["for want of " + runtime.partition("OpenVINO: ")[2].partition(": ")[2][:40]] += 1
    print(*(f"{count} {name}" for name, count in counts.most_common(25)), sep="\n")
    return any("differs" in name for name in counts)


if __name__ == "__main__":
    sys.exit(main())
