from __future__ import annotations

import contextlib
import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trtnet
from trtnet import graph, reference, weights
from trtnet.errors import NetworkError, TrtnetError, WeightsError
from trtnet.graph.archive import _FORMAT


@pytest.fixture(scope="module")
def networks():
    """Graphs with weights of many types, shape tensors, dynamic and named axes, and a loop."""
    loaded = trtnet.backend.load("rtx")
    builder, trt = loaded.builder(), loaded.trt
    found = {}
    for dtype, scale in ((trt.float32, 1.5), (trt.float16, np.nan), (trt.bfloat16, np.inf)):
        net = loaded.create_network(builder)
        net.name = f"net {dtype.name}"
        x = net.add_input("x", dtype, (-1, 3, 8, -1))
        x.set_dimension_name(0, "N")
        held = np.full(54, scale, np.float16 if dtype == trt.float16 else np.float32)
        if dtype == trt.bfloat16:
            held = (held.view(np.uint32) >> 16).astype(np.uint16)
        kernel = trt.Weights(dtype, held.ctypes.data, 54)
        conv = net.add_convolution_nd(x, 2, (3, 3), kernel, trt.Weights())
        sizes = net.add_shape(conv.get_output(0)).get_output(0)
        shuffle = net.add_shuffle(conv.get_output(0))
        shuffle.set_input(1, sizes)
        net.mark_output(shuffle.get_output(0))
        found[net.name] = (graph.read(net), held)
    net = loaded.create_network(builder)
    net.name = "loop"
    x = net.add_input("x", trt.float32, (5, 3))
    count, start = np.array([5], np.int32), np.zeros(3, np.float32)
    loop = net.add_loop()
    loop.add_trip_limit(net.add_constant((), count).get_output(0), trt.TripLimit.COUNT)
    state = loop.add_recurrence(net.add_constant((3,), start).get_output(0))
    row = loop.add_iterator(x).get_output(0)
    total = net.add_elementwise(state.get_output(0), row, trt.ElementWiseOperation.SUM)
    state.set_input(1, total.get_output(0))
    net.mark_output(
        loop.add_loop_output(state.get_output(0), trt.LoopOutput.LAST_VALUE).get_output(0)
    )
    empty = net.add_constant((2, 0), trt.Weights(trt.float32)).get_output(0)
    net.mark_output(empty)
    found["loop"] = (graph.read(net), (count, start))
    return {name: read for name, (read, _) in found.items()} | {"held": found}


NAMES = ["net FLOAT", "net HALF", "net BF16", "loop"]


@pytest.mark.parametrize("name", NAMES)
def test_equal_after_the_round_trip(networks, tmp_path, name):
    path = tmp_path / "net.safetensors"
    graph.save(path, networks[name])
    found = graph.load(path)
    assert found == networks[name]
    assert found.name == name


@pytest.mark.parametrize("name", NAMES)
def test_bytes_are_those_of_the_file(networks, tmp_path, name):
    path = tmp_path / "net.safetensors"
    graph.save(path, networks[name])
    content = graph.dumps(networks[name])
    assert content == path.read_bytes()
    assert graph.loads(content) == networks[name]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "my engine: not a safetensors file"),
        (b"ftrt" * 99, "my engine: .*impossible"),
        (weights.dumps({"a": np.ones(3, np.float32)}), "my engine holds no graph"),
        (
            weights.dumps({}, {"format": _FORMAT, "graph": "["}),
            "my engine cannot be used as an archive of a network: it is not JSON",
        ),
    ],
)
def test_bytes_that_are_no_archive(content, message):
    with pytest.raises(WeightsError, match=message):
        graph.loads(content, "my engine")


def test_equality_sees_every_bit_of_the_weights(networks):
    read = networks["net HALF"]
    layer = read.layers[0]
    kernel = layer.weights["kernel"].copy()
    kernel.view(np.uint16)[0, 0, 0, 0] ^= 1
    changed = graph.Layer(
        layer.name, layer.type, layer.inputs, layer.outputs, layer.attributes, {"kernel": kernel}
    )
    assert layer == layer  # although NaN is not equal to itself
    assert layer != changed


def test_a_loaded_graph_runs(networks, tmp_path, rng):
    path = tmp_path / "net.safetensors"
    for name in ("net FLOAT", "loop"):
        graph.save(path, networks[name])
        shape = (2, 3, 8, 9) if name == "net FLOAT" else (5, 3)
        inputs = {"x": rng.standard_normal(shape).astype(np.float32)}
        before = reference.run(networks[name], inputs)
        after = reference.run(graph.load(path), inputs)
        for key, value in before.items():
            np.testing.assert_array_equal(after[key], value)


def test_an_old_file_survives_a_failed_write(networks, tmp_path):
    path = tmp_path / "net.safetensors"
    graph.save(path, networks["loop"])
    before = path.read_bytes()
    os.chmod(tmp_path, 0o700)
    with pytest.raises(WeightsError):
        graph.save(tmp_path / "no" / "such" / "net.safetensors", networks["loop"])
    assert path.read_bytes() == before


def test_weights_are_not_a_graph(tmp_path):
    path = tmp_path / "w.safetensors"
    weights.save(path, {"a": np.ones(3, np.float32)})
    with pytest.raises(WeightsError, match="holds no graph"):
        graph.load(path)


@pytest.fixture(scope="module")
def archives(networks, tmp_path_factory):
    """The JSON and the tensors of each archive."""
    found = {}
    for name in NAMES:
        path = tmp_path_factory.mktemp("archives") / "net.safetensors"
        graph.save(path, networks[name])
        stored = weights.load(path)
        found[name] = (stored.metadata["graph"], {key: stored[key].copy() for key in stored})
    return found


def damaged(archives, path, change, name="net FLOAT"):
    """Saves an archive with its JSON, or its tensors, changed by `change`."""
    text, state = archives[name]
    content, state = json.loads(text), dict(state)
    change(content, state)
    weights.save(path, state, {"format": _FORMAT, "graph": json.dumps(content)})


def put(*keys, value):
    def change(content, _):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("layers", 0, "type", value="WARP"), "unknown layer type"),
        (put("tensors", 0, "dtype", value="float12"), "x: unknown dtype"),
        (put("tensors", 0, "shape", value=[1, -2]), r"at tensors\[0\].shape\[1\]\n.*>= -1"),
        (
            put("tensors", 0, "shape", value=[2**40]),
            r"shape\[0\]\n.*<= 2147483647\n.*1099511627776",
        ),
        (put("tensors", 0, "shape", value=[1] * 9), r"tensors\[0\].shape\n.*length <= 8"),
        (put("tensors", 0, "shape", value=["N", 3]), r"tensors\[0\].shape\[0\]\n.*int.*\n.*'N'"),
        (put("tensors", 1, "shape", value=[3]), "convolution have the wrong number of axes"),
        (
            put("tensors", 0, "dimension_names", value=["N"]),
            "x: the number of axis names is not the rank",
        ),
        (put("tensors", 0, "name", value="y"), "made, but not described"),
        (put("inputs", value=["x", "x"]), "made more than once: x|made more than once"),
        (put("outputs", value=["nowhere"]), "used, but never made"),
        (put("layers", 2, "inputs", 0, value="nowhere"), "used, but never made"),
        (put("layers", 0, "attributes", "num_output_maps", value=3), "'kernel' have the wrong"),
        (
            put("layers", 0, "attributes", value={}),
            "attributes of this CONVOLUTION layer .*missing required field 'num_output_maps'",
        ),
        (put("layers", 0, "attributes", "num_groups", value={}), "wrong value at num_groups"),
        (put("layers", 0, "attributes", "spice", value=1), "contains unknown field 'spice'"),
        (put("layers", 0, "attributes", "dilation_nd", value=[1, 1.5]), r"dilation_nd\[1\]"),
        (put("layers", 0, "attributes", "num_groups", value=10**18 * 9 * 2), "num_groups"),
        (put("layers", 0, "inputs", value=[]), "a CONVOLUTION layer with a wrong number of inputs"),
        (put("layers", 1, "inputs", value=[None]), "a SHAPE layer with a wrong number of inputs"),
        (put("layers", 0, "weights", value=["kernel", "spice"]), "weights are missing"),
        (put("layers", value=7), "wrong value at layers"),
        (put("name", value=None), "wrong value at name"),
        (lambda content, state: state.clear(), "weights are missing"),
        (
            lambda content, state: content["layers"].append(content["layers"].pop(1)),
            "not in execution order",
        ),
    ],
)
def test_damage_is_named(archives, tmp_path, change, message):
    path = tmp_path / "net.safetensors"
    damaged(archives, path, change)
    with pytest.raises((NetworkError, WeightsError), match=message):
        graph.load(path)


def test_a_cycle_is_refused(archives, tmp_path):
    path = tmp_path / "net.safetensors"

    def tie(content, _):
        conv, _, shuffle = content["layers"]
        conv["inputs"] = shuffle["outputs"]

    damaged(archives, path, tie)
    with pytest.raises(NetworkError, match="only by a layer that depends on this one"):
        graph.load(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_refused(networks, tmp_path, share):
    path = tmp_path / "net.safetensors"
    graph.save(path, networks["net FLOAT"])
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError):
        graph.load(path)


def compiles_or_is_refused(path):
    """Nothing but the errors trtnet raises on purpose comes out of a damaged file."""
    with contextlib.suppress(TrtnetError):
        reference.compile(graph.load(path))


@pytest.fixture(scope="module")
def archive(networks, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "net.safetensors"
    graph.save(path, networks["net FLOAT"])
    return path.read_bytes()


FUZZ = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(data=st.data())
def test_any_changed_bytes(archive, tmp_path, data):
    path, content = tmp_path / "net.safetensors", bytearray(archive)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    compiles_or_is_refused(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["x", "CONVOLUTION", "SLICE", "LOOP_OUTPUT", "float16", "int32", 0, -1, 2]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)  # fmt: skip


def places(tree, path=()):
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


@FUZZ
@given(data=st.data())
def test_any_changed_entry(archives, tmp_path, data):
    path = tmp_path / "net.safetensors"

    def change(content, _):
        place = data.draw(st.sampled_from(list(places(content))))
        put(*place, value=data.draw(JSON))(content, None)

    damaged(archives, path, change, data.draw(st.sampled_from(["net FLOAT", "loop"])))
    compiles_or_is_refused(path)
