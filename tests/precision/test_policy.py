"""Which module gets which precision, why, and what a policy refuses."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import trtnet
from trtnet import Policy, nn, zoo
from trtnet.errors import UnsupportedError, UsageError
from trtnet.precision.budget import Budget
from trtnet.precision.policy import PRESETS

pytestmark = pytest.mark.alone


@pytest.mark.parametrize(
    ("preset", "convolution", "normalization", "softmax", "reduction"),
    [
        ("fp32", "fp32", "fp32", "fp32", "fp32"),
        ("tf32", "tf32", "tf32", "tf32", "tf32"),
        ("fp16", "fp16", "fp32", "fp16", "fp32"),
        ("bf16", "bf16", "fp32", "bf16", "fp32"),
        ("mixed", "fp16", "fp32", "fp32", "fp32"),
        ("int8", "int8", "fp32", "fp16", "fp32"),
        ("fp8", "fp8", "fp32", "fp16", "fp32"),
        ("int8-weights", "int8-weights", "fp32", "fp16", "fp32"),
    ],
)
def test_presets(
    preset: str, convolution: str, normalization: str, softmax: str, reduction: str
) -> None:
    policy = Policy.preset(preset)
    kinds = ("convolution", "normalization", "softmax", "reduction")
    found = tuple(policy.precision_of("a.b", kind) for kind in kinds)
    assert found == (convolution, normalization, softmax, reduction)


def test_the_last_match_wins_and_holds_for_what_is_below() -> None:
    policy = Policy("int8", keep={"layer*": "fp16", "layer3.0": "fp32", "*.conv2": "int8"})
    wanted = {
        "conv1": "int8",
        "layer1": "fp16",
        "layer1.0.conv1": "fp16",
        "layer3.0.conv1": "fp32",
        "layer3.0.downsample.0": "fp32",
        "layer3.0.conv2": "int8",
        "layer3.0.conv2#1": "int8",
        "layer30.0.conv1": "fp16",
    }
    assert {path: policy.precision_of(path, "convolution") for path in wanted} == wanted


def test_a_pattern_does_not_reach_a_neighbour_of_a_like_name() -> None:
    policy = Policy("int8", keep={"layer1": "fp16"})
    assert policy.precision_of("layer10.conv", "convolution") == "int8"


@pytest.mark.parametrize(
    ("policy", "kind", "groups", "precision", "reason"),
    [
        (Policy("fp8"), "convolution", 1, "fp8", "compute = fp8"),
        (Policy("fp8"), "convolution", 32, "fp16", "FP8 has no convolution with groups (32)"),
        (Policy("int8"), "convolution", 32, "int8", "compute = int8"),
        (Policy("fp8", base="bf16"), "convolution", 2, "bf16", "not quantized"),
        (Policy("fp8"), "attention", 1, "fp8", "compute = fp8"),
        (Policy("int8"), "attention", 1, "fp16", "small probabilities"),
        (Policy("int8", kinds={"attention": "int8"}), "attention", 1, "int8", "compute = int8"),
        (Policy("fp16", kinds={"attention": "int8"}), "attention", 1, "int8", "kinds 'attention'"),
        (Policy("int8"), "softmax", 1, "fp16", "softmax has no INT8 form"),
        (Policy("int8"), "normalization", 1, "fp32", "stays in FP32"),
        (Policy("fp16", keep={"m": "fp16"}), "normalization", 1, "fp16", "keep 'm' = fp16"),
        (Policy("fp16", keep={"m": "int8"}), "normalization", 1, "fp32", "stays in FP32"),
        (Policy("int8", base="fp32"), "", 1, "fp32", "compute = int8"),
        (Policy("fp32", kinds={"linear": "fp16"}), "linear", 1, "fp16", "kinds 'linear' = fp16"),
    ],
)
def test_reasons(policy: Policy, kind: str, groups: int, precision: str, reason: str) -> None:
    decision = policy.decide("m", kind, groups)
    assert decision.precision == precision
    assert reason in decision.reason


def test_explain_says_what_every_module_gets_and_why() -> None:
    policy = Policy("fp8", keep={"layer4": "fp16"})
    rows = {row.module: row for row in policy.explain(zoo.get_model("resnext50_32x4d"))}
    assert rows["conv1"].precision == "fp8"
    assert (rows["layer1.0.conv2"].precision, rows["layer1.0.conv1"].precision) == ("fp16", "fp8")
    assert "groups (32)" in rows["layer1.0.conv2"].reason
    assert rows["layer4.0.conv1"].reason == "keep 'layer4' = fp16"
    assert "folded" in rows["bn1"].reason
    assert rows["layer1.0.relu"].reason == "takes the type of its input"
    assert "layer1.0" not in rows  # only calls others


def test_explain_of_a_network_is_that_of_its_modules() -> None:
    policy = Policy("fp16")
    model, net = nn.Sequential(nn.ReLU(), nn.Softmax(1)), trtnet.Network("rtx", policy)
    with net.scope("head"):
        model(net.input("x", (2, 4)))
    found = [(row.module, row.type) for row in policy.explain(net)]
    assert found == [("head.0", "ReLU"), ("head.1", "Softmax")]


def test_every_module_of_the_zoo_is_explained() -> None:
    for name in ("vit_b_16", "densenet121"):
        rows = Policy("int8").explain(zoo.get_model(name))
        assert all(row.precision and row.reason for row in rows)
        assert {row.precision for row in rows} <= {"int8", "fp16", "fp32"}


def test_a_pattern_that_matches_nothing(raises: Any) -> None:
    policy = Policy("fp16", keep={"layer1.0.con1": "fp32"})
    with raises(UsageError, "matches no module", "layer1.0.con1", "layer1.0.conv1"):
        policy.explain(zoo.get_model("resnet18"))


def test_a_build_refuses_a_pattern_that_matches_nothing(raises: Any) -> None:
    net = trtnet.Network("rtx", Policy("fp16", keep={"head": "fp32"}))
    net.output("y", nn.Sequential(nn.ReLU())(net.input("x", (2, 4))))
    with raises(UsageError, "matches no module", "head"):
        trtnet.build(net)


@pytest.mark.parametrize(
    "values",
    [
        {"compute": "int4"},
        {"keep": {"a": "fp64"}},
        {"base": "int8"},
        {"io": "tf32"},
        {"kinds": {"convolutions": "fp32"}},
        {"kinds": {"softmax": "half"}},
    ],
)
def test_unknown_values(values: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError):
        Policy(**values)


def test_an_unknown_preset_names_those_there_are(raises: Any) -> None:
    with raises(UnsupportedError, "int9", *PRESETS):
        trtnet.Network("rtx", precision="int9")


AWKWARD = Policy(
    "int8",
    keep={
        "*.bn*": "fp32",
        "a.[0-3]": "fp16",
        'quoted "name" \\ ü': "bf16",
        "z": "int8",
        "b": "fp8",
    },
    io="fp16",
    base="bf16",
    kinds={"softmax": "fp32"},
)


BUDGETED = Policy("int8", budget=Budget.parse("sqnr>=26.123456789dB"))


@pytest.mark.parametrize("policy", [Policy(), AWKWARD, BUDGETED, *map(Policy.preset, PRESETS)])
def test_toml_keeps_a_policy_as_it_is(policy: Policy, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    policy.save(path)
    loaded = Policy.load(path)
    assert loaded == policy
    assert list(loaded.keep) == list(policy.keep)  # the order decides which match is last


def test_what_a_file_leaves_out_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('compute = "fp16"\n[keep]\n"fc" = "fp32"\n')
    assert Policy.load(path) == Policy("fp16", keep={"fc": "fp32"})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("compute = ", "it is not TOML\n  got: Invalid value"),
        (
            'colour = "red"',
            "unknown entry 'colour'\n  expected: compute, keep, io, base, kinds, budget",
        ),
        ('budget = "26 dB"', "cannot read the budget '26 dB'\n  expected: cosine>=0.999, sqnr>="),
        ("budget = 26", "wrong value at budget\n  expected: string\n  got: 26"),
        ('budget = "cosine>=2"', "the budget 'cosine>=2' is out of range"),
        ("compute = 3", "wrong value at compute\n  expected: string\n  got: 3"),
        ('keep = "fc"', "wrong value at keep\n  expected: object\n  got: 'fc'"),
        ("[keep]\nfc = 32", "wrong value at keep.fc\n  expected: string\n  got: 32"),
        ('[compute]\na = "b"', "wrong value at compute\n  expected: string"),
        ("keep = " + "[" * 10_000, "it is nested too deeply\n  expected: at most 64 levels"),
        ("keep = " + "{a=" * 10_000, "it is nested too deeply\n  expected: at most 64 levels"),
        ("a." * 50_000 + 'b = "fp16"', "a key has too many parts\n  expected: at most 32"),
        ("[" + "a." * 50_000 + "b]", "a key has too many parts\n  expected: at most 32"),
        (
            "[keep]\n'" + "[" * 20_000 + "' = 'fp16'",
            "a pattern is too long\n  expected: at most 1000",
        ),
        ("compute = inf", "it is not TOML\n  got: the number inf is not finite"),
        ("#" * 2_000_000, "is too large\n  expected: a policy, of at most 1.0 MB"),
    ],
)
def test_bad_files(text: str, complaint: str, tmp_path: Path, raises: Any) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    started = time.perf_counter()
    with raises(UsageError, complaint, str(path), "fix: "):
        Policy.load(path)
    assert time.perf_counter() - started < 5


def test_the_budget_is_an_entry_of_the_file(tmp_path: Path) -> None:
    BUDGETED.save(tmp_path / "policy.toml")
    assert 'budget = "sqnr>=26.123456789dB"' in (tmp_path / "policy.toml").read_text().splitlines()
    assert "budget" not in Policy("int8").as_dict()


def test_no_file(tmp_path: Path, raises: Any) -> None:
    with raises(UsageError, "there is no file", "none.toml", "expected: a policy"):
        Policy.load(tmp_path / "none.toml")
