"""`check` and `check_module`: one function, or module, against PyTorch through a real network."""

from __future__ import annotations

import contextlib
import itertools
import signal
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import backend
from trtnet.tensor import Dim, tensors_in

Shape = Sequence[int | str | None]

# A job in the background of a shell, or of nohup, ignores these, and so would what the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture
def net() -> trtnet.Network:
    return trtnet.Network("rtx")


@pytest.fixture
def check() -> Callable[..., None]:
    """`check_against_torch`, as a fixture."""
    return check_against_torch


@pytest.fixture
def check_module() -> Callable[..., None]:
    """`check_module_against_torch`, as a fixture."""
    return check_module_against_torch


@pytest.fixture
def build() -> Callable[..., bytes]:
    """Builds an engine out of a Network."""
    return build_engine


@pytest.fixture
def randomize() -> Callable[..., Any]:
    """Seeded, non-trivial parameters and statistics for a torch module."""
    return randomized


def check_against_torch(
    function: Callable[..., Any],
    torch_function: Callable[..., Any],
    *inputs: np.ndarray | Shape,
    dynamic: Sequence[Shape] | None = None,
    precision: str = "fp32",
    fold_batch_norm: bool = True,
    rtol64: float = 1e-10,
    rtol: float = 2e-5,
    build: bool = True,
    through_torch: bool = False,
) -> None:
    """`function` of Tensors gives what `torch_function` gives of torch tensors.

    The network is executed in float64 against PyTorch in float64 and in its own precision against
    PyTorch in float32; the claimed shapes and dtypes are compared too; an engine is built.

    Args:
        inputs: arrays, or shapes of seeded normal values.
        dynamic: input shapes with names or None for dynamic axes; checked besides the static ones.
        rtol64, rtol: largest error relative to the largest magnitude of the expected output.
        build: whether an engine is built as well.
        through_torch: whether `torch_function` itself is called on Tensors too, which PyTorch hands
            to ``Tensor.__torch_function__``.
    """
    import torch

    random = np.random.default_rng(7)
    arrays = [
        x if isinstance(x, np.ndarray) else random.standard_normal(x).astype(np.float32)
        for x in inputs
    ]
    single = [torch.from_numpy(array) for array in arrays]
    double = [x.double() if x.is_floating_point() else x for x in single]
    with torch.no_grad():
        wanted = _tensors(torch_function(*single))
        wanted64 = _tensors(torch_function(*double))
    functions = [function, torch_function] if through_torch else [function]
    declared = filter(None, ([array.shape for array in arrays], dynamic))
    for shapes, function in itertools.product(declared, functions):
        net = trtnet.Network("rtx", precision=precision, fold_batch_norm=fold_batch_norm)
        values = {f"x{i}": array for i, array in enumerate(arrays)}
        results = tensors_in(function(*_declare(net, values, shapes)))
        assert len(results) == len(wanted)
        claims = [(result.shape, result.dtype) for result in results]
        for i, result in enumerate(results):
            net.output(f"y{i}", result)
        read = trtnet.graph.read(net.definition)
        got = trtnet.reference.run(read, values)
        got64 = trtnet.reference.run(read, values, float64=True)
        sizes = _axis_sizes(values, shapes)
        for i, (shape, dtype) in enumerate(claims):
            context = f"output {i} for inputs {shapes}"
            _assert_shape(shape, got[f"y{i}"].shape, sizes, context)
            if precision == "fp32":
                assert dtype.value == str(wanted[i].dtype).removeprefix("torch."), context
            assert_close(got64[f"y{i}"], wanted64[i].numpy(), rtol64, f"{context}, float64")
            assert_close(got[f"y{i}"], wanted[i].numpy(), rtol, f"{context}, {precision}")
        if build:
            build_engine(net, {name: array.shape for name, array in values.items()})


def check_module_against_torch(
    module: trtnet.Module,
    torch_module: Any,
    *inputs: np.ndarray | Shape,
    call: Callable[..., Any] = lambda module, *inputs: module(*inputs),
    **options: Any,
) -> None:
    """`module` with the randomized weights of `torch_module`, loaded strictly, gives the same.

    ``call(module, *inputs)`` is what is done with either module. See `check_against_torch`; where
    no input is floating point, both of its comparisons are with PyTorch in float32.
    """
    import torch

    randomized(torch_module)
    state = {name: value.numpy().copy() for name, value in torch_module.state_dict().items()}
    module.load_state_dict(state)

    def run_torch(*args: Any) -> Any:
        wide = any(arg.dtype == torch.float64 for arg in args)
        return call(torch_module.double() if wide else torch_module.float(), *args)

    check_against_torch(
        lambda *args: call(module, *args), run_torch, *inputs, **{"rtol64": 1e-9, **options}
    )


def randomized(torch_module: Any, seed: int = 3) -> Any:
    """The module in eval mode with seeded parameters and positive, uneven variances."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*torch_module.named_parameters(), *torch_module.named_buffers()]:
            if value.is_floating_point():
                value.normal_(generator=generator)
                if name.endswith("running_var"):
                    value.abs_().add_(0.1)
    return torch_module.eval()


def build_engine(net: trtnet.Network, shapes: dict[str, tuple[int, ...]] | None = None) -> bytes:
    """An engine for exactly `shapes`; fails with TensorRT's own words."""
    config = net.builder.create_builder_config()
    profile = net.builder.create_optimization_profile()
    for name, tensor in net.inputs.items():
        if not tensor.is_static:
            assert shapes is not None
            profile.set_shape(name, shapes[name], shapes[name], shapes[name])
    config.add_optimization_profile(profile)
    net.backend.clear_errors()
    plan = net.builder.build_serialized_network(net.definition, config)
    assert plan is not None, f"the engine does not build: {net.backend.take_errors()}"
    return bytes(plan)


def assert_close(got: np.ndarray, wanted: np.ndarray, rtol: float, context: str = "") -> None:
    """Equal shapes, and values to within `rtol` of the largest finite magnitude."""
    assert got.shape == wanted.shape, context
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(got, wanted, err_msg=context)
        return
    finite = np.abs(wanted[np.isfinite(wanted)])
    scale = float(finite.max()) if finite.size else 0.0
    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=rtol * scale, err_msg=context)


def _declare(
    net: trtnet.Network, values: dict[str, np.ndarray], shapes: Sequence[Shape]
) -> list[trtnet.Tensor]:
    return [
        net.input(name, shape, array.dtype)
        for (name, array), shape in zip(values.items(), shapes, strict=True)
    ]


def _axis_sizes(values: dict[str, np.ndarray], shapes: Sequence[Shape]) -> dict[str, int]:
    """What the named dynamic axes turn out to be."""
    found: dict[str, int] = {}
    for array, shape in zip(values.values(), shapes, strict=True):
        found |= {name: n for name, n in zip(shape, array.shape, strict=True) if type(name) is str}
    return found


def _assert_shape(
    claimed: tuple[Any, ...], real: tuple[int, ...], sizes: dict[str, int], context: str
) -> None:
    assert len(claimed) == len(real), context
    for claim, size in zip(claimed, real, strict=True):
        value = _evaluate(claim.key, sizes) if isinstance(claim, Dim) else claim
        assert value in (None, size), f"{context}: claimed {claimed}, is {real}"


def _evaluate(key: Any, sizes: dict[str, int]) -> int | None:
    """The value of a Dim that is arithmetic on named axes; None where it hangs on anything else."""
    if not isinstance(key, tuple):
        return int(key)
    if key[0] in ("named", "size"):
        return sizes.get(key[1]) if key[0] == "named" else None
    left, right = _evaluate(key[1], sizes), _evaluate(key[2], sizes)
    if left is None or right is None:
        return None
    operations: dict[str, Callable[[int, int], int]] = {
        "SUM": int.__add__,
        "SUB": int.__sub__,
        "PROD": int.__mul__,
        "FLOOR_DIV": int.__floordiv__,
        "MIN": min,
        "MAX": max,
    }
    return operations[key[0]](left, right)


def _tensors(tree: Any) -> list[Any]:
    if isinstance(tree, (tuple, list)):
        return [tensor for item in tree for tensor in _tensors(item)]
    return [] if tree is None else [tree]


@pytest.fixture
def raises() -> Callable[..., Any]:
    """``with raises(Kind, "text", ...)``: a TrtnetError of that kind that says all the texts."""

    @contextlib.contextmanager
    def expect(kind: type[trtnet.TrtnetError], *texts: str) -> Iterator[None]:
        with pytest.raises(kind) as caught:
            yield
        for text in texts:
            assert text in str(caught.value)

    return expect


@pytest.fixture
def trt() -> ModuleType:
    return backend.load("rtx").trt


@pytest.fixture
def raw() -> Iterator[Any]:
    """An empty INetworkDefinition."""
    loaded = backend.load("rtx")
    builder = loaded.builder()
    yield loaded.create_network(builder)
    del builder
