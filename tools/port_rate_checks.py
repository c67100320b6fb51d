"""The checks of ``tools/port_rate.py``: reads models from stdin, writes a line for each to stdout.

python tools/port_rate_checks.py definition|file LIMIT_S
"""

from __future__ import annotations

import copy
import gc
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from port_rate_models import accepted_sizes, inputs, make
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

import trtnet

TOLERANCE = 1e-5  # relative L2 in float64
UNSTABLE = 1e-3  # relative L2 of PyTorch's own float32 result
USUAL = 256  # pixels: where windows are smaller than images
LARGER = 32  # pixels that an image of another size has more

Shape = Sequence[int | str | trtnet.Axis]


def main() -> None:
    """Checks each model that stdin names."""
    checks, limit = sys.argv[1], int(sys.argv[2])
    serve(lambda name: _check(name, checks == "file"), limit)


def serve(check: Callable[[str], dict[str, Any]], limit: int) -> None:
    """Writes what `check` finds of each model of stdin, which may take `limit` seconds."""
    signal.signal(signal.SIGALRM, _out_of_time)
    for line in sys.stdin:
        row = json.loads(line)
        signal.alarm(limit)
        started = time.perf_counter()
        try:
            result = check(row["name"])
        except Exception as error:  # of many kinds: it is what is looked for
            result = refused(error)
        signal.alarm(0)
        seconds = round(time.perf_counter() - started, 2)
        print(json.dumps({**row, **result, "seconds": seconds}), flush=True)
        gc.collect()  # modules and networks refer to each other


def _out_of_time(*_: Any) -> None:
    raise TimeoutError("out of time")


def _check(name: str, further: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    module = varied(make(name).eval())
    result: dict[str, Any] = {"status": "invalid", "reason": "PyTorch's module accepts no size"}
    for size in accepted_sizes(name, module):
        shapes = inputs(name, module, size)
        result = {"size": size, **compare(module, shapes, shapes)}
        if result["status"] != "wrong" or _is_stable(module, shapes):
            break
    if further and result["status"] == "passed":
        result |= _further(module, shapes)
    return result


def _is_stable(module: torch.nn.Module, shapes: Sequence[Sequence[int]]) -> bool:
    """Whether PyTorch's own result in float32 is close to the one in float64; it is not where a
    norm over a few equal values decides by rounding. A larger image is tried then."""
    values = sample(shapes)
    with torch.no_grad():
        leaves = _pytree.tree_leaves(module(*map(torch.from_numpy, values)))
    results = [leaf.numpy() for leaf in leaves if isinstance(leaf, torch.Tensor)]
    exact = in_float64(module, values)
    errors = [relative(got, want) for got, want in zip(results, exact, strict=True)]
    return max(errors) <= UNSTABLE


def _further(module: torch.nn.Module, shapes: Sequence[Sequence[int]]) -> dict[str, Any]:
    """An engine, a dynamic batch, dynamic sizes of images."""
    found: dict[str, Any] = {"engine": engine(module, shapes)}
    batch: list[Shape] = [("N", *shape[1:]) for shape in shapes]
    found["batch"] = attempt(module, [(3, *shape[1:]) for shape in shapes], batch)
    for first in dict.fromkeys((shapes[0][-1], max(shapes[0][-1], USUAL))):
        result = _images(module, shapes, first)
        if result is not None:
            found["images"] = result
            if result["status"] == "passed":
                break
    return found


def _images(
    module: torch.nn.Module, shapes: Sequence[Sequence[int]], first: int
) -> dict[str, Any] | None:
    """Dynamic sizes of images, from `first` on; ``None`` where the module takes no other size."""
    larger = [(*shape[:-2], first + LARGER, first + LARGER) for shape in shapes]
    if not _accepts(module, larger):
        return None
    images: list[Shape] = [
        (*shape[:-2], *_range_of("H", first), *_range_of("W", first)) for shape in shapes
    ]
    return {"first": first, **attempt(module, larger, images)}


def _range_of(name: str, size: int) -> tuple[trtnet.Axis]:
    """An axis of images from `size` on, in steps of :data:`LARGER`."""
    step = LARGER if size % LARGER == 0 else 1
    return (trtnet.Axis(name, min=size, max=size + 4 * LARGER, multiple_of=step),)


def attempt(
    module: torch.nn.Module, shapes: Sequence[Sequence[int]], declared: Sequence[Shape]
) -> dict[str, Any]:
    """:func:`compare`, or why it is refused."""
    try:
        return compare(module, shapes, declared)
    except TimeoutError:
        raise
    except Exception as error:  # of many kinds: it is what is looked for
        return refused(error)


def compare(
    module: torch.nn.Module, shapes: Sequence[Sequence[int]], declared: Sequence[Shape]
) -> dict[str, Any]:
    """The network of `module`, read back and executed in float64, against the module in float64.

    Args:
        shapes: of the inputs that are executed.
        declared: the same with names of dynamic axes.
    """
    values = {f"x{index}": value for index, value in enumerate(sample(shapes))}
    started = time.perf_counter()
    network, names = define(module, declared)
    seconds = time.perf_counter() - started
    got = trtnet.reference.run(network.definition, values, float64=True)
    wanted = in_float64(module, list(values.values()))
    error = max(relative(got[name], want) for name, want in zip(names, wanted, strict=True))
    return {
        "status": "passed" if error <= TOLERANCE else "wrong",
        "error": float(f"{error:.3g}"),
        "define_s": round(seconds, 3),
        "layers": network.definition.num_layers,
    }


def define(module: torch.nn.Module, declared: Sequence[Shape]) -> tuple[trtnet.Network, list[str]]:
    """The network of `module`, and the names of its outputs."""
    network = trtnet.Network("rtx")
    given = [network.input(f"x{index}", shape) for index, shape in enumerate(declared)]
    results = _pytree.tree_leaves(trtnet.from_torch(module)(*given))
    tensors = [result for result in results if isinstance(result, trtnet.Tensor)]
    for index, tensor in enumerate(tensors):
        network.output(f"y{index}", tensor)
    return network, [f"y{index}" for index in range(len(tensors))]


def sample(shapes: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Values of inputs."""
    random = np.random.default_rng(1)
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


def engine(module: torch.nn.Module, shapes: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Builds a real engine."""
    try:
        network, _ = define(module, shapes)
        plan = trtnet.build(network)
        return {"status": "passed", "bytes": len(plan.engine)}
    except TimeoutError:
        raise
    except Exception as error:
        return refused(error)


def varied(module: torch.nn.Module) -> torch.nn.Module:
    """`module` with noise on its parameters and uneven statistics: constants hide mistakes."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            elif value.is_floating_point():
                scale = 0.03 if value.dim() < 3 else 0.003
                value.add_(torch.randn(value.shape, generator=generator) * scale)
    return module


def relative(got: np.ndarray, want: np.ndarray) -> float:
    """The L2 norm of the difference relative to that of `want`."""
    if got.shape != want.shape:
        return float("inf")
    if not np.isfinite(want).all():
        raise ValueError("PyTorch's own result is not finite")
    return float(np.linalg.norm(got - want) / max(float(np.linalg.norm(want)), 1e-30))


def refused(error: BaseException) -> dict[str, Any]:
    """Why a model is refused: the kind and first line of the error, the place, the remedy."""
    text = str(error).strip().splitlines()
    place = getattr(error, "line", None)
    return {
        "status": "refused",
        "reason": f"{type(error).__name__}: {text[0] if text else ''}"[:300],
        "module": getattr(error, "module", None),
        "line": place.rpartition("site-packages/")[2] if place else None,
        "fix": getattr(error, "fix", None),
    }


def in_float64(module: torch.nn.Module, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The results of `module` in float64, one after another."""
    exact = copy.deepcopy(module).double()
    torch.set_default_dtype(torch.float64)  # some modules make constants as they run
    try:
        with torch.no_grad(), _Lifted():
            results = exact(*(torch.from_numpy(value).double() for value in values))
    finally:
        torch.set_default_dtype(torch.float32)
    leaves = _pytree.tree_leaves(results)
    return [leaf.numpy() for leaf in leaves if isinstance(leaf, torch.Tensor)]


class _Lifted(TorchDispatchMode):
    """Casts to float32 that a module makes itself are casts to float64."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls `func` with the wider type."""
        given = dict(kwargs or {})
        if given.get("dtype") is torch.float32:
            given["dtype"] = torch.float64
        return func(*args, **given)


def _accepts(module: torch.nn.Module, shapes: Sequence[Sequence[int]]) -> bool:
    try:
        with torch.no_grad():
            module(*(torch.zeros(tuple(shape)) for shape in shapes))
    except Exception:  # of many kinds
        return False
    return True


if __name__ == "__main__":
    main()
