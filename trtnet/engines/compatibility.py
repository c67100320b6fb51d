"""Whether a plan can run here, as far as its sidecar and its first bytes tell."""

from __future__ import annotations

from typing import NamedTuple

from trtnet import backend as backends
from trtnet import cuda
from trtnet.backend import Backend, GpuTargets, SmallRuntime
from trtnet.backend.description import dotted
from trtnet.building.plan import Plan
from trtnet.building.sidecar import StatedBackend, StatedOptions
from trtnet.errors import PlanError, TrtnetError
from trtnet.plugins import registry

# By the names of trt.EngineInvalidityDiagnostics: what is wrong, what to do.
_FAULTS = {
    "VERSION_MISMATCH": ("it is of another release", "build it with the release installed here"),
    "UNSUPPORTED_CC": (
        "it was not built for this GPU",
        "build it with this GPU's compute capability: --compute-capability, or "
        "BuildConfig(compute_capabilities=...)",
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
        backend: name of the backend whose format it has, or ``None`` for no known format.
        nbytes, version: see :class:`trtnet.backend.HeaderFields`.
    """

    backend: str | None
    nbytes: int | None = None
    version: tuple[int, ...] | None = None


def read_header(engine: bytes) -> Header:
    """The header of an engine of any registered backend."""
    for description in backends.descriptions():
        fields = description.engine_format.read_header(engine)
        if fields is not None:
            return Header(description.name, *fields)
    return Header(None)


def backend_of(plan: Plan) -> str:
    """The name of the backend that `plan` was built for: what the sidecar says, or else the first
    bytes.

    Raises:
        PlanError: neither tells.
    """
    stated = _stated(plan).name
    if stated is not None and stated in backends.names():
        return stated
    found = read_header(plan.engine).backend
    if found is None:
        formats = [f"{d.engine_format.description} ({d.name})" for d in backends.descriptions()]
        raise PlanError(
            "this is not an engine",
            expected=" or ".join(formats),
            got=f"{plan.engine[:12]!r}",
            fix="name an engine file; an ONNX file or weights must be built into one first",
        )
    return found


def check(plan: Plan, backend_name: str, small: SmallRuntime | None = None) -> None:
    """Checks that `backend_name`, as installed here, can run `plan`.

    Args:
        small: the package that runs it in place of the backend's own.

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
    registry.require(plan.described.plugins or ())
    if _options(plan).strip_weights:
        raise PlanError(
            "the engine was built without its weights",
            fix="put them in: trtnet refit ENGINE --weights W -o NEW, or plan.refit(state)",
        )
    if backends.description(made_for).writes_archive:
        return
    if small is not None:
        _check_small(plan, small)
    _check_version(plan, header, backends.load(made_for, None if small is None else small.name))


def check_gpu(plan: Plan, installed: Backend) -> None:
    """Checks that a plan can run on the current CUDA device, as far as its sidecar and its header
    tell. They tell nothing for full TensorRT.

    Raises:
        PlanError: the engine is for other GPUs, or the driver, runtime or memory is too small.
    """
    if installed.description.gpu_targets is not None and plan.sidecar:
        _check_capability(plan, installed.description.gpu_targets, installed.description.title)
    for fault in installed.engine_faults(plan.engine):
        problem, fix = _FAULTS.get(fault, (fault.lower().replace("_", " "), "build it again"))
        raise PlanError(f"{installed.name} {installed.version}: {problem}", got=fault, fix=fix)


def mismatches(plan: Plan, backend: Backend) -> str | None:
    """What in the header of an engine that TensorRT has refused differs from what is installed, as
    a sentence; ``None`` if nothing does. Meant for full TensorRT, whose header is not known well
    enough to refuse an engine for it beforehand."""
    header, found = read_header(plan.engine), []
    if header.nbytes is not None and header.nbytes != len(plan.engine):
        found.append(f"it had {header.nbytes} bytes, not {len(plan.engine)}")
    if header.version is not None and header.version[:3] != _numbers(backend.version)[:3]:
        found.append(f"it was built by {backend.name} {dotted(header.version)}")
    return f"its header says that {' and '.join(found)}: build it again" if found else None


def outlives_its_release(plan: Plan) -> bool:
    """Whether later releases of TensorRT can run it, because it contains its own runtime."""
    options = _options(plan)
    return options.version_compatible and not options.exclude_lean_runtime


def _check_small(plan: Plan, small: SmallRuntime) -> None:
    if plan.sidecar and not _options(plan).version_compatible:
        raise PlanError(
            f"{small.title} runs engines alone that were built for other releases too",
            fix="build it with --versionCompatible (BuildConfig(version_compatible=True)), or run "
            "it with full TensorRT: leave --runtime (runtime=) out",
        )
    if small.runs_code_of_engines and _options(plan).exclude_lean_runtime:
        raise PlanError(
            f"{small.title} runs the runtime that an engine brings, and this one brings none",
            fix="build it without --excludeLeanRuntime (exclude_lean_runtime=True), or run it on "
            'the lean runtime of the same release: --runtime lean (runtime="lean")',
        )


def _check_length(plan: Plan, header: Header) -> None:
    if header.backend is None:
        return
    size, form = len(plan.engine), backends.description(header.backend).engine_format
    if size < form.header_bytes:
        raise _cut(f"at least {form.header_bytes} bytes", size)
    if header.nbytes is None or form.size == "unreliable":
        return
    if size < header.nbytes:
        raise _cut(f"{header.nbytes} bytes", size)
    if form.size == "exact" and size > header.nbytes:
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
    """Engines belong to one release, except those that bring a runtime for others."""
    description = installed.description
    stated = _stated(plan).version
    if stated is not None:
        if outlives_its_release(plan):
            return
        made_with = _numbers(stated)
    elif header.version is not None and description.engine_format.has_reliable_version:
        made_with = header.version
    else:
        return
    if made_with[:3] != _numbers(installed.version)[:3]:
        raise PlanError(
            "the engine was built by another release",
            expected=f"{installed.name} {installed.version}, which is installed",
            got=f"{installed.name} {dotted(made_with)}",
            fix="build it again with the installed release, or install "
            f"{description.package}=={dotted(made_with)}",
        )


def _check_capability(plan: Plan, targets: GpuTargets, title: str) -> None:
    gpu = _compute_capability()
    if gpu is None:
        return
    named = plan.described.compute_capabilities or ()
    if not targets.includes(gpu, named):
        raise PlanError(
            "the engine was not built for this GPU",
            expected="compute capability "
            + (", ".join(named) if named else targets.describe_default()),
            got=f"a GPU of compute capability {dotted(gpu)}",
            fix=f"build it with --compute-capability {dotted(gpu)} "
            f'(BuildConfig(compute_capabilities=("{dotted(gpu)}",))) if {title} offers that, or '
            f'with --backend {backends.portable().name} (backend="{backends.portable().name}")',
        )


def _compute_capability() -> tuple[int, int] | None:
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
    return int(major), int(minor)


def _stated(plan: Plan) -> StatedBackend:
    """The backend that the sidecar names, as far as it does."""
    return plan.described.backend or StatedBackend()


def _options(plan: Plan) -> StatedOptions:
    return plan.described.options or StatedOptions()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:4] if part.isdigit())
