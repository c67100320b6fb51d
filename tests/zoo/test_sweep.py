"""The sweep over the zoo: what it checks of each model, its journal, and the page."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from trtnet import zoo

KINDS = ("definition", "fp32", "fp16")
SHIPPED = zoo.list_models(shipped=True)
ENTRIES = {name: zoo.get_entry(name) for name in SHIPPED}
COMPARED = [
    name
    for name, entry in ENTRIES.items()
    if entry.has_counterpart() and entry.input_shape and entry.task != "detection"
]


@pytest.fixture(scope="module")
def page(verify_zoo: ModuleType) -> ModuleType:
    return verify_zoo.zoo_page


def _record(name: str, seconds: float = 1.0, **details: Any) -> dict[str, Any]:
    """As zoo_checks.py prints it, without measuring anything."""
    measured = {"definition": 1e-7, "fp32": 2e-6, "fp16": 0.9999, "modules": 7}
    plain = {"input": [1, 3, 8, 8], "passed": True, "engine_bytes": 5_000_000, "build_s": 1.5}
    names = ("default", "dynamic batch", "other size")
    settings = {setting: {**plain, **measured, "exact": 3e-15} for setting in names}
    return {"model": name, "settings": settings, "passed": True, "seconds": seconds, **details}


# What is checked


def test_attention_differs_from_pytorchs_by_the_rounding_of_its_scale(
    zoo_checks: ModuleType,
) -> None:
    torch.manual_seed(0)
    original = torch.nn.MultiheadAttention(160, 2, batch_first=True).double().eval()
    model = torch.nn.Sequential()
    model.add_module("attention", original)
    x = torch.randn(3, 7, 160, dtype=torch.float64)
    with torch.no_grad():
        want, _ = original(x, x, x, need_weights=False)
        zoo_checks.make_constants_exact(model)
        found, _ = model.attention(x, x, x, need_weights=False)
    assert 0 < (found - want).norm() / want.norm() < 2**-24
    assert model.state_dict().keys() == original.state_dict(prefix="attention.").keys()


@pytest.mark.parametrize("name", COMPARED)
def test_settings_cover_a_dynamic_batch_and_another_size(name: str, zoo_checks: ModuleType) -> None:
    entry = zoo.get_entry(name)
    found = zoo_checks.settings(entry)
    default, batch = found["default"], found["dynamic batch"]
    assert default.shape == default.declared == (1, *entry.input_shape)
    assert batch.declared == ("N", *entry.input_shape)
    profile = batch.profile["input"]
    assert [shape[0] for shape in (profile.min, profile.opt, profile.max)] == [1, 2, 4]
    assert {kind for setting in found.values() for kind in setting.checks} == {*KINDS, "exact"}
    assert all(setting.engine and {*KINDS} <= {*setting.checks} for setting in found.values())
    assert ("other size" in found) != entry.fixed_size
    if not entry.fixed_size:
        other = found["other size"]
        assert other.shape[2:] != entry.input_shape[1:]
        entry.build(**other.model_args)  # takes images of that size


@pytest.mark.parametrize(
    ("name", "size"),
    [("vit_h_14", 154), ("vit_b_32", 160), ("maxvit_t", 448)],
)
def test_models_that_are_built_for_a_size(name: str, size: int, zoo_checks: ModuleType) -> None:
    other = zoo_checks.settings(zoo.get_entry(name))["other size"]
    assert other.shape == (1, 3, size, size)
    assert other.model_args in ({"image_size": size}, {"input_size": (size, size)})


def test_a_wrong_model_fails_and_says_where(
    zoo_checks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    equal_pair = zoo_checks.equal_pair

    def different(*args: Any, **kwargs: Any) -> Any:
        theirs, ours = equal_pair(*args, **kwargs)
        theirs.f6.bias = torch.nn.Parameter(theirs.f6.bias + 1)  # ours has the memory of the old
        return theirs, ours

    assert zoo_checks.measure("lenet5")["passed"] is True
    monkeypatch.setattr(zoo_checks, "equal_pair", different)
    record = json.loads(json.dumps(zoo_checks.measure("lenet5")))
    assert record["passed"] is False
    assert record["settings"]["default"]["passed"] is False
    assert record["settings"]["dynamic batch"]["fp32 fails"].startswith("f6: ")


# The journal


def test_a_model_is_measured_in_a_process_of_its_own(
    verify_zoo: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    paths = {"journal": tmp_path / "zoo.jsonl", "page": tmp_path / "zoo.md"}
    flags = [f"--{name}={path}" for name, path in paths.items()]
    monkeypatch.setattr(sys, "argv", ["verify_zoo.py", "lenet5", *flags])
    assert verify_zoo.main() == 0
    assert "1/1 lenet5" in capsys.readouterr().out
    record = json.loads(paths["journal"].read_text())
    assert (record["model"], record["passed"], record["parameters"]) == ("lenet5", True, 61_706)
    assert record["settings"]["dynamic batch"]["exact"] <= 1e-10
    assert "| lenet5 | 1x1x32x32 |" in paths["page"].read_text()
    assert "lenet5" not in verify_zoo.outdated({"lenet5": record}, "rtx")


def test_the_sweep_goes_on_where_it_was_killed(
    verify_zoo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    journal = tmp_path / "zoo.jsonl"
    names = ["alexnet", "lenet5", "resnet18", "vit_h_14"]
    measured: list[str] = []

    def measure(name: str, backend: str, threads: int) -> dict[str, Any] | None:
        measured.append(name)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return None if name == "resnet18" else _record(name)

    monkeypatch.setattr(verify_zoo, "measure", measure)
    monkeypatch.setattr(verify_zoo.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(zoo, "list_models", lambda shipped: names)
    with pytest.raises(KeyboardInterrupt):
        verify_zoo.Sweep(verify_zoo.outdated({}, "rtx"), journal, "rtx").run()
    assert measured == ["resnet18", "alexnet", "lenet5"]  # by cost; the large one comes last
    assert "resnet18" in capsys.readouterr().out
    records = verify_zoo.zoo_page.load(journal)
    assert list(records) == ["alexnet"]
    assert verify_zoo.outdated(records, "rtx") == ["lenet5", "resnet18", "vit_h_14"]


def test_a_result_belongs_to_sources_and_versions(
    verify_zoo: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: set[Path] = set()
    verify_zoo._add_files(sys.modules["trtnet.zoo.maxvit"], files)
    assert {path.name for path in files} >= {"maxvit.py", "swin_transformer.py", "blocks.py"}
    assert "vgg.py" not in {path.name for path in files}
    records = {name: verify_zoo.key(name, "rtx") for name in COMPARED}
    assert verify_zoo.outdated(records, "rtx") == []
    records["vgg11"]["sources"] = "0"
    assert verify_zoo.outdated(records, "rtx") == ["vgg11"]
    newer = {"torch": "99"}
    monkeypatch.setattr(verify_zoo, "versions", lambda backend: newer)
    assert verify_zoo.outdated(records, "rtx") == COMPARED


def test_a_detector_is_sent_to_its_own_sweep(
    verify_zoo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    journal = tmp_path / "zoo.jsonl"
    monkeypatch.setattr(sys, "argv", ["verify_zoo.py", "yolov8n", f"--journal={journal}"])
    with pytest.raises(SystemExit):
        verify_zoo.main()
    assert "python tools/verify_detectors.py yolov8n" in capsys.readouterr().err
    assert not journal.exists()


# The page


def test_the_page_says_which_detectors_are_compared(
    page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [name for name in SHIPPED if zoo.get_entry(name).task == "detection"]
    path = tmp_path / "detectors.md"
    monkeypatch.setattr(page, "DETECTORS", path)
    path.write_text("".join(f"| `{name}` | 7 |\n" for name in names[1:]))
    text = "\n".join(page.summary({}))
    assert f"{len(names) - 1} of {len(names)} detectors are compared" in text
    assert text.endswith(f"Without a row there: {names[0]}.")
    path.write_text("".join(f"| `{name}` | 7 |\n" for name in names))
    assert "Without" not in "\n".join(page.summary({}))


def test_the_page_has_every_card_and_what_was_measured(page: ModuleType) -> None:
    details = {"date": "2026-01-01", "machine": "2 cores", "backend": "rtx", "versions": {"a": "1"}}
    records = {name: _record(name, 30.0, **details) for name in ("resnet50", "lenet5")}
    records["resnet50"]["passed"] = False
    text = "\n".join(page.page(records))
    detectors = [name for name in SHIPPED if zoo.get_entry(name).task == "detection"]
    others = len(SHIPPED) - len(detectors)
    assert f"1 of {others} models that are no detectors pass every check.\n" in text
    assert "Measured 2026-01-01, 2 cores, rtx, a 1.\nThe sum of their times is 1 minutes." in text
    card = ("| resnet50 | classification | 3x224x224 | 25,557,032 | 4.089 | IMAGENET1K_V1 76.13<br>"
            "**IMAGENET1K_V2 80.86** |")  # fmt: skip
    assert card in text
    rounded = "1.0e-07 | 2.0e-06 | 0.99990"
    batch = f"| {rounded} | 5.0 MB | 1.5 s |"
    assert f"| resnet50 | 1x3x8x8 | 7 | {rounded} {batch} NO |" in text
    assert f"| lenet5 | 1x3x8x8 | 7 | {rounded} {batch} yes |" in text
    assert f"| lenet5 | 1x3x8x8 | 7 | {rounded} | 3.0e-15 | 5.0 MB | 1.5 s |" in text
    assert all(f"| {name} |" in text for name in SHIPPED)
