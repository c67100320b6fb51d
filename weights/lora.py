"""Adapters of low rank (LoRA), merged into the weights that they were trained beside.

Hu et al., https://arxiv.org/abs/2106.09685. Files are those of PEFT (``PATH.lora_A.weight`` and
``PATH.lora_B.weight``, with ``base_model.model.`` before and an adapter's name after ``lora_A``),
and of others with the same names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from trtnet.errors import WeightsError
from trtnet.names import nearest
from trtnet.values import array_from
from trtnet.weights.container import Weights, require_state

_PART = re.compile(r"(?P<path>.+)\.lora_(?P<part>A|B)(\.[^.]+)?\.weight")
_ALPHA = re.compile(r"(?P<path>.+)\.alpha")
_BASES = ("base_model.model.", "base_model.")


def with_lora(
    base: Mapping[str, Any], adapter: Mapping[str, Any], alpha: float | None = None
) -> Weights:
    """New weights: those of `base`, plus ``alpha / rank · B @ A`` where `adapter` has both. Merge
    always into the base, never into merged weights: adapters then follow each other in any order,
    and the first one again gives the same bits.

    Args:
        base: the state_dict that the adapter was trained beside.
        adapter: its matrices, by the paths of the modules.
        alpha: for adapters whose file does not have ``PATH.alpha``; PEFT's ``lora_alpha``, which is
            in ``adapter_config.json``.

    Raises:
        WeightsError: a part that is missing, does not fit, or is of another kind of adapter; no
            alpha.

    >>> import numpy
    >>> base = {"fc.weight": numpy.zeros((2, 3), "float32")}
    >>> adapter = {"fc.lora_A.weight": numpy.ones((1, 3), "float32"),
    ...            "fc.lora_B.weight": numpy.ones((2, 1), "float32")}
    >>> with_lora(base, adapter, alpha=0.5)["fc.weight"].tolist()
    [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
    """
    require_state(base)
    require_state(adapter)
    held = base if isinstance(base, Weights) else Weights(
        {key: array_from(value, key) for key, value in base.items()}
    )  # fmt: skip
    parts, alphas = _parts(adapter)
    arrays = dict(held)
    for path, pair in parts.items():
        key = f"{path}.weight"
        if key not in arrays:
            near = nearest(key, arrays, count=1)
            raise WeightsError(
                "the base has no weights that this part of the adapter belongs to",
                module=path,
                expected=f"a key such as {near[0]}" if near else "its key",
                got=key,
                fix="give the state_dict that the adapter was trained beside",
            )
        arrays[key] = _merged(path, arrays[key], pair, alphas.get(path, alpha))
    notes = (*held.notes, f"an adapter is merged into {len(parts)} weights")
    return held.replaced(arrays).noted(notes)


def _parts(
    adapter: Mapping[str, Any],
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, float]]:
    """The matrices A and B, and the alphas, by the path of their module."""
    parts: dict[str, dict[str, np.ndarray]] = {}
    alphas: dict[str, float] = {}
    for key, value in adapter.items():
        part, scale = _PART.fullmatch(key), _ALPHA.fullmatch(key)
        if part is not None:
            parts.setdefault(_path(part["path"]), {})[part["part"]] = array_from(value, key)
        elif scale is not None:
            alphas[_path(scale["path"])] = float(array_from(value, key))
        else:
            raise WeightsError(
                "this is no part of an adapter of low rank",
                module=key,
                expected="PATH.lora_A.weight, PATH.lora_B.weight or PATH.alpha",
                fix="merge other kinds of adapters with the library that trained them, and refit "
                "with the merged state_dict",
            )
    return parts, alphas


def _path(path: str) -> str:
    for start in _BASES:
        path = path.removeprefix(start)
    return path.removesuffix(".base_layer")


def _merged(
    path: str, base: np.ndarray, pair: Mapping[str, np.ndarray], alpha: float | None
) -> np.ndarray:
    if pair.keys() != {"A", "B"}:
        raise WeightsError(
            "half of this part of the adapter is missing",
            module=path,
            expected="lora_A and lora_B",
            got=f"lora_{next(iter(pair))}",
        )
    a, b = pair["A"], pair["B"]
    rank = a.shape[0]
    if alpha is None:
        raise WeightsError("the adapter does not say its alpha", module=path,
                           fix="give it: --lora-alpha A, or alpha=A; PEFT writes lora_alpha into "
                           "adapter_config.json")  # fmt: skip
    left, right = b.reshape(b.shape[0], -1), a.reshape(rank, -1)
    if left.shape[1] != rank or (len(left), right.shape[1]) != (len(base), base[0].size):
        raise WeightsError("this part of the adapter does not fit the base", module=path,
                           expected=f"A and B of a weight of shape {base.shape}",
                           got=f"A {a.shape}, B {b.shape}")  # fmt: skip
    added = (left.astype(np.float64) @ right.astype(np.float64)) * (alpha / rank)
    merged: np.ndarray = (base + added.reshape(base.shape)).astype(base.dtype)
    return merged
