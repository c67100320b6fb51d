"""build(): shapes, options, reuse and failures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import Shapes, nn
from trtnet.backend import Backend, description, load
from trtnet.building import builder
from trtnet.building.builder import build
from trtnet.building.options import BuildConfig
from trtnet.building.recipe import recipe_hash
from trtnet.errors import BackendError, BuildError, ShapeError, UnsupportedError
from trtnet.extras import install

Raises = Callable[..., Any]
RANGE = Shapes((1, 3, 8), (2, 3, 8), (4, 3, 16))


def dynamic(**options: Any) -> trtnet.Network:
    """Inputs x (N, 3, L) and y (N, 3, 1); output x + y."""
    net = trtnet.Network("rtx", **options)
    x, y = net.input("x", ("N", 3, "L")), net.input("y", ("N", 3, 1))
    net.output("sum", x + y)
    return net


def convolution(seed: int = 0, **options: Any) -> trtnet.Network:
    """A static network with weights."""
    net = trtnet.Network("rtx", **options)
    model = nn.Conv2d(2, 8, 3)
    random = np.random.default_rng(seed)
    model.load_state_dict(
        {name: random.normal(size=p.shape).astype("f4") for name, p in model.named_parameters()}
    )
    net.output("y", model(net.input("x", (1, 2, 6, 6))))
    return net


def test_a_static_network() -> None:
    net = convolution(precision="fp16")
    plan = build(net, sidecar={"model": "tiny"})
    side = plan.sidecar
    assert side["engine"] == {
        "bytes": len(plan.engine),
        "sha256": hashlib.sha256(plan.engine).hexdigest(),
    }
    assert side["backend"] == {"name": "rtx", "version": net.trt.__version__}
    assert (side["trtnet"], side["precision"]) == (trtnet.__version__, "fp16")
    assert side["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 2, 6, 6]}]
    assert side["outputs"] == [{"name": "y", "dtype": "float32", "shape": [1, 8, 4, 4]}]
    assert (side["profiles"], side["options"], side["model"]) == ([], {}, "tiny")


def test_what_is_known_about_the_engine_cannot_be_overwritten() -> None:
    assert build(convolution(), sidecar={"precision": "fp4"}).sidecar["precision"] == "fp32"


def test_the_bytes_are_an_engine_of_the_backend() -> None:
    """By TensorRT's own check, as far as it goes without a GPU."""
    net = convolution()
    runtime = net.trt.Runtime(net.backend.logger)
    malformed = int(net.trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE)
    plan = build(net)
    assert runtime.get_engine_validity(plan.engine)[1] & malformed == 0
    assert runtime.get_engine_validity(b"?" * len(plan.engine))[1] & malformed


def test_dynamic_shapes_and_several_profiles() -> None:
    net = dynamic()
    one = Shapes.fixed((1, 3, 8))
    plan = build(
        net,
        [
            {"x": RANGE, "y": Shapes((1, 3, 1), (2, 3, 1), (4, 3, 1))},
            {"x": one, "y": (np.int64(1), 3, 1)},
        ],
    )
    assert plan.sidecar["profiles"] == [
        {
            "x": {"min": [1, 3, 8], "opt": [2, 3, 8], "max": [4, 3, 16]},
            "y": {"min": [1, 3, 1], "opt": [2, 3, 1], "max": [4, 3, 1]},
        },
        {
            "x": {"min": [1, 3, 8], "opt": [1, 3, 8], "max": [1, 3, 8]},
            "y": {"min": [1, 3, 1], "opt": [1, 3, 1], "max": [1, 3, 1]},
        },
    ]
    assert plan.sidecar["inputs"][0]["shape"] == [-1, 3, -1]


Y = Shapes((1, 3, 1), (2, 3, 1), (4, 3, 1))
BAD_SHAPES: list[tuple[Any, str, str]] = [
    (None, "x", "an input with dynamic axes needs shapes"),
    ([], "x", "an input with dynamic axes needs shapes"),
    ({"x": RANGE}, "y", "sizes for (N, 3, 1)"),
    ({"x": RANGE, "y": Y, "yy": Y}, "yy", "did you mean y?"),
    ({"x": replace(RANGE, min=(3, 3, 8)), "y": Y}, "x", "min <= opt <= max"),
    ({"x": replace(RANGE, opt=(5, 3, 8)), "y": Y}, "x", "impossible range on axis 0"),
    ({"x": replace(RANGE, max=(4, 3, 4)), "y": Y}, "x", "impossible range on axis 2"),
    ({"x": replace(RANGE, min=(1, 8)), "y": Y}, "x", "wrong rank, 2 instead of 3"),
    ({"x": (1, 4, 8), "y": Y}, "x", "axis 1 is fixed to 3 in the network"),
    ({"x": replace(RANGE, min=(0, 3, 8)), "y": Y}, "x", "axis 0 has an impossible size"),
    ({"x": (1, 3, -1), "y": Y}, "x", "axis 2 has an impossible size"),
    ({"x": (1, 3, 8.0), "y": Y}, "x", "sizes are integers"),
    ({"x": RANGE, "y": (1, 3, 1)}, "y", "axes named 'N' have one size"),
    ([{"x": RANGE, "y": Y}, {"x": RANGE}], "y", "needs shapes"),
]


@pytest.mark.parametrize(("shapes", "module", "text"), BAD_SHAPES)
def test_impossible_shapes_name_the_input(
    shapes: Any, module: str, text: str, raises: Raises
) -> None:
    with raises(ShapeError, f"{module}: ", text):
        build(dynamic(), shapes)


def test_a_fixed_input_has_one_shape(raises: Raises) -> None:
    assert build(convolution(), {"x": (1, 2, 6, 6)}).sidecar["profiles"] == []
    with raises(ShapeError, "x: ", "axis 0 is fixed to 1"):
        build(convolution(), {"x": (2, 2, 6, 6)})


def test_no_output(raises: Raises) -> None:
    net = trtnet.Network("rtx")
    net.input("x", (1, 2))
    with raises(BuildError, "no output", "output(name, tensor)"):
        build(net)


CONFIGS = [
    BuildConfig(builder_optimization_level=0),
    BuildConfig(avg_timing=2, max_aux_streams=0),
    BuildConfig(profiling_verbosity="detailed"),
    BuildConfig(tactic_sources=("-JIT_CONVOLUTIONS",)),
    BuildConfig(mem_pool_size={"workspace": 1 << 26}),
    BuildConfig(compute_capabilities=("8.6", "8.9")),
]


def test_every_option_reaches_the_builder() -> None:
    """What was set is read back from the IBuilderConfig."""
    net = convolution()
    trt, config = net.trt, net.builder.create_builder_config()
    for options in CONFIGS:
        options.check(net.backend)
        options.apply(net.backend, config)
    assert config.builder_optimization_level == 0
    assert (config.avg_timing_iterations, config.max_aux_streams) == (2, 0)
    assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert config.get_tactic_sources() == 1 << int(trt.TacticSource.EDGE_MASK_CONVOLUTIONS)
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 1 << 26
    found = [config.get_compute_capability(i) for i in range(config.num_compute_capabilities)]
    assert found == [trt.ComputeCapability.SM86, trt.ComputeCapability.SM89]


def test_options_are_recorded() -> None:
    plan = build(convolution(), config=CONFIGS[-1])
    assert plan.sidecar["options"] == {"compute_capabilities": ["8.6", "8.9"]}
    assert plan.sidecar["compute_capabilities"] == ["8.6", "8.9"]


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_tf32_follows_the_precision(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def check(self: BuildConfig, backend: Backend, config: Any) -> None:
        seen.append(config.get_flag(backend.trt.BuilderFlag.TF32))

    monkeypatch.setattr(BuildConfig, "apply", check)
    build(convolution(precision=precision))
    assert seen == [precision == "tf32"]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (BuildConfig(builder_optimization_level=6), "0 to 5"),
        (BuildConfig(avg_timing=0), "avg_timing cannot be 0"),
        (BuildConfig(max_aux_streams=-1), "max_aux_streams cannot be -1"),
        (BuildConfig(profiling_verbosity="loud"), "layer_names_only"),
        (BuildConfig(hardware_compatibility_level="turing"), "ampere_plus"),
        (BuildConfig(mem_pool_size={"heap": 1}), "workspace"),
        (BuildConfig(mem_pool_size={"workspace": -1}), "negative"),
        (BuildConfig(tactic_sources=("+CUDNN",)), "no longer sources"),
        (BuildConfig(tactic_sources=("JIT_CONVOLUTIONS",)), "unknown tactic source"),
        (BuildConfig(compute_capabilities=("9.0",)), "8.9, 12.0"),
        (BuildConfig(timing_cache_file="t.cache"), "its timing cache does nothing"),
        (BuildConfig(version_compatible=True), "lean runtime"),
        (BuildConfig(exclude_lean_runtime=True), "lean runtime"),
        (BuildConfig(hardware_compatibility_level="ampere_plus"), "compute_capabilities"),
    ],
)
def test_options_that_rtx_cannot_honour(config: BuildConfig, text: str, raises: Raises) -> None:
    with raises(UnsupportedError, text):
        build(convolution(), config=config)


@pytest.mark.parametrize("option", ["refit", "strip_weights"])
def test_options_that_need_a_gpu(
    option: str, raises: Raises, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trtnet.backend.interface.missing_gpu", lambda: "there is no driver")
    with raises(UnsupportedError, option, "there is no driver"):
        build(convolution(), config=BuildConfig(**{option: True}))
    monkeypatch.setattr("trtnet.backend.interface.missing_gpu", lambda: None)
    BuildConfig(**{option: True}).check(load("rtx"))  # with a GPU it is TensorRT's affair


def test_compute_capabilities_are_of_rtx(raises: Raises) -> None:
    """Full TensorRT's binding has no such enum."""

    class Binding:
        __version__ = "11.4.0"

    with raises(UnsupportedError, "compute_capabilities", "hardware_compatibility_level"):
        Backend(description("tensorrt"), Binding(), None).require_option("compute_capabilities")  # type: ignore[arg-type]


def test_a_failing_build_carries_tensorrts_words(raises: Raises) -> None:
    net = trtnet.Network("rtx")
    x = net.input("x", (4, 4))
    layer = net.definition.add_non_zero(x.itensor, net.trt.DataType.INT64)  # RTX cannot build it
    net.definition.mark_output(layer.get_output(0))
    with raises(BuildError, "could not build the engine", "NonZero"):
        build(net)


def test_a_network_continued_by_hand_builds() -> None:
    net = trtnet.Network("rtx")
    layer = net.definition.add_activation(
        net.input("x", (1, 4)).itensor, net.trt.ActivationType.RELU
    )
    net.output("y", net.tensor(layer.get_output(0)))
    assert build(net).sidecar["outputs"] == [{"name": "y", "dtype": "float32", "shape": [1, 4]}]


def test_progress_is_told() -> None:
    phases: list[str] = []
    build(_slow_network(), progress=phases.append)
    assert phases
    assert all(phases)


def test_ctrl_c_stops_the_build() -> None:
    def interrupt(phase: str) -> None:
        raise KeyboardInterrupt

    net = _slow_network()
    with pytest.raises(KeyboardInterrupt):
        build(net, progress=interrupt)
    assert len(build(net).engine) > 0  # the network is none the worse


def test_a_cancelled_monitor_stops_tensorrt() -> None:
    net = convolution()
    config = net.builder.create_builder_config()
    monitor = config.progress_monitor = net.backend.progress_monitor()
    assert net.builder.build_serialized_network(net.definition, config) is not None
    assert monitor.phase == "finishing"
    monitor.cancelled = True
    assert net.builder.build_serialized_network(net.definition, config) is None
    net.backend.clear_errors()


def _slow_network() -> trtnet.Network:
    """One whose build takes longer than the interval at which progress is reported."""
    net = trtnet.Network("rtx")
    model = nn.Sequential(*(nn.Conv2d(64, 64, 3, padding=1) for _ in range(60)))
    model.load_state_dict({name: np.ones(p.shape, "f4") for name, p in model.named_parameters()})
    net.output("y", model(net.input("x", (1, 64, 32, 32))))
    return net


def recipe(net: trtnet.Network, shapes: Any = (), config: BuildConfig | None = None) -> str:
    return recipe_hash(net, list(shapes), config or BuildConfig())


def test_the_recipe_knows_every_ingredient() -> None:
    same = recipe(convolution())
    assert recipe(convolution()) == same
    others = [
        recipe(convolution(seed=1)),
        recipe(convolution(precision="tf32")),
        recipe(convolution(precision="fp16")),
        recipe(convolution(precision="bf16")),
        recipe(convolution(), config=BuildConfig(builder_optimization_level=1)),
        recipe(convolution(), [{"x": RANGE}]),
    ]
    assert len({same, *others}) == 1 + len(others)


def test_the_recipe_knows_one_bit_of_a_weight() -> None:
    def hashed(value: np.float32) -> str:
        net = trtnet.Network("rtx")
        x = net.input("x", (1, 2))
        net.output("y", x + net.constant(np.array([[1, value]], np.float32)))
        return recipe(net)

    one = np.float32(1)
    assert hashed(one) != hashed(np.nextafter(one, np.float32(2)))


def test_the_recipe_knows_the_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    net = convolution()
    before = recipe(net)
    monkeypatch.setattr("trtnet.building.recipe.__version__", "0.0.0")
    assert recipe(net) != before


def test_an_equal_recipe_is_not_built_again() -> None:
    old = build(convolution(), sidecar={"weights": "here"})
    same = build(convolution(), sidecar={"weights": "there"}, reuse=old)
    assert same.engine is old.engine
    assert same.sidecar == {**old.sidecar, "weights": "there"}
    assert build(convolution(seed=1), reuse=old).engine != old.engine


def test_timing_caches_are_read_and_written(tmp_path: Path, raises: Raises) -> None:
    """With a stand-in for full TensorRT's IBuilderConfig, which needs a GPU."""

    class Cache(bytes):
        def serialize(self) -> bytes:
            return b"new"

    class Config:
        accepts = True

        def create_timing_cache(self, content: bytes) -> Cache:
            return Cache(content)

        def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
            self.cache = cache
            return self.accepts and not ignore_mismatch

        def get_timing_cache(self) -> Cache:
            return self.cache

    config, path = Config(), tmp_path / "t.cache"
    builder._load_timing_cache(config, path)
    assert config.cache == b""
    builder._save_timing_cache(config, path)
    builder._load_timing_cache(config, path)
    assert config.cache == b"new"
    config.accepts = False
    with raises(BuildError, "t.cache: ", "cannot be used"):
        builder._load_timing_cache(config, path)
    with raises(BuildError, "not a regular file", "expected: a timing cache"):
        builder._load_timing_cache(config, tmp_path)
    with raises(BuildError, "cannot be written"):
        builder._save_timing_cache(config, tmp_path)


def test_an_engine_of_the_torch_backend_is_the_network_itself() -> None:
    net = trtnet.Network("torch", precision="fp16")
    net.output("y", nn.ReLU()(net.input("x", ("N", 3))))
    shapes = {"x": Shapes((1, 3), (2, 3), (4, 3))}
    plan = build(net, shapes, sidecar={"model": "tiny"})
    assert trtnet.graph.loads(plan.engine) == trtnet.graph.read(net.definition)
    assert plan.sidecar["backend"] == {"name": "torch", "version": version("torch")}
    assert plan.sidecar["profiles"] == [{"x": {"min": [1, 3], "opt": [2, 3], "max": [4, 3]}}]
    assert plan.sidecar["model"] == "tiny"
    assert build(net, shapes, reuse=plan).engine is plan.engine


@pytest.mark.parametrize(
    "option",
    [
        {"compute_capabilities": ("8.6",)},
        {"mem_pool_size": {"workspace": 1}},
        {"builder_optimization_level": 5},
        {"timing_cache_file": "t.cache"},
    ],
)
def test_the_torch_backend_has_no_builder_options(option: dict[str, Any], raises: Raises) -> None:
    net = trtnet.Network("torch")
    net.output("y", nn.ReLU()(net.input("x", (1, 3))))
    (name,) = option
    with raises(UnsupportedError, f"torch cannot honour {name}", "the network itself"):
        build(net, config=BuildConfig(**option))


def test_the_torch_backend_needs_torch(monkeypatch: pytest.MonkeyPatch, raises: Raises) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    with raises(BackendError, "torch is not installed", install("torch")):
        load("torch")
