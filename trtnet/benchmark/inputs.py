"""Random input values for measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trtnet.engines.arrays import numpy_dtype
from trtnet.engines.protocol import Binding


def random_inputs(
    inputs: Sequence[Binding], shapes: Mapping[str, tuple[int, ...]], seed: int = 0
) -> dict[str, np.ndarray]:
    """Seeded values for the inputs of a session, by name: normal ones, zeros for integers.

    bfloat16 values are uint16 bit patterns. Constant values would make a GPU look too fast: its
    clock depends on the power it draws, and that on the values.

    Args:
        inputs: the session's inputs.
        shapes: the concrete shape of each input.
        seed: of the random generator.
    """
    random = np.random.default_rng(seed)
    return {b.name: _random(random, b.dtype, shapes[b.name]) for b in inputs}


def _random(random: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    normal = random.standard_normal(shape, np.float32)
    if dtype in ("float32", "float16"):
        return normal.astype(dtype)
    if dtype == "bfloat16":
        return (normal.view(np.uint32) >> 16).astype(np.uint16)
    return np.zeros(shape, numpy_dtype(dtype))
