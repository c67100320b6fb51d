"""class_map: the native form against the reference, and the reference by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from trtnet.plugins.shipped.class_map import native, reference


@pytest.mark.parametrize("size", [(20, 31), (4, 7), (3, 2)])
def test_native_form_is_the_reference(size: tuple[int, int], check: Callable[..., None]) -> None:
    check(
        lambda x: native.class_map(x, size),
        lambda x: reference.class_map(x, size),
        (2, 5, 4, 7),
        dynamic=[("N", 5, "H", "W")],
    )


def test_reference_of_two_crossing_ramps() -> None:
    """Class 1 wins where its ramp is above the other's: from the middle on."""
    ramp = torch.arange(4.0).expand(1, 1, 1, 4)
    classes = reference.class_map(torch.cat([3 - ramp, ramp], 1), (1, 16))
    assert classes.dtype is torch.int32
    assert np.array_equal(classes.numpy().ravel(), [0] * 8 + [1] * 8)
