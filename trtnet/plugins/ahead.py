"""Kernels compiled ahead of time, to PTX, on any machine: neither a GPU nor a driver is needed."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import inspect
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trtnet import cuda
from trtnet.errors import BackendError, BuildError, CudaError, UnsupportedError
from trtnet.files import atomic_write

CAPABILITIES = (80, 86, 89, 90, 100, 120)  # compute capability times ten
ALIGNMENT = 16  # bytes that kernels may rely on; TensorRT's tensors have more
CACHE = "TRTNET_CACHE"  # the environment variable that names another folder for the cache
_FORMAT = 1  # of the cache's files
# Versions of PTX that drivers for CUDA 12.0 read, and those for the first one that knew the GPUs.
_PTX, _PTX_OF_BLACKWELL = 80, 87
_FIX = 'pip install "trtnet[plugins]"'


@dataclass(frozen=True)
class Binary:
    """A compiled kernel.

    Attributes:
        name: of its entry.
        ptx: as text.
        threads: of a block.
        shared: bytes of dynamic shared memory.
    """

    name: str
    ptx: str
    threads: int
    shared: int


def compile_triton(
    function: Any,
    signature: Mapping[str, str],
    constants: Mapping[str, Any],
    shape: tuple[int, int],
    capability: int,
    plugin: str,
    registers: int | None = None,
) -> Binary:
    """The ``@triton.jit`` function `function`, compiled.

    Args:
        signature: type of each argument, such as ``"*fp16"``, ``"i32"`` or ``"constexpr"``.
        constants: value of each constexpr.
        shape: warps of a block, and stages of a pipelined loop.
        capability: such as 90.
        plugin: whose kernel it is, for messages.
        registers: the most that a thread may have.

    Raises:
        BuildError: it does not compile; shows the line.
        BackendError: Triton is not installed.
    """
    _require(capability, plugin)
    try:
        compiler = importlib.import_module("triton.compiler")
        targets = importlib.import_module("triton.backends.compiler")
    except ImportError as error:
        raise BackendError(f"Triton is not installed ({error})", fix=_FIX) from error
    version = importlib.metadata.version("triton")
    key = (
        "triton",
        version,
        function.cache_key,
        dict(signature),
        repr(constants),
        shape,
        registers,
    )

    def compile() -> Binary:
        pointers = [(i,) for i, kind in enumerate(signature.values()) if kind.startswith("*")]
        source = compiler.ASTSource(
            fn=function,
            signature=dict(signature),
            constexprs=dict(constants),
            attrs={place: [["tt.divisibility", ALIGNMENT]] for place in pointers},
        )
        options = {
            "num_warps": shape[0],
            "num_stages": shape[1],
            "maxnreg": registers,
            "ptx_version": _PTX if capability < 100 else _PTX_OF_BLACKWELL,
        }
        target = targets.GPUTarget("cuda", capability, 32)
        with _triton_errors(function, plugin), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about defaults of later versions
            made = compiler.compile(source, target=target, options=options)
        meta = made.metadata
        if meta.global_scratch_size:
            raise UnsupportedError(
                "the kernel wants scratch memory, which TensorRT does not give", module=plugin
            )
        ptx = _without_scratch(made.asm["ptx"], meta.name, len(signature) - len(constants))
        return Binary(meta.name, ptx, 32 * meta.num_warps, meta.shared)

    return _cached(key, capability, compile)


def compile_cuda(
    source: str,
    entry: str,
    block: tuple[int, int],
    capability: int,
    plugin: str,
    exact: bool = False,
) -> Binary:
    """The kernel `entry` of the CUDA C++ `source`, compiled by NVRTC.

    Args:
        block: threads, and bytes of dynamic shared memory.
        capability, plugin: as for :func:`compile_triton`.
        exact: for GPUs of this capability only, whose own instructions the source may then use.

    Raises:
        BuildError: it does not compile; carries NVRTC's words.
        BackendError: NVRTC is not installed.
    """
    _require(capability, plugin)
    target = f"compute_{capability}{'a' if exact else ''}"
    key = ("nvrtc", cuda.call_nvrtc("nvrtcVersion"), source, entry, block, target)

    def compile() -> Binary:
        ptx = _nvrtc_ptx(source, target, plugin)
        if not re.search(rf"\.entry {re.escape(entry)}\(", ptx):
            raise BuildError(
                f"the source has no kernel {entry!r}",
                module=plugin,
                got=", ".join(re.findall(r"\.entry (\w+)\(", ptx)) or "no kernel",
                fix='declare it extern "C" __global__',
            )
        return Binary(entry, ptx, *block)

    return _cached(key, capability, compile)


def _require(capability: int, plugin: str) -> None:
    if capability < CAPABILITIES[0]:
        raise UnsupportedError(
            f"kernels are compiled for compute capability {CAPABILITIES[0] / 10} and later",
            module=plugin,
            got=capability / 10,
        )


# Cache


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    named = os.environ.get(CACHE)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(base) / "trtnet"


def _cached(key: object, capability: int, compile: Callable[[], Binary]) -> Binary:
    """What `compile` gives, kept in a file by everything it depends on."""
    text = json.dumps([_FORMAT, key, capability], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    path = cache_folder() / "kernels" / f"{digest}.json"
    try:
        return Binary(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):  # none yet, or one that cannot be used
        made = compile()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, durable=False) as file:
            file.write(json.dumps(asdict(made)).encode())
    except OSError:  # a cache is a convenience: a read-only or full disk costs time only
        pass
    return made


# Triton


@contextmanager
def _triton_errors(function: Any, plugin: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "triton":
            raise
        reason = getattr(error, "error_message", None) or str(error).strip().splitlines()[-1]
        raise BuildError(
            "the kernel does not compile", module=plugin, got=f"{_place(function, error)}\n{reason}"
        ) from error


def _place(function: Any, error: Any) -> str:
    """The line of the user's file that `error` is about; Triton counts lines from ``def``."""
    lines, first = inspect.getsourcelines(function.fn)
    head = next(i for i, line in enumerate(lines) if line.lstrip().startswith("def "))
    number = head + getattr(getattr(error, "node", None), "lineno", 1) - 1
    if number >= len(lines):  # in a function that the kernel calls
        number = head
    return f"{inspect.getsourcefile(function.fn)}:{first + number}: {lines[number].strip()}"


def _without_scratch(ptx: str, entry: str, arguments: int) -> str:
    """`ptx` without the pointers to scratch memory that Triton adds behind a kernel's arguments:
    TensorRT passes inputs, scalars and outputs, and nothing else."""
    match = re.search(rf"\.entry {re.escape(entry)}\((.*?)\)", ptx, re.DOTALL)
    assert match is not None, f"Triton gave no entry {entry}"
    parameters = match[1].split(",")
    kept, added = parameters[:arguments], parameters[arguments:]
    rest = ptx[: match.start(1)] + ",".join(kept) + "\n" + ptx[match.end(1) :]
    for parameter in added:
        name = parameter.split()[-1]
        assert not re.search(rf"\b{name}\b", rest), f"{name} is used"
    return rest


# NVRTC


def _nvrtc_ptx(source: str, target: str, plugin: str) -> str:
    """The PTX of the CUDA C++ `source` for the architecture `target`.

    Raises:
        BuildError: it does not compile; carries NVRTC's words.
    """
    program = cuda.call_nvrtc("nvrtcCreateProgram", source.encode(), b"plugin.cu", 0, [], [])
    folders = [f"--include-path={folder}" for folder in _cuda_headers()]
    options = [f"--gpu-architecture={target}", "--std=c++17", *folders]
    encoded = [option.encode() for option in options]
    try:
        cuda.call_nvrtc("nvrtcCompileProgram", program, len(encoded), encoded)
        return _nvrtc_text("nvrtcGetPTX", program)
    except CudaError as error:
        raise BuildError(
            "the kernel does not compile",
            module=plugin,
            got=_nvrtc_text("nvrtcGetProgramLog", program) or error.got,
        ) from error
    finally:
        cuda.call_nvrtc("nvrtcDestroyProgram", program)


def _nvrtc_text(function: str, program: Any) -> str:
    """A text of NVRTC, read into a buffer of the size that NVRTC states."""
    buffer = b" " * int(cuda.call_nvrtc(f"{function}Size", program))
    cuda.call_nvrtc(function, program, buffer)
    return buffer.rstrip(b"\0 ").decode()


def _cuda_headers() -> list[Path]:
    """Folders with CUDA's headers: of a toolkit, or of NVIDIA's packages."""
    homes = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if name in os.environ]
    found = [home / "include" for home in homes]
    for entry in sys.path:
        found += sorted(Path(entry).glob("nvidia/*/include")) if entry else []
    return [folder for folder in found if (folder / "cuda_fp16.h").is_file()]
