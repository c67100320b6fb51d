"""What the flags of ``python -m trtnet.zoo`` mean, and what is said about those it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trtnet.building.options import BuildConfig
from trtnet.building.profiles import Shapes
from trtnet.cli.arguments import parse
from trtnet.cli.options import build_config
from trtnet.cli.recipes import build_recipe
from trtnet.errors import ShapeError, UsageError
from trtnet.pipeline.shapes import input_shapes
from trtnet.precision.policy import Policy

IMAGE = (3, 224, 224)
Raises = Callable[..., Any]


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ([], "tf32"),
        (["--noTF32"], "fp32"),
        (["--no-tf32"], "fp32"),
        (["--fp16"], "fp16"),
        (["--bf16"], "bf16"),
        (["--fp16", "--noTF32"], "fp16"),
        (["--precision", "fp32"], "fp32"),
        (["--precision=tf32"], "tf32"),
        (["--fp16", "--precision", "fp16"], "fp16"),
        (["--int8"], "int8"),
        (["--fp8"], "fp8"),
        (["--precision", "mixed"], "mixed"),
        (["--precision", "int8-weights"], "int8-weights"),
    ],
)
def test_precision(flags: list[str], precision: str) -> None:
    assert parse(["resnet50", *flags]).chosen.name == precision


@pytest.mark.parametrize(
    "flags",
    [
        ["--fp16", "--bf16"],
        ["--fp16", "--precision=fp32"],
        ["--precision=tf32", "--noTF32"],
        ["--int8", "--fp8"],
        ["--policy=p.toml", "--int8"],
        ["--policy=p.toml", "--noTF32"],
    ],
)
def test_conflicting_precisions(flags: list[str], raises: Raises) -> None:
    with raises(UsageError, "choose one precision"):
        parse(["resnet50", *flags])


@pytest.mark.parametrize(
    ("flags", "answer"),
    [
        (["--best"], "--fp16"),
        (["--workspace=4096"], "--memPoolSize=workspace:MiB"),
        (["--minTiming", "4"], "--avgTiming"),
        (["--min-timing=4"], "--avgTiming"),
        (["--buildOnly"], "only builds"),
        (["--explicitBatch"], "always explicit"),
        (["--calib=cache"], "--calib-table"),
        (["--safe"], "safety"),
    ],
)
def test_removed_flags_are_answered(flags: list[str], answer: str, raises: Raises) -> None:
    with raises(UsageError, "TensorRT has removed --", answer):
        parse(["resnet50", *flags])


def test_a_policy_file(tmp_path: Path, raises: Raises) -> None:
    path = tmp_path / "mine.toml"
    Policy("int8", keep={"fc": "fp32"}, base="bf16").save(path)
    found = parse(["resnet50", "--policy", str(path)])
    assert found.chosen.policy == Policy.load(path)
    assert (found.chosen.name, found.chosen.policy.base) == ("int8", "bf16")
    assert parse(["resnet50", "--precision=mixed"]).chosen.policy == Policy.preset("mixed")
    with raises(UsageError, "missing.toml"):
        parse(["resnet50", "--policy", str(tmp_path / "missing.toml")])


def test_calibration_flags() -> None:
    found = parse(["resnet50", "--int8", "--calib-data=x", "--calibrator", "entropy"])
    assert (found.calib_data, found.calibrator, found.calib_table) == ("x", "entropy", None)
    assert parse(["resnet50"]).calibrator == "mse"


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--fp16"],
        ["resnet50", "resnet18"],
        ["resnet50", "--nonsense"],
        ["resnet50", "--save"],
        ["resnet50", "--batch", "0"],
        ["resnet50", "--batch", "two"],
        ["resnet50", "--precision", "fp64"],
        ["resnet50", "--calibrator", "max"],
        ["resnet50", "--calib-items", "0"],
        ["resnet50", "--backend", "onnx"],
    ],
)
def test_bad_usage(argv: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(argv)


def test_builder_options_in_both_spellings() -> None:
    camel = [
        "--memPoolSize=workspace:2048,tacticSharedMem:48K",
        "--builderOptimizationLevel=5",
        "--tacticSources=-JIT_CONVOLUTIONS,+EDGE_MASK_CONVOLUTIONS",
        "--avgTiming=4",
        "--maxAuxStreams=0",
        "--profilingVerbosity=detailed",
        "--hardwareCompatibilityLevel=ampere+",
        "--timingCacheFile=t.cache",
        "--versionCompatible",
        "--excludeLeanRuntime",
        "--stripWeights",
        "--refit",
        "--compute-capability=8.6,8.9",
    ]
    kebab = [
        "--mem-pool-size=workspace:2G,tacticSharedMem:49152B",
        "--builder-optimization-level=5",
        "--tactic-sources=-JIT_CONVOLUTIONS,+EDGE_MASK_CONVOLUTIONS",
        "--avg-timing=4",
        "--max-aux-streams=0",
        "--profiling-verbosity=detailed",
        "--hardware-compatibility-level=ampere+",
        "--timing-cache-file=t.cache",
        "--version-compatible",
        "--exclude-lean-runtime",
        "--strip-weights",
        "--refit",
        "--compute-capability=8.6,8.9",
    ]
    expected = BuildConfig(
        mem_pool_size={"workspace": 2 << 30, "tactic_shared_memory": 48 << 10},
        timing_cache_file="t.cache",
        builder_optimization_level=5,
        tactic_sources=("-JIT_CONVOLUTIONS", "+EDGE_MASK_CONVOLUTIONS"),
        avg_timing=4,
        max_aux_streams=0,
        profiling_verbosity="detailed",
        version_compatible=True,
        exclude_lean_runtime=True,
        hardware_compatibility_level="ampere_plus",
        strip_weights=True,
        refit=True,
        compute_capabilities=("8.6", "8.9"),
    )
    assert build_config(parse(["resnet50", *camel])) == expected
    assert build_config(parse(["resnet50", *kebab])) == expected
    assert build_config(parse(["resnet50"])) == BuildConfig()


@pytest.mark.parametrize(
    "flag",
    [
        "--memPoolSize=workspace",
        "--memPoolSize=heap:4",
        "--memPoolSize=workspace:-1",
        "--memPoolSize=workspace:4T",
        "--hardwareCompatibilityLevel=turing",
    ],
)
def test_builder_options_that_cannot_be_read(flag: str, raises: Raises) -> None:
    with raises(UsageError, flag.partition("=")[0], "expected"):
        build_config(parse(["resnet50", flag]))


def shapes_of(*flags: str) -> Any:
    return input_shapes(build_recipe(parse(["resnet50", *flags])), IMAGE)


def test_static_shapes() -> None:
    assert shapes_of().declared == (1, 3, 224, 224)
    assert shapes_of("--batch", "8").declared == (8, 3, 224, 224)
    assert shapes_of("--image-size=96").declared == (1, 3, 96, 96)
    fixed = "input:2x3x64x64"
    found = shapes_of(f"--minShapes={fixed}", f"--optShapes={fixed}", f"--maxShapes={fixed}")
    assert found.declared == (2, 3, 64, 64)


def test_axes_that_differ_become_dynamic() -> None:
    found = shapes_of(
        *("--minShapes", "input:1x3x64x64", "--optShapes", "8x3x224x64"),
        *("--max-shapes", "input:8x3x512x64"),
    )
    assert found.declared == ("N", 3, "H", 64)
    assert found.profiles == (Shapes((1, 3, 64, 64), (8, 3, 224, 64), (8, 3, 512, 64)),)
    assert found.typical == [(8, 3, 224, 64)]


def test_repeated_shapes_are_profiles() -> None:
    found = shapes_of(
        *("--minShapes=1x3x64x64", "--optShapes=1x3x64x64", "--maxShapes=1x3x64x64"),
        *("--minShapes=1x3x64x64", "--optShapes=4x3x64x64", "--maxShapes=8x3x64x64"),
    )
    assert found.declared == ("N", 3, 64, 64)
    assert found.typical == [(1, 3, 64, 64), (4, 3, 64, 64)]


@pytest.mark.parametrize(
    ("flags", "kind", "text"),
    [
        (["--minShapes=1x3x64x64"], UsageError, "once per profile"),
        (["--batch=2", "--minShapes=1x3x64x64"], UsageError, "exclude each other"),
        (["--minShapes=1x3xHxW", "--optShapes=1", "--maxShapes=1"], UsageError, "1x3xHxW"),
        (["--minShapes=3x8x8", "--optShapes=3x8x8", "--maxShapes=3x8x8"], ShapeError, "wrong rank"),
        (["--minShapes=1x1x8x8", "--optShapes=1x3x8x8", "--maxShapes=1x3x8x8"], ShapeError, "1, 3"),
        (["--minShapes=data:1x3x8x8", "--optShapes=1x3x8x8", "--maxShapes=1x3x8x8"], ShapeError,
         "write input:1x3x8x8"),
    ],
)  # fmt: skip
def test_shapes_that_cannot_be_read(
    flags: list[str], kind: type[Exception], text: str, raises: Raises
) -> None:
    with raises(kind, text):
        shapes_of(*flags)
