"""Everything trtnet uses of TensorRT exists, with that signature, in every supported version, or
stands behind a named feature of trtnet.backend."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from trtnet import backend
from trtnet.backend import FEATURES
from trtnet.building import options as build_config
from trtnet.graph.layers import KINDS

ROOT = Path(__file__).parents[2]

with pytest.MonkeyPatch.context() as _patch:
    _patch.syspath_prepend(Path(__file__).parent)
    _patch.syspath_prepend(ROOT / "tools")
    api_snapshot = importlib.import_module("api_snapshot")
    from api_walk import OURS, Kind, Use, Walk, instance, literals, walk
    from tensorrt_api import APIS, Api

NETWORK, TENSOR = instance("INetworkDefinition"), instance("ITensor")
BUILDER_CONFIG = instance("IBuilderConfig")

# What parameters and attributes hold that come from elsewhere; ``function.name`` for one function.
NAMES: Mapping[str, Mapping[str, Kind]] = {
    "tools/bench_define.py": {"rtx": OURS},
    "tools/fault_specimens.py": {"Segmenter": OURS},
    "tools/onnx_cases.py": {"loaded": OURS},
    "trtnet/backend/interface.py": {
        "create_network.builder": instance("Builder"),
        "engine_faults.runtime": instance("Runtime"),
    },
    "trtnet/building/options.py": {"config": BUILDER_CONFIG},
    "trtnet/building/builder.py": {
        "_builder_config.config": BUILDER_CONFIG,
        "_serialize.config": BUILDER_CONFIG,
        "_load_timing_cache.config": BUILDER_CONFIG,
        "_save_timing_cache.config": BUILDER_CONFIG,
        "_computes_in.layer": instance("ILayer"),
        "tensor": TENSOR,
    },
    "trtnet/graph/lint_rules.py": {"checked": OURS},
    "trtnet/graph/plugins.py": {
        "network": NETWORK,
        "mark_of.layer": instance("ILayer"),
        "take.layer": instance("ILayer"),
    },
    "trtnet/imaging/placement.py": {"rules": OURS},
    "trtnet/graph/reader.py": {
        "network": NETWORK,
        "read.layer": instance("ILayer"),
        "_definition_of.given": OURS,
        "_read_layer.layer": instance("ILayer"),
        "_read_weights.layer": instance("ILayer"),
        "tensor": TENSOR,
    },
    "trtnet/network/loop.py": {"._loop": instance("ILoop"), "layer": instance("ILayer")},
    "trtnet/network/network.py": {"layer": instance("ILayer")},
    "trtnet/network/layers.py": {"layer": instance("ILayer")},
    "trtnet/network/interface.py": {"._network": OURS},
    # Of tensorrt.plugin, which tests/plugins has a double of.
    "trtnet/plugins/quick_plugins.py": {"made": OURS, "n": OURS},
    "trtnet/plugins/ipluginv3.py": {"n": instance("IDimensionExpr")},
    "trtnet/building/profiles.py": {"tensor": TENSOR},
    "trtnet/engines/bound_context.py": {".context": OURS},
    "trtnet/engines/options.py": {"_check_runtime.options": OURS},
    "trtnet/engines/tensorrt/loading.py": {"options": OURS},
    "trtnet/serving/batch/running.py": {"settings": OURS},
    "trtnet/serving/batch/worker.py": {".job": OURS},
    "trtnet/engines/tensorrt/context.py": {"context": instance("IExecutionContext")},
    "trtnet/engines/tensorrt/refit.py": {
        "engine": instance("ICudaEngine"),
        "runtime": instance("Runtime"),
        "._engine": instance("ICudaEngine"),
        "._refitter": instance("Refitter"),
        "refitter": instance("Refitter"),
        "_serialized.config": instance("ISerializationConfig"),
    },
    "trtnet/engines/tensorrt/engine.py": {
        "engine": instance("ICudaEngine"),
        "runtime": instance("Runtime"),
        "context": instance("IExecutionContext"),
        "config": instance("IRuntimeConfig"),
        "._engine": instance("ICudaEngine"),
        "._runtime": instance("Runtime"),
        "._config": instance("IRuntimeConfig"),
        "._cache": instance("IRuntimeCache"),
    },
}

# Expressions with a computed name, and what covers them.
COMPUTED = frozenset(
    {
        "getattr(trt, kind.class_name)",  # test_layers_are_read_by_attributes_that_exist
        "getattr(layer, name)",  # the same: weights
        "getattr(network.definition, method)",  # the methods given to emit()
        "self.emit_all(op, method, *args, dims=[dims], inputs=inputs, **attributes)",  # the same
        # a layer that was put off: its emit() is a function that calls Network.emit()
        "own.emit(folded, _narrow(network, offset))",
        "self.pending.emit(self.pending.weight, self.pending.bias)",
    }
)

# Files in which strings name members of enumerations, for a look-up elsewhere.
STRINGS = {
    "trtnet/ops/padding.py": {"SampleMode"},
    "trtnet/ops/pointwise.py": {"ElementWiseOperation"},
    "trtnet/ops/elementwise.py": {"ElementWiseOperation", "UnaryOperation"},
    "trtnet/ops/division.py": {"ElementWiseOperation"},
    "trtnet/ops/exponential.py": {"ElementWiseOperation", "UnaryOperation"},
    "trtnet/ops/floats.py": {"ElementWiseOperation", "UnaryOperation"},
    "trtnet/ops/shrinkage.py": {"ElementWiseOperation"},
    "trtnet/ops/variance.py": {"ElementWiseOperation", "ReduceOperation"},
    "trtnet/ops/trigonometry.py": {"UnaryOperation"},
    **{
        f"trtnet/ops/{name}.py": {"SampleMode"}
        for name in ("accumulate", "arranging", "cumulative", "padding", "scatter", "top_k")
    },
    "trtnet/engines/compatibility.py": {"EngineInvalidityDiagnostics"},
    "trtnet/tensor/dim.py": {"ElementWiseOperation"},
}
NO_MEMBERS = {"SM", "FORMULA", "UPPER"}  # a prefix, and members of an enumeration that is named
# The networks of certificates use what some versions lack, on purpose: a case that the binding
# cannot define is recorded as "not run", with the member that is missing.
TRIED = "trtnet/certify/networks/"


def _walk_all() -> list[Walk]:
    files = [
        path
        for top in ("trtnet", "zoo", "tools")
        for path in sorted((ROOT / top).rglob("*.py"))
        if not path.relative_to(ROOT).as_posix().startswith(TRIED)
    ]
    names = [path.relative_to(ROOT).as_posix() for path in files]
    return [
        walk(path, name, NAMES.get(name, {}), COMPUTED)
        for path, name in zip(files, names, strict=True)
    ]


WALKS = _walk_all()
USES = [use for one in WALKS for use in one.uses]


def _is_optional(path: str) -> bool:
    """Whether a feature stands for it, or for a member of it."""
    guarded = [entry for entries in FEATURES.values() for entry in entries]
    return any(entry == path or entry.startswith(f"{path}.") for entry in guarded)


def _problem(api: Api, use: Use) -> str | None:
    owner, _, member = use.path.partition(".")
    if not api.has(use.path):
        return None if _is_optional(use.path) else "is missing"
    if use.is_set and "(read-only)" in (api.property(owner, member) or "(read-only)"):
        return "cannot be set"
    if use.call is not None and use.call[0] >= 0 and not api.accepts(owner, member, *use.call):
        return f"takes {api.overloads(owner, member)}, not {use.call}"
    return None


def test_everything_used_was_understood() -> None:
    unclear = [text for one in WALKS for text in one.unclear]
    assert not unclear, "\n".join(unclear)


@pytest.mark.parametrize("api", APIS, ids=str)
def test_what_is_used_exists(api: Api) -> None:
    found = {f"{use.where}: {use.path} {_problem(api, use)}" for use in USES if _problem(api, use)}
    assert not found, "\n".join(sorted(found))


def test_the_walk_sees_much_of_tensorrt() -> None:
    """Against a walk that silently finds nothing any more."""
    used = {use.path for use in USES}
    assert len(used) > 150
    assert {
        "Builder.build_serialized_network",
        "DataType",
        "IBuilderConfig.progress_monitor",
        "IConvolutionLayer.stride_nd",
        "ICudaEngine.get_tensor_profile_shape",
        "IExecutionContext.execute_async_v3",
        "INetworkDefinition.add_convolution_nd",
        "IOutputAllocator",
        "IRuntimeConfig.set_runtime_cache",
        "ITensor.set_dimension_name",
        "MatrixOperation.TRANSPOSE",
        "Runtime.deserialize_cuda_engine",
    } <= used


def test_every_name_of_a_layers_method_is_one() -> None:
    """Those that are called were seen by the walk; others may stand in tables."""
    called = {name for one in WALKS for name in one.emitted}
    written = {text for one in WALKS for text in literals(one.tree, "add_[a-z0-9_]+")}
    paths = {f"INetworkDefinition.{name}" for name in written | called}
    for api in APIS:
        lacking = {path for path in paths if not api.has(path) and not _is_optional(path)}
        assert not lacking, f"{api} has no {lacking}"
    assert len(called) > 25


@pytest.mark.parametrize("api", APIS, ids=str)
def test_members_of_enumerations_named_by_strings(api: Api) -> None:
    checked = 0
    for one in WALKS:
        enums = one.dynamic | STRINGS.get(one.name, set())
        for text in literals(one.tree, "[A-Z][A-Z0-9_]+") - NO_MEMBERS if enums else ():
            having = [name for name in enums if any(a.has(f"{name}.{text}") for a in APIS)]
            assert having, f"{one.name}: no version has {text} in one of {sorted(enums)}"
            for name in having:
                assert api.has(f"{name}.{text}") or _is_optional(name), f"{one.name}: {name}.{text}"
                checked += 1
    assert checked > 80


@pytest.mark.parametrize("api", APIS, ids=str)
@pytest.mark.parametrize(
    ("enum", "names"),
    [
        ("MemoryPoolType", build_config.MEMORY_POOLS),
        ("ProfilingVerbosity", build_config.PROFILING_VERBOSITIES),
        ("HardwareCompatibilityLevel", build_config.COMPATIBILITY_LEVELS),
    ],
)
def test_options_of_the_builder(api: Api, enum: str, names: tuple[str, ...]) -> None:
    assert {name.upper() for name in names} <= set(api.enums[enum])


@pytest.mark.parametrize("api", APIS, ids=str)
def test_layers_are_read_by_attributes_that_exist(api: Api) -> None:
    """The reader asks for every attribute that any version has, so each must exist in one; weights
    it takes as given."""
    for kind in set(KINDS) & set(api.enums["LayerType"]):
        read = KINDS[kind]
        assert read.class_name in api.classes, kind
        for name in read.weights:
            assert api.property(read.class_name, name), f"{kind}: {name}"
        for entry in read.attributes if not kind.startswith("PLUGIN") else ():
            first = (entry.partition("=")[2] or entry).partition(".")[0]
            assert any(a.property(read.class_name, first) for a in APIS), f"{kind}: {first}"


def test_every_layer_type_can_be_read() -> None:
    known = {kind for api in APIS for kind in api.enums["LayerType"]}
    assert known == set(KINDS)


def test_features_are_needed_and_exist() -> None:
    for name, entries in FEATURES.items():
        having = [all(api.has(entry) for entry in entries) for api in APIS]
        assert any(having), f"{name}: no version has all of {entries}"
        assert not all(having), f"{name}: every version has it"
        for api, has_all in zip(APIS, having, strict=True):
            some = any(api.has(entry) for entry in entries if not _is_shared(entry))
            assert some == has_all, f"{name}: {api} has a part of it"


def _is_shared(entry: str) -> bool:
    return all(api.has(entry) for api in APIS)


def test_features_are_asked_for_by_their_names() -> None:
    asked = {text for one in WALKS for text in literals(one.tree, "[a-z0-9_]+")} & set(FEATURES)
    assert asked == set(FEATURES)
    with pytest.raises(KeyError):
        backend.Backend(backend.description("rtx"), ModuleType("tensorrt_rtx"), None).has(
            "no_such_feature"
        )


def test_the_data_is_what_the_installed_binding_offers() -> None:
    pytest.importorskip("tensorrt_rtx")
    loaded = backend.load("rtx")
    stored = next((a for a in APIS if a.version == loaded.version), None)
    if stored is None:
        pytest.skip(f"there is no data for {loaded.version}")
    described = api_snapshot.describe(loaded.trt)
    assert described["classes"] == stored.classes
    assert described["enums"] == stored.enums


def test_signatures_are_read_right() -> None:
    """Against one written as pybind11 writes it."""
    text = (
        "add_it(self: tensorrt_rtx_bindings.tensorrt_rtx.INetworkDefinition, input: "
        "collections.abc.Sequence[tensorrt.ITensor], axes: tuple[int, int] = (1, 2), "
        "op: nvinfer1::v_1_0::Kind = <Kind.A: 0>) -> tensorrt.ILayer"
    )
    assert api_snapshot.signature(text) == "input,axes=,op= -> ILayer"


def test_a_snapshot_is_written_as_it_is_read(tmp_path: Path) -> None:
    module = ModuleType("tensorrt")
    module.__version__ = "99.1"  # type: ignore[attr-defined]
    module.Thing = type("Thing", (), {"size": property(lambda self: 1)})  # type: ignore[attr-defined]
    written = Api(api_snapshot.write(api_snapshot.describe(module), tmp_path))
    assert (written.module, written.version) == ("tensorrt", "99.1")
    assert written.property("Thing", "size") == "object (read-only)"


# The walk itself, on mistakes


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("def f(trt): return trt.Nonsense", "no version has Nonsense"),
        ("def f(trt): return trt.DataType.FLOAT31", "no version has DataType.FLOAT31"),
        ("def f(trt, name): return getattr(trt, name)", "a computed member of the module"),
        ("def f(definition): definition.add_magic()", "no version has INetworkDefinition.add_"),
        ("def f(thing): thing.mark_output(1)", "whose mark_output is this?"),
        ("def f(net, x): net.emit('a', 'magic', x)", "emits something else"),
    ],
)
def test_what_cannot_be_understood_is_reported(tmp_path: Path, source: str, problem: str) -> None:
    (tmp_path / "code.py").write_text(source)
    [unclear] = walk(tmp_path / "code.py", "code.py", {}).unclear
    assert problem in unclear


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("def f(net, x): net.emit('a', 'add_shuffle', x, 1)", "takes"),
        ("def f(net, x): net.emit('a', 'add_shuffle', x, sizes=1)", "is missing"),
        ("def f(definition, x): definition.add_input('x', shape=x)", "takes"),
        ("def f(definition): definition.num_inputs = 1", "cannot be set"),
        ("def f(definition, x): definition.add_attention_v2(x)", "is missing"),
        ("def f(itensor): itensor.dtype = 1", "cannot be set"),
        ("def f(trt): return trt.BuilderFlag.FP16", "is missing"),
    ],
)
def test_what_some_version_lacks_is_found(tmp_path: Path, source: str, problem: str) -> None:
    (tmp_path / "code.py").write_text(source)
    uses: list[Any] = walk(tmp_path / "code.py", "code.py", {}).uses
    found = [_problem(api, use) for use in uses for api in APIS]
    assert problem in " ".join(filter(None, found))


def test_the_versions_are_those_that_are_supported() -> None:
    assert [str(api) for api in APIS] == [
        "tensorrt 10.13.3.9",
        "tensorrt 10.16.1.11",
        "tensorrt 11.4.0.106",
        "tensorrt_rtx 1.7.1.116",
    ]
    minimum = {d.name: d.minimum for d in backend.descriptions() if d.package is not None}
    assert minimum == {"tensorrt": (10, 13), "rtx": (1, 7)}
