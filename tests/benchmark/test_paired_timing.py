"""``tools/paired_timing.py``: intervals against the binomial distribution, and drifting clocks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import numpy as np
import paired_timing
import pytest
from paired_timing import Candidate, interleave, milliseconds, paired_ratio, repeats_for


def lower_rank(count: int) -> int:
    """The largest k with P(fewer than k of `count` are below the median) <= 2.5 %, by its sum."""
    return max(
        k for k in range(count // 2 + 1)
        if sum(math.comb(count, i) for i in range(k)) / 2**count <= 0.025
    )  # fmt: skip


@pytest.mark.parametrize("count", [6, 7, 15, 41, 100])
def test_the_interval_is_that_of_the_sign_test(count: int, rng: np.random.Generator) -> None:
    own = rng.uniform(1, 2, count)
    ratios = rng.permutation(count) + 1.0  # the ranks themselves
    found = paired_ratio((own * ratios).tolist(), own.tolist())
    rank = lower_rank(count)
    assert found.median == pytest.approx(statistics.median(ratios))
    assert found.low == pytest.approx(rank)
    assert found.high == pytest.approx(count + 1 - rank)
    assert found.rounds == count


def test_the_interval_covers_the_median_in_95_of_100_cases(rng: np.random.Generator) -> None:
    hits = 0
    for _ in range(1000):
        own, peer = rng.lognormal(0, 0.1, (2, 21))
        found = paired_ratio(peer.tolist(), own.tolist())
        hits += found.low <= 1 <= found.high
    assert hits >= 940  # 21 rounds have 97.3 %


def test_too_few_rounds_have_no_interval() -> None:
    with pytest.raises(ValueError, match="5 rounds are too few: at least 6"):
        paired_ratio([1.0] * 5, [1.0] * 5)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        paired_ratio([1.0] * 7, [1.0] * 8)


def candidate(name: str, call: Callable[[], object] = lambda: None) -> Candidate:
    return Candidate(name, call, None, 0.0)


def test_a_drifting_clock_does_not_change_the_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each execution is slower than the one before; b takes twice as long as a."""
    samples: list[str] = []

    def slower(one: Candidate, repeats: int) -> float:
        samples.append(one.name)
        return (2.0 if one.name == "b" else 1.0) * 1.01 ** len(samples)

    monkeypatch.setattr(paired_timing, "milliseconds", slower)
    a, b = candidate("a"), candidate("b")
    interleave([a, b], rounds=40)
    assert len(a.times) == len(b.times) == 40
    assert a.times[-1] > 2 * a.times[0]
    rounds = list(zip(samples[6::2], samples[7::2], strict=True))  # after the warm-up
    assert {("a", "b"), ("b", "a")} == set(rounds)
    found = paired_ratio(b.times, a.times)
    assert found.low <= 2 <= found.high
    assert found.high - found.low < 0.05


def test_rounds_end_with_the_time_but_not_before_there_is_an_interval() -> None:
    a = candidate("a")
    interleave([a], rounds=1000, seconds=0.0)
    assert len(a.times) == paired_timing.LEAST_ROUNDS
    paired_ratio(a.times, a.times)


def test_short_executions_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    for each, repeats in ((0.3, 4), (1.0, 1), (20.0, 1), (1e-9, paired_timing.MOST_REPEATS)):
        monkeypatch.setattr(paired_timing, "milliseconds", lambda one, count, t=each: t)
        assert repeats_for(candidate("a")) == repeats


def test_a_sample_is_the_mean_of_its_executions() -> None:
    calls: list[int] = []
    assert milliseconds(candidate("a", lambda: calls.append(1)), 5) < 1.0
    assert len(calls) == 5


def test_errors_of_another_thread_are_raised() -> None:
    import torch

    assert paired_timing.in_new_thread(torch.is_inference_mode_enabled) is True
    with pytest.raises(ZeroDivisionError):
        paired_timing.in_new_thread(lambda: 1 / 0)
