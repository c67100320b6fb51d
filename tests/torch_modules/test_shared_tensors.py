"""Modules and tensors that a module holds in several places: their keys are PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet.errors import WeightsError


def families(nn: Any) -> dict[str, Callable[[], Any]]:
    """The same modules of PyTorch's layers, or of trtnet's."""

    class Layer(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3)
            self.second = self.first
            self.norm = nn.BatchNorm1d(3)
            self.steps = nn.Sequential(self.norm, self.first)

    class Weight(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(4, 3)
            self.scores = nn.Linear(3, 4, bias=False)
            self.scores.weight = self.words.weight

    class Buffer(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
            self.other.running_mean = self.norm.running_mean

    class Containers(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            layer = nn.Linear(3, 3)
            self.row = nn.ModuleList([layer, layer])
            self.named = nn.ModuleDict({"x": layer, "y": nn.ReLU()})
            self.weights = nn.ParameterList([layer.weight, layer.weight])

    class Whole(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.left = Layer()
            self.right = self.left

    return {kind.__name__: kind for kind in (Layer, Weight, Buffer, Containers, Whole)}


THEIRS, OURS = families(torch.nn), families(trtnet.nn)
WAYS: dict[str, Callable[[str], Any]] = {
    "trtnet": lambda name: OURS[name](),
    "from_torch": lambda name: trtnet.from_torch(THEIRS[name]()),
}


@pytest.fixture(params=WAYS)
def make(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    return WAYS[request.param]


def numbered(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Another value for each key, also where two are keys of one tensor."""
    return {key: torch.full_like(value, i) for i, (key, value) in enumerate(state.items())}


def equal(got: dict[str, np.ndarray], want: dict[str, torch.Tensor]) -> bool:
    return list(got) == list(want) and all(
        got[key].shape == tuple(want[key].shape) and np.array_equal(got[key], want[key].numpy())
        for key in want
    )


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("strict", [True, False])
def test_pytorchs_own_keys(make, name, strict):
    theirs, ours = THEIRS[name](), make(name)
    for state in (theirs.state_dict(), numbered(theirs.state_dict())):
        theirs.load_state_dict(state)
        for _ in range(2):
            assert tuple(ours.load_state_dict(state, strict=strict)) == ([], [])
            assert equal(ours.state_dict(), theirs.state_dict())  # the last value counts


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("keeps", ["first", "last"])
def test_one_key_of_each_tensor(make, name, keeps):
    theirs = THEIRS[name]()
    for value in theirs.state_dict().values():
        value.copy_(torch.rand(value.shape) * 9)
    items = list(theirs.state_dict().items())
    one = {value.data_ptr(): key for key, value in (reversed(items) if keeps == "first" else items)}
    state = {key: value for key, value in items if one[value.data_ptr()] == key}
    ours = make(name)
    assert len(state) < len(items)
    assert tuple(ours.load_state_dict(state)) == ([], [])
    assert equal(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("name", THEIRS)
def test_what_is_missing_or_unexpected(make, name):
    theirs, ours = THEIRS[name](), make(name)
    state = {"nobody.weight": torch.zeros(1)}
    keys = theirs.load_state_dict(state, strict=False)
    got = ours.load_state_dict(state, strict=False)
    assert got.unexpected_keys == keys.unexpected_keys
    counts = {key for key in keys.missing_keys if key.endswith("num_batches_tracked")}
    assert set(keys.missing_keys) - counts == set(got.missing_keys) - counts
    with pytest.raises(WeightsError, match=r"(?s)missing: .*unexpected: nobody\.weight"):
        ours.load_state_dict(state)


@pytest.mark.parametrize("name", THEIRS)
def test_names_are_pytorchs(make, name):
    theirs, ours = THEIRS[name](), make(name)
    for unique in (True, False):
        for walk in ("named_parameters", "named_modules"):
            want = [key for key, _ in getattr(theirs, walk)(remove_duplicate=unique)]
            assert [key for key, _ in getattr(ours, walk)(remove_duplicate=unique)] == want


def test_ignored_keys_at_both_paths():
    class Head(trtnet.nn.Module):
        ignored_keys = ("extra.*",)

        def __init__(self) -> None:
            super().__init__()
            self.layer = trtnet.nn.Linear(2, 2)

    module = trtnet.nn.Sequential(head := Head(), head)
    state = {f"{i}.{key}": np.zeros(2, "f") for i in (0, 1) for key in ("extra.a", "layer.bias")}
    state |= {f"{i}.layer.weight": np.zeros((2, 2), "f") for i in (0, 1)}
    assert tuple(module.load_state_dict(state)) == ([], [])


def test_hooks_of_loading_see_every_path():
    seen: dict[str, list[str]] = {"theirs": [], "ours": []}
    for who, nn in (("theirs", torch.nn), ("ours", trtnet.nn)):
        layer = nn.Linear(2, 2)
        layer.register_load_state_dict_pre_hook(
            lambda module, state, prefix, *rest, who=who: seen[who].append(prefix)
        )
        layer.register_load_state_dict_post_hook(lambda *_, who=who: seen[who].append("after"))
        module = nn.Sequential(layer, layer)
        module.load_state_dict(torch.nn.Sequential(*[torch.nn.Linear(2, 2)] * 2).state_dict())
    assert sorted(seen["ours"]) == sorted(seen["theirs"])


def test_new_weights_reach_both_layers_of_the_network():
    module = trtnet.from_torch(THEIRS["Weight"]().eval())
    state = {"words.weight": torch.arange(12.0).reshape(4, 3)}
    module.load_state_dict(state)
    assert np.array_equal(module.scores.weight.array, module.words.weight.array)
    assert np.array_equal(module.torch_module.scores.weight, state["words.weight"])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("writable", [True, False])
def test_loaded_arrays_are_copied_without_a_warning(writable: bool) -> None:
    """As ``torch.nn.Module.load_state_dict`` copies: the array may be read-only, or change."""
    theirs = torch.nn.Linear(3, 2)
    state = {key: value.numpy().copy() for key, value in theirs.state_dict().items()}
    kept = {key: array.copy() for key, array in state.items()}
    for array in state.values():
        array.flags.writeable = writable
    module = trtnet.from_torch(torch.nn.Linear(3, 2))
    module.load_state_dict(state)
    if writable:
        for array in state.values():
            array[:] = 7
    for key, array in module.state_dict().items():
        np.testing.assert_array_equal(array, kept[key])
