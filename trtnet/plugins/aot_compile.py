"""Compiles kernels ahead of time to PTX, with Triton or NVRTC; needs neither a GPU nor a driver."""

from __future__ import annotations

import contextlib
import functools
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
from trtnet.errors import BackendError, BuildError, CudaError, TrtnetError, UnsupportedError
from trtnet.escaping import printable
from trtnet.extras import install
from trtnet.files import atomic_write
from trtnet.files.own_folder import fault_of
from trtnet.plugins.triton_folder import require_own, triton_folder
from trtnet.reading.documents import Source
from trtnet.reading.schema import read_checked

CAPABILITIES = (80, 86, 89, 90, 100, 120)  # compute capabilities times ten
ALIGNMENT = 16  # bytes; kernels are compiled for it, and TensorRT aligns its tensors to more
CACHE = "TRTNET_CACHE"  # environment variable that names another cache folder
_FORMAT = 2  # version of the cache's files
_LARGEST_ENTRY = 64 << 20  # bytes; the PTX of a large kernel has a few megabytes
# PTX versions times ten: one that drivers for CUDA 12.0 read, and the first with Blackwell GPUs.
_PTX, _PTX_OF_BLACKWELL = 80, 87
_FIX = install("plugins")


@dataclass(frozen=True)
class PtxKernel:
    """A kernel compiled to PTX.

    Attributes:
        name: name of its entry in the PTX.
        ptx: the PTX, as text.
        threads: threads of a block.
        shared: dynamic shared memory of a block, in bytes.
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
    registers: int | None = None,
) -> PtxKernel:
    """Compiles a Triton kernel.

    Args:
        function: a function decorated with ``@triton.jit``.
        signature: type of each argument, such as ``"*fp16"``, ``"i32"`` or ``"constexpr"``.
        constants: value of each constexpr.
        shape: warps of a block, and stages of a pipelined loop.
        capability: compute capability times ten, such as 90.
        registers: the most registers that a thread may have.

    Raises:
        BuildError: the kernel does not compile; the message has the line.
        BackendError: Triton is not installed.
        ExecutionError: others may write to the folder of Triton's own kernels.
        UnsupportedError: the capability is too low, or the kernel needs scratch memory.
    """
    _check_capability(capability)
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

    def compile() -> PtxKernel:
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
        require_own(triton_folder())
        with _triton_errors(function), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Triton warns of defaults that will change
            made = compiler.compile(source, target=target, options=options)
        meta = made.metadata
        if meta.global_scratch_size:
            raise UnsupportedError(
                "the kernel needs scratch memory, which TensorRT does not give",
                fix="keep the intermediate values in registers or shared memory, or use a Python "
                "kernel of several launches",
            )
        ptx = _without_scratch(made.asm["ptx"], meta.name, len(signature) - len(constants))
        return PtxKernel(meta.name, ptx, 32 * meta.num_warps, meta.shared)

    return _cached(key, capability, compile)


def compile_cuda(
    source: str,
    entry: str,
    block: tuple[int, int],
    capability: int,
    exact: bool = False,
) -> PtxKernel:
    """Compiles the kernel `entry` of the CUDA C++ text `source` by NVRTC.

    Args:
        source: CUDA C++.
        entry: name of the kernel, which is ``extern "C" __global__``.
        block: threads of a block, and its dynamic shared memory in bytes.
        capability: compute capability times ten, such as 90.
        exact: compiles for GPUs of exactly this capability; the source may then use instructions
            that only they have.

    Raises:
        BuildError: the source does not compile, or has no such kernel; has NVRTC's messages.
        BackendError: NVRTC is not installed.
        UnsupportedError: the capability is too low.
    """
    _check_capability(capability)
    target = f"compute_{capability}{'a' if exact else ''}"
    key = ("nvrtc", cuda.call_nvrtc("nvrtcVersion"), source, entry, block, target)

    def compile() -> PtxKernel:
        ptx = _nvrtc_ptx(source, target)
        if not re.search(rf"\.entry {re.escape(entry)}\(", ptx):
            raise BuildError(
                f"the source has no kernel {entry!r}",
                got=", ".join(re.findall(r"\.entry (\w+)\(", ptx)) or "no kernel",
                fix='declare it extern "C" __global__',
            )
        return PtxKernel(entry, ptx, *block)

    return _cached(key, capability, compile)


def _check_capability(capability: int) -> None:
    if capability < CAPABILITIES[0]:
        raise UnsupportedError(
            f"kernels are compiled for compute capability {CAPABILITIES[0] / 10} and later",
            got=capability / 10,
        )


# Cache


def cache_folder() -> Path | None:
    """Returns the folder of cached files: ``TRTNET_CACHE``, or ``trtnet`` in the user's cache;
    ``None`` for a user who has neither that nor a home folder."""
    named = os.environ.get(CACHE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return None if base.startswith("~") else Path(base) / "trtnet"


def _cached(key: object, capability: int, compile: Callable[[], PtxKernel]) -> PtxKernel:
    """Returns the cached result of `compile`, or calls it and caches the result.

    Args:
        key: everything the result depends on besides `capability`; JSON values.
    """
    text = json.dumps([_FORMAT, key, capability], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    folder = cache_folder()
    if folder is None:
        return compile()
    path = folder / "kernels" / f"{digest}.json"
    if not _is_own(path.parent):
        return compile()
    try:
        return _read_entry(path, digest)
    except TrtnetError:  # no file yet, or a damaged one
        made = compile()
    entry = {"sha256": _entry_sha256(made, digest), "kernel": asdict(made)}
    with contextlib.suppress(OSError), atomic_write(path, durable=False) as file:
        file.write(json.dumps(entry).encode())  # a full disk only costs time: it is compiled again
    return made


def _is_own(folder: Path) -> bool:
    """Whether kernels may be kept in `folder`, and taken from it; warns where others could put
    theirs there. A read-only disk only costs time."""
    try:
        fault = fault_of(folder)
    except OSError:
        return False
    if fault is None:
        return True
    fix = f"{fault.fix}, or " if fault.fix else ""
    _warn_once(
        f"compiled kernels are neither kept in {folder} nor taken from it, which {fault.problem} "
        f"({fault.got} in place of {fault.expected}): {fix}name a folder of your own in {CACHE}"
    )
    return False


@functools.cache
def _warn_once(text: str) -> None:
    """Each kernel would warn again: Triton's warnings are caught, which resets Python's list."""
    warnings.warn(printable(text), RuntimeWarning, stacklevel=4)


@dataclass(frozen=True)
class _Entry:
    """A file of the cache: a kernel, and the hash of it and of all that it was made of."""

    sha256: str
    kernel: PtxKernel


def _read_entry(path: Path, digest: str) -> PtxKernel:
    """The kernel in the file `path`, for the key whose hash is `digest`.

    Raises:
        UsageError: there is none, or it is damaged.
    """
    source = Source(str(path), "a kernel of the cache")
    entry = read_checked(path, _Entry, source, limit=_LARGEST_ENTRY)
    if entry.sha256 != _entry_sha256(entry.kernel, digest):
        raise source.refuse("it does not have the content that was written")
    return entry.kernel


def _entry_sha256(kernel: PtxKernel, digest: str) -> str:
    text = json.dumps([digest, asdict(kernel)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


# Triton


@contextmanager
def _triton_errors(function: Any) -> Iterator[None]:
    """Raises Triton's own errors as ``BuildError`` with the line of the kernel."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "triton":
            raise
        reason = getattr(error, "error_message", None) or str(error).strip().splitlines()[-1]
        raise BuildError(
            "the kernel does not compile", got=f"{_source_line(function, error)}\n{reason}"
        ) from error


def _source_line(function: Any, error: Any) -> str:
    """Returns file, number and text of the line of `error`; Triton counts lines from ``def``."""
    lines, first = inspect.getsourcelines(function.fn)
    head = next(i for i, line in enumerate(lines) if line.lstrip().startswith("def "))
    number = head + getattr(getattr(error, "node", None), "lineno", 1) - 1
    if number >= len(lines):  # the line is in a function that the kernel calls
        number = head
    return f"{inspect.getsourcefile(function.fn)}:{first + number}: {lines[number].strip()}"


def _without_scratch(ptx: str, entry: str, arguments: int) -> str:
    """Removes the pointers to scratch memory that Triton adds after the kernel's arguments.

    TensorRT passes only inputs, scalars and outputs.

    Args:
        entry: name of the kernel.
        arguments: number of its own arguments.
    """
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


def _nvrtc_ptx(source: str, target: str) -> str:
    """Compiles the CUDA C++ text `source` to PTX for the architecture `target`.

    Raises:
        BuildError: it does not compile; has NVRTC's messages.
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
            got=_nvrtc_text("nvrtcGetProgramLog", program) or error.got,
        ) from error
    finally:
        cuda.call_nvrtc("nvrtcDestroyProgram", program)


def _nvrtc_text(function: str, program: Any) -> str:
    """Returns a text of NVRTC, read into a buffer of the size that NVRTC states."""
    buffer = b" " * int(cuda.call_nvrtc(f"{function}Size", program))
    cuda.call_nvrtc(function, program, buffer)
    return buffer.rstrip(b"\0 ").decode()


def _cuda_headers() -> list[Path]:
    """Returns the folders with CUDA's headers: of a toolkit, or of NVIDIA's packages."""
    homes = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if name in os.environ]
    found = [home / "include" for home in homes]
    for entry in sys.path:
        found += sorted(Path(entry).glob("nvidia/*/include")) if entry else []
    return [folder for folder in found if (folder / "cuda_fp16.h").is_file()]
