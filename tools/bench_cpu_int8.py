"""The part ``int8`` of ``tools/bench_cpu.py``: networks quantized with the preset ``int8``, the
rest in FP16 and in FP32, against the same networks in FP32.

What quantization rounds, a change of the last digit may round to the next step, and deep networks
of random weights make much of that. So the distance of a session to the reference stands beside
that of the reference to itself on inputs that differ in their seventh digit: both in decibels,
signal to noise, of the first output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cpu_candidates import Candidate, session
from paired_timing import Ratio, interleave, ratio_in_words

import trtnet
from trtnet import zoo
from trtnet.quantization import CalibrationTable, calibrate
from trtnet.weights import random_init

BASES = ("fp16", "fp32")
PRODUCTS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
IMAGES = 2  # to calibrate with
CHANGE = 3e-7


@dataclass(frozen=True)
class Row:
    """What was measured of one quantized network.

    Attributes:
        median_ms, setup_s: of its session.
        ratio: FP32's time by it.
        kernels, products: of how many products how many are computed in 8 bits.
        distance: to the reference, in decibels.
        own: of the reference to itself.
        loss: of the reference to the network in FP32.
    """

    model: str
    base: str
    median_ms: float
    full_ms: float
    setup_s: float
    ratio: Ratio
    kernels: int
    products: int
    distance: float
    own: float
    loss: float


def part(models: Sequence[str], threads: int, repeats: int) -> str:
    """The section of the page; prints each row."""
    rows: list[Row] = []
    for name in models:
        found = measure(name, repeats)
        rows += found
        print(*map(line, found), sep="\n", flush=True)
    return section(rows)


def measure(name: str, repeats: int) -> list[Row]:
    """The rows of one model."""
    entry = zoo.get_entry(name)
    size = entry.input_shape
    assert size is not None
    torch_model = random_init.random_module(entry.torch_model, 0, input_shape=size)
    state = {key: value.numpy() for key, value in torch_model.state_dict().items()}
    random = np.random.default_rng(0)
    x, *images = (random.standard_normal((1, *size), np.float32) for _ in range(1 + IMAGES))
    plans = [_plan(name, state, trtnet.Policy("int8", base=base), images) for base in BASES]
    quick = [session(plan, base, x, "auto") for plan, base in zip(plans, BASES, strict=True)]
    full = session(_plan(name, state, trtnet.Policy("fp32"), images), "fp32", x, "auto")
    interleave([*quick, full], repeats)
    return [_row(name, plan, candidate, full, x)
            for plan, candidate in zip(plans, quick, strict=True)]  # fmt: skip


def _plan(
    name: str, state: dict[str, np.ndarray], policy: trtnet.Policy, images: Sequence[np.ndarray]
) -> trtnet.Plan:
    model = zoo.get_model(name)
    model.load_state_dict(state)

    def define(table: CalibrationTable | None = None) -> trtnet.Network:
        net = trtnet.Network("torch", policy, calibration=table)
        outputs = model(net.input("input", images[0].shape))
        for key, value in (outputs if isinstance(outputs, dict) else {"y": outputs}).items():
            net.output(key, value)
        return net

    net = define()
    if policy.calibrated_for:
        data = [{"input": image} for image in images]
        seen = calibrate(trtnet.graph.read(net.definition), net.observed, data)
        net = define(seen.table("mse", weights_sha256=net.weights_sha256))
    return trtnet.build(net)


def _row(name: str, plan: trtnet.Plan, quick: Candidate, full: Candidate, x: np.ndarray) -> Row:
    base = quick.name.partition(" ")[0]
    random = np.random.default_rng(1)
    changed = (x * (1 + CHANGE * random.uniform(-1, 1, x.shape))).astype(np.float32)
    with trtnet.Session(plan, device="cpu", runtime="torch") as plain:
        wanted, other = (next(iter(plain(value).values())) for value in (x, changed))
    with trtnet.Session(plan, device="cpu", runtime="openvino") as opened:
        engine: Any = opened._engine
        kernels = engine._compiled.forward.kernels()
    types = [dtype for kind, dtype in kernels if kind in PRODUCTS]
    return Row(name, base, quick.median_ms, full.median_ms, quick.setup_s, full.ratio(quick),
               sum(dtype in ("i8", "u8") for dtype in types), len(types),
               decibels(quick.call(), wanted), decibels(other, wanted),
               decibels(wanted, full.call()))  # fmt: skip


def decibels(found: np.ndarray, wanted: np.ndarray) -> float:
    """Signal to noise; infinite where they are equal."""
    noise = np.square(found.astype(np.float64) - wanted).sum()
    return (
        10 * math.log10(np.square(wanted.astype(np.float64)).sum() / noise) if noise else math.inf
    )


def line(row: Row) -> str:
    """A row in words."""
    return (
        f"{row.model:18} int8, {row.base}  {row.median_ms:8.2f} ms, FP32 {row.full_ms:8.2f} ms  "
        f"x{ratio_in_words(row.ratio)}  {row.kernels} of "
        f"{row.products} in 8 bits  {row.distance:.1f} dB, itself {row.own:.1f}, "
        f"FP32 {row.loss:.1f}  set-up {row.setup_s:.1f} s"
    )


def section(rows: Sequence[Row]) -> str:
    """The section of the page."""
    head = (
        "Random weights, calibrated with two random images; `base` is what is not "
        "quantized. *8 bits*: how many convolutions and matrix products OpenVINO runs on 8-bit "
        "kernels; attention's own products are inside of others, in floating point. Signal to "
        "noise of the first output: of the session to the reference, of the reference to itself "
        f"on an input that differs by {CHANGE:g} of its values (inf: not one code changed), and "
        "of the reference to FP32.\n\n"
        "| model | base | median | FP32 | FP32's time by it | 8 bits | to the reference | "
        "the reference to itself | to FP32 | set-up |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
    )
    return head + "".join(
        f"| {row.model} | {row.base} | {row.median_ms:.2f} ms | {row.full_ms:.2f} ms "
        f"| {ratio_in_words(row.ratio)} "
        f"| {row.kernels} of {row.products} | {row.distance:.1f} dB | {row.own:.1f} dB "
        f"| {row.loss:.1f} dB | {row.setup_s:.1f} s |\n"
        for row in rows
    )
