"""BackendDescription: what a backend is and what it can do, known before it is imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from trtnet.backend.engine_format import EngineFormat

Capability = tuple[int, int]
"""A GPU's compute capability, such as ``(8, 9)``."""


@dataclass(frozen=True)
class OptionLack:
    """Why a backend cannot honour an option of the builder.

    Attributes:
        reason: completes "cannot honour OPTION: ...".
        fix: what to do instead.
        unless: one of :data:`trtnet.backend.FEATURES` with which the option is honoured;
            ``None`` if it never is.
    """

    reason: str
    fix: str
    unless: str | None = None


@dataclass(frozen=True)
class GpuTargets:
    """The GPUs that engines run on, for a backend that builds for named GPUs.

    Attributes:
        supported: compute capabilities below `all_from` that engines can be built for.
        default: those of them that an engine is built for if none is named.
        all_from: every capability from this one on is supported, and a default.
    """

    supported: tuple[Capability, ...]
    default: tuple[Capability, ...]
    all_from: Capability

    def supports(self, gpu: Capability) -> bool:
        """Whether engines can be built for `gpu`."""
        return gpu in self.supported or gpu >= self.all_from

    def includes(self, gpu: Capability, named: Sequence[str]) -> bool:
        """Whether an engine built for the `named` capabilities, such as ``"8.9"``, or for the
        default where none is named, runs on `gpu`."""
        if named:
            return dotted(gpu) in named
        return gpu in self.default or gpu >= self.all_from

    def default_of(self, known: Iterable[str]) -> tuple[str, ...]:
        """The `known` capabilities, such as ``"8.9"``, that an engine is built for if none is
        named."""
        return tuple(name for name in known if self.includes(_parsed(name), ()))

    def describe_supported(self) -> str:
        """Such as ``7.5, 8.0, 8.6, 8.9 and 12.0 or later``."""
        return f"{', '.join(map(dotted, self.supported))} and {dotted(self.all_from)} or later"

    def describe_default(self) -> str:
        """Such as ``8.0, 8.6, 8.9, 12.0 or later``."""
        return f"{', '.join(map(dotted, self.default))}, {dotted(self.all_from)} or later"


@dataclass(frozen=True)
class SmallRuntime:
    """A package that runs engines of a backend and cannot build, define or inspect any: those that
    were built with ``version_compatible``.

    Attributes:
        name: for ``runtime=`` and ``--runtime``.
        title: for people, such as ``the lean runtime of TensorRT``.
        package: the module.
        distribution: what pip calls it.
        install: the command that installs it.
        runs_code_of_engines: it has no kernels of its own, and runs the runtime that an engine
            brings, which is code.
    """

    name: str
    title: str
    package: str
    distribution: str
    install: str
    runs_code_of_engines: bool = False


@dataclass(frozen=True, eq=False)
class BackendDescription:
    """The facts about one backend. Nothing outside its folder depends on its name.

    Attributes:
        name: for ``backend=`` and ``--backend``.
        title: for people, such as ``TensorRT-RTX``.
        package: the module that defines its networks; ``None`` for those of the backend that
            ``"auto"`` takes.
        distribution: what pip calls the package whose version is the backend's.
        install: the command that installs it.
        engine_format: how its engines are recognised.
        engine_loader: ``module:function`` of its :class:`trtnet.engines.protocol.EngineLoader`,
            imported when an engine is loaded.
        engine_refitter: ``module:function`` of what puts other weights into the bytes of its
            engines, a :class:`trtnet.building.refitting.EngineRefitter`; ``None`` for nothing.
        minimum: oldest version of `package` that is supported.
        devices: where its engines run: ``"cpu"``, ``"cuda"``.
        writes_archive: its engine is the archive of the network (:func:`trtnet.graph.dumps`), in
            which plugins stand as layers of their own; otherwise TensorRT's builder makes it, and
            it belongs to the release that built it.
        runs_in_pytorch: PyTorch executes its engines, and ``torch.compile`` can be applied to them.
        compiles_at_first_run: its engines compile kernels when they first run on a GPU, which a
            runtime cache keeps.
        run_tool: the command line tool of its vendor that runs an engine; ``None`` for none.
        runtimes: further packages that run its engines.
        needs_gpu_to_define: networks can be defined and built only where there is a GPU.
        lacks: builder options that it cannot honour, by name.
        lacks_all: why it can honour no builder option but those that it `honours`; ``None`` if it
            can.
        honours: builder options that need nothing of TensorRT's builder.
        unbuildable: methods of ``INetworkDefinition`` whose layers its builder fails on.
        options_needing_gpu: builder options that it honours only where there is a GPU.
        gpu_targets: GPUs that it can build for; ``None`` if an engine belongs to the GPU it was
            built on, or to none.
        builder_fix: what to do where its builder cannot be created.
    """

    name: str
    title: str
    package: str | None
    distribution: str
    install: str
    engine_format: EngineFormat
    engine_loader: str
    engine_refitter: str | None = None
    minimum: tuple[int, ...] = ()
    devices: tuple[str, ...] = ("cuda",)
    writes_archive: bool = False
    runs_in_pytorch: bool = False
    compiles_at_first_run: bool = False
    run_tool: str | None = None
    runtimes: tuple[SmallRuntime, ...] = ()
    needs_gpu_to_define: bool = False
    lacks: Mapping[str, OptionLack] = field(default_factory=dict)
    lacks_all: OptionLack | None = None
    honours: frozenset[str] = frozenset()
    unbuildable: frozenset[str] = frozenset()
    options_needing_gpu: tuple[str, ...] = ()
    gpu_targets: GpuTargets | None = None
    builder_fix: str = "check the installation: trtnet doctor"

    def runtime(self, name: str) -> SmallRuntime | None:
        """The one of its `runtimes` with this name."""
        return next((found for found in self.runtimes if found.name == name), None)

    @property
    def needs_gpu(self) -> bool:
        """Whether its engines run on GPUs only."""
        return "cpu" not in self.devices


def dotted(version: Sequence[int]) -> str:
    """``"8.9"`` for ``(8, 9)``."""
    return ".".join(map(str, version))


def _parsed(capability: str) -> Capability:
    major, _, minor = capability.partition(".")
    return int(major), int(minor)
