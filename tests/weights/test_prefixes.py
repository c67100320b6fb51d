"""Wrappers around weights and prefixes of keys: what is found, said, and left to the user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from trtnet import nn, weights, zoo
from trtnet.errors import WeightsError
from trtnet.weights import fitted, load, wts


def small(m: Any = torch.nn) -> Any:
    net = m.Sequential(m.Conv2d(3, 4, 3), m.BatchNorm2d(4))
    net.add_module("head", m.Linear(4, 2))
    return net


STATE = small().state_dict()


def behind(prefix: str, state: Any = None) -> dict[str, Any]:
    return {f"{prefix}{key}": value for key, value in (state or STATE).items()}


def held(path: Path, **choice: Any) -> weights.Weights:
    found = load(path, model=small(nn), **choice)
    small(nn).load_state_dict(found)
    return found


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "net.", "backbone.", "encoder.", "module._orig_mod.model.",
     "_orig_mod.module.net.", "model._orig_mod.", "anything.at.all."],
)  # fmt: skip
@pytest.mark.parametrize("entry", [None, "state_dict", "model", "net", "params", "checkpoint.best"])
def test_entries_and_prefixes_are_found_and_said(
    tmp_path: Path, prefix: str, entry: str | None
) -> None:
    saved: Any = behind(prefix)
    for name in reversed(entry.split(".") if entry else []):
        saved = {"epoch": 3, "optimizer": {"param_groups": []}, name: saved}
    torch.save(saved, tmp_path / "w.pth")
    found = held(tmp_path / "w.pth")
    assert found.keys() == STATE.keys()
    said = [f"taken from its entry {entry}"] if entry else []
    assert list(found.notes) == [*said, f"9 keys carry the prefix `{prefix}`: dropped"]


def test_no_prefix_is_dropped_that_the_model_has(tmp_path: Path) -> None:
    outer = torch.nn.Module()
    outer.module = small()
    torch.save(outer.state_dict(), tmp_path / "w.pth")
    found = load(tmp_path / "w.pth", model=outer)
    assert found.keys() == outer.state_dict().keys()
    assert found.notes == ()
    torch.save(STATE, tmp_path / "inner.pth")
    found = load(tmp_path / "inner.pth", model=outer)
    assert found.keys() == outer.state_dict().keys()
    assert found.notes == ("the model's keys carry the prefix `module.`: added",)


def test_lightning_with_the_weights_of_its_loss(tmp_path: Path) -> None:
    extra = {"criterion.weight": torch.ones(2), "train_acc.correct": torch.tensor(1)}
    torch.save({"state_dict": {**behind("model."), **extra}, "hyper_parameters": {"lr": 0.1},
                "pytorch-lightning_version": "2.4"}, tmp_path / "w.ckpt")  # fmt: skip
    assert held(tmp_path / "w.ckpt").notes[1:] == (
        "9 keys carry the prefix `model.`: dropped",
        "2 keys without it left out: criterion.weight, train_acc.correct",
    )


def test_mmlab_with_a_prefix_for_each_part(tmp_path: Path) -> None:
    state = {f"{'neck' if 'head' in key else 'backbone'}.{key}": v for key, v in STATE.items()}
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "w.pth")
    assert held(tmp_path / "w.pth").notes[1:] == (
        "7 keys carry the prefix `backbone.`: dropped", "2 keys carry the prefix `neck.`: dropped",
    )  # fmt: skip


def test_wrappers_inside_of_the_keys(tmp_path: Path) -> None:
    state = {key.replace("1.", "1._orig_mod.", 1) if key.startswith("1.") else key: value
             for key, value in behind("").items()}  # fmt: skip
    torch.save(behind("model.", state), tmp_path / "w.pth")
    assert held(tmp_path / "w.pth").notes == (
        "9 keys carry the prefix `model.`: dropped", "5 keys carry `_orig_mod.`: dropped",
    )  # fmt: skip


def test_safetensors_and_wts_have_prefixes_too(tmp_path: Path) -> None:
    save_file(behind("_orig_mod."), tmp_path / "w.safetensors")
    assert held(tmp_path / "w.safetensors").keys() == STATE.keys()
    assert load(tmp_path / "w.safetensors").keys() == STATE.keys()
    flat = {f"net.{key}": value.numpy() for key, value in STATE.items()}
    wts.write(tmp_path / "w.wts", flat)
    assert held(tmp_path / "w.wts").keys() == STATE.keys()


def other(value: float) -> dict[str, Any]:
    return {key: torch.full_like(tensor, value) for key, tensor in STATE.items()}


@pytest.mark.parametrize(
    ("raw", "averaged"),
    [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("model", "ema"),
     ("params", "params_ema"), ("net", "ema_state_dict"), ("model_state_dict", "ema_model")],
)  # fmt: skip
def test_averaged_weights_are_taken_and_the_others_named(
    tmp_path: Path, raw: str, averaged: str
) -> None:
    torch.save({raw: other(1), averaged: behind("module.", other(2))}, tmp_path / "w.pth")
    found = held(tmp_path / "w.pth")
    np.testing.assert_array_equal(found["0.bias"], 2)
    assert found.notes[0] == (
        f"taken from its entry {averaged}, the averaged weights; "
        f"--weights-key {raw} takes the other"
    )
    assert found.metadata["checkpoint_entry"] == f"{averaged} (not {raw})"
    found = held(tmp_path / "w.pth", key=raw)
    np.testing.assert_array_equal(found["0.bias"], 1)
    assert found.notes == (f"taken from its entry {raw}",)


def test_mmengine_keeps_the_averages_in_state_dict(tmp_path: Path) -> None:
    saved = {"message_hub": {}, "state_dict": other(2), "ema_state_dict": other(1)}
    torch.save(saved, tmp_path / "w.pth")
    np.testing.assert_array_equal(held(tmp_path / "w.pth")["0.bias"], 2)


def test_the_entry_that_fits_the_model_is_taken(tmp_path: Path) -> None:
    critic = torch.nn.Linear(9, 1).state_dict()
    torch.save({"discriminator": critic, "generator": STATE}, tmp_path / "w.pth")
    assert held(tmp_path / "w.pth").notes == (
        "taken from its entry generator; --weights-key discriminator takes the other",
    )
    with pytest.raises(WeightsError) as caught:
        load(tmp_path / "w.pth")
    assert caught.value.got == "discriminator (2 tensors), generator (9 tensors)"
    assert "--weights-key discriminator" in str(caught.value)


def test_nothing_is_guessed_where_two_prefixes_fit(tmp_path: Path) -> None:
    both = {**behind("encoder_q.", other(1)), **behind("encoder_k.", other(2))}
    torch.save({"state_dict": both}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="several sets of weights that fit the model") as caught:
        held(tmp_path / "w.pth")
    assert caught.value.got == "8 keys behind `encoder_k.`, 8 keys behind `encoder_q.`"
    assert "--weights-key encoder_k, in Python trtnet.weights.load(path, key='encoder_k')" in str(
        caught.value
    )
    found = held(tmp_path / "w.pth", key="encoder_q")
    np.testing.assert_array_equal(found["0.bias"], 1)
    assert found.notes == ("9 keys behind `encoder_q.` taken",)
    assert held(tmp_path / "w.pth", key="state_dict.encoder_k")["0.bias"][0] == 2
    with pytest.raises(WeightsError, match="no weights called 'encoder'") as caught:
        held(tmp_path / "w.pth", key="encoder")
    assert caught.value.expected == (
        "the name of an entry, or what keys begin with: state_dict, encoder_k, encoder_q"
    )


def test_shapes_tell_two_prefixes_apart(tmp_path: Path) -> None:
    large = {key: torch.zeros([2 * n for n in v.shape]) for key, v in STATE.items()}
    torch.save({**behind("teacher.", large), **behind("student.")}, tmp_path / "w.pth")
    assert held(tmp_path / "w.pth").notes == (
        "9 keys carry the prefix `student.`: dropped",
        "9 keys without it left out: teacher.0.weight, teacher.0.bias, teacher.1.weight and 6 more",
    )


def test_what_is_missing_behind_a_prefix_is_named_without_it(tmp_path: Path) -> None:
    torch.save({k: v for k, v in behind("net.").items() if "head" not in k}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"2 problem\(s\)\s+missing: head.weight\s"):
        held(tmp_path / "w.pth")


def test_a_state_dict_is_fitted_too() -> None:
    assert fitted(behind("net."), small(nn)).keys() == STATE.keys()
    assert fitted(behind("net."), STATE).keys() == STATE.keys()
    plain = weights.Weights({"a": np.ones(1)})
    assert fitted(plain, small(nn)) is plain


def test_convert_drops_prefixes_and_takes_the_number_of_classes(tmp_path: Path) -> None:
    theirs = zoo.get_entry("squeezenet1_1").torch_model(num_classes=5)
    torch.save({"model": behind("_orig_mod.", theirs.state_dict())}, tmp_path / "w.pth")
    written = weights.convert(tmp_path / "w.pth", tmp_path / "w.safetensors", "squeezenet1_1")
    assert written.keys() == theirs.state_dict().keys()
    assert written.notes == (
        "taken from its entry model",
        "52 keys carry the prefix `_orig_mod.`: dropped",
        "num_classes=5, as classifier.1.weight has the shape (5, 512, 1, 1) in place of "
        "(1000, 512, 1, 1)",
    )
