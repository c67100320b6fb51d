"""Sessions on the torch backend, against PyTorch; on the CPU, and on a GPU where there is one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import plans
import pytest
import torch
import torch.nn.functional as F

import trtnet
from trtnet import graph
from trtnet.engines.arrays import CudaArray
from trtnet.errors import ExecutionError, ShapeError, UsageError


def images(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def expected(x: np.ndarray) -> np.ndarray:
    """relu(conv(x)) in float64."""
    arrays = {name: torch.from_numpy(a).double() for name, a in plans.parameters().items()}
    return F.relu(F.conv2d(torch.from_numpy(x).double(), **arrays, padding=1)).numpy()


def close(got: np.ndarray, want: np.ndarray, tolerance: float = 1e-5) -> bool:
    return got.shape == want.shape and np.abs(got - want).max() <= tolerance * np.abs(want).max()


@pytest.mark.parametrize("name", plans.NETWORKS)
def test_the_stored_plans_are_those_of_the_definitions(name):
    pytest.importorskip("tensorrt_rtx")
    stored, made = trtnet.Plan.load(plans.path(name)), plans.build(name)
    assert graph.loads(stored.engine, name) == graph.loads(made.engine, name)
    assert stored.sidecar["profiles"] == made.sidecar["profiles"]


def test_numpy_in_and_numpy_out(device):
    x = images(4, 3, 8, 8)
    with trtnet.Session(plans.path("static"), device=device) as session:
        assert (session.backend, session.device) == ("torch", device)
        assert [binding.name for binding in session.inputs + session.outputs] == ["x", "y"]
        for call in (session, lambda x: session(x=x), lambda x: session({"x": x})):
            y = call(x)["y"]
            assert isinstance(y, np.ndarray)
            assert y.dtype == np.float32
            assert close(y, expected(x))


def test_torch_tensors_come_back_where_they_came_from(device):
    x = torch.from_numpy(images(4, 3, 8, 8))
    with trtnet.Session(plans.path("static"), device=device) as session:
        for place in {"cpu", device}:
            y = session(x.to(place))["y"]
            assert y.device.type == place
            assert close(y.cpu().numpy(), expected(x.numpy()))


def test_results_outlive_the_session_and_the_next_call(device):
    first, second = images(4, 3, 8, 8), images(4, 3, 8, 8, seed=2)
    with trtnet.Session(plans.path("static"), device=device) as session:
        results = [session(x)["y"] for x in (first, second, first)]
    assert close(results[0], expected(first))
    assert close(results[1], expected(second))
    assert np.array_equal(results[0], results[2])


def test_strided_arrays_are_read_in_their_own_order(device):
    x = images(8, 8, 3, 4)
    with trtnet.Session(plans.path("static"), device=device) as session:
        assert close(session(x.T)["y"], expected(np.ascontiguousarray(x.T)))
        tensor = torch.from_numpy(images(4, 8, 8, 3)).to(device).permute(0, 3, 1, 2)
        y = session(tensor)["y"].cpu().numpy()
        assert close(y, expected(tensor.cpu().contiguous().numpy()))


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_shapes_within_the_profiles(device, cuda_graph):
    shapes = [(1, 3, 8, 8), (4, 3, 16, 9), (2, 3, 11, 8), (1, 3, 64, 33), (1, 3, 8, 8)]
    with trtnet.Session(plans.path("dynamic"), device=device, cuda_graph=cuda_graph) as session:
        for shape in shapes * 3:  # with CUDA graphs: plain, captured, launched
            x = images(*shape, seed=sum(shape))
            results = session(x)
            assert close(results["y"], expected(x))
            assert close(results["mean"], expected(x).mean((1, 2, 3)), 1e-4)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 10])
def test_a_fixed_batch_takes_other_batches_in_pieces(device, count):
    x = images(count, 3, 8, 8)
    with trtnet.Session(plans.path("static"), device=device) as session:
        assert close(session(x)["y"], expected(x))
        y = session(torch.from_numpy(x).to(device))["y"]
        assert close(y.cpu().numpy(), expected(x))


def test_pieces_need_a_batch_axis_in_the_outputs(device):
    with trtnet.Session(plans.path("total"), device=device) as session:
        assert np.isclose(session(np.ones((4, 3), "float32"))["total"], 12)
        with pytest.raises(ShapeError, match=r"total: a batch of 6 cannot be run in pieces of 4"):
            session(np.ones((6, 3), "float32"))


def test_types_are_kept(device):
    x, y = images(3, 5).astype("float16"), images(3, 5, seed=2).astype("float16")
    k = np.array([1, -5, 2**40])
    with trtnet.Session(plans.path("two_inputs"), device=device) as session:
        results = session(x, y, k)
        assert results["sum"].dtype == np.float16
        want = x.astype("float64") + 2 * y.astype("float64")
        assert close(results["sum"].astype("float64"), want, 2e-3)
        assert np.array_equal(results["next"], k + 1)
        tensors = [torch.from_numpy(array).to(device) for array in (x, y)]
        results = session(*tensors, k)  # k may be a shape, and is read on the host
        assert results["sum"].dtype == torch.float16
        assert results["sum"].device.type == device


def test_bfloat16(device):
    x = images(2, 3)
    with trtnet.Session(plans.path("bfloat16"), device=device) as session:
        rounded = torch.from_numpy(x).bfloat16()
        assert np.array_equal(session(x)["y"], rounded.float().numpy())  # numpy has no bfloat16
        assert torch.equal(session(torch.from_numpy(x).to(device))["y"].cpu(), rounded)


def test_shapes_that_depend_on_the_data(device):
    with trtnet.Session(plans.path("nonzero"), device=device) as session:
        for seed in range(4):
            x = images(4, 6, seed=seed)
            assert np.array_equal(session(x)["where"], np.stack(np.nonzero(x > 0)))
        assert session(-np.ones((1, 6), "float32"))["where"].shape == (2, 0)


def test_map_keeps_order_and_takes_any_shape(device):
    batches = [images(1 + i % 4, 3, 8, 8 + i % 5, seed=i) for i in range(30)]
    with trtnet.Session(plans.path("dynamic"), device=device) as session:
        results = list(session.map(iter(batches)))
        assert all(close(r["y"], expected(x)) for r, x in zip(results, batches, strict=True))
        tensors = [torch.from_numpy(x).to(device) for x in batches]
        results = list(session.map(tensors))
        assert all(
            close(r["y"].cpu().numpy(), expected(x)) for r, x in zip(results, batches, strict=True)
        )


def test_map_takes_tuples_and_mappings(device):
    x, k = np.ones((2, 5), "float16"), np.array([1, 2])
    with trtnet.Session(plans.path("two_inputs"), device=device) as session:
        results = list(session.map([(x, x, k), {"k": k, "y": x, "x": x}]))
    assert all(np.array_equal(result["sum"], 3 * x) for result in results)


def test_map_takes_items_only_as_they_are_needed(device):
    taken = []

    def batches():
        for i in range(100):
            taken.append(i)
            yield images(1, 3, 8, 8)

    with trtnet.Session(plans.path("dynamic"), device=device) as session:
        results = session.map(batches())
        next(results)
        assert len(taken) < 10
        results.close()


@pytest.mark.parametrize("raises", ["items", "execution"])
def test_an_exception_inside_map_comes_in_its_place(device, raises):
    def batches():
        for i in range(6):
            if i == 4 and raises == "items":
                raise KeyError("a source that breaks")
            yield images(9 if i == 4 else 1, 3, 8, 8)

    with trtnet.Session(plans.path("dynamic"), device=device) as session:
        results = session.map(batches())
        assert [next(results)["y"].shape for _ in range(4)] == [(1, 4, 8, 8)] * 4
        with pytest.raises(KeyError if raises == "items" else ShapeError):
            next(results)
        assert close(session(images(1, 3, 8, 8))["y"], expected(images(1, 3, 8, 8)))


def test_threads_share_a_session(device):
    arrays = [images(1 + i % 4, 3, 8 + i % 8, 8, seed=i) for i in range(64)]
    with (
        trtnet.Session(plans.path("dynamic"), device=device, contexts=3) as session,
        ThreadPoolExecutor(16) as pool,
    ):
        results = list(pool.map(session, arrays))
    assert all(close(r["y"], expected(x)) for r, x in zip(results, arrays, strict=True))


def test_steps_one_by_one(device):
    x = images(2, 3, 9, 9)
    with trtnet.Session(plans.path("dynamic"), device=device) as session:
        with session.lane() as lane:
            with pytest.raises(UsageError, match="no shapes are bound"):
                lane.enqueue()
            lane.bind({"x": (2, 3, 9, 9)})
            assert lane.is_captured == (device == "cuda")
            lane.fill({"x": x})
            for step in (lane.copy_in, lane.enqueue, lane.copy_out):
                step()
            lane.stream.synchronize()
            assert close(lane.results()["y"], expected(x))
            names = [name for name, _ in lane.context.profile(lane.stream.handle)]
            assert len(names) >= 2
        assert close(session(x)["y"], expected(x))


def test_a_closed_session_says_so(device):
    session = trtnet.Session(plans.path("static"), device=device)
    session(images(4, 3, 8, 8))
    session.close()
    session.close()
    with pytest.raises(ExecutionError, match="session is closed"):
        session(images(4, 3, 8, 8))


def test_close_waits_for_other_threads(device):
    session = trtnet.Session(plans.path("static"), device=device)
    holding, result = threading.Event(), []

    def hold() -> None:
        with session.lane() as lane:
            holding.set()
            lane.bind({"x": (4, 3, 8, 8)})
            lane.copy_out()
            lane.stream.synchronize()
            result.append(lane.results()["y"])

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    session.close()
    assert close(result[0], expected(np.zeros((4, 3, 8, 8), "float32")))
    thread.join()


def test_a_session_takes_a_plan_and_a_path(device, tmp_path):
    plan = trtnet.Plan.load(plans.path("static"))
    plan.save(tmp_path / "copy.engine")
    (tmp_path / "copy.engine.json").unlink()  # a plan without a sidecar works
    x = images(4, 3, 8, 8)
    for source in (plan, str(tmp_path / "copy.engine"), Path(tmp_path / "copy.engine")):
        with trtnet.Session(source, device=device) as session:
            assert close(session(x)["y"], expected(x))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_arrays_of_other_gpu_libraries():
    class Foreign:
        def __init__(self, tensor):
            self.tensor = tensor
            self.__cuda_array_interface__ = tensor.__cuda_array_interface__

    x = torch.from_numpy(images(4, 3, 8, 8)).cuda()
    with trtnet.Session(plans.path("static")) as session:
        y = session(Foreign(x))["y"]
        assert isinstance(y, CudaArray)
        assert close(torch.as_tensor(y, device="cuda").cpu().numpy(), expected(x.cpu().numpy()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("cuda_graph", [True, False])
def test_work_follows_the_callers_stream(cuda_graph):
    """The input is written, and the output read, by work that is still queued."""
    x = torch.from_numpy(images(4, 3, 8, 8)).cuda()
    with trtnet.Session(plans.path("static"), cuda_graph=cuda_graph) as session:
        for stream in (torch.cuda.default_stream(), torch.cuda.Stream(), torch.cuda.Stream()):
            stream.wait_stream(torch.cuda.default_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    late = torch.zeros_like(x)
                    torch.cuda._sleep(10_000_000)
                    late.copy_(x)
                    y = session(late)["y"] * 1
                    late.fill_(torch.nan)
            stream.synchronize()
            assert close(y.cpu().numpy(), expected(x.cpu().numpy()))
