"""Whether a plan can run here, as far as its sidecar and its first bytes tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from trtnet import backend as backends
from trtnet.backend import Backend
from trtnet.building.plan import Plan
from trtnet.engines import cuda
from trtnet.errors import PlanError, TrtnetError
from trtnet.plugins import registry

_MAGIC = {b"ftrt": "tensorrt", b"vtrt": "rtx"}
_HEADER = 64  # bytes
_RTX_LAYOUT = 2
_RTX_DEFAULT = ("8.0", "8.6", "8.9")  # and 12.0 or later

_FAULTS = {
    "VERSION_MISMATCH": ("it is of another release", "build it with the release installed here"),
    "UNSUPPORTED_CC": (
        "it was not built for this GPU",
        "build it with this GPU's compute capability: --compute-capability",
    ),
    "OLD_CUDA_DRIVER": ("the NVIDIA driver is too old", "update the NVIDIA driver"),
    "OLD_CUDA_RUNTIME": ("the CUDA runtime is too old", "update the CUDA runtime"),
    "INSUFFICIENT_GPU_MEMORY": ("the GPU has too little memory", "build a smaller batch or image"),
    "MALFORMED_ENGINE": ("its header is damaged", "build it again"),
    "CUDA_ERROR": ("CUDA does not work on this machine", "check it: trtnet doctor"),
}


class Header(NamedTuple):
    """What the first bytes of an engine tell.

    Attributes:
        backend: ``"tensorrt"``, ``"rtx"``, ``"torch"``, or ``None`` for something else.
        nbytes: how long the whole engine was when it was written, if that is known; of a torch
            archive, how long it is at least.
        version: four numbers of the TensorRT or TensorRT-RTX release, if they are known.
    """

    backend: str | None
    nbytes: int | None = None
    version: tuple[int, ...] | None = None


def read_header(engine: bytes) -> Header:
    """The header of an engine of any backend.

    TensorRT and TensorRT-RTX write the engine's size at byte 16 and their version in the bytes 24
    to 27. NVIDIA has described the version (https://github.com/NVIDIA/TensorRT/issues/3073); the
    size was found in engines of TensorRT-RTX 1.5.0, 1.6.1 and 1.7.1.
    """
    name = _MAGIC.get(engine[:4])
    if name is not None:
        layout = int.from_bytes(engine[8:12], "little")
        if len(engine) < _HEADER or (name == "rtx" and layout != _RTX_LAYOUT):
            return Header(name)
        return Header(name, int.from_bytes(engine[16:24], "little"), tuple(engine[24:28]))
    if engine[8:9] == b"{":  # safetensors, which the torch backend's archives are
        return Header("torch", int.from_bytes(engine[:8], "little") + 8)
    return Header(None)


def backend_of(plan: Plan) -> str:
    """``"tensorrt"``, ``"rtx"`` or ``"torch"``: what the sidecar says, or else the first bytes.

    Raises:
        PlanError: neither knows.
    """
    stated = _mapping(plan.sidecar, "backend").get("name")
    if stated in ("tensorrt", "rtx", "torch"):
        return str(stated)
    found = read_header(plan.engine).backend
    if found is None:
        raise PlanError(
            "this is not an engine",
            expected='the first bytes "ftrt" (TensorRT), "vtrt" (TensorRT-RTX), or an archive of '
            "the torch backend",
            got=f"{plan.engine[:12]!r}",
            fix="name an engine file; an ONNX file or weights must be built into one first",
        )
    return found


def check(plan: Plan, backend_name: str) -> None:
    """Refuses, in words, a plan that `backend_name` as installed here cannot run.

    Raises:
        PlanError: it is for another backend or release, cut short, damaged, without weights, or
            needs a plugin that is not declared.
        BackendError: the backend is not installed.
    """
    made_for, header = backend_of(plan), read_header(plan.engine)
    if backend_name != made_for:
        raise PlanError(
            f"an engine of the {made_for} backend cannot run on {backend_name}",
            fix=f'use backend="{made_for}", or build it for {backend_name}',
        )
    if header.backend != made_for:
        raise PlanError(
            f"the sidecar says {made_for}, but the engine is not of that backend",
            got=f"an engine of {header.backend or 'no known backend'}",
            fix="one of the two was replaced: build the engine again",
        )
    _check_length(plan, header)
    registry.require(plan.sidecar.get("plugins"))
    if made_for == "torch":
        return
    if _mapping(plan.sidecar, "options").get("strip_weights"):
        raise PlanError(
            "the engine was built without its weights",
            fix="put them in with TensorRT's Refitter, or build without strip_weights",
        )
    _check_version(plan, header, backends.load(made_for))


def check_gpu(plan: Plan, installed: Backend) -> None:
    """Refuses a plan that TensorRT-RTX cannot run on the current CUDA device, as far as its
    sidecar and its header tell; full TensorRT has no such check.

    Raises:
        PlanError: the engine is for other GPUs, or the driver, runtime or memory is too small.
    """
    if installed.name == "rtx" and plan.sidecar:
        _check_capability(plan)
    for fault in installed.engine_faults(plan.engine):
        problem, fix = _FAULTS.get(fault, (fault.lower().replace("_", " "), "build it again"))
        raise PlanError(f"{installed.name} {installed.version}: {problem}", got=fault, fix=fix)


def doubts(plan: Plan, backend: Backend) -> str | None:
    """What the header says against an engine that full TensorRT has just refused: its meaning is
    not known well enough to refuse one for it beforehand."""
    header, found = read_header(plan.engine), []
    if header.nbytes is not None and header.nbytes != len(plan.engine):
        found.append(f"it had {header.nbytes} bytes, not {len(plan.engine)}")
    if header.version is not None and header.version[:3] != _numbers(backend.version)[:3]:
        found.append(f"it was built by {backend.name} {_dotted(header.version)}")
    return f"its header says that {' and '.join(found)}: build it again" if found else None


def outlives_its_release(plan: Plan) -> bool:
    """Whether later releases of TensorRT can run it, with the runtime it brings along."""
    return bool(_mapping(plan.sidecar, "options").get("version_compatible"))


def _check_length(plan: Plan, header: Header) -> None:
    size = len(plan.engine)
    if header.backend in ("tensorrt", "rtx") and size < _HEADER:
        raise _cut(f"at least {_HEADER} bytes", size)
    # Full TensorRT's size is not known well enough to refuse an engine for it.
    if header.nbytes is None or header.backend == "tensorrt":
        return
    if size < header.nbytes:
        raise _cut(f"{header.nbytes} bytes", size)
    if header.backend == "rtx" and size > header.nbytes:
        raise PlanError(
            "the engine has bytes after its end",
            expected=f"{header.nbytes} bytes",
            got=f"{size} bytes",
            fix="copy it again, or build it again",
        )


def _cut(expected: str, size: int) -> PlanError:
    return PlanError(
        "the engine was cut short",
        expected=expected,
        got=f"{size} bytes",
        fix="copy it again, or build it again",
    )


def _check_version(plan: Plan, header: Header, installed: Backend) -> None:
    """Engines belong to one release, unless full TensorRT made one to outlive it."""
    stated = _mapping(plan.sidecar, "backend").get("version")
    if isinstance(stated, str):
        if outlives_its_release(plan):
            return
        made_with = _numbers(stated)
    elif header.version is not None and installed.name == "rtx":
        made_with = header.version
    else:
        return
    if made_with[:3] != _numbers(installed.version)[:3]:
        raise PlanError(
            "the engine was built by another release",
            expected=f"{installed.name} {installed.version}, which is installed",
            got=f"{installed.name} {_dotted(made_with)}",
            fix="build it again with the installed release, or install "
            f"{backends.PACKAGES[installed.name]}=={_dotted(made_with)}",
        )


def _check_capability(plan: Plan) -> None:
    here = _compute_capability()
    if here is None:
        return
    named = plan.sidecar.get("compute_capabilities") or ()
    fits = here in (named or _RTX_DEFAULT) or (not named and int(here.partition(".")[0]) >= 12)
    if not fits:
        raise PlanError(
            "the engine was not built for this GPU",
            expected=f"compute capability {', '.join(named or _RTX_DEFAULT)}"
            + ("" if named else ", 12.0 or later"),
            got=f"a GPU of compute capability {here}",
            fix=f"build it with --compute-capability {here} if TensorRT-RTX offers that, or with "
            "--backend torch",
        )


def _compute_capability() -> str | None:
    """Of the current CUDA device; ``None`` where there is none."""
    try:
        device = cuda.call("cudaGetDevice")
        names = cuda.runtime().cudaDeviceAttr
        major, minor = (
            cuda.call("cudaDeviceGetAttribute", name, device)
            for name in (
                names.cudaDevAttrComputeCapabilityMajor,
                names.cudaDevAttrComputeCapabilityMinor,
            )
        )
    except TrtnetError:
        return None
    return f"{major}.{minor}"


def _mapping(sidecar: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A part of the sidecar; empty where it is missing or no mapping."""
    part = sidecar.get(key)
    return part if isinstance(part, Mapping) else {}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:4] if part.isdigit())


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
