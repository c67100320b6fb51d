"""Sessions on TensorRT and TensorRT-RTX, as far as doubles of them and of CUDA can tell."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

import trtnet
from trtnet.engines.arrays import CudaArray
from trtnet.errors import (
    BackendError,
    ExecutionError,
    OutOfMemoryError,
    ShapeError,
    UnsupportedError,
)


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype("float32")


class GpuArray:
    """What another library keeps on the GPU; the double's device memory is the host's."""

    def __init__(self, array: np.ndarray, stream: int | None = None) -> None:
        self.array = np.ascontiguousarray(array)
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": self.array.dtype.str,
            "data": (self.array.ctypes.data, False),
            "stream": stream,
            "version": 3,
        }


def read(result: CudaArray) -> np.ndarray:
    interface = result.__cuda_array_interface__
    pointer = np.ctypeslib.as_ctypes_type(np.dtype(interface["typestr"]))
    address = interface["data"][0]
    return np.ctypeslib.as_array(
        (pointer * int(np.prod(result.shape))).from_address(address)
    ).reshape(result.shape)


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_host_arrays(fake_trt, cuda_graph):
    with trtnet.Session(fake_trt.plan(), cuda_graph=cuda_graph) as session:
        assert session.device == "cuda"
        for count in (1, 2, 8, 2, 2, 1, 2):
            x = rows(count, 4)
            assert np.array_equal(session(x)["y"], 2 * x + 1)


@pytest.mark.parametrize("cuda_graph", [True, False])
@pytest.mark.parametrize("stream", [None, 1, "own"])
def test_gpu_arrays(fake_trt, fake_cuda, cuda_graph, stream):
    if stream == "own":
        stream = fake_cuda.cudaStreamCreateWithFlags(1)[1]
    with trtnet.Session(fake_trt.plan(), cuda_graph=cuda_graph) as session:
        for count in (2, 2, 2, 3):
            x = rows(count, 4)
            assert np.array_equal(read(session(GpuArray(x, stream))["y"]), 2 * x + 1)


def test_another_stream_waits_for_launches_on_the_default_one(make_fake_trt, fake_cuda):
    """The event for it is recorded when it is needed: each launch would take longer with it."""
    x, other = GpuArray(rows(2, 4)), fake_cuda.cudaStreamCreateWithFlags(1)[1]
    with trtnet.Session(make_fake_trt("tensorrt").plan()) as session:
        for _ in range(12):
            session(x)
        fake_cuda.calls.clear()
        session(x)
        assert [name for name in fake_cuda.names() if name.startswith("cudaEvent")] == []
        session(GpuArray(x.array, other))
        events = [c for c in fake_cuda.calls if c[0] in ("cudaEventRecord", "cudaStreamWaitEvent")]
        recorded, waited = events[:2]
        assert recorded == ("cudaEventRecord", (recorded[1][0], 0))
        assert waited[:2] == ("cudaStreamWaitEvent", (other, recorded[1][0], 0))
        session(x)


def test_without_graphs_gpu_arrays_are_used_where_they_are(fake_trt, fake_cuda):
    with trtnet.Session(fake_trt.plan(), cuda_graph=False) as session:
        x = GpuArray(rows(2, 4))
        session(x)
        fake_cuda.calls.clear()
        session(x)
        assert "cudaMemcpyAsync" not in fake_cuda.names()
        addresses = [c for c in fake_trt.calls if c.method == "set_tensor_address"]
        assert addresses[-1].args[0] == "y"
        assert ("x", x.array.ctypes.data) in [c.args for c in addresses]


def test_graphs_are_launched_once_captured(make_fake_trt, fake_cuda):
    fake = make_fake_trt("tensorrt")
    with trtnet.Session(fake.plan()) as session:
        for _ in range(5):
            session(rows(2, 4))
        assert fake.methods().count("execute_async_v3") == 2  # plain, and while capturing
        assert fake_cuda.names().count("cudaGraphLaunch") == 4
        fake_cuda.calls.clear()
        session(rows(2, 4))
        work = [n for n in fake_cuda.names() if n.startswith(("cudaMemcpy", "cudaGraph"))]
        assert work == ["cudaMemcpyAsync", "cudaGraphLaunch", "cudaMemcpyAsync"]
        assert "cudaMalloc" not in fake_cuda.names()


def test_graphs_work_on_arrays_that_come_again(make_fake_trt, fake_cuda):
    fake = make_fake_trt("tensorrt")
    x = GpuArray(rows(2, 4))
    with trtnet.Session(fake.plan()) as session:
        for value in range(12):
            x.array[...] = value
            assert np.array_equal(read(session(x)["y"]), 2 * x.array + 1)
        fake_cuda.calls.clear()
        assert np.array_equal(read(session(x)["y"]), 2 * x.array + 1)
        assert "cudaMemcpyAsync" not in fake_cuda.names()
        assert fake_cuda.names().count("cudaGraphLaunch") == 1
        for value in range(100):  # ever new arrays end the captures, and are copied
            new = GpuArray(rows(2, 4) + value)
            assert np.array_equal(read(session(new)["y"]), 2 * new.array + 1)
            assert fake_cuda.live["executables"] <= 8


def test_eight_graphs_are_kept_for_one_set_of_shapes(make_fake_trt, fake_cuda):
    """One works on the session's own memory, seven on arrays that come again. Further arrays are
    copied, however often they come."""
    fake = make_fake_trt("tensorrt")
    arrays = [GpuArray(rows(2, 4) + i) for i in range(12)]

    def counts(x):
        """Launches and copies for one call, whose result is freed at once."""
        before = len(fake_cuda.calls)
        assert np.array_equal(read(session(x)["y"]), 2 * x.array + 1)
        names = [name for name, _ in fake_cuda.calls[before:]]
        return names.count("cudaGraphLaunch"), names.count("cudaMemcpyAsync")

    with trtnet.Session(fake.plan()) as session:
        assert counts(arrays[0]) == (0, 2)  # without a graph
        assert counts(arrays[0]) == (1, 2)  # with one that works on the session's own memory
        assert [counts(x) for x in arrays] == [(1, 2)] * 12
        assert fake_cuda.live["executables"] == 1
        for _ in range(3):  # now the same addresses come again
            assert [counts(x) for x in arrays] == [(1, 0)] * 7 + [(1, 2)] * 5
            assert fake_cuda.live["executables"] == 8


def test_addresses_are_recognised_among_the_last_64(make_fake_trt, fake_cuda):
    fake = make_fake_trt("tensorrt")
    arrays = [GpuArray(rows(2, 4) + i) for i in range(70)]
    with trtnet.Session(fake.plan()) as session:
        for x in (arrays[0], arrays[0], *arrays[:64], arrays[0]):
            session(x)
        assert fake_cuda.live["executables"] == 2  # of 64 addresses, the first is still known
    with trtnet.Session(fake.plan()) as session:
        for x in (arrays[0], arrays[0], *arrays[:66], arrays[0]):
            session(x)
        assert fake_cuda.live["executables"] == 1  # of more, it is not


def test_few_sets_of_shapes_are_kept(make_fake_trt, fake_cuda):
    fake = make_fake_trt("tensorrt")
    with trtnet.Session(fake.plan()) as session:
        for count in (1, 2, 3, 4, 5, 6, 7, 8) * 3:
            x = rows(count, 4)
            assert np.array_equal(session(x)["y"], 2 * x + 1)
            assert fake_cuda.live["executables"] <= 4
            assert fake_cuda.live["device"] <= 8


def test_the_last_four_sets_of_shapes_keep_their_graphs(make_fake_trt, fake_cuda):
    fake = make_fake_trt("tensorrt")
    with trtnet.Session(fake.plan()) as session:
        for count in (1, 1, 2, 2, 3, 3, 4, 4, 5, 5):  # captured by the second call
            session(rows(count, 4))
        assert fake_cuda.live["executables"] == 4
        fake_cuda.calls.clear()
        for count in (2, 3, 4, 5):
            session(rows(count, 4))
        assert fake_cuda.names().count("cudaGraphLaunch") == 4
        session(rows(1, 4))  # the oldest had to go
        assert fake_cuda.names().count("cudaGraphLaunch") == 4


def test_a_refused_capture_is_not_tried_again(make_fake_trt, fake_cuda):
    fake = make_fake_trt("tensorrt")
    fake_cuda.fail("cudaGraphInstantiate", "cudaErrorNotSupported")
    with trtnet.Session(fake.plan()) as session:
        for _ in range(4):
            x = rows(2, 4)
            assert np.array_equal(session(x)["y"], 2 * x + 1)
        assert fake_cuda.names().count("cudaStreamBeginCapture") == 1


def test_shapes_that_depend_on_the_data(fake_trt):
    with trtnet.Session(fake_trt.plan(kind="positive")) as session:
        for count in (2, 8, 2, 2):
            x = rows(count, 4)
            assert np.array_equal(session(x)["y"], x[x > 0])
            assert np.array_equal(read(session(GpuArray(x))["y"]), x[x > 0])


def test_shapes_given_as_values(fake_trt):
    with trtnet.Session(fake_trt.plan(kind="resize")) as session:
        for size in ((2, 3), (1, 4), (2, 3), (2, 3), (5, 1)):
            x = rows(2, 4)
            want = np.resize(2 * x + 1, size)
            assert np.array_equal(session(x, np.array(size))["y"], want)
            assert np.array_equal(read(session(GpuArray(x), np.array(size))["y"]), want)
        with pytest.raises(ShapeError, match="size: a shape value must be in host memory"):
            session(GpuArray(rows(2, 4)), GpuArray(np.array([2, 2])))


def test_the_profile_is_chosen_by_the_nearest_optimum(fake_trt):
    profiles = [((1, 4), (1, 4), (8, 4)), ((1, 4), (8, 4), (16, 4))]
    with trtnet.Session(fake_trt.plan(profiles=profiles)) as session:
        for count, profile in ((1, 0), (2, 0), (7, 1), (16, 1)):
            before = len(fake_trt.calls)
            session(rows(count, 4))
            chosen = [
                c.args[0]
                for c in fake_trt.calls[before:]
                if c.method == "set_optimization_profile_async"
            ]
            assert chosen in ([], [profile])
        with pytest.raises(ShapeError, match=r"\(1, 4\) to \(8, 4\), or \(1, 4\) to \(16, 4\)"):
            session(rows(17, 4))


def test_a_fixed_batch_takes_other_batches_in_pieces(fake_trt):
    plan = fake_trt.plan(shape=(4, 4), profiles=[])
    with trtnet.Session(plan) as session:
        for count in (1, 4, 9, 4):
            x = rows(count, 4)
            assert np.array_equal(session(x)["y"], 2 * x + 1)
            assert np.array_equal(read(session(GpuArray(x))["y"]), 2 * x + 1)


def test_map(fake_trt):
    batches = [rows(1 + i % 8, 4) for i in range(40)]
    with trtnet.Session(fake_trt.plan()) as session:
        for result, x in zip(session.map(batches), batches, strict=True):
            assert np.array_equal(result["y"], 2 * x + 1)
        for result, x in zip(session.map(map(GpuArray, batches)), batches, strict=True):
            assert np.array_equal(read(result["y"]), 2 * x + 1)


def test_page_locked_arrays_are_not_copied_on_the_host(make_fake_trt, fake_cuda):
    fake = make_fake_trt("tensorrt")
    _, address = fake_cuda.cudaMallocHost(2 * 4 * 4)
    locked = np.frombuffer((ctypes.c_float * 8).from_address(address), np.float32).reshape(2, 4)
    with trtnet.Session(fake.plan()) as session:
        for value in range(4):
            locked[...] = value
            assert np.array_equal(session(locked)["y"], 2 * locked + 1)
        copies = [args[1] for name, args in fake_cuda.calls if name == "cudaMemcpyAsync"]
        assert copies.count(address) == 4
    fake_cuda.cudaFreeHost(address)


def test_threads(fake_trt):
    batches = [rows(1 + i % 8, 4) for i in range(64)]
    with (
        trtnet.Session(fake_trt.plan(), contexts=3) as session,
        ThreadPoolExecutor(16) as threads,
    ):
        for result, x in zip(threads.map(session, batches), batches, strict=True):
            assert np.array_equal(result["y"], 2 * x + 1)


def test_too_little_memory_is_said_with_sizes_and_the_session_goes_on(fake_trt, fake_cuda):
    with trtnet.Session(fake_trt.plan()) as session:
        session(rows(1, 4))
        fake_cuda.fail("cudaMalloc", "cudaErrorMemoryAllocation")
        with pytest.raises(OutOfMemoryError, match=r"(?s)MB for one tensor.*MB free on device 0"):
            session(rows(8, 4))
        for count in (8, 1, 8, 8):
            x = rows(count, 4)
            assert np.array_equal(session(x)["y"], 2 * x + 1)


@pytest.mark.parametrize(
    "function",
    ["cudaMemcpyAsync", "cudaEventRecord", "cudaMallocHost", "cudaEventSynchronize"],
)
def test_any_call_of_cuda_may_fail(fake_trt, fake_cuda, function):
    with trtnet.Session(fake_trt.plan()) as session:
        fake_cuda.fail(function, "cudaErrorUnknown")
        with pytest.raises(ExecutionError, match=function):
            session(rows(2, 4))
        x = rows(2, 4)
        assert np.array_equal(session(x)["y"], 2 * x + 1)


def test_everything_is_released(fake_trt, fake_cuda):
    before = fake_cuda.live
    for _ in range(20):
        with trtnet.Session(fake_trt.plan()) as session:
            results = [session(rows(n, 4)) for n in (1, 2, 2, 2)]
            kept = session(GpuArray(rows(2, 4)))["y"]
            list(session.map([rows(1, 4)] * 5))
    assert {**fake_cuda.live, "device": 0} == {**before, "device": 0}
    assert fake_cuda.live["device"] == 1  # `kept` outlives its session
    assert np.array_equal(read(kept), 2 * rows(2, 4) + 1)
    del kept, session
    assert fake_cuda.live == before
    assert np.array_equal(results[0]["y"], 2 * rows(1, 4) + 1)
    assert not [c for c in fake_trt.calls if "after close" in c.method]


def test_nothing_runs_on_the_default_stream(fake_trt, fake_cuda):
    with trtnet.Session(fake_trt.plan()) as session:
        for _ in range(3):
            session(rows(2, 4))
            session(GpuArray(rows(3, 4)))
    streams = [c.args[0] for c in fake_trt.calls if c.method == "execute_async_v3"]
    assert streams
    assert not {0, 1, 2} & set(streams)


def test_shapes_come_before_addresses_and_addresses_before_execution(fake_trt):
    with trtnet.Session(fake_trt.plan()) as session:
        for count in (1, 2, 2, 2, 1):
            session(rows(count, 4))
    order = ["set_input_shape", "infer_shapes", "set_tensor_address", "execute_async_v3"]
    contexts = {c.owner for c in fake_trt.calls if c.method == "set_input_shape"}
    assert contexts
    for owner in contexts:
        calls = [c.method for c in fake_trt.calls if c.owner == owner and c.method in order]
        ranks = [order.index(method) for method in calls]
        steps = [b - a for a, b in pairwise(ranks)]
        assert calls[0] == "set_input_shape"
        assert all(step <= 1 for step in steps), calls


def test_cpu_and_missing_gpus_are_refused_in_words(make_fake_trt, fake_cuda):
    fake = make_fake_trt("rtx")
    with pytest.raises(UnsupportedError, match=r"rtx needs an NVIDIA GPU(?s:.*)--backend torch"):
        trtnet.Session(fake.plan(), device="cpu")
    fake_cuda.fail("cudaSetDevice", "cudaErrorInsufficientDriver", times=9)
    with pytest.raises(BackendError, match=r"rtx needs an NVIDIA GPU(?s:.*)--backend torch"):
        trtnet.Session(fake.plan())
