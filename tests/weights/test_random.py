"""Random weights: reproducible, and good enough to verify a deep network in FP16 with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision

from trtnet.errors import UsageError, WeightsError
from trtnet.weights import check_finite, parameter_count, random_state

DEEP = (
    *("resnet18", "resnet152", "resnext101_64x4d", "wide_resnet101_2"),
    *("densenet121", "mobilenet_v2", "vit_b_16"),
)


def load_into_torch(name: str, state: dict[str, np.ndarray]) -> torch.nn.Module:
    module = torchvision.models.get_model(name, weights=None).eval()
    module.load_state_dict({key: torch.tensor(array) for key, array in state.items()}, strict=True)
    return module


@pytest.mark.parametrize("name", DEEP)
def test_activations_stay_in_fp16_range_and_the_signal_lives(name: str) -> None:
    state = random_state(name, seed=0)
    module = load_into_torch(name, state)
    largest = []
    for layer in module.modules():
        layer.register_forward_hook(lambda _, __, out: largest.append(float(out[0].abs().max())))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        logits = module(torch.randn(2, 3, 224, 224, generator=generator))
    assert max(largest) < 1000  # FP16 ends at 65504
    assert 0.05 < logits.std() < 50
    difference = (logits[0] - logits[1]).norm() / logits.norm()
    assert difference > 0.02  # two inputs do not give one answer
    documented = torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]
    assert parameter_count(state) == documented


def test_settled_statistics_are_those_the_layers_see() -> None:
    """A network of one BatchNorm: its statistics are those of its input, mean 0, variance 1."""
    norm = torch.nn.BatchNorm2d(3)
    norm.running_mean.fill_(9)
    state = random_state(torch.nn.Sequential(norm), input_shape=(3, 64, 64))
    np.testing.assert_allclose(state["0.running_mean"], 0, atol=0.2)
    np.testing.assert_allclose(state["0.running_var"], 1, atol=0.3)
    assert state["0.num_batches_tracked"] == 1
    assert norm.running_mean.eq(9).all()  # the caller's module is left alone
    assert norm.momentum == 0.1


def test_the_same_seed_gives_the_same_weights_and_leaves_the_callers_stream_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = random_state("resnet18", seed=3), random_state("resnet18", seed=3)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
    other = random_state("resnet18", seed=4)
    assert not np.array_equal(first["conv1.weight"], other["conv1.weight"])


def test_the_zero_head_of_a_vision_transformer_gets_values() -> None:
    assert not torchvision.models.vit_b_16(weights=None).heads.head.weight.any()
    head = random_state("vit_b_16", num_classes=10)["heads.head.weight"]
    assert head.shape == (10, 768)
    assert head.std() == pytest.approx(0.1, rel=0.1)


def test_bad_seeds_and_arguments() -> None:
    for seed in (-1, 2**63):
        with pytest.raises(UsageError, match="not a seed"):
            random_state("resnet18", seed)
    with pytest.raises(UsageError, match="resnet18: torchvision refuses"):
        random_state("resnet18", image_size=64)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_that_are_not_finite_are_located(value: float, dtype: type) -> None:
    array = np.ones((2, 3), dtype)
    check_finite("layer.weight", array)
    array[1, 2] = value
    with pytest.raises(WeightsError, match=r"layer\.weight: .*not finite") as caught:
        check_finite("layer.weight", array)
    assert f"1 of 6 values are NaN or infinite; the first is {value} at (1, 2)" in str(caught.value)
    check_finite("count", np.ones(2, np.int64))


def test_no_parameter_of_a_named_model_is_constant() -> None:
    state = random_state("resnet18")
    learned = [array for name, array in state.items() if "running" not in name and array.ndim]
    assert len(learned) == 62
    assert all(array.min() < array.max() for array in learned)


def test_residual_branches_start_weaker_than_their_shortcuts() -> None:
    state = random_state("resnet50")
    assert state["layer1.0.bn3.weight"].mean() == pytest.approx(0.2, rel=0.1)
    assert state["layer1.0.bn1.weight"].mean() == pytest.approx(1.0, rel=0.1)


def test_in_mnasnet_only_branches_with_a_shortcut_start_weaker() -> None:
    state = random_state("mnasnet0_5", input_shape=(3, 64, 64))
    assert state["layers.8.1.layers.7.weight"].mean() == pytest.approx(0.2, rel=0.3)
    assert state["layers.8.0.layers.7.weight"].mean() == pytest.approx(1.0, rel=0.3)


def test_in_shufflenet_the_half_that_is_worked_on_starts_weaker_than_the_other() -> None:
    state = random_state("shufflenet_v2_x0_5", input_shape=(3, 64, 64))
    assert state["stage2.1.branch2.6.weight"].mean() == pytest.approx(0.2, rel=0.3)
    assert state["stage2.0.branch2.6.weight"].mean() == pytest.approx(1.0, rel=0.3)


def test_a_network_without_norms_has_weights_that_keep_the_signal() -> None:
    state = random_state("squeezenet1_1", input_shape=(3, 64, 64))
    for layer in ("features.3.squeeze", "features.12.expand3x3"):
        weight = state[f"{layer}.weight"]
        assert weight.std() == pytest.approx((2 / weight[0].size) ** 0.5, rel=0.1)  # He et al.
        assert state[f"{layer}.bias"].std() > 0.05
